"""A figure as SVG inside of a page: its colours follow the page's, its names are its own."""

import io
import re
import warnings
import xml.etree.ElementTree as ElementTree

from matplotlib.figure import Figure

from bdp_ext.report import style

_COLOUR = re.compile("|".join(style.DARK))
_REFERENCE = re.compile(r"url\(#([^)]+)\)|^#(.+)$")


def inline(figure: Figure, prefix: str, alt: str) -> str:
    """The `<svg>` element of a figure.

    Args:
        figure: drawn in the colours of `style`.
        prefix: of its ids, unique in the page.
        alt: what it shows, for those who do not see it.
    """
    root = ElementTree.fromstring(render(figure, "svg"))
    for element in root.iter():
        # The parser of HTML knows the namespaces.
        element.tag = _local(element.tag)
        attributes = {_local(name): value for name, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update(attributes)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style"):  # the page has one style for all
                parent.remove(child)
    _rename(root, prefix)
    for element in root.iter():
        if "style" in element.attrib:
            element.set("style", _COLOUR.sub(_variable, element.attrib["style"]))
    width = root.get("width", "").removesuffix("pt")
    root.attrib = {
        "viewBox": root.get("viewBox", ""),
        "role": "img",
        "aria-label": alt,
        "style": f"--width:{width}",
    }
    return ElementTree.tostring(root, encoding="unicode")


def render(figure: Figure, kind: str) -> bytes:
    """A figure as a file: "svg" or "png"."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that matplotlib's own font lacks; a browser has others.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _variable(match: re.Match[str]) -> str:
    return f"var({style.variable(match[0])})"


def _rename(root: ElementTree.Element, prefix: str) -> None:
    """Keep the ids that something refers to, and make them differ from those of other figures."""
    used = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if found := _REFERENCE.search(value):
                used.add(found[1] or found[2])
                element.set(name, _REFERENCE.sub(lambda match: _renamed(match, prefix), value))
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in used:
            element.set("id", f"{prefix}-{own}")


def _renamed(match: re.Match[str], prefix: str) -> str:
    return f"url(#{prefix}-{match[1]})" if match[1] else f"#{prefix}-{match[2]}"
