"""ONVIF notifications as JSON: motion, tampering, crossed lines, digital inputs.

Belongs here: the shapes in which cameras and bridges write a notification's topic, time, source and state.
Not here: the XML and the SOAP subscription themselves, which a camera or a bridge deals with.

ONVIF Core Specification, section 9 (a message has Source, Key and Data items and a UtcTime), in four shapes:
the plain one (``{"UtcTime", "Source": {}, "Data": {}}``, also of Axis), lists of ``SimpleItem`` with Name and
Value, the same below ``$`` (as JavaScript's XML readers write attributes), and a bridge's ``{"state": ...}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ingest.feeds.mapping import TopicMapping
from ingest.feeds.measure import Problem
from ingest.feeds.values import (
    Unreadable,
    clean,
    details_of,
    named,
    names_in,
    number_of,
    sensor_of,
    time_of,
)
from outwatch.domain.types import Observation

_KINDS = (
    ("motion", "motion"),
    ("tamper", "tamper"),
    ("globalscenechange", "tamper"),
    ("linedetector", "line_crossed"),
    ("fielddetector", "intrusion"),
    ("digitalinput", "digital_input"),
    ("audioanalytics", "sound"),
)
"""Part of a topic's level to what it observes; the first found stands."""
_STATES = ("ismotion", "state", "logicalstate", "isinside", "istamper", "issounddetected", "active")
"""Data items that say on or off, without regard to case."""
_SOURCES = ("videosourceconfigurationtoken", "videosourcetoken", "source", "inputtoken")
_TIMES = ("utctime", "timestamp", "time")
_NAMESPACE = re.compile(r"^[A-Za-z0-9_]+:")


def read(record: Mapping[str, Any], *, topic: str, mapping: TopicMapping) -> list[Observation | Problem]:
    """Return the observation of one notification: 1 while its state is on, 0 when it goes off.

    Raises:
        Unreadable: no state, no kind or no source can be made out.
    """
    found = dict(reversed([*_walk(record)]))  # reversed: of several things of one name the outermost stands
    data = _items(found.get("data")) or _items(record)
    source = _items(found.get("source"))
    about = _text_in(found.get("topic")) or topic
    written = next((found[name] for name in _TIMES if found.get(name) is not None), None)
    names = _STATES if mapping.value == "value" else (mapping.value.lower(),)
    state = next((name for name in names if name in data), None)
    if state is None:
        raise Unreadable(f"notification has none of the states {', '.join(names)}; it has: {names_in(data)}")
    token = next((source[name] for name in _SOURCES if name in source), next(iter(source.values()), None))
    return [
        Observation(
            sensor=sensor_of(mapping, record=record, topic=topic, default=token),
            kind=named(mapping.kind, record=record, topic=topic) if mapping.kind else _kind(about),
            value=number_of(data[state], name=state),
            at=None if written is None else time_of(written, name="UtcTime", zone=mapping.zone),
            unit=mapping.unit,
            details=details_of(
                topic=about, rule=source.get("rule"), operation=_text_in(found.get("propertyoperation"))
            ),
        )
    ]


def _walk(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield everything that has a name, level by level, under its name without namespace and case."""
    level: list[Any] = [record]
    while level:
        below: list[Any] = []
        for node in level:
            if isinstance(node, list):
                below.extend(node)
            elif isinstance(node, dict):
                yield from ((_bare(name), value) for name, value in node.items())
                below.extend(node.values())
        level = below


def _items(node: Any) -> dict[str, Any]:
    """Return the items of a Source or Data in any of the shapes, by bare name; only scalars."""
    if not isinstance(node, dict):
        return {}
    named_items = {_bare(name): value for name, value in node.items()}
    simple = named_items.get("simpleitem")
    if simple is None:
        return {
            name: value for name, value in named_items.items() if isinstance(value, str | int | float | bool)
        }
    items = {}
    for item in simple if isinstance(simple, list) else [simple]:
        inner = item.get("$", item) if isinstance(item, dict) else None
        if isinstance(inner, dict) and isinstance(inner.get("Name"), str):
            items[_bare(inner["Name"])] = inner.get("Value")
    return items


def _text_in(node: Any) -> str | None:
    """Return a text, or the first one in an object, as XML readers write an element with attributes."""
    if isinstance(node, dict):
        return next((value for value in node.values() if isinstance(value, str)), None)
    return node if isinstance(node, str) else None


def _kind(topic: str) -> str:
    levels = topic.lower().split("/")
    for part, kind in _KINDS:
        if any(part in level for level in levels):
            return kind
    raise Unreadable(f"topic {clean(topic)!r} names no known kind: set kind in the mapping")


def _bare(name: str) -> str:
    return _NAMESPACE.sub("", name).lower()
