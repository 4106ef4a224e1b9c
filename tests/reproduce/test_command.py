"""`bdp reproduce`: its plan, and its sentences."""

import re

import pytest

from bdp_ext import cli


def test_dry_run_prints_the_plan_and_does_nothing(tmp_path, monkeypatch, capsys):
    arguments = ["bdp", "reproduce", "table4", "fig3", "--scale", "paper", "--dry-run"]
    monkeypatch.setattr("sys.argv", [*arguments, "--out", str(tmp_path / "out"), "--seeds", "1"])
    cli.main()
    text = capsys.readouterr().out
    assert "darts-cifar10-bdp-prune-train=0.4-prune-valid=0.4-0" in text
    assert re.search(r"^15 runs: [\d,]+ epochs, [\d,]+ samples, [\d,.]+ MB$", text, re.M)
    assert "2,500,000" in text  # 50 epochs of 25,000 + 25,000
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fig4"], "give --data DIR"),
        (["fig4", "--data", "digits"], "give --nb201 FILE"),
        (["fig4", "--data", "digits", "--nb201", "nowhere.csv"], "no such file"),
        (["fig4", "--set", "epochs"], "NAME=VALUE"),
        (["fig4", "--set", "epochs=1"], "take three epochs or more"),
        (["table6", "--scale", "paper"], "trains on ImageNet"),
        (["table9"], "table1"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, sentence):
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["bdp", "reproduce", *arguments, "--out", str(out)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not out.exists()
