"""Who imports whom in bdp_ext; run, it writes the picture in docs/architecture.md anew.

A room is a package of bdp_ext, or a module that lies beside them.
"""

import ast
import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "bdp_ext"
PAGE = ROOT / "docs" / "architecture.md"
DOORS = {"__init__", "__main__", "kernels"}
"""No rooms: `import bdp_ext` and `python -m bdp_ext`, and what `ops` alone reaches."""


def rooms() -> dict[str, list[Path]]:
    """The Python files of each room."""
    found = {path.stem: [path] for path in PACKAGE.glob("*.py")}
    for folder in PACKAGE.iterdir():
        files = sorted(folder.rglob("*.py"))
        if files and folder.is_dir():
            found[folder.name] = files
    return {name: found[name] for name in sorted(found) if name not in DOORS}


def imported(path: Path) -> set[str]:
    """The rooms that a file imports, at its head or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "bdp_ext":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bdp_ext."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {name[1] for name in names if name[0] == "bdp_ext" and len(name) > 1}
    return found


def imports() -> dict[str, set[str]]:
    """Of each room, the rooms that it imports."""
    files = rooms()
    return {
        room: {other for path in paths for other in imported(path) if other in files} - {room}
        for room, paths in files.items()
    }


def below(room: str, graph: Mapping[str, set[str]]) -> set[str]:
    """All that a room reaches.

    Raises:
        ValueError: itself among it.
    """
    found: set[str] = set()
    waiting = list(graph[room])
    while waiting:
        other = waiting.pop()
        if other == room:
            raise ValueError(f"{room} imports itself by way of others.")
        if other not in found:
            found.add(other)
            waiting += graph[other]
    return found


def picture(graph: Mapping[str, set[str]]) -> str:
    """The graph in Mermaid's language, without the arrows that others imply."""
    lines = ["```mermaid", "graph BT"]
    for room, others in graph.items():
        implied = set().union(*(below(other, graph) for other in others))
        lines += [f"    {room} --> {other}" for other in sorted(others - implied)]
    return "\n".join([*lines, "```"])


def main() -> None:
    page = PAGE.read_text()
    PAGE.write_text(re.sub(r"```mermaid.*?```", lambda _: picture(imports()), page, flags=re.S))


if __name__ == "__main__":
    main()
