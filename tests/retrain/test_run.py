"""Retraining: found networks trained from scratch, stopped and resumed, and their weights."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from jobs import Silent

from bdp_ext import cli
from bdp_ext.data import cutout, load, normalize
from bdp_ext.errors import UserError
from bdp_ext.retrain.config import RetrainConfig, usual_protocol
from bdp_ext.retrain.loop import Retrain, read_batch
from bdp_ext.retrain.rmsprop import TensorFlowRMSprop
from bdp_ext.retrain.run import WEIGHTS, folder, retrain
from bdp_ext.retrain.weights import load_network, read_metadata
from bdp_ext.runs.folder import Interrupted
from bdp_ext.spaces.published import PUBLISHED

DARTS_V2 = str(PUBLISHED["DARTS_V2"])
CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|none~2|"
ALL_NONE = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
LAYERS = "k3e3|skip+k5e6|k3e3+k7e3|skip+k3e6|k3e3+k5e3|k7e6+k3e3"
SMALL = {"data": "digits", "epochs": 2, "channels": 4, "batch_size": 32, "limit_train": 200}
CONFIGS = {
    "darts": RetrainConfig.of(
        space="darts", genotype=DARTS_V2, cells=3, auxiliary=0.0, drop_path=0.5, **SMALL
    ),
    "nas-bench-201": RetrainConfig.of(space="nas-bench-201", genotype=CELL, cells=1, **SMALL),
    "mobilenet": RetrainConfig.of(
        space="mobilenet", genotype=LAYERS, cells=2, drop_path=0.5, **SMALL | {"channels": 16}
    ),
    # Everything that only the ImageNet protocols ask for, at once.
    "imagenet's": RetrainConfig.of(
        **{**SMALL, "epochs": 3},
        space="darts",
        genotype=DARTS_V2,
        cells=3,
        auxiliary=0.0,
        optimizer="rmsprop",
        lr_schedule="step",
        warmup=1,
        decay_all=False,
        label_smoothing=0.1,
        dropout=0.3,
        ema=0.9,
        evaluate_every=2,
    ),
}
NUMBERS = ("top1", "top5", "test_loss", "parameters", "flops", "samples", "history")


def make(config: RetrainConfig) -> Retrain:
    train = load(config.data, limit=config.limit_train, seed=config.seed)
    return Retrain(config, train, load(config.data, split="test"))


def outcome(out: Path) -> tuple[dict, bytes]:
    result = json.loads((out / "result.json").read_text())
    return {key: result[key] for key in NUMBERS}, (out / WEIGHTS).read_bytes()


@pytest.mark.parametrize("name", CONFIGS)
def test_result_weights_and_reloaded_network(tmp_path, name):
    config = CONFIGS[name]
    result = retrain(config, tmp_path, resume=False, observer=Silent())
    assert result == json.loads((tmp_path / "result.json").read_text())
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
    network = load_network(tmp_path / WEIGHTS)
    metadata = read_metadata(tmp_path / WEIGHTS)
    test = load("digits", split="test")
    with torch.no_grad():
        logits = network(normalize(test.images, metadata["mean"], metadata["std"]))
    best = logits.topk(5).indices == test.labels[:, None]
    assert float(best[:, 0].double().mean()) == pytest.approx(result["top1"], abs=1e-12)
    assert float(best.any(1).double().mean()) == pytest.approx(result["top5"], abs=1e-12)
    assert float(F.cross_entropy(logits, test.labels)) == pytest.approx(result["test_loss"], 1e-5)
    assert metadata["classes"] == list(test.classes)
    assert metadata["genotype"] == config.genotype


def test_reloaded_network_gives_the_same_logits(tmp_path):
    config = CONFIGS["darts"]
    retrain(config, tmp_path, resume=False, observer=Silent())
    job = make(config)
    job.load_state_dict(folder(tmp_path).saved_state(resume=True)["retraining"])
    images, _ = read_batch(job.test, torch.arange(64))
    with torch.no_grad():
        assert torch.equal(load_network(tmp_path / WEIGHTS)(images), job.network.eval()(images))


def test_training_lowers_the_loss():
    config = replace(CONFIGS["nas-bench-201"], epochs=8, channels=8, limit_train=600)
    job = make(config)
    while not job.done:
        job.step()
        if job.epoch_done:
            job.end_epoch()
    first, last = job.history[0], job.history[-1]
    assert last["train_loss"] < 0.5 * first["train_loss"]
    assert last["top1"] > 0.6


@pytest.mark.parametrize("name", CONFIGS)
def test_stop_between_two_steps_is_exact(tmp_path, name):
    retrain(CONFIGS[name], tmp_path / "whole", resume=False, observer=Silent())
    stop = Silent({9: lambda: signal.raise_signal(signal.SIGTERM)})
    with pytest.raises(Interrupted):
        retrain(CONFIGS[name], tmp_path / "stopped", resume=False, observer=stop)
    state = folder(tmp_path / "stopped").saved_state(resume=True)
    assert state["retraining"]["steps"] == 9  # of 7 an epoch
    retrain(CONFIGS[name], tmp_path / "stopped", resume=True, observer=Silent())
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def bdp(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "bdp_ext", *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("stream", ["", "--stream --image-size 32"])
def test_killed_on_cifar_images_and_resumed_ends_the_same(tmp_path, data_folder, stream):
    images = tmp_path / "images"
    unpack = [sys.executable, data_folder / "unpack.py", images, "--train", "512", "--test", "200"]
    subprocess.run(unpack, check=True, stdout=subprocess.DEVNULL)
    flags = (
        f"--genotype PC_DARTS_cifar --data {images} --epochs 2 --channels 4 --cells 3 --threads 1 "
        f"{stream}"
    )
    whole = bdp("retrain", "--out", tmp_path / "whole", *flags.split())
    output, errors = whole.communicate(timeout=300)
    assert (whole.returncode, errors) == (0, "")
    result = json.loads((tmp_path / "whole/result.json").read_text())
    assert f"{result['top1']:.2%}" in output
    # The protocol of the images' size, with the auxiliary head that 32x32 pixels allow.
    assert result["config"]["protocol"] == "cifar"
    assert result["config"]["auxiliary"] == 0.4
    assert result["image_size"] == 32

    killed = bdp("retrain", "--out", tmp_path / "killed", *flags.split())
    metrics = tmp_path / "killed/metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() or not metrics.read_text():
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed/result.json").exists()
    resumed = bdp("retrain", "--out", tmp_path / "killed", "--resume")
    assert resumed.communicate(timeout=300)[1] == ""
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


def test_cell_without_a_way_to_the_output_trains():
    """Its convolutions have no gradient; the classifier's bias still learns."""
    config = RetrainConfig.of(space="nas-bench-201", genotype=ALL_NONE, cells=1, **SMALL)
    job = make(config)
    before = job.network.classifier.bias.clone()
    job.step()
    assert not torch.equal(job.network.classifier.bias, before)


def test_step_is_the_protocols():
    """One step by hand: crop, cutout, both losses, clipping, weight decay, SGD with momentum."""
    torch.manual_seed(0)
    data = load("digits", image_size=32, limit=20)
    config = RetrainConfig.of(
        space="darts",
        genotype=DARTS_V2,
        data="digits",
        channels=4,
        cells=3,
        batch_size=20,
        label_smoothing=0.1,
        clip=0.01,
    )
    job, twin = Retrain(config, data, data), Retrain(config, data, data)
    crops, squares = (torch.Generator().manual_seed(config.seed) for _ in range(2))
    images, target = read_batch(twin.train, twin.sampler.next_batch(), crops)
    logits, auxiliary = twin.network(cutout(images, 16, squares))
    losses = [F.cross_entropy(x, target, label_smoothing=0.1) for x in (logits, auxiliary)]
    (losses[0] + 0.4 * losses[1]).backward()
    torch.nn.utils.clip_grad_norm_(twin.parameters, 0.01)
    torch.optim.SGD(twin.parameters, 0.025, 0.9, weight_decay=3e-4).step()
    job.step()
    for mine, theirs in zip(job.parameters, twin.parameters, strict=True):
        assert torch.equal(mine, theirs)


def test_drop_path_and_learning_rate_follow_the_epoch():
    job = make(CONFIGS["darts"])
    assert job.network.drop_path == 0
    while not job.epoch_done:
        job.step()
    record = job.end_epoch()
    assert job.network.drop_path == 0.25
    assert record["lr"] == 0.025
    assert job.optimizer.param_groups[0]["lr"] == pytest.approx(0.0125)


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"epochs": 4}, [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]),
        ({"epochs": 4, "lr_schedule": "linear"}, [1, 0.75, 0.5, 0.25]),
        ({"epochs": 10, "lr_schedule": "linear", "warmup": 5}, [0.2, 0.4, 0.6, 0.8, 1, 0.5]),
        ({"lr_schedule": "step", "lr_decay": 0.5, "lr_decay_epochs": 2}, [1, 1, 0.5, 0.5, 0.25]),
    ],
)
def test_learning_rates(settings, rates):
    config = RetrainConfig(space="darts", genotype=DARTS_V2, lr=1.0, **settings)
    assert [config.learning_rate(epoch) for epoch in range(len(rates))] == pytest.approx(rates)


def test_protocols_are_the_papers():
    def of(space, genotype, protocol, *names):
        config = RetrainConfig.of(space=space, genotype=genotype, protocol=protocol)
        return [getattr(config, name) for name in names]

    common = ("epochs", "channels", "cells", "batch_size", "lr", "weight_decay", "label_smoothing")
    assert of("darts", DARTS_V2, "cifar", *common) == [600, 36, 20, 96, 0.025, 3e-4, 0]
    assert of("darts", DARTS_V2, "imagenet", *common) == [250, 48, 14, 1024, 0.5, 3e-5, 0.1]
    assert of("nas-bench-201", CELL, "cifar", *common) == [200, 16, 5, 256, 0.1, 5e-4, 0]
    extras = ("cutout", "auxiliary", "drop_path", "clip", "nesterov")
    assert of("darts", DARTS_V2, "cifar", *extras) == [0.5, 0.4, 0.2, 5, False]
    assert of("darts", DARTS_V2, "imagenet", *extras) == [0, 0.4, 0, 5, False]
    assert of("nas-bench-201", CELL, "cifar", *extras) == [0, 0, 0, 0, True]
    extras = ("optimizer", "lr_decay", "lr_decay_epochs", "warmup", "dropout", "ema", "decay_all")
    assert of("mobilenet", LAYERS, "imagenet", *common) == [500, 32, 4, 1024, 0.064, 1e-4, 0.1]
    assert of("mobilenet", LAYERS, "imagenet", *extras) == [
        *("rmsprop", 0.963, 3, 5, 0.2),
        *(0.9998, False),
    ]
    assert usual_protocol("darts", 127) == usual_protocol("nas-bench-201", 224) == "cifar"
    assert usual_protocol("darts", 128) == "imagenet"


def test_cutout_blanks_a_square_around_any_pixel():
    images = torch.ones(4000, 2, 8, 8)
    blanked = cutout(images, 4, torch.Generator().manual_seed(0)) == 0
    assert torch.equal(images, torch.ones_like(images))
    assert torch.equal(blanked[:, 0], blanked[:, 1])
    rows, columns = blanked[:, 0].any(2).sum(1), blanked[:, 0].any(1).sum(1)
    assert torch.equal(blanked[:, 0].sum((1, 2)), rows * columns)
    assert (rows.min(), rows.max()) == (2, 4)  # two of its four rows outside, or none
    assert rows.double().mean().item() == pytest.approx(3.5, abs=0.1)  # (2 + 3 + 5 * 4 + 3) / 8


def test_tensorflow_rmsprop_is_its_equations():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, dtype=torch.float64))
    unused = torch.nn.Parameter(torch.ones(2))
    optimizer = TensorFlowRMSprop([weight, unused], 0.1, momentum=0.8, weight_decay=0.01)
    w, v, m = weight.detach().clone(), 1.0, 0.0
    for lr in (0.1, 0.1, 0.02):
        gradient = torch.randn(5, dtype=torch.float64)
        weight.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        g = gradient + 0.01 * w
        v = 0.9 * v + 0.1 * g**2
        m = 0.8 * m + lr * g / (v + 1e-3).sqrt()
        w = w - m
    torch.testing.assert_close(weight.detach(), w, rtol=1e-12, atol=1e-12)
    assert torch.equal(unused, torch.ones(2))


def test_dropout_drops_the_classifiers_features_in_training_only():
    job = make(CONFIGS["imagenet's"])
    images, _ = read_batch(job.test, torch.arange(8))
    job.network.train()
    norms = [module for module in job.network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.eval()
    assert not torch.equal(job.network(images), job.network(images))
    job.network.eval()
    assert torch.equal(job.network(images), job.network(images))


@pytest.fixture
def run_bdp():
    def call(*arguments: object) -> tuple[int, str]:
        result = CliRunner(catch_exceptions=True).invoke(cli.bdp, [*map(str, arguments)])
        if isinstance(result.exception, UserError):
            return 2, str(result.exception)
        return result.exit_code, result.output

    return call


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("", "--genotype is missing"),
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
        (f"--genotype {CELL} --cutout 1.5", "--cutout must be in [0, 1)"),
        (f"--genotype {CELL} --lr -1", "--lr must be at least 0"),
        (f"--genotype {CELL} --data DIR/images", "has no folder 'test'"),
        (f"--genotype {CELL} --data cifra10 --protocol cifar", "did you mean 'cifar10'?"),
        (f"--genotype {CELL} --device cuda:99", "--device cuda:99"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(tmp_path, run_bdp, flags, sentence):
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
    code, message = run_bdp("retrain", "--out", out, *data, "--epochs", 1, *words)
    assert code == 2
    assert sentence in message
    assert not out.exists()


def test_genotype_from_a_search_and_resume_with_other_settings(tmp_path, run_bdp):
    search = "search --data digits --epochs 3 --interval 2 --channels 2 --cells 1 --limit-train 60"
    assert run_bdp(*search.split(), "--out", tmp_path / "search")[0] == 0
    found = json.loads((tmp_path / "search/result.json").read_text())["architecture"]
    flags = ("--channels", 2, "--cells", 1, "--limit-train", 60, "--data", "digits")
    out = tmp_path / "retrain"
    command = ("retrain", "--genotype", tmp_path / "search", "--out", out, *flags)
    code, output = run_bdp(*command, "--epochs", 1)
    assert code == 0
    assert "top-1" in output
    result = json.loads((out / "result.json").read_text())
    assert (result["genotype"], result["space"]) == (found, "nas-bench-201")

    assert "holds a run already" in run_bdp(*command, "--epochs", 1)[1]
    other = "|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"
    code, message = run_bdp("retrain", "--genotype", other, "--out", out, "--resume", "--epochs", 9)
    assert code == 2
    assert "other values of --epochs, --genotype" in message
    # A retraining's own folder names the architecture as well.
    again = ("retrain", "--genotype", out, "--out", tmp_path / "again", *flags, "--epochs", 1)
    assert run_bdp(*again)[0] == 0
    assert outcome(tmp_path / "again") == outcome(out)
    code, message = run_bdp("search", "--out", out, "--resume")
    assert (code, "holds no settings of a search" in message) == (2, True)


def test_foreign_weights_are_refused(tmp_path):
    file = tmp_path / "weights.safetensors"
    with pytest.raises(UserError, match="cannot be read"):
        load_network(file)
    file.write_bytes(b"foreign" * 10)
    with pytest.raises(UserError, match="holds no network"):
        load_network(file)
    safetensors.torch.save_file({"x": torch.ones(2)}, file)
    with pytest.raises(UserError, match="holds no network"):
        load_network(file)


def test_images_of_another_set_are_refused(tmp_path):
    config = CONFIGS["nas-bench-201"]
    retrain(config, tmp_path, resume=False, observer=Silent())
    state = folder(tmp_path).saved_state(resume=True)["retraining"]
    job = Retrain(config, load("digits", limit=199), load("digits", split="test"))
    with pytest.raises(UserError, match="are not those that this retraining began with"):
        job.load_state_dict(state)
    with pytest.raises(UserError, match="not 8x8 and 16x16; give --image-size"):
        Retrain(config, load("digits"), load("digits", split="test", image_size=16))
