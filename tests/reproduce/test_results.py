"""Numbers of many seeds."""

import pytest
from scipy.stats import t as student

from bdp_ext.errors import UserError
from bdp_ext.reproduce.results import Summary, from_record


def test_summary_has_the_sample_deviation_and_students_interval():
    # The paper's Table 1, 9 : 1: the benchmark's cells 1835, 2299 and 3894.
    summary = Summary.of((54.2967, 70.92, 84.1633))
    assert f"{summary.mean:.2f} {summary.std:.2f}" == "69.79 14.97"
    low, high = student.interval(0.95, 2, summary.mean, summary.std / 3**0.5)
    assert summary.interval == pytest.approx((low, high))
    assert Summary.of([1.0]) == Summary(1.0, 0.0, 1.0, None, (1.0,))
    assert Summary.of([]) is None


def test_what_is_no_record_is_refused(tmp_path):
    (tmp_path / "fig3.json").write_text('{"tables": [{}]}')
    with pytest.raises(UserError, match="no record that `bdp reproduce` has written"):
        from_record(tmp_path / "fig3.json")
