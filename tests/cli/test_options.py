"""Every option of a search and of a retraining: what it refuses, what it is by default."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from bdp_ext import cli
from bdp_ext.errors import UserError
from bdp_ext.retrain import RetrainConfig
from bdp_ext.search import SearchConfig

GRID = ("0", "-1", "nan", "inf", "1e308", str(10**30), "")
FREE = {"data", "device"}  # any word is a setting; whether there is such a thing shows later
ZERO = {
    "search": {
        *("seed", "warmup", "alpha_start", "eigenvalue_every", "prune_train", "prune_valid"),
        *("lr_min", "momentum", "weight_decay", "alpha_weight_decay"),
    },
    "retrain": {
        *("seed", "warmup", "momentum", "weight_decay", "clip", "label_smoothing", "auxiliary"),
        *("drop_path", "dropout", "cutout", "ema"),
    },
}
"""Options that may be 0."""
RUN = {"search": "bdp_ext.search.run.run", "retrain": "bdp_ext.retrain.run.retrain"}
GIVEN = {"search": {}, "retrain": {"--genotype": "DARTS_V2", "--protocol": "cifar"}}
README = (Path(__file__).parents[2] / "README.md").read_text()


class Accepted(Exception):
    """The settings passed, and the run would begin."""


@pytest.mark.parametrize("command", ["search", "retrain"])
def test_numbers_out_of_range_and_empty_words_are_one_sentence(monkeypatch, tmp_path, command):
    def run(*arguments, **options):
        raise Accepted

    monkeypatch.setattr(RUN[command], run)
    options = [option for option in cli.bdp.commands[command].params if not option.is_flag]
    assert len(options) > 25
    for option in options:
        name, flag = option.name, option.opts[0]
        if name == "out":
            continue
        for word in GRID if name not in FREE else [""]:
            words = {**GIVEN[command], "--out": str(tmp_path), flag: word}
            line = [command, *(part for pair in words.items() for part in pair)]
            error = CliRunner().invoke(cli.bdp, line).exception
            if word == "0" and name in ZERO[command]:
                assert isinstance(error, Accepted), (line, error)
                continue
            assert isinstance(error, UserError), (line, error)
            assert re.fullmatch(rf"{flag}\b[^\n]*\.", str(error)), line
            if option.type.name in ("integer", "number"):
                limits = "must be a (whole )?number, (at least|above) .* and (at most|below) .*;"
                assert re.search(limits, str(error)), line


def test_every_switch_turns_on_and_off(monkeypatch, tmp_path):
    seen = []
    for path in RUN.values():
        monkeypatch.setattr(path, lambda config, out, **options: seen.append(config))
    for command in RUN:
        switches = [option for option in cli.bdp.commands[command].params if option.secondary_opts]
        assert len(switches) >= 4
        given = [part for pair in GIVEN[command].items() for part in pair]
        for switch in switches:
            for flag, value in ((switch.opts[0], True), (switch.secondary_opts[0], False)):
                CliRunner().invoke(cli.bdp, [command, "--out", str(tmp_path), *given, flag])
                assert getattr(seen[-1], switch.name) is value, flag


def test_help_tells_range_default_and_other_defaults():
    text = " ".join(CliRunner().invoke(cli.bdp, ["search", "--help"]).output.split())
    assert "Samples a step on each level. [at least 1 and at most 65,536; default: 64;" in text
    assert "method pc-darts: 256]" in text
    assert "CPU threads. [at least 1 and at most 1,024; default: torch's choice]" in text
    text = " ".join(CliRunner().invoke(cli.bdp, ["retrain", "--help"]).output.split())
    assert "--decay-all / --decay-weights" in text
    assert "Nesterov's momentum. [default: off; nas- bench-201 cifar: on]" in text
    assert "--optimizer [sgd|rmsprop]" in text


def test_readme_has_the_defaults():
    table = README.split("| option | default | meaning |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (`--.*?) \| (.*?) ?\| ", table, re.MULTILINE)
    assert len(rows) >= 8
    known = {field.name: field for field in fields(SearchConfig)}
    for names, written in rows:
        for name in re.findall(r"--([a-z-]+)", names):
            if name.startswith("no-"):
                continue
            field = known[name.replace("-", "_")]
            default = field.metadata["unset"] if field.default is None else field.default
            if name.startswith("keep-"):
                assert written == ""
            elif isinstance(default, bool):
                assert written == ("on" if default else "off")
            else:
                assert str(default) == re.sub(r"^\.", "0.", written), name


def test_every_setting_says_what_it_is():
    for config in (SearchConfig, RetrainConfig):
        assert [each.name for each in fields(config) if len(each.metadata["help"]) < 7] == []
