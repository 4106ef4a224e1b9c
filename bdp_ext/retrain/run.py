"""A retraining with a folder, which holds at the end how good the network is, and its weights."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from bdp_ext.retrain.config import RetrainConfig
from bdp_ext.retrain.loop import Retrain
from bdp_ext.retrain.weights import save_network
from bdp_ext.runs.folder import Folder, Observer, versions
from bdp_ext.spaces.cost import multiply_adds, parameters

WEIGHTS = "weights.safetensors"


def folder(out: Path) -> Folder[RetrainConfig]:
    """The files of a retraining in `out`; the weights are beside them."""
    return Folder(out, RetrainConfig, Retrain.kind)


def retrain(
    config: RetrainConfig, out: Path, *, resume: bool, observer: Observer[Retrain]
) -> dict[str, Any]:
    """Train a network from scratch, and leave everything in `out` (see `Folder.complete`).

    Args:
        config: the settings; of a resumed run, those it was started with.
    """

    def result(job: Retrain) -> dict[str, Any]:
        save_network(job, out / WEIGHTS)
        return make_result(job)

    return folder(out).complete(
        lambda: Retrain(config, config.images(), config.images("test")),
        resume=resume,
        observer=observer,
        write_events=_write_events,
        result=result,
    )


def make_result(job: Retrain) -> dict[str, Any]:
    """The contents of `result.json` for a retraining that is done.

    `top1` and `top5` are shares of the test set that the last epoch's weights get right, `flops`
    multiply-adds for one image, without an auxiliary head as are `parameters`.
    """
    config, last = job.config, job.history[-1]
    return {
        "space": config.space,
        "genotype": config.genotype,
        "protocol": config.protocol,
        "data": config.data,
        "seed": config.seed,
        "epochs": config.epochs,
        "top1": last["top1"],
        "top5": last["top5"],
        "test_loss": last["test_loss"],
        "parameters": parameters(job.network),
        "flops": multiply_adds(job.network, job.image_size),
        "image_size": job.image_size,
        "samples": job.samples,
        "seconds": job.stopwatch.lap(),
        "history": job.history,
        "config": asdict(config),
        "versions": versions(),
    }


def _write_events(events: Any, record: dict[str, Any]) -> None:
    for key, value in record.items():
        if key != "epoch":
            split, _, what = key.partition("_")
            events.add_scalar(f"{what}/{split}" if what else key, value, record["epoch"])
