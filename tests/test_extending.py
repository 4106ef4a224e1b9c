"""docs/extending.md: its files work, on the command line too."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bdp_ext.spaces import SPACES

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
FILES = dict(re.findall(r'```python title="(\w+\.py)"\n(.*?)```', PAGE.read_text(), re.S))
SMALL = [
    "--data",
    "digits",
    "--limit-train",
    "100",
    "--epochs",
    "4",
    "--interval",
    "2",
    "--batch-size",
    "16",
    "--threads",
    "1",
]
SIZES = {
    "nas-bench-201": ["--channels", "4", "--cells", "1"],
    "darts": ["--channels", "2", "--cells", "3"],
    "mobilenet": ["--channels", "4", "--cells", "1"],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the page's files, from which commands are run."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bdp(*arguments: str) -> str:
    command = [sys.executable, "-m", "bdp_ext", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def result(run: str) -> dict:
    found = json.loads(Path(run, "result.json").read_text())
    return {key: found[key] for key in ("architecture", "alpha", "prunings", "samples")}


def test_the_page_has_a_file_of_each_kind():
    assert list(FILES) == ["my_method.py", "my_space.py", "my_pruner.py", "my_operation.py"]
    assert len(FILES["my_method.py"].strip().splitlines()) < 20


@pytest.mark.parametrize("space", SPACES)
def test_a_method_killed_and_resumed_finds_the_same(folder, space):
    search = ["search", *SMALL, "--space", space, *SIZES[space], "--method", "my_method:Gdas"]
    bdp(*search, "--out", "whole")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    killed = subprocess.Popen(
        [sys.executable, "-m", "bdp_ext", *search, "--out", "killed"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(3000):
            if Path("killed/checkpoint.pt").exists() or killed.poll() is not None:
                break
            time.sleep(0.02)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert Path("killed/checkpoint.pt").exists()
    assert not Path("killed/result.json").exists()
    bdp("search", "--out", "killed", "--resume", "--method", "my_method:Gdas")
    assert result("killed") == result("whole")


def test_a_space_is_searched_drawn_reported_and_trained(folder):
    space = ["--space", "my_space:Chain"]
    bdp("search", *SMALL, *space, "--pruner", "my_pruner:Margin", "--out", "run")
    found = json.loads(Path("run/result.json").read_text())
    assert found["architecture"].count(",") == 2
    assert [row["level"] for row in found["prunings"]] == ["train", "valid"]
    assert all(row["taken"] == int(0.3 * row["before"]) for row in found["prunings"])
    bdp("draw", *space, "--genotype", "run", "--out", "chain.svg")
    assert found["architecture"].split(",")[0] in Path("chain.svg").read_text()
    bdp("report", *space, "run", "--out", "report.html")
    assert found["architecture"] in Path("report.html").read_text()
    training = [
        "--epochs",
        "1",
        "--batch-size",
        "50",
        "--limit-train",
        "100",
        "--threads",
        "1",
        "--data",
        "digits",
    ]
    bdp("retrain", *space, "--genotype", "run", *training, "--out", "net")
    assert json.loads(Path("net/result.json").read_text())["genotype"] == found["architecture"]


def test_an_operation_is_computed_like_ours(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    import torch
    from my_operation import Grouped, GroupedConv

    torch.manual_seed(0)
    supernet = Grouped().supernet(channels=4, cells=1, classes=3).double()
    assert sum(isinstance(module, GroupedConv) for module in supernet.modules()) == 3 * 6
    images, found = torch.randn(4, 3, 8, 8, dtype=torch.float64), []
    for supernet.fused in (False, True):
        loss = supernet(images).square().sum()
        found.append([loss, *torch.autograd.grad(loss, list(supernet.parameters()))])
    for readable, fused in zip(*found, strict=True):
        torch.testing.assert_close(fused, readable, rtol=1e-9, atol=1e-11)
    cell = Grouped().derive([torch.eye(6)])["architecture"]
    assert "grouped_conv_3x3" in cell
    assert Grouped().network(cell, channels=4, cells=1, classes=3, imagenet=False, auxiliary=False)(
        images.float()
    ).shape == (4, 3)
