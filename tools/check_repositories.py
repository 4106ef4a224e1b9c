#!/usr/bin/env python3
"""Run public DARTS repositories with `bdp_ext.prune` in them: 3 epochs on 512 real images.

    tools/check_repositories.py FOLDER [FOLDER ...]

FOLDER holds a checkout of quark0/darts, yuhuixu1993/PC-DARTS, chenxin061/pdarts,
Sunshine-Ye/Beta-DARTS or D-X-Y/AutoDL-Projects. It is not changed: a temporary copy is patched for
a current PyTorch and the CPU (edits below, and repository_shim.py), gets the lines of
docs/drop-in.md and is run as its README says, with a small network. No code of these repositories
is kept here.
"""

import argparse
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

TWO_LINES = (
    "import bdp_ext\n"
    "train_queue, valid_queue = bdp_ext.prune(train_queue, valid_queue, criterion, epochs={epochs})"
)
OLD_PYTORCH = [
    (r"async=True", "non_blocking=True"),
    (r", volatile=True", ""),
    (r"\.data\[0\]", ".item()"),
    (r"\[:k\]\.view\(-1\)", "[:k].reshape(-1)"),
    (r"if not torch\.cuda\.is_available\(\):", "if False:"),
    (r"assert torch\.cuda\.is_available\(\).*", ""),
    (r"assert len\(train_data\) == 50000.*", ""),
    (r"download=True", "download=False"),
    (r"np\.sum\(np\.prod\(v\.size\(\)\) for", "sum(np.prod(v.size()) for"),
]


@dataclass
class Run:
    """One way to run a repository.

    Attributes:
        script: relative to the checkout; it is run in its folder, or in `folder`.
        after: the lines go after the line that matches this, at its indentation.
        lines: what is added.
        arguments: DATA stands for the folder with CIFAR-10.
        edits: more substitutions, in the script only.
        epochs: that the search has.
    """

    name: str
    script: str
    after: str
    lines: str
    arguments: str
    folder: str = ""
    edits: list[tuple[str, str]] = field(default_factory=list)
    epochs: int = 3


SMALL = "--data DATA --epochs 3 --batch_size 64 --init_channels 4 --layers 3"
AFTER_LOADERS = r" *scheduler = torch\.optim\.lr_scheduler.*\n.*"
BETA_DARTS = [
    (r"N=5", "N=1"),
    (r" +# nasbench201\n(.*\n)+?\n( +writer\.add_scalars.*\n)+", ""),  # queries a large file
    (r"args\.save = '[^']*'\.format\([^)]*\)[^)]*\)", "args.save = 'run'"),
]
RUNS = {
    "cnn/architect.py": [
        Run("darts, first order", "cnn/train_search.py", AFTER_LOADERS,
            TWO_LINES.format(epochs="args.epochs"), SMALL),
        Run("darts, second order", "cnn/train_search.py", AFTER_LOADERS,
            TWO_LINES.format(epochs="args.epochs"), SMALL + " --unrolled"),
    ],
    "model_search_imagenet.py": [
        Run("PC-DARTS (alpha from epoch 15)", "train_search.py", AFTER_LOADERS,
            TWO_LINES.format(epochs="args.epochs"), SMALL),
        Run("PC-DARTS, alpha from epoch 1", "train_search.py", AFTER_LOADERS,
            TWO_LINES.format(epochs="args.epochs"), SMALL,
            edits=[(r"epoch>=15", "epoch>=1")]),
    ],
    "pipeline2.jpg": [
        Run("P-DARTS, three stages, alpha from epoch 1", "train_search.py",
            r" *criterion = criterion\.cuda\(\)",
            TWO_LINES.format(epochs="(args.epochs,) * 3"),
            "--tmp_data_dir DATA --save HERE/ --epochs 3 --batch_size 64 --init_channels 4 "
            "--layers 3 --add_layers 1 --add_layers 1 --workers 1",
            edits=[(r"\[10, 10, 10\]", "[1, 1, 1]")], epochs=9),
    ],
    "optimizers/darts/architect.py": [
        Run("Beta-DARTS, NAS-Bench-201", "nasbench201/train_search.py", AFTER_LOADERS,
            TWO_LINES.format(epochs="args.epochs"),
            SMALL.replace(" --layers 3", "") + " --perturb_alpha random",
            edits=BETA_DARTS),
        Run("Beta-DARTS, NAS-Bench-201, PGD on alpha", "nasbench201/train_search.py", AFTER_LOADERS,
            TWO_LINES.format(epochs="args.epochs"),
            SMALL.replace(" --layers 3", "") + " --perturb_alpha pgd_linf",
            edits=BETA_DARTS),
    ],
    "exps/NATS-algos/search-cell.py": [
        Run(f"AutoDL-Projects, {algorithm}", "exps/NATS-algos/search-cell.py",
            r" *network, criterion = search_model\.cuda\(\), criterion\.cuda\(\).*",
            "import bdp_ext\nsearch_loader = bdp_ext.prune(search_loader, criterion=criterion, "
            "epochs=config.epochs)",
            "--dataset cifar10 --data_path DATA --algo " + algorithm + " --use_api 0 --channel 4 "
            "--num_cells 1 --rand_seed 1 --overwite_epochs 3", folder=".")
        for algorithm in ("darts-v1", "darts-v2", "gdas")
    ],
}  # fmt: skip


def write_cifar(source: Path, folder: Path, images: int) -> None:
    """The first images as torchvision's `CIFAR10` reads them."""
    data = np.load(source)
    base = folder / "cifar-10-batches-py"
    base.mkdir(parents=True)

    def batch(split: str, begin: int, end: int) -> dict[str, object]:
        offset, bytes_ = data[f"{split}_offset"], data[f"{split}_jpeg"]
        pictures = [
            np.asarray(Image.open(BytesIO(bytes_[offset[i] : offset[i + 1]].tobytes())))
            for i in range(begin, end)
        ]
        rows = np.stack(pictures).transpose(0, 3, 1, 2).reshape(end - begin, -1)
        return {"data": rows, "labels": data[f"{split}_label"][begin:end].tolist()}

    cuts = np.linspace(0, images, 6).astype(int)
    for i in range(5):
        (base / f"data_batch_{i + 1}").write_bytes(
            pickle.dumps(batch("train", cuts[i], cuts[i + 1]))
        )
    (base / "test_batch").write_bytes(pickle.dumps(batch("test", 0, 64)))
    names = {"label_names": [str(name) for name in data["classes"]]}
    (base / "batches.meta").write_bytes(pickle.dumps(names))


def patch(checkout: Path, run: Run, images: int) -> None:
    for path in checkout.rglob("*.py"):
        text = path.read_text(errors="ignore")
        changed = text
        for pattern, new in OLD_PYTORCH:
            changed = re.sub(pattern, new, changed)
        if path == checkout / run.script:
            for pattern, new in run.edits:
                changed, times = re.subn(pattern, new, changed)
                if not times:
                    raise SystemExit(f"{run.name}: {pattern!r} is not in {run.script}.")
            place = re.search(run.after, changed)
            if place is None:
                raise SystemExit(f"{run.name}: {run.after!r} is not in {run.script}.")
            indent = re.match(" *", place.group()).group()  # type: ignore[union-attr]
            lines = "".join(f"\n{indent}{line}" for line in run.lines.splitlines())
            changed = changed[: place.end()] + lines + changed[place.end() :]
        if changed != text:
            path.write_text(changed)
    split = checkout / "configs/nas-benchmark/cifar-split.txt"
    if split.exists():
        halves = {"train": range(images // 2), "valid": range(images // 2, images)}
        text = {name: ["int", [str(i) for i in half]] for name, half in halves.items()}
        split.write_text(json.dumps(text))


def check(source: Path, run: Run, data: Path, images: int, timeout: int) -> bool:
    """Run one; print what came of it."""
    with tempfile.TemporaryDirectory() as temporary:
        checkout, shim = Path(temporary) / "checkout", Path(temporary) / "shim"
        shutil.copytree(source, checkout, ignore=shutil.ignore_patterns(".git"))
        patch(checkout, run, images)
        shim.mkdir()
        shutil.copy(Path(__file__).with_name("repository_shim.py"), shim / "sitecustomize.py")
        script = checkout / run.script
        folder = checkout / run.folder if run.folder else script.parent
        arguments = run.arguments.replace("DATA", str(data)).replace("HERE", str(folder)).split()
        python_path = [str(shim), str(checkout), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [sys.executable, str(script), *arguments],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(python_path),
                "PYTHONWARNINGS": "ignore",
            },
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    line = re.search(r"^BDP_REPORT (.*)$", done.stdout, re.M)
    if done.returncode or line is None:
        print(f"FAILED  {run.name}\n{(done.stdout + done.stderr)[-3000:]}")
        return False
    report = json.loads(line.group(1))
    asked = [row["asked"] for row in report["prunings"]]
    print(
        f"{run.name}: {report['epochs']} epochs, {report['batches_scored']} batches scored, "
        f"{report['unmatched']} forward passes of no batch, samples left {report['left']}, "
        f"asked {asked}, {report['scores_of_no_call']} scores that no call of the criterion gave"
    )
    return (
        report["epochs"] == run.epochs
        and report["left"]["train"] < images // 2
        and report["unmatched"] == report["scores_of_no_call"] == 0
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--timeout", type=int, default=900, help="seconds a run")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(__file__).parents[2] / "shared/data/cifar10.npz",
        help="cifar10.npz: JPEG bytes, offsets and labels",
    )
    arguments = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        write_cifar(arguments.data, Path(temporary), arguments.images)
        for folder in arguments.folders:
            kinds = [kind for kind in RUNS if (folder / kind).exists()]
            if not kinds:
                raise SystemExit(f"{folder} is none of the repositories that this script knows.")
            for run in RUNS[kinds[0]]:
                good &= check(folder, run, Path(temporary), arguments.images, arguments.timeout)
    sys.exit(not good)


if __name__ == "__main__":
    main()
