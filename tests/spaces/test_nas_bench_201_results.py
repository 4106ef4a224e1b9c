"""Cells looked up in the benchmark's own file format and in a table."""

import gzip

import pytest

from bdp_ext.errors import UserError
from bdp_ext.spaces.nas_bench_201_results import COLUMNS, Benchmark, CellResults

BEST = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|"
    "+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)
ALL_SKIP = (
    "|skip_connect~0|+|skip_connect~0|skip_connect~1|"
    "+|skip_connect~0|skip_connect~1|skip_connect~2|"
)


def query(architecture, file) -> CellResults:
    return Benchmark(file).cell(architecture)


def test_table_knows_the_best_and_the_collapsed_cell(data_folder):
    table = data_folder / "nb201.csv.gz"
    collapsed = query(ALL_SKIP, table)
    assert (collapsed.index, collapsed.of) == (1835, 15_625)
    assert collapsed.accuracy["cifar10_test"] == pytest.approx(54.30, abs=0.005)
    assert collapsed.accuracy["cifar10_valid"] == pytest.approx(39.77, abs=0.005)
    assert collapsed.rank["cifar10_test"] > 15_000


def test_benchmarks_own_file_agrees_with_the_table(data_folder):
    with gzip.open(data_folder / "nb201.csv.gz", "rt") as file:
        text = file.read().splitlines()
    shared = 0
    for line in text[1:200]:
        architecture = line.split(",")[1]
        try:
            own = query(architecture, data_folder / "nb201_64archs.pth")
        except UserError:
            continue
        table = query(architecture, data_folder / "nb201.csv.gz")
        assert own.index == table.index
        assert own.accuracy == pytest.approx(table.accuracy, abs=1e-3)
        assert (own.flops, own.params) == pytest.approx((table.flops, table.params))
        assert own.of == 64
        assert all(1 <= own.rank[column] <= 64 for column in COLUMNS)
        shared += 1
        if shared == 3:
            break
    assert shared == 3


def write_table(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (lambda folder: folder / "none.csv", "no such file"),
        (lambda folder: write_table(folder / "a.csv", "a,b\n1,2\n"), "no table of the benchmark"),
        (lambda folder: write_table(folder / "a.csv.gz", "plain"), "no table of the benchmark"),
        (lambda folder: write_table(folder / "a.pth", "foreign"), "neither a table"),
    ],
)
def test_refuses_a_foreign_file(tmp_path, file, message):
    with pytest.raises(UserError, match=message):
        query(ALL_SKIP, file(tmp_path))


def test_refuses_a_cell_that_is_not_there(tmp_path):
    header = ",".join(("index", "arch_str", *COLUMNS, "flops", "params"))
    table = write_table(tmp_path / "a.csv", f"{header}\n0,{BEST},1,2,3,4,5,6,7,8\n")
    assert query(BEST, table).accuracy["cifar10_test"] == 2
    with pytest.raises(UserError, match="1 architectures, but not"):
        query(ALL_SKIP, table)
    with pytest.raises(UserError, match="no NAS-Bench-201 cell"):
        query("|skip|", table)
