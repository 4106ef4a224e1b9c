"""`bdp report`."""

from pathlib import Path

import click

AGAIN = "package.module:Name that a run was made with: nothing is imported unless named here."


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="The page.",
)
@click.option(
    "--nb201",
    type=click.Path(path_type=Path),
    help="Look cells up in NAS-Bench-201-v1_1-096897.pth, or a table (.csv, .csv.gz).",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the plots as .svg and .png.",
)
@click.option("--space", "spaces", multiple=True, metavar="NAME", help=AGAIN)
@click.option("--method", "methods", multiple=True, metavar="NAME", help=AGAIN)
def report(
    runs: tuple[Path, ...],
    out: Path,
    nb201: Path | None,
    figures: Path | None,
    spaces: tuple[str, ...],
    methods: tuple[str, ...],
) -> None:
    """Show searches, finished or not, in one HTML page with plots.

    RUN is a search's --out. The page holds everything it shows: it opens without a network.
    """
    from bdp_ext.report import write_report

    write_report(runs, out, nb201, figures, spaces=spaces, methods=methods)
