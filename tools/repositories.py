"""Runs scripts of public DARTS repositories on a current PyTorch and the CPU, in a patched copy
with real images. No code of these repositories is kept here."""

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

CIFAR = Path(__file__).parents[2] / "shared/data/cifar10.npz"
"""JPEG bytes, offsets and labels."""
OLD_PYTORCH = [
    (r"async=True", "non_blocking=True"),
    (r", volatile=True", ""),
    (r"\.data\[0\]", ".item()"),
    (r"\[:k\]\.view\(-1\)", "[:k].reshape(-1)"),
    (r"if not torch\.cuda\.is_available\(\):", "if False:"),
    (r"assert torch\.cuda\.is_available\(\).*", ""),
    (r"assert len\(train_data\) == 50000.*", ""),
    (r"download=True", "download=False"),
    (
        r"optimizer_old\.state_dict\(\)\['state'\]",  # numbered by id() once
        "{id(each): state for each, state in optimizer_old.state.items()}",
    ),
    (r"BatchNorm2d\(c_out, affine\)", "BatchNorm2d(c_out, affine=affine)"),
    (r"os\.mkdir\(path\)", "os.makedirs(path)"),
    (r"\.train_data\.shape", ".data.shape"),
    (r"torch\.device\(\"cuda\"\)", 'torch.device("cpu")'),
    (r"device='cuda'", "device='cpu'"),
    (r"num_workers=\d\d\b", "num_workers=0"),
    (r"np\.sum\(np\.prod\(v\.size\(\)\) for", "sum(np.prod(v.size()) for"),
]


AFTER_LOADERS = r" *scheduler = torch\.optim\.lr_scheduler.*\n.*"
SMALL = "--data DATA --epochs 3 --batch_size 64 --init_channels 4 --layers 3"


def two_lines(
    epochs: str = "args.epochs",
    criterion: str = "criterion",
    queues: str = "train_queue, valid_queue",
) -> str:
    return f"import bdp_ext\n{queues} = bdp_ext.prune({queues}, {criterion}, epochs={epochs})"


@dataclass
class Run:
    """One way to run a repository.

    Attributes:
        script: relative to the checkout; it is run in its folder, or in `folder`.
        arguments: DATA stands for the folder with CIFAR-10, HERE for that of the script.
        lines: what is added; "": nothing.
        after: the lines go after the line that matches this, at its indentation.
        edits: more substitutions, in the script only.
        epochs: that the search has.
    """

    name: str
    script: str
    arguments: str = SMALL
    lines: str = two_lines()
    after: str = AFTER_LOADERS
    folder: str = ""
    edits: list[tuple[str, str]] = field(default_factory=list)
    epochs: int = 3


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
            if run.lines:
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


def execute(
    source: Path, run: Run, data: Path, images: int, timeout: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script in a temporary copy of its repository.

    Args:
        source: the checkout, which stays as it is.
        data: a folder written by `write_cifar`.
        timeout: seconds.
    """
    with tempfile.TemporaryDirectory() as temporary:
        checkout, shim = Path(temporary) / "checkout", Path(temporary) / "shim"
        shutil.copytree(source, checkout, ignore=shutil.ignore_patterns(".git"))
        patch(checkout, run, images)
        shim.mkdir()
        shutil.copy(Path(__file__).with_name("repository_shim.py"), shim / "sitecustomize.py")
        script = checkout / run.script
        folder = checkout / run.folder if run.folder else script.parent
        if not (folder / "data").exists():  # for those that take no argument
            (folder / "data").symlink_to(data)
        arguments = run.arguments.replace("DATA", str(data)).replace("HERE", str(folder)).split()
        python_path = [str(shim), str(checkout), os.environ.get("PYTHONPATH", "")]
        return subprocess.run(
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
