"""Which runs an experiment is."""

import json
import sys
from dataclasses import asdict

import pytest

from bdp_ext.errors import UserError
from bdp_ext.reproduce.estimate import level_sizes
from bdp_ext.reproduce.experiments import EXPERIMENTS
from bdp_ext.reproduce.plan import runs_of
from bdp_ext.search.config import SearchConfig

from .common import SCALES

TABLES = ("table1", "table2", "table3", "table4", "table5", "table6", "table7")
RUNS = {
    "paper": dict(zip(TABLES, (9, 7, 87, 13, 71, 12, 14), strict=True)),
    "reduced": dict(zip(TABLES, (9, 7, 7, 12, 34, 12, 14), strict=True)),
}
"""With one seed; the figures' four are Table 3's, two of them with eigenvalues for Figure 3."""


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", TABLES)
def test_plan_has_so_many_runs(scale, name):
    runs = runs_of([EXPERIMENTS[name](SCALES[scale])], SCALES[scale], 1)
    assert len(runs) == RUNS[scale][name]
    assert len(runs_of([EXPERIMENTS[name](SCALES[scale])], SCALES[scale], 3)) == 3 * len(runs)
    position = {run.name: number for number, run in enumerate(runs)}
    assert all(position[run.after.name] < position[run.name] for run in runs if run.after)


@pytest.mark.parametrize("scale", SCALES)
def test_equal_settings_are_one_run(scale):
    chosen = SCALES[scale]
    runs = runs_of([make(chosen) for make in EXPERIMENTS.values()], chosen, 1)
    searches = [SearchConfig.of(**r.options) for r in runs if not r.after]
    assert len(set(searches)) == len(searches)
    names = {run.name for run in runs_of([EXPERIMENTS["table3"](chosen)], chosen, 1)}
    assert {run.name for run in runs_of([EXPERIMENTS["fig4"](chosen)], chosen, 1)} <= names


def test_paper_scale_has_the_papers_settings():
    scale = SCALES["paper"]
    runs = runs_of([EXPERIMENTS["table4"](scale)], scale, 1)
    for planned in runs:
        config = SearchConfig.of(**planned.options)
        assert (config.channels, config.cells, config.batch_size) == (16, 5, 64)
        assert (config.lr, config.alpha_lr) == (0.025, 3e-4)
        assert (config.epochs, config.interval) == (50, 5) or not config.bdp
    left = {}
    for planned in runs:
        config = SearchConfig.of(**planned.options)
        if config.bdp and config.method == "darts":
            left[config.prune_train] = level_sizes(config, 50_000)["train"][-1] / 25_000
    assert {share: round(100 * kept) for share, kept in left.items()} == {
        None: 4,
        0.2: 13,
        0.4: 1,
    }


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_with_bdp_has_both_controls(name):
    scale = SCALES["reduced"]
    runs = runs_of([EXPERIMENTS[name](scale)], scale, 1)
    options = [run.options for run in runs if not run.after]
    if name not in ("table1", "table2"):  # nothing is pruned step by step there
        assert any(o.get("criterion") == "random" for o in options)
    unpruned = [SearchConfig.of(**o).epochs for o in options if not o.get("bdp", True)]
    assert min(unpruned) < max(unpruned)


def test_finished_retraining_of_another_cell_is_refused(tmp_path):
    scale = SCALES["reduced"]
    _, trained = runs_of([EXPERIMENTS["table6"](scale)], scale, 1)[:2]
    assert not trained.finished(tmp_path)
    (tmp_path / trained.name).mkdir()
    (tmp_path / trained.name / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds no settings"):
        trained.finished(tmp_path)


def test_code_that_a_folder_names_is_not_imported(tmp_path, monkeypatch):
    (search, *_) = runs_of([EXPERIMENTS["fig4"](SCALES["reduced"])], SCALES["reduced"], 1)
    (tmp_path / search.name).mkdir()
    settings = {**asdict(SearchConfig.of(**search.options)), "space": "foreign:Space"}
    (tmp_path / search.name / "config.json").write_text(json.dumps(settings))
    (tmp_path / "foreign.py").write_text("class Space: name = defaults = for_images = 1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="holds a run with other values of --space;"):
        search.finished(tmp_path)
    assert "foreign" not in sys.modules
