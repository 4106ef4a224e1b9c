"""A whole step of the search, beside the readable supernet's and other people's.

pytest bench/bench_search.py
PEERS=DIR pytest bench/bench_search.py --clock cpu    # see peers.py
"""

import _supernets
import pytest
from _rounds import Implementation, Result, alternate

SUPERNETS = [
    ("nas-bench-201", "darts", 16, 5, 64),
    ("nas-bench-201", "beta-darts", 16, 5, 64),
    ("darts", "darts", 16, 8, 16),
    ("darts", "darts", 16, 8, 64),
    ("darts", "pc-darts", 16, 8, 64),
]
QUICK = [("nas-bench-201", "darts", 8, 1, 16), ("darts", "darts", 4, 3, 16)]
ROUNDS = 3


@pytest.mark.parametrize("size", SUPERNETS + QUICK, ids=_supernets.title)
def test_step(size, settings, add):
    if settings.device.type != "cpu" or (size in QUICK) != settings.quick:
        pytest.skip("not of this size or device")
    steps = {name: Implementation(make()) for name, make in _supernets.steps(size).items()}
    seconds = alternate(steps, ROUNDS, settings.now)
    peaks = {f"peak MB, {name}": _supernets.peak(name, size) for name in steps}
    add(Result("step", _supernets.title(size), seconds, extra=peaks))
