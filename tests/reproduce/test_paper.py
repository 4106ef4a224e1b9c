"""The paper's figures."""

import pytest

from bdp_ext.reproduce import paper
from bdp_ext.reproduce.experiments import EXPERIMENTS

from .common import SCALES


@pytest.mark.parametrize("number", range(1, 8))
def test_figures_are_those_of_the_paper(number, data_folder):
    text = data_folder.parent / "paper.txt"
    if not text.exists():
        pytest.skip(f"no {text}")
    # The text has lost what stands between a mean and its deviation, the beta, and ticks.
    lost = str.maketrans("", "", "±→β ")

    def plain(cells):
        return [cell.translate(lost) for cell in cells if cell.translate(lost)]

    printed = [plain(line.replace("∗", "*").split("|")) for line in text.read_text().splitlines()]  # noqa: RUF001
    for cells in paper.rows(getattr(paper, f"TABLE{number}")):
        cells = [cell.removesuffix(" (0.04 days)") for cell in cells]
        if number == 7:
            del cells[1]
        assert plain(cells) in printed


def test_every_figure_of_the_paper_stands_in_its_column():
    for scale in SCALES.values():
        for experiment in EXPERIMENTS.values():
            for table in experiment(scale).tables:
                columns = sum(column.paper for column in table.columns)
                for row in table.rows:
                    assert len(row.label) == len(table.labels)
                    assert len(row.paper) in ((0, columns) if row.trials else (columns,))
