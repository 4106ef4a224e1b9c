"""The command line: its commands, its options, exit code 2 and one sentence for what a user can
mend."""

import json

import pytest
from click.testing import CliRunner

from bdp_ext import cli

TINY = [
    "--epochs",
    "3",
    "--interval",
    "2",
    "--channels",
    "2",
    "--cells",
    "1",
    "--limit-train",
    "200",
    "--keep-train",
    ".5",
    "--keep-valid",
    ".5",
]


def test_help_names_every_option_of_the_contract():
    text = CliRunner().invoke(cli.bdp, ["search", "--help"]).output
    options = (
        "space method data out epochs channels cells batch-size train-share bdp no-bdp pruner "
        "interval "
        "keep-train keep-valid prune-train prune-valid schedule warmup criterion balance seed "
        "threads device resume image-size limit-train"
    )
    assert [name for name in options.split() if f"--{name}" not in text] == []


def test_search_then_query(bdp, tmp_path, data_folder):
    out = tmp_path / "run"
    code, output, errors = bdp("search", "--out", out, *TINY)
    assert (code, errors) == (0, "")
    result = json.loads((out / "result.json").read_text())
    assert result["architecture"] in output
    assert f"{result['cost_saved']:.1%}" in output
    assert "pruned train: 100 -> 50" in output
    code, output, errors = bdp("query", "--run", out, "--nb201", data_folder / "nb201.csv.gz")
    assert (code, errors) == (0, "")
    assert "cifar10_test" in output
    code, output, _ = bdp(
        "query",
        "--arch",
        result["architecture"],
        "--nb201",
        data_folder / "nb201.csv.gz",
        "--json",
    )
    assert json.loads(output)["cell"]["of"] == 15_625


def test_info_says_what_is_loaded(bdp):
    code, output, _ = bdp("info")
    assert code == 0
    assert "torch" in json.loads(output)["versions"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["search", "--out", "OUT", "--data", "cifra10"], "did you mean 'cifar10'?"),
        (["search", "--out", "OUT", "--data", "./nowhere"], "nowhere"),
        (["search", "--out", "OUT", "--epochs", "2"], "take three epochs or more"),
        (["search", "--out", "OUT", "--train-share", "1.5", *TINY], "share"),
        (["search", "--out", "OUT", "--train-share", ".001", *TINY], "share of 0.001"),
        (["search", "--out", "OUT", "--device", "cuda:99", *TINY], "--device cuda:99"),
        (["search", "--out", "OUT", "--space", "darts9"], "nas-bench-201"),
        (["search", "--out", "OUT", "--pruner", "best", *TINY], "--pruner must be one of bdp"),
        (["search", "--out", "FILE", *TINY], "FILE"),
        (["search", "--out", "OUT", "--space", "darts", *TINY], "give at least 3"),
        (["search", "--out", "OUT", "--method", "pc-darts", "--alpha-start", "0", *TINY], "parts"),
        (["search"], "--out"),
        (["query", "--nb201", "FILE"], "give either --run DIR or --arch STRING"),
        (["query", "--run", "OUT", "--nb201", "FILE"], "result.json cannot be read"),
        (["query", "--arch", "|a|", "--nb201", "FILE"], "no NAS-Bench-201 cell"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence_and_exit_code_2(bdp, tmp_path, arguments, sentence):
    file = tmp_path / "FILE"
    file.write_text("")
    names = {"OUT": tmp_path / "OUT", "FILE": file}
    code, _, errors = bdp(*(names.get(argument, argument) for argument in arguments))
    assert code == 2
    assert sentence in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "OUT" / "result.json").exists()


def test_resume_keeps_the_settings_and_refuses_other_ones(bdp, tmp_path):
    out = tmp_path / "run"
    assert bdp("search", "--out", out, *TINY)[0] == 0
    first = (out / "result.json").read_text()
    code, _, errors = bdp("search", "--out", out, *TINY)
    assert code == 2
    assert "--resume" in errors
    code, _, errors = bdp("search", "--out", out, "--resume", "--epochs", 9)
    assert code == 2
    assert "other values of --epochs" in errors
    assert bdp("search", "--out", out, "--resume")[0] == 0
    assert json.loads(first)["alpha"] == json.loads((out / "result.json").read_text())["alpha"]
