#!/usr/bin/env python3
"""A whole search with bi-level data pruning beside a public repository's own, unpruned one.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE tools/compare_search.py FOLDER [FOLDER ...]

FOLDER holds a checkout of quark0/darts (DARTS space), yuhuixu1993/PC-DARTS or
D-X-Y/AutoDL-Projects (NAS-Bench-201). Its search script runs in a patched temporary copy with its
own settings for the supernet (16 channels, all cells, batches of 64), as many epochs, and the same
real images; then `bdp search` does the same with pruning. Both are processes of their own and are
measured from start to end: loading, data workers, evaluation and all.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from repositories import CIFAR, Run, execute, write_cifar


@dataclass(frozen=True)
class Pair:
    """A repository's search and ours."""

    theirs: Run  # EPOCHS in its arguments stands for their number
    ours: str


def darts(name: str, script: str, edit: tuple[str, str], ours: str) -> Pair:
    arguments = "--data DATA --epochs EPOCHS --batch_size 64 --init_channels 16 --layers 8"
    # A worker process is a fork of all that memory, which is copied as it changes.
    edits = [edit, (r"num_workers=2", "num_workers=0")]
    return Pair(Run(name, script, arguments, lines="", edits=edits), ours)


PAIRS = {
    "cnn/architect.py": darts(
        "quark0/darts, first order",
        "cnn/train_search.py",
        (r"def infer\(", "@torch.no_grad()\ndef infer("),  # what `volatile` meant
        "--space darts --method darts --cells 8",
    ),
    "model_search_imagenet.py": darts(
        "PC-DARTS, alpha from the first epoch",
        "train_search.py",
        (r"epoch>=15", "epoch>=0"),  # so that both do the same in every epoch
        "--space darts --method pc-darts --cells 8 --alpha-start 0",
    ),
    "exps/NATS-algos/search-cell.py": Pair(
        Run(
            "AutoDL-Projects, NAS-Bench-201, darts-v1",
            "exps/NATS-algos/search-cell.py",
            "--dataset cifar10 --data_path DATA --algo darts-v1 --use_api 0 --channel 16 "
            "--num_cells 5 --rand_seed 1 --workers 1 --overwite_epochs EPOCHS",
            lines="",
            folder=".",
        ),
        "--space nas-bench-201 --method darts --cells 5",
    ),
}


def children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compare(source: Path, pair: Pair, folder: Path, arguments: argparse.Namespace) -> None:
    """Run both and print what they took."""
    epochs, out = str(arguments.epochs), Path(tempfile.mkdtemp(dir=folder)) / "ours"
    run = replace(pair.theirs, arguments=pair.theirs.arguments.replace("EPOCHS", epochs))
    start = children_seconds()
    done = execute(source, run, folder / "pickles", arguments.images)
    if done.returncode:
        raise SystemExit(f"{run.name} failed\n{(done.stdout + done.stderr)[-3000:]}")
    theirs = children_seconds() - start

    keep = str(arguments.keep)
    command = [
        *(sys.executable, "-m", "bdp_ext", "search", *pair.ours.split()),
        *("--data", str(folder / "images"), "--out", str(out)),
        *("--channels", "16", "--batch-size", "64", "--epochs", epochs, "--threads", "1"),
        *("--interval", str(arguments.interval), "--keep-train", keep, "--keep-valid", keep),
    ]
    start = children_seconds()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    ours = children_seconds() - start
    result = json.loads((out / "result.json").read_text())
    print(
        f"{run.name}: {theirs:.0f} CPU s unpruned; bdp search with {keep} of both levels left "
        f"{ours:.0f} CPU s ({sum(result['samples'].values()):,} samples instead of "
        f"{sum(result['samples_unpruned'].values()):,}): {theirs / ours:.1f} times less",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=1024, help="half of them a level")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--interval", type=int, default=2, help="epochs between our prunings")
    parser.add_argument("--keep", type=float, default=0.1, help="share of each level left")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_cifar(CIFAR, folder / "pickles", arguments.images)
        unpack = [sys.executable, str(CIFAR.with_name("unpack.py")), str(folder / "images")]
        subprocess.run(
            [*unpack, "--train", str(arguments.images), "--test", "64"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for source in arguments.folders:
            kinds = [kind for kind in PAIRS if (source / kind).exists()]
            if not kinds:
                raise SystemExit(f"{source} is none of the repositories that this script knows.")
            compare(source, PAIRS[kinds[0]], folder, arguments)


if __name__ == "__main__":
    main()
