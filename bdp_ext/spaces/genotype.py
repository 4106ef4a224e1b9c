"""Genotypes of the DARTS space, in the form that public DARTS code prints and reads."""

import ast
from dataclasses import dataclass
from typing import Any

NodeInput = tuple[str, int]
"""(operation, source): 0 and 1 are the two cells before, 2 the first node."""

CONCAT = tuple(range(2, 6))


@dataclass(frozen=True)
class Genotype:
    """A normal and a reduction cell; `str()` gives `Genotype(normal=[('sep_conv_3x3', 1), ...`.

    Attributes:
        normal, reduce: two inputs for each node, node after node.
        normal_concat, reduce_concat: the states whose concatenation the cell returns.
    """

    normal: list[NodeInput]
    reduce: list[NodeInput]
    normal_concat: tuple[int, ...] = CONCAT
    reduce_concat: tuple[int, ...] = CONCAT

    def __str__(self) -> str:
        return (
            f"Genotype(normal={self.normal}, normal_concat={_concat(self.normal_concat)}, "
            f"reduce={self.reduce}, reduce_concat={_concat(self.reduce_concat)})"
        )


def parse(text: str) -> Genotype:
    """Read what `str(genotype)` or public DARTS code printed; nothing in it is executed.

    Raises:
        ValueError: not such a genotype; says what is expected.
    """
    try:
        # A published one may begin with its name: DARTS_V2 = Genotype(...).
        call = ast.parse(text[text.index("Genotype(") :].strip(), mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError("no call")
        fields: dict[str, Any] = {str(word.arg): _value(word.value) for word in call.keywords}
        return Genotype(**fields)
    except (SyntaxError, ValueError, TypeError) as error:
        raise ValueError(
            f"{text[:60]!r} is no genotype: expected Genotype(normal=[('sep_conv_3x3', 1), ...], "
            "normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))."
        ) from error


def _value(node: ast.expr) -> list[NodeInput] | tuple[int, ...]:
    """A list of node inputs, or a concat: range(2, 6) or [2, 3, 4, 5]."""
    if isinstance(node, ast.Call):  # range(...)
        return tuple(range(*(ast.literal_eval(argument) for argument in node.args)))
    value = list(ast.literal_eval(node))
    if all(isinstance(entry, int) for entry in value):
        return tuple(value)
    return [(str(operation), int(source)) for operation, source in value]


def _concat(states: tuple[int, ...]) -> str:
    whole = tuple(range(states[0], states[-1] + 1))
    return f"range({states[0]}, {states[-1] + 1})" if states == whole else str(list(states))
