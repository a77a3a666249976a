"""Walk untrusted XML element by element, without ever holding it as a tree.

Belongs here: what every XML format needs to be read safely. Not here: the meaning of elements (``gpx.py``,
``kml.py``).

Expat alone, with three rules: a document type is refused, as entities and attribute defaults, which let a
small file grow without bound or name other files, can be declared nowhere else; nesting is bounded; and what
stands before the place where a file breaks off is kept, as a logger that lost power leaves it. Prefixes are
cut off without asking what they stand for: exports often use some that they never declare.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol
from xml.parsers import expat

from outwatch.domain.errors import TelemetryInvalid

MAX_DEPTH = 64
"""Elements within elements; nested folders in real KML reach a dozen."""


class Visitor(Protocol):
    """Is told of elements as they come; names have no prefix."""

    def start(self, name: str, attributes: Mapping[str, str], /) -> None:
        """Take the start of an element."""
        ...

    def end(self, name: str, text: str, /) -> None:
        """Take the end of an element and the text behind its last child, which is all where it has none."""
        ...


def walk(data: bytes, visitor: Visitor) -> bool:
    """Tell a visitor of every element, in order; return whether the document was whole.

    Args:
        data: the document, in any encoding that it names and Python knows.
        visitor: may raise ``TelemetryInvalid``, which passes.

    Raises:
        TelemetryInvalid: it has a document type, or nests deeper than ``MAX_DEPTH``.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    depth = 0
    text: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise TelemetryInvalid(f"XML nests deeper than {MAX_DEPTH} elements, which no track does")
        text.clear()
        visitor.start(_local(name), attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        visitor.end(_local(name), "".join(text))
        text.clear()

    def document_type(*_: object) -> None:
        raise TelemetryInvalid("XML declares a document type, which tracks do not need: export it again")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text.append
    parser.StartDoctypeDeclHandler = document_type
    try:
        parser.Parse(data.lstrip(), True)
    except (expat.ExpatError, LookupError, ValueError):  # broken off, or an encoding that Python lacks
        return False
    return True


def looks_like(head: bytes, *, root: str) -> bool:
    """Tell whether a file begins as XML with a root element of a name, in an encoding of 8 or 16 bits."""
    text = head.replace(b"\x00", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    element = rb"<(?:[A-Za-z_][\w.-]{0,40}:)?" + root.encode() + rb"[\s>]"
    return text.startswith(b"<") and re.search(element, text) is not None


def _local(name: str) -> str:
    return name.rpartition(":")[2]
