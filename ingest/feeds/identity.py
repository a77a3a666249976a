"""What would say who was seen: names, faces, plates. It is neither read nor kept, whatever a device sends.

Belongs here: by which names cameras send it, and a document without it. Not here: what of a Frigate event is
kept, which is an allow-list of its own (``frigate.py``).
"""

from __future__ import annotations

import re
from typing import Any

WITHHELD = "(payload not kept: it may name a person, a face or a plate)"
_LOWER = (
    r"(?<![A-Za-z])(?:sub_?[lL]abel|face|plate|recogni[sz]ed|licen[cs]e|a?lpr|anpr"
    r"|(?:person|user)_?[nN]ame|card_?[nN](?:umber|o)|credential)s?(?![a-z])"
)
_CAPITAL = (
    r"(?:Sub_?[lL]abel|Face|Plate|Recogni[sz]ed|Licen[cs]e|Alpr|Lpr|Anpr"
    r"|(?:Person|User)_?[nN]ame|Card_?[nN](?:umber|o)|Credential)s?(?![a-z])"
)
_UPPER = (
    r"(?<![A-Za-z])(?:SUB_?LABEL|FACE|PLATE|RECOGNI[SZ]ED|LICEN[CS]E|A?LPR|ANPR"
    r"|(?:PERSON|USER)_?NAME|CARD_?N(?:UMBER|O)|CREDENTIAL)S?(?![A-Za-z])"
)
_IDENTITY = re.compile(f"{_LOWER}|{_CAPITAL}|{_UPPER}")
"""Words in snake_case, camelCase and capitals; not as part of others, such as surface or plateau."""
_NOT_KEPT = "(not kept)"


def names_identity(text: str) -> bool:
    """Return whether a text has a word by which devices send who was seen."""
    return _IDENTITY.search(text) is not None


def without_identity(node: Any) -> Any:
    """Return a JSON document of bounded depth without what such words name, as keys or as values."""
    if isinstance(node, list):
        return [without_identity(inner) for inner in node]
    if isinstance(node, str):
        return _NOT_KEPT if names_identity(node) else node
    if not isinstance(node, dict):
        return node
    # {"Name": "LicensePlate", "Value": "LEA-1234"}: the word is a value, and what it names its neighbour.
    if any(names_identity(value) for value in node.values() if isinstance(value, str)):
        return _NOT_KEPT
    return {name: without_identity(inner) for name, inner in node.items() if not names_identity(name)}
