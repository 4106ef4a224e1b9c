"""The names of alphas' rows and columns are those of the cells that the alphas stand for."""

import pytest

from bdp_ext.spaces import SPACES


@pytest.mark.parametrize(
    ("space", "settings"),
    [
        ("nas-bench-201", {"cells": 1}),
        ("nas-bench-201", {"cells": 1, "channel_divisor": 4}),
        ("darts", {"cells": 3}),
        ("darts", {"cells": 3, "channel_divisor": 4}),
        ("mobilenet", {"cells": 3}),
        ("mobilenet", {"cells": 1}),
    ],
)
def test_names_fit_the_alphas_and_the_cell_they_stand_for(space, settings):
    found = SPACES[space]
    alphas = found.supernet(channels=8, classes=2, **settings).alphas()
    tables = [alpha.detach().normal_() for alpha in alphas if alpha.dim() == 2]
    names = found.names(alphas)
    shapes = [[len(row) for row in rows.values()] for rows in names.values()]
    assert shapes == [[table.shape[1]] * len(table) for table in tables]
    best = {
        edge: candidates[int(row.argmax())]
        for rows, table in zip(names.values(), tables, strict=True)
        for (edge, candidates), row in zip(rows.items(), table, strict=True)
    }
    cell = found.derive(alphas)["architecture"]
    graph = found.graph(cell)
    if space == "nas-bench-201":
        assert best == {f"{source}→{node}": name for source, node, name in graph["cell"]}
    elif space == "mobilenet":
        in_order = [best[layer] for layer in sorted(best)]
        assert in_order == [name for _, _, name in graph["layers"]]
    else:
        assert list(names) == list(graph)
        for kind, table in zip(names, tables, strict=True):
            table[:, 0] = -99  # `none` is never kept, and only the strongest is
            row = {
                edge: names[kind][edge][int(alpha.argmax())]
                for edge, alpha in zip(names[kind], table, strict=True)
            }
            for source, node, name in graph[kind]:
                if name:
                    assert row[f"{source.strip('c_{}')}→{node}"] == name
