"""Experiments from their plan to their tables."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bdp_ext.query import Benchmark
from bdp_ext.reproduce.experiments import EXPERIMENTS
from bdp_ext.reproduce.pictures import draw
from bdp_ext.reproduce.plan import Run, runs_of
from bdp_ext.reproduce.results import Results
from bdp_ext.reproduce.runner import Runner
from bdp_ext.reproduce.scale import Scale
from bdp_ext.reproduce.tables import Writer


class Session:
    """Some experiments at one scale.

    Args:
        names: of `EXPERIMENTS`.
        scale: of all of them.
        seeds: runs with the seeds 0, 1, ...
    """

    def __init__(self, names: Sequence[str], scale: Scale, seeds: int) -> None:
        self.scale = scale
        self.seeds = seeds
        self.experiments = [EXPERIMENTS[name](scale) for name in names]
        self.runs: list[Run] = runs_of(self.experiments, scale, seeds)

    @property
    def needs_benchmark(self) -> bool:
        """Whether a cell is looked up."""
        return any(run.command == "search" and "space" not in run.options for run in self.runs)

    def complete(
        self,
        out: Path,
        benchmark: Benchmark | None,
        *,
        jobs: int,
        device: str,
        say: Callable[[str], None],
    ) -> dict[str, str]:
        """Do what is left of the runs, in `out/runs`, and write every experiment's files in `out`.

        Args:
            out: the folder.
            benchmark: of NAS-Bench-201.
            jobs: runs at a time.
            device: as `--device` takes it.
            say: prints a line.

        Returns:
            Name of a run -> why it has no result.

        Raises:
            UserError: a folder holds a run with other settings.
            Interrupted: stopped by Ctrl-C or SIGTERM; the runs have saved.
        """
        folder = out / "runs"
        failures = Runner(folder, jobs, device, say).complete(self.runs)
        for experiment in self.experiments:
            results = [
                Results(table, self.scale, self.seeds, folder, benchmark, failures)
                for table in experiment.tables
            ]
            pictures: list[Path] = []
            if experiment.picture and benchmark:
                path = out / experiment.name
                pictures = draw(experiment.picture, results[0], folder, benchmark, path)
            Writer(experiment, self.scale, self.seeds, results, benchmark).write(out, pictures[:1])
            suffixes = [".md", ".csv", ".json", *(path.suffix for path in pictures)]
            say(f"wrote {out / experiment.name}{', '.join(suffixes)}")
        return failures
