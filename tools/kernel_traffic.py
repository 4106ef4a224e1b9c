"""Bytes each CUDA operation moves between DRAM and chip, and how long that takes at full bandwidth.

Computed from the algorithms, never measured: a bound to hold a measurement against.
"""

import math
from dataclasses import dataclass

BANDWIDTH = {"V100": 900e9, "H100": 3.35e12}  # bytes a second, the maker's figures
SECTOR = 32  # bytes that a DRAM access of any size moves
RING = 10  # K
NODE = 8  # inputs


@dataclass(frozen=True)
class Traffic:
    """Bytes for one size, caches cold."""

    op: str
    size: str
    least: int  # each input read once, each output written once
    moved: int


def traffic() -> list[Traffic]:
    rows = []
    for b, c in ((96, 10), (1024, 1000), (1024, 21841)):
        logits, size = b * c * 4, f"{b} x {c} float32"
        rows.append(Traffic("el2n", size, logits + b * 12, logits + b * 12))
        # A sample's K - 1 other scores lie N apart, a sector each; two more cells are written.
        scattered = b * (RING + 1)
        least, moved = logits + b * 16 + scattered * 4, logits + b * 16 + scattered * SECTOR
        rows.append(Traffic("update_voe_", f"{size}, K = {RING}", least, moved))
    for n in (50_000, 1_280_000, 14_000_000):
        rows.append(Traffic("voe", f"{n:,} x {RING}", n * (RING + 1) * 4, n * (RING + 1) * 4))
    for n, c, label in ((50_000, 10, 8), (1_280_000, 1000, 2), (14_000_000, 21841, 2)):
        steps = {
            "count": label,
            "group": 4 + label + 8,  # writes a rank
            "class": 8,
            "digit 0": 4 + label + 4,  # writes a key
            "digits 1, 2": 2 * 4,  # random scores are settled then; ties want up to 3 more
            "mask": 4 + 1,
        }
        size = f"{n:,}, {c} classes, int{8 * label} labels"
        least = n * (4 + label + 1) + c * 8
        rows.append(Traffic("capped_topk", size, least, n * sum(steps.values()) + c * 40))
    for shape in ((64, 16, 32, 32), (64, 64, 8, 8)):
        image, size = 4 * math.prod(shape), f"{NODE} of {' x '.join(map(str, shape))}"
        rows.append(Traffic("node_sum", size, image * (NODE + 1), image * (2 * NODE + 1)))
        # Inputs share a reading of g by fours in the first pass; caches help, which is not counted.
        least, moved = 2 * NODE + 1, NODE + NODE / 4 + 2 * NODE + 1
        rows.append(Traffic("... backward", size, image * least, int(image * moved)))
    return rows


def print_table() -> None:
    print("\nBytes moved with cold caches, and the time at full memory bandwidth: computed, not")
    print("measured: no GPU has run this. Small sizes are bound by launches, not counted here.")
    times = "".join(f"{f'{gpu} us':>10}" for gpu in BANDWIDTH)
    print(f"{'op':12} {'size':38} {'least MB':>10} {'moved MB':>10} {'ratio':>6}{times}")
    for row in traffic():
        times = "".join(f"{row.moved / rate * 1e6:10.1f}" for rate in BANDWIDTH.values())
        megabytes = f"{row.least / 1e6:10.3f} {row.moved / 1e6:10.3f} {row.moved / row.least:6.2f}"
        print(f"{row.op:12} {row.size:38} {megabytes}{times}")
