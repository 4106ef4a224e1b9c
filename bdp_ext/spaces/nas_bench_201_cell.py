"""What a NAS-Bench-201 cell is made of: its nodes, its edges, their candidates, and its string."""

from collections.abc import Mapping, Sequence

from bdp_ext.spaces.operations import Builder, ReluConvBn, Zero, average_pool, skip

CANDIDATES: dict[str, Builder] = {
    "none": lambda c, stride, affine: Zero(stride),
    "skip_connect": skip,
    "nor_conv_1x1": lambda c, stride, affine: ReluConvBn(c, c, 1, stride, affine),
    "nor_conv_3x3": lambda c, stride, affine: ReluConvBn(c, c, 3, stride, affine),
    "avg_pool_3x3": lambda c, stride, affine: average_pool(stride),
}
NODES = 4
EDGES = tuple((node, source) for node in range(1, NODES) for source in range(node))
"""(node, the node it reads): the rows of alpha, in the benchmark's order."""
INCOMING = (1, 2, 3)


def format_cell(operations: Sequence[str]) -> str:
    """Six operations, one an edge, in the benchmark's form
    `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`."""
    nodes: list[str] = []
    for node in range(1, NODES):
        edges = [(op, edge) for op, edge in zip(operations, EDGES, strict=True) if edge[0] == node]
        nodes.append("|" + "".join(f"{op}~{source}|" for op, (_, source) in edges))
    return "+".join(nodes)


def parse_cell(text: str, candidates: Mapping[str, Builder] = CANDIDATES) -> list[str]:
    """The six operations of a cell in the benchmark's form.

    Args:
        candidates: what they may be.

    Raises:
        ValueError: not such a cell; says what is expected.
    """
    parts = [edge for node in text.split("+") for edge in node.strip("|").split("|")]
    operations = [part.rpartition("~")[0] for part in parts]
    known = all(name in candidates for name in operations)
    if not known or len(operations) != len(EDGES) or format_cell(operations) != text:
        raise ValueError(
            f"{text!r} is no NAS-Bench-201 cell: expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2| "
            f"with op one of {', '.join(candidates)}."
        )
    return operations
