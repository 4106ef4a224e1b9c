"""Retrainings with a folder: what is in it, stopped, killed and resumed."""

import json
import signal
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from jobs import Silent, start, wait_until

from bdp_ext.data import load, normalize
from bdp_ext.retrain.config import RetrainConfig
from bdp_ext.retrain.run import WEIGHTS, folder, retrain
from bdp_ext.retrain.weights import load_network, read_metadata
from bdp_ext.runs.folder import Interrupted

from .common import CELL, CONFIGS

NUMBERS = ("top1", "top5", "test_loss", "parameters", "flops", "samples", "history")


def outcome(out: Path) -> tuple[dict, bytes]:
    result = json.loads((out / "result.json").read_text())
    return {key: result[key] for key in NUMBERS}, (out / WEIGHTS).read_bytes()


@pytest.mark.parametrize("name", CONFIGS)
def test_result_weights_and_reloaded_network(trained, name):
    config, out = CONFIGS[name], trained(name)
    result = json.loads((out / "result.json").read_text())
    assert result["samples"] == 200 * config.epochs
    assert RetrainConfig(**result["config"]) == config
    assert [record["epoch"] for record in result["history"]] == list(range(1, config.epochs + 1))
    tested = [record["epoch"] for record in result["history"] if "top1" in record]
    assert tested == ([2, 3] if config.evaluate_every == 2 else [1, 2])
    assert 0 <= result["top1"] < result["top5"] <= 1
    assert (result["top1"], result["top5"]) == tuple(
        result["history"][-1][key] for key in ("top1", "top5")
    )

    # The weights alone give the accuracies again.
    network = load_network(out / WEIGHTS)
    metadata = read_metadata(out / WEIGHTS)
    test = load("digits", split="test")
    with torch.no_grad():
        logits = network(normalize(test.images, metadata["mean"], metadata["std"]))
    best = logits.topk(5).indices == test.labels[:, None]
    assert float(best[:, 0].double().mean()) == pytest.approx(result["top1"], abs=1e-12)
    assert float(best.any(1).double().mean()) == pytest.approx(result["top5"], abs=1e-12)
    assert float(F.cross_entropy(logits, test.labels)) == pytest.approx(result["test_loss"], 1e-5)
    assert metadata["classes"] == list(test.classes)
    assert metadata["genotype"] == config.genotype


@pytest.mark.parametrize("name", CONFIGS)
def test_stop_between_two_steps_is_exact(tmp_path, trained, name):
    stop = Silent({9: lambda: signal.raise_signal(signal.SIGTERM)})
    with pytest.raises(Interrupted):
        retrain(CONFIGS[name], tmp_path / "stopped", resume=False, observer=stop)
    state = folder(tmp_path / "stopped").saved_state(resume=True)
    assert state["retraining"]["steps"] == 9  # of 7 an epoch
    retrain(CONFIGS[name], tmp_path / "stopped", resume=True, observer=Silent())
    assert outcome(tmp_path / "stopped") == outcome(trained(name))


@pytest.mark.parametrize("stream", ["", "--stream --image-size 32"])
def test_killed_on_cifar_images_and_resumed_ends_the_same(tmp_path, cifar, bdp, stream):
    flags = (
        f"--genotype PC_DARTS_cifar --data {cifar} --epochs 2 --channels 4 --cells 3 --threads 1 "
        f"{stream}"
    )
    code, output, errors = bdp("retrain", "--out", tmp_path / "whole", *flags.split())
    assert (code, errors) == (0, "")
    result = json.loads((tmp_path / "whole/result.json").read_text())
    assert f"{result['top1']:.2%}" in output
    # The protocol of the images' size, with the auxiliary head that 32x32 pixels allow.
    assert result["config"]["protocol"] == "cifar"
    assert result["config"]["auxiliary"] == 0.4
    assert result["image_size"] == 32

    killed = start("retrain", "--out", tmp_path / "killed", *flags.split())
    metrics = tmp_path / "killed/metrics.jsonl"
    wait_until(lambda: metrics.exists() and metrics.read_text(), killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed/result.json").exists()
    code, _, errors = bdp("retrain", "--out", tmp_path / "killed", "--resume")
    assert (code, errors) == (0, "")
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("", "--genotype is missing"),
        ("--genotype DARTS_V2 --momentum 0 --nesterov", "--nesterov needs a --momentum above 0"),
        ("--genotype DARTS_V9", "no file, no published name (DARTS_V1,"),
        ("--genotype DARTS_V2 --space nas-bench-201", "is no NAS-Bench-201 cell"),
        ("--genotype DIR/empty.txt", "no architecture of a space"),
        ("--genotype DIR/broken.json", "broken.json is no result of a search"),
        ("--genotype DIR/picture.txt", "picture.txt is no text"),
        ("--genotype DIR", "result.json cannot be read"),
        ("--genotype DARTS_V2", "--auxiliary 0 or a larger --image-size"),
        ("--genotype DARTS_V2 --protocol imagenet --image-size 8 --auxiliary 0", "do not suit"),
        ("--genotype DARTS_V2 --cells 2 --auxiliary 0", "give at least 3"),
        (f"--genotype {CELL} --auxiliary .4", "no auxiliary head"),
        (f"--genotype {CELL} --drop-path .2", "give --drop-path 0"),
        (f"--genotype {CELL} --protocol imagenet", "--protocol imagenet is none of"),
        (f"--genotype {CELL} --cutout 1.5", "--cutout must be a number, at least 0 and below 1"),
        (f"--genotype {CELL} --lr -1", "--lr must be a number, above 0"),
        (f"--genotype {CELL} --data DIR/images", "has no folder 'test'"),
        (f"--genotype {CELL} --data cifra10 --protocol cifar", "did you mean 'cifar10'?"),
        (f"--genotype {CELL} --device cuda:99", "--device cuda:99"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(tmp_path, bdp, flags, sentence):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "broken.json").write_text('{"architecture"')
    (tmp_path / "picture.txt").write_bytes(b"\xff\xd8\xff")
    from PIL import Image

    for name in ("cat/1", "cat/2", "dog/1", "dog/2"):
        file = tmp_path / f"images/train/{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(file)
    out = tmp_path / "out"
    words = [word.replace("DIR", str(tmp_path)) for word in flags.split()]
    data = [] if "--data" in words else ["--data", "digits"]
    code, _, message = bdp("retrain", "--out", out, *data, "--epochs", 1, *words)
    assert code == 2
    assert sentence in message
    assert not out.exists()


def test_genotype_from_a_search_and_resume_with_other_settings(tmp_path, bdp):
    search = "search --data digits --epochs 3 --interval 2 --channels 2 --cells 1 --limit-train 60"
    assert bdp(*search.split(), "--out", tmp_path / "search")[0] == 0
    found = json.loads((tmp_path / "search/result.json").read_text())["architecture"]
    flags = ("--channels", 2, "--cells", 1, "--limit-train", 60, "--data", "digits")
    out = tmp_path / "retrain"
    command = ("retrain", "--genotype", tmp_path / "search", "--out", out, *flags)
    code, output, _ = bdp(*command, "--epochs", 1)
    assert code == 0
    assert "top-1" in output
    result = json.loads((out / "result.json").read_text())
    assert (result["genotype"], result["space"]) == (found, "nas-bench-201")

    assert "holds a run already" in bdp(*command, "--epochs", 1)[2]
    other = "|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"
    code, _, message = bdp("retrain", "--genotype", other, "--out", out, "--resume", "--epochs", 9)
    assert code == 2
    assert "other values of --epochs, --genotype" in message
    # A retraining's own folder names the architecture as well.
    again = ("retrain", "--genotype", out, "--out", tmp_path / "again", *flags, "--epochs", 1)
    assert bdp(*again)[0] == 0
    assert outcome(tmp_path / "again") == outcome(out)
    code, _, message = bdp("search", "--out", out, "--resume")
    assert (code, "holds no settings of a search" in message) == (2, True)
