"""Experiments from their plan to their tables."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bdp_ext.reproduce.experiments import EXPERIMENTS
from bdp_ext.reproduce.pictures import FORMATS, draw
from bdp_ext.reproduce.plan import PlannedRun, runs_of
from bdp_ext.reproduce.results import from_folders, from_record
from bdp_ext.reproduce.runner import Runner
from bdp_ext.reproduce.scale import Scale
from bdp_ext.reproduce.writer import Writer
from bdp_ext.spaces.nas_bench_201_results import Benchmark


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
        self.runs: list[PlannedRun] = runs_of(self.experiments, scale, seeds)

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
        source = from_folders(folder, benchmark, failures)
        for experiment in self.experiments:
            writer = Writer(experiment, self.scale, self.seeds, source, benchmark)
            pictures: list[Path] = []
            if experiment.picture and benchmark:
                path = out / experiment.name
                pictures = draw(experiment.picture, writer.results[0], folder, benchmark, path)
            say(writer.write(out, pictures))
        return failures

    def write_again(
        self, record: Path, out: Path, benchmark: Benchmark | None, say: Callable[[str], None]
    ) -> None:
        """Write every experiment's tables in `out` from the .json files in `record`; what is drawn
        needs the runs, and is taken to lie beside them.

        Raises:
            UserError: a file is missing, or of another scale, other seeds or settings.
        """
        writers = []
        for experiment in self.experiments:
            source = from_record(record / f"{experiment.name}.json")
            writers.append(Writer(experiment, self.scale, self.seeds, source, benchmark))
        out.mkdir(parents=True, exist_ok=True)
        for writer in writers:
            name = writer.experiment.name
            drawn = [out / f"{name}.{kind}" for kind in FORMATS if writer.experiment.picture]
            say(writer.write(out, drawn))
