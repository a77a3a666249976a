"""Numbers, times and texts out of untrusted payloads: bounded, and refused in words.

Belongs here: what every payload format needs to read one value. Not here: what a format's fields mean.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from ingest.feeds.identity import names_identity
from ingest.feeds.mapping import TopicMapping, render
from outwatch.domain.readings import EARLIEST

MAX_DEPTH = 32
"""Levels of nesting; the deepest real payload seen (an ONVIF notification as JSON) has 8."""
MAX_TEXT = 200
"""Characters of an id or a detail: twice the longest real one, a URL-like ONVIF token."""
MAX_VALUE = 1e12
"""No sensor at a gate measures more: what does is a time or an id that was taken for a value."""
_SECONDS_BELOW = 1e11
"""Seconds since 1970 stay below this until the year 5138, milliseconds were above it from 1973 on."""
_FULL_DATE = len("2026-03-14")
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,3})?|[+-]?\.[0-9]{1,30}")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Control signs, halves of characters that no file can hold, and signs that reorder what a person reads."""
_WORDS = {"true": 1.0, "on": 1.0, "open": 1.0, "false": 0.0, "off": 0.0, "closed": 0.0}
"""States that contacts and switches send as words."""


class Unreadable(ValueError):
    """A payload gives no observation; the message says why. Never leaves ``ingest.feeds``."""


def decode_json(text: str) -> Any:
    """Return a JSON document of at most ``MAX_DEPTH`` levels.

    Raises:
        Unreadable: it is no JSON, or nested more deeply.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"payload is not JSON: {error}") from error
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _check_depth(document)
    return document


def decode_object(text: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        Unreadable: it is no JSON, or not an object.
    """
    document = decode_json(text)
    if not isinstance(document, dict):
        raise Unreadable(f"payload must be a JSON object {{...}}, found {type(document).__name__}")
    return document


def look_up(record: Mapping[str, Any], path: str) -> Any:
    """Return what stands at a dotted path, None where nothing does; numbers step into lists."""
    found: Any = record
    while path:
        if isinstance(found, Mapping) and path in found:  # a name may have dots in it, as @iot.id has
            return found[path]
        step, _, path = path.partition(".")
        if isinstance(found, Mapping):
            found = found.get(step)
        elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found


def number_of(value: Any, *, name: str) -> float:
    """Return a finite number: JSON numbers, numbers as text, true and false as 1 and 0, states as words.

    Raises:
        Unreadable: it is none, not finite, or beyond ``MAX_VALUE``.
    """
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        text = value.strip()
        word = _WORDS.get(text.lower())
        if word is not None:
            return word
        value = float(text) if _NUMBER.fullmatch(text) else value
    if not isinstance(value, int | float):
        raise Unreadable(f"{name} must be a number, true or false, found {_shown(value)}")
    if not -MAX_VALUE <= value <= MAX_VALUE:  # also refuses NaN, which compares with nothing
        raise Unreadable(f"{name} must be a finite number up to {MAX_VALUE:g}, found {_shown(value)}")
    return float(value)


def time_of(value: Any, *, name: str, zone: str | None) -> datetime:
    """Return a time in UTC from ISO 8601, or from seconds, milli-, micro- or nanoseconds since 1970.

    Raises:
        Unreadable: it is none, has no zone where none is declared, or lies before ``EARLIEST``.
    """
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    try:
        if isinstance(value, str):
            at = _iso_time(value.strip(), name=name, zone=zone)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            at = _epoch_time(float(value))
        else:
            raise Unreadable(f"{name} must be a time, found {_shown(value)}")
    except (OverflowError, OSError) as error:
        raise Unreadable(f"{name} is no time of this age: {_shown(value)}") from error
    if at < EARLIEST:
        raise Unreadable(f"{name} is {at:%Y-%m-%d}, before {EARLIEST:%Y}: set the device's clock")
    return at


def text_of(value: Any, *, name: str) -> str:
    """Return an id or a name on one line, without signs that hide or reorder text.

    Raises:
        Unreadable: it is no text or number, empty, or longer than ``MAX_TEXT``.
    """
    text = _UNSAFE.sub("\ufffd", value.strip()) if isinstance(value, str) else value
    if isinstance(text, int | float) and not isinstance(text, bool) and abs(text) <= MAX_VALUE:
        text = str(text)
    if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT:
        raise Unreadable(f"{name} must be text of 1 to {MAX_TEXT} characters, found {_shown(value)}")
    return text


def clean(text: str) -> str:
    """Return the start of a text as one line that any database takes and that reads as it stands."""
    return _UNSAFE.sub("\ufffd", text[:MAX_TEXT])


def details_of(**found: Any) -> dict[str, str]:
    """Return those values that are there, as short text; lists are joined by commas."""
    shown = {}
    for name, value in found.items():
        if isinstance(value, list):
            value = ",".join(item for item in value[:MAX_DEPTH] if isinstance(item, str))  # noqa: PLW2901
        if isinstance(value, bool):
            shown[name] = str(value).lower()
        elif isinstance(value, float) and math.isfinite(value):
            shown[name] = f"{value:g}"
        elif isinstance(value, str | int) and value != "":
            shown[name] = clean(str(value))
    return shown


def named(template: str, *, record: Mapping[str, Any], topic: str) -> str:
    """Return a template filled from the topic's levels and the payload's fields.

    Raises:
        Unreadable: a level or field is not there.
    """

    def field(path: str) -> str:
        return text_of(required(record, path), name=path)

    try:
        filled = render(template, topic=topic, look_up=field)
    except LookupError as error:
        raise Unreadable(str(error)) from error
    return text_of(filled, name=template)


def sensor_of(mapping: TopicMapping, *, record: Mapping[str, Any], topic: str, default: Any = None) -> str:
    """Return the sensor's id: the mapping's template, else what the payload itself names.

    Raises:
        Unreadable: neither gives one.
    """
    if mapping.sensor:
        return named(mapping.sensor, record=record, topic=topic)
    if default is None:
        raise Unreadable("payload names no sensor: set sensor in the mapping of its topic")
    return text_of(default, name="sensor")


def required(record: Mapping[str, Any], path: str) -> Any:
    """Return what stands at a dotted path.

    Raises:
        Unreadable: nothing does.
    """
    found = look_up(record, path)
    if found is None:
        raise Unreadable(f"payload has no {path!r}; it has: {names_in(record)}")
    return found


def names_in(record: Mapping[str, Any]) -> str:
    """Return the first names in a record, for a person who must find the right one."""
    return clean(", ".join(list(record)[:MAX_DEPTH])) or "nothing"


def _iso_time(text: str, *, name: str, zone: str | None) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Unreadable(f"{name} must be an ISO 8601 time or a number, found {_shown(text)}") from error
    if len(text) <= _FULL_DATE:
        raise Unreadable(f"{name} is a date without a time of day: {text!r}")
    if at.tzinfo is None:
        if zone is None:
            raise Unreadable(f"{name} has no time zone: {text!r}; declare zone in the mapping")
        at = at.replace(tzinfo=ZoneInfo(zone))
    return at.astimezone(UTC)


def _epoch_time(number: float) -> datetime:
    for _ in ("milli", "micro", "nano"):
        if abs(number) >= _SECONDS_BELOW:
            number /= 1000
    if not 0 <= number < _SECONDS_BELOW:  # also refuses NaN, which compares with nothing
        raise OverflowError
    return datetime.fromtimestamp(number, UTC)


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise Unreadable(f"payload is nested more than {MAX_DEPTH} levels deep")


def _shown(value: Any) -> str:
    """Return a value as a person may read it, whatever its size."""
    if isinstance(value, dict | list):
        return f"a {'JSON object' if isinstance(value, dict) else 'list'} of {len(value)}"
    if isinstance(value, int) and abs(value) > MAX_VALUE:
        return f"an integer of {value.bit_length()} bits"  # its digits may be thousands
    return "text that may say who was seen" if names_identity(str(value)) else clean(repr(value))
