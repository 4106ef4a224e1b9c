"""A written page, taken apart."""

import base64
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

from .conftest import RUNS


class Parsed(HTMLParser):
    """Tags with their attributes, texts, and of each figure its drawing."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.figures: dict[str, ElementTree.Element] = {}
        self._figure = ""
        self.content = file.read_text()
        self.feed(self.content)

    def handle_starttag(self, tag, attributes):
        own = dict(attributes)
        self.tags.append((tag, own))
        if tag == "figure":
            self._figure = own["id"]
        if tag == "img":
            assert own["alt"]
            assert self._figure not in self.figures
            kind, _, content = own["src"].partition(",")
            assert kind == "data:image/svg+xml;base64"
            self.figures[self._figure] = ElementTree.fromstring(base64.b64decode(content))

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())

    def values(self, *names: str) -> list[str]:
        return [own[name] for _, own in self.tags for name in names if name in own]

    def row(self, title: str) -> list[str]:
        start = self.texts.index(title) + 1
        return self.texts[start : start + len(RUNS)]

    def drawn(self, figure: str, *kinds: str) -> list[ElementTree.Element]:
        """The elements of these kinds in a figure."""
        return [e for e in self.figures[figure].iter() if e.tag.rpartition("}")[2] in kinds]
