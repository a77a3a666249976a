"""Which sensor a message is of: topic filters, templates and declared fields.

Belongs here: the mapping an operator declares and the look-ups it needs. Not here: what a payload says
(``payloads.py``) and where mappings are read from (settings, which fill these dataclasses field by field).

A template is text with ``{...}`` in it: ``{1}`` is the topic's second level (levels count from 0),
``{device.id}`` a dotted path into the payload. ``"{1}-{2}"`` on ``sites/kohat/gate/motion`` is
``kohat-gate``. Of a file's line, the file's name without its suffix is level 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from paho.mqtt.matcher import MQTTMatcher

from ingest.feeds.identity import names_identity
from outwatch.domain.errors import ConfigInvalid

PayloadFormat = Literal["plain", "sensorthings", "frigate", "onvif", "chirpstack"]
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_MAX_FILTER_BYTES = 65_535
"""MQTT 5, section 1.5.4: a topic is at most so long."""


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """What one field of a payload measures: its value times ``scale`` plus ``offset``, in ``unit``."""

    kind: str
    unit: str | None = None
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class TopicMapping:
    """How messages on some topics, or the lines of some files, become observations."""

    filter: str = "#"
    """An MQTT topic filter, with ``+`` for one level and ``#`` for all that follow."""
    payload: PayloadFormat = "plain"
    sensor: str | None = None
    """Template of the sensor's id; None: what the payload names, a camera, a DevEUI or a datastream."""
    kind: str | None = None
    """Template of what is observed; None where ``fields`` or the payload say it."""
    unit: str | None = None
    """Template of the unit."""
    value: str = "value"
    """Dotted path of the value in a plain payload; of a CSV line without a header the column, from 0."""
    time: str | None = None
    """Dotted path of the time; None: ``time`` where there is one, or where the payload's format has it."""
    source_id: str | None = None
    """Dotted path of the feed's own id of a message; None: where the payload's format has it."""
    zone: str | None = None
    """IANA zone of times that are written without one; None refuses them."""
    fields: Mapping[str, FieldMapping] = field(default_factory=dict)
    """Dotted path to what it measures, for payloads with several values; of ChirpStack below ``object``."""

    def __post_init__(self) -> None:
        declared = {path: _field_mapping(what) for path, what in self.fields.items()}
        object.__setattr__(self, "fields", declared)
        _check_filter(self.filter)
        _check_zone(self.zone)
        for template in (self.sensor, self.kind, self.unit):
            _check_template(template)
        self._check_complete()
        self._check_anonymous()

    def _check_anonymous(self) -> None:
        paths = (self.sensor, self.kind, self.unit, self.value, self.time, self.source_id, *self.fields)
        for path in paths:
            if path and names_identity(path):
                raise ConfigInvalid(
                    f"mapping of {self.filter!r}: {path!r} would say who was seen: never read"
                )

    def _check_complete(self) -> None:
        if self.payload == "plain" and not (self.sensor and (self.kind or self.fields)):
            raise ConfigInvalid(
                f"mapping of {self.filter!r}: a plain payload does not say whose it is: "
                "set sensor, and kind or fields"
            )
        if self.payload == "sensorthings" and not self.kind:
            raise ConfigInvalid(
                f"mapping of {self.filter!r}: an Observation does not say what it is of: set kind"
            )
        if self.payload == "chirpstack" and not self.fields:
            raise ConfigInvalid(
                f"mapping of {self.filter!r}: an uplink has many fields: declare in fields what they measure"
            )


class Router:
    """Finds the mapping of a topic: the first whose filter matches."""

    def __init__(self, mappings: Sequence[TopicMapping]) -> None:
        self._mappings = tuple(mappings)
        self._matcher = MQTTMatcher()  # type: ignore[no-untyped-call]
        for position, mapping in reversed(tuple(enumerate(mappings))):
            self._matcher[mapping.filter] = position

    def mapping(self, topic: str) -> TopicMapping | None:
        """Return the first mapping that matches ``topic``, None where none does."""
        position = min(self._matcher.iter_match(topic), default=None)  # type: ignore[no-untyped-call]
        return None if position is None else self._mappings[position]

    def subscriptions(self) -> tuple[str, ...]:
        """Return the filters without those that another one covers: a broker may send once per filter."""
        filters = dict.fromkeys(mapping.filter for mapping in self._mappings)
        return tuple(
            narrow
            for narrow in filters
            if not any(_covers(wide, narrow) for wide in filters if wide != narrow)
        )


def render(template: str, *, topic: str, look_up: Callable[[str], str]) -> str:
    """Return a template with its placeholders filled.

    Args:
        template: text with ``{...}``.
        topic: the message's topic; levels are taken from it.
        look_up: gives the text at a dotted path of the payload.

    Raises:
        LookupError: the topic has no such level; and whatever ``look_up`` raises.
    """
    parts = _parts(template)
    if len(parts) == 1:
        return template
    filled = list(parts)
    for position in range(1, len(parts), 2):
        name = parts[position]
        filled[position] = _level(topic, int(name)) if name.isdecimal() else look_up(name)
    return "".join(filled)


@lru_cache(maxsize=1024)
def _parts(template: str) -> tuple[str, ...]:
    """Return text and placeholders' names in turn: an odd number, names at the odd places."""
    return tuple(_PLACEHOLDER.split(template))


def _level(topic: str, number: int) -> str:
    levels = topic.split("/")
    if number >= len(levels):
        raise LookupError(f"topic {topic!r} has no level {number}; levels count from 0")
    return levels[number]


def _covers(wide: str, narrow: str) -> bool:
    """Return whether every topic that ``narrow`` matches is matched by ``wide``."""
    levels, others = wide.split("/"), narrow.split("/")
    if levels[0] in {"#", "+"} and others[0].startswith("$"):
        return False
    for position, level in enumerate(levels):
        if level == "#":
            return True
        if position == len(others) or others[position] == "#" or level not in {"+", others[position]}:
            return False
    return len(levels) == len(others)


def _field_mapping(declared: FieldMapping | Mapping[str, Any]) -> FieldMapping:
    return declared if isinstance(declared, FieldMapping) else FieldMapping(**declared)


def _check_filter(text: str) -> None:
    levels = text.split("/")
    misplaced = [
        level
        for position, level in enumerate(levels)
        if ("#" in level and (level != "#" or position != len(levels) - 1)) or ("+" in level and level != "+")
    ]
    if not text or misplaced or "\x00" in text or len(text.encode()) > _MAX_FILTER_BYTES:
        raise ConfigInvalid(
            f"topic filter {text!r} is none: + stands for a whole level, # only as the last one, "
            "as in sites/+/motion or sites/#"
        )


def _check_zone(zone: str | None) -> None:
    if zone is None:
        return
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: "Asia" is a folder
        raise ConfigInvalid(f"{zone!r} is not an IANA time zone such as Asia/Karachi") from error


def _check_template(template: str | None) -> None:
    if template is None:
        return
    parts = _parts(template)
    if any("{" in text or "}" in text for text in parts[::2]) or not all(parts[1::2]):
        raise ConfigInvalid(f"template {template!r}: write {{1}} for a topic level or {{a.b}} for a field")
