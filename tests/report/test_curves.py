"""Curves over the epochs: what is drawn is what was recorded."""

from dataclasses import replace

import numpy as np

from bdp_ext.report import curves, read_runs


def test_runs_of_one_name_share_a_colour_and_have_a_mean(folders):
    one, other, whole = read_runs([folders[name] for name in ("seed0", "seed1", "whole")])
    seeds = [replace(run, name="bdp") for run in (one, other)]
    figure = curves.over_epochs([*seeds, whole], curves.accuracy, curves.eigenvalue)
    accuracy, eigenvalue = figure.axes
    lines = [line.get_ydata() for line in accuracy.lines]
    recorded = [run.series("train_accuracy") for run in (*seeds, whole)]
    expected = [*recorded[:2], np.mean(recorded[:2], axis=0), recorded[2]]
    assert np.array_equal(lines[:4], expected)
    colours = [line.get_color() for line in accuracy.lines]
    assert colours == 2 * [*3 * [colours[0]], colours[3]]
    assert colours[0] != colours[3]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["bdp", "whole"]
    known = [record["epoch"] for record in one.records if "eigenvalue" in record]
    assert eigenvalue.lines[0].get_xdata().tolist() == known
