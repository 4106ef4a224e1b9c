"""The runs of experiments: one command and one folder each, shared where settings are equal."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdp_ext.errors import UserError
from bdp_ext.reproduce.estimate import Estimate, estimate_retrain, estimate_search, stand_in
from bdp_ext.reproduce.scale import Options, Scale, Size
from bdp_ext.reproduce.table import Experiment, Work
from bdp_ext.retrain.config import RetrainConfig
from bdp_ext.retrain.run import folder as retrain_folder
from bdp_ext.runs.settings import option, read_plain
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.run import folder as search_folder
from bdp_ext.spaces.architecture import read_architecture

SPELT_OUT = {"space", "method", "data", "bdp", "pruner", "protocol"}
"""Settings that a run's name says in its own way."""


@dataclass(frozen=True)
class Run:
    """One command with a folder.

    Attributes:
        name: of the folder; equal for equal settings.
        command: "search" or "retrain".
        options: what is given to it, but the architecture.
        size: of its data.
        after: the search whose architecture is trained.
    """

    name: str
    command: str
    options: Options
    size: Size
    after: "Run | None" = None

    def command_line(self, runs: Path, device: str) -> list[str]:
        """What starts it, or goes on with what is there.

        Args:
            runs: the folder of all runs.
            device: as `--device` takes it.
        """
        given = {**self.options, "device": device, "out": runs / self.name}
        if self.after:
            given["genotype"] = runs / self.after.name
        flags: list[str] = []
        for name, value in given.items():
            if isinstance(value, bool):
                flags.append(option(name if value else f"no_{name}"))
            else:
                flags += [option(name), str(value)]
        return [sys.executable, "-m", "bdp_ext", self.command, *flags, "--resume"]

    def finished(self, runs: Path) -> bool:
        """Whether its result is there.

        Raises:
            UserError: the folder holds a run with other settings.
        """
        path = runs / self.name
        files = search_folder(path) if self.command == "search" else retrain_folder(path)
        saved = read_plain(files.config, files.settings, files.kind)
        if saved is None:
            return False
        differences = self._wanted(runs).differences(saved)
        if differences:
            raise UserError(
                f"{path} holds a run with other values of {', '.join(differences)}; give another "
                "--out, or move it away."
            )
        return files.result.exists()

    def estimate(self) -> Estimate:
        """Of its cost."""
        if self.after is None:
            return estimate_search(SearchConfig.of(**self.options), self.size)
        genotype = stand_in(SearchConfig.of(**self.after.options), self.after.size)
        return estimate_retrain(RetrainConfig.of(**self.options, genotype=genotype), self.size)

    def _wanted(self, runs: Path) -> Any:
        if self.after is None:
            return SearchConfig.of(**self.options)
        _, genotype = read_architecture(str(runs / self.after.name), self.options["space"])
        return RetrainConfig.of(**self.options, genotype=genotype)


def run_of(work: Work, scale: Scale, seed: int) -> Run:
    """The run whose result is asked for: the search, or the retraining after it."""
    search = _search(work.search, scale, seed)
    return search if work.retrain is None else _retrain(search, work, scale, seed)


def runs_of(experiments: Iterable[Experiment], scale: Scale, seeds: int) -> list[Run]:
    """All runs of these experiments, each once, a search before what is trained after it."""
    runs: dict[str, Run] = {}
    for experiment in experiments:
        for seed in range(seeds):
            for table in experiment.tables:
                for row in table.rows:
                    for works in (row.runs or {}).values():
                        for work in works:
                            last = run_of(work, scale, seed)
                            for run in (last.after, last):
                                if run is not None:
                                    runs.setdefault(run.name, run)
    return list(runs.values())


def _search(own: Options, scale: Scale, seed: int) -> Run:
    own = _distinct(own, scale)
    options = {**scale.search_options(own), "seed": seed}
    parts = [own["space"]] if "space" in own else []
    parts += [own.get("method", "darts"), scale.alias(own["data"])]
    parts += [own.get("pruner", "bdp") if own.get("bdp", True) else "unpruned"]
    parts += [*_settings(own), str(seed)]
    return Run("-".join(parts), "search", options, scale.sizes[own["data"]])


def _distinct(own: Options, scale: Scale) -> Options:
    """Without those settings that the search would have anyway."""
    config = scale.search_config(own)
    kept = dict(own)
    for name in set(own) - {"data"}:
        others = {other: value for other, value in kept.items() if other != name}
        with suppress(UserError):  # without it the settings may be impossible
            if scale.search_config(others) == config:
                kept = others
    return kept


def _retrain(search: Run, work: Work, scale: Scale, seed: int) -> Run:
    own = work.retrain or {}
    space = work.search["space"]
    options = {**scale.retrain_options(space, own), "seed": seed}
    name = "-".join([search.name, "trained", scale.alias(own["data"]), *_settings(own)])
    return Run(name, "retrain", options, scale.sizes[own["data"]], search)


def _settings(own: Options) -> list[str]:
    """Those that a run's name lists."""
    return [
        f"{name.replace('_', '-')}={value}"
        for name, value in sorted(own.items())
        if name not in SPELT_OUT
    ]
