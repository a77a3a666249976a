"""Bytes of one message to feed items: observations, or in plain words why there are none. Never raises.

Belongs here: the way from a message to items, the plain and the SensorThings payload, and what of a payload
is kept. Not here: the cameras' and LoRaWAN formats (a module each), transports, and what would say who was
seen (``identity.py``).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from ingest.feeds import chirpstack, frigate, onvif
from ingest.feeds.identity import WITHHELD, names_identity, without_identity
from ingest.feeds.mapping import TopicMapping
from ingest.feeds.measure import Problem, measured
from ingest.feeds.values import (
    Unreadable,
    clean,
    decode_json,
    decode_object,
    details_of,
    look_up,
    named,
    number_of,
    required,
    sensor_of,
    text_of,
    time_of,
)
from outwatch.domain.ports import FeedItem
from outwatch.domain.types import Observation

MAX_PAYLOAD_BYTES = 64 * 1024
"""Ten times the largest real payload seen (a Frigate event with its path); more is no reading."""
KEPT_CHARACTERS = 2_000
"""Of a payload that is too large, kept for the person who looks for its sender."""
_DATASTREAM = re.compile(r"Datastreams\(([^()]{1,100})\)")
_PHENOMENON_TIME = ("phenomenonTime", "phenonmenonTime")
"""The second is how an example of the standard itself spells it, and devices copied it."""
Found = list[Observation | Problem]


def feed_items(
    data: bytes,
    *,
    topic: str,
    mapping: TopicMapping | None,
    received_at: datetime,
    details: Mapping[str, str] = MappingProxyType({}),
    needs_time: str | None = None,
    record: Mapping[str, Any] | None = None,
) -> list[FeedItem]:
    """Return what a message says, in at least one item.

    Args:
        data: the payload as it came, untrusted.
        topic: the topic it came on, or the name of the file it stood in.
        mapping: what was declared for the topic, None where nothing was.
        received_at: when it came.
        details: what the transport knows of it, added to each observation.
        needs_time: why the time of receipt cannot stand in for a missing one, None where it can.
        record: the payload's named columns, where the transport knows the names.
    """
    kept = _kept(data, mapping)
    try:
        found = _read(data, topic=topic, mapping=mapping, record=record)
    except Unreadable as problem:
        found = [Problem(str(problem))]
    items = []
    for one in found:
        if isinstance(one, Problem):
            items.append(FeedItem(payload=kept, received_at=received_at, problem=one.why))
        elif one.at is None and needs_time:
            items.append(FeedItem(payload=kept, received_at=received_at, problem=needs_time))
        else:
            whole = replace(one, details={**one.details, **details}) if details else one
            items.append(FeedItem(payload=kept, received_at=received_at, observation=whole))
    return items


def problem_item(data: bytes, *, why: str, mapping: TopicMapping | None, received_at: datetime) -> FeedItem:
    """Return an item for a payload that a transport itself must refuse."""
    return FeedItem(payload=_kept(data, mapping), received_at=received_at, problem=why)


def read_payload(data: bytes, *, topic: str, mapping: TopicMapping) -> Found:
    """Return what a payload says: observations and problems, at least one of them."""
    try:
        return _read(data, topic=topic, mapping=mapping)
    except Unreadable as problem:
        return [Problem(str(problem))]


def read_record(record: Mapping[str, Any], *, topic: str, mapping: TopicMapping) -> Found:
    """Return what a plain JSON object, or a row with named columns, says.

    Raises:
        Unreadable: it has no value, sensor or time where the mapping says it must.
    """
    sensor = sensor_of(mapping, record=record, topic=topic)
    at = _declared_time(record, mapping)
    source_id = text_of(required(record, mapping.source_id), name="id") if mapping.source_id else None
    if mapping.fields:
        return measured(record, mapping.fields, sensor=sensor, at=at, source_id=source_id)
    return [
        Observation(
            sensor=sensor,
            kind=named(mapping.kind or "", record=record, topic=topic),
            value=number_of(required(record, mapping.value), name=mapping.value),
            at=at,
            unit=named(mapping.unit, record=record, topic=topic) if mapping.unit else None,
            source_id=source_id,
        )
    ]


def read_observation(record: Mapping[str, Any], *, topic: str, mapping: TopicMapping) -> Found:
    """Return what a SensorThings Observation says (OGC 18-088, section 8.2.8).

    Its time is ``phenomenonTime``, of an interval the end, as the result is known only then; else
    ``resultTime``. Its sensor is the Datastream's id, from the entity or the topic.

    Raises:
        Unreadable: it has no number as its result, or no Datastream.
    """
    stream = _DATASTREAM.search(topic)
    default = look_up(record, "Datastream.@iot.id")
    if default is None and stream:
        default = stream.group(1).strip("'")
    written = next((record[name] for name in _PHENOMENON_TIME if record.get(name)), record.get("resultTime"))
    started, at = None, None
    if written is not None:
        started, _, ended = written.rpartition("/") if isinstance(written, str) else ("", "", written)
        at = time_of(ended, name="phenomenonTime", zone=mapping.zone)
    identity = record.get("@iot.id")
    return [
        Observation(
            sensor=sensor_of(mapping, record=record, topic=topic, default=default),
            kind=named(mapping.kind or "", record=record, topic=topic),
            value=number_of(required(record, "result"), name="result"),
            at=at,
            unit=named(mapping.unit, record=record, topic=topic) if mapping.unit else None,
            source_id=None if identity is None else text_of(identity, name="@iot.id"),
            details=details_of(interval_start=started, result_time=record.get("resultTime")),
        )
    ]


def _read(
    data: bytes, *, topic: str, mapping: TopicMapping | None, record: Mapping[str, Any] | None = None
) -> Found:
    if mapping is None:
        raise Unreadable(f"no mapping matches topic {clean(topic)!r}: declare one, or unsubscribe")
    if len(data) > MAX_PAYLOAD_BYTES:
        raise Unreadable(f"payload of {len(data)} bytes is larger than {MAX_PAYLOAD_BYTES}: it is no reading")
    if record is not None:
        return read_record(record, topic=topic, mapping=mapping)
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise Unreadable(f"payload is not UTF-8 text: {error}") from error
    if mapping.payload == "plain":
        return _read_plain(text, topic=topic, mapping=mapping)
    return _READERS[mapping.payload](decode_object(text), topic=topic, mapping=mapping)


_READERS: Mapping[str, Callable[..., Found]] = {
    "sensorthings": read_observation,
    "frigate": frigate.read,
    "onvif": onvif.read,
    "chirpstack": chirpstack.read,
}


def _read_plain(text: str, *, topic: str, mapping: TopicMapping) -> Found:
    """Read a JSON object, a line of values or a bare value: the last is the value whatever its path."""
    document: Any = text
    if text[:1] in {"{", "[", '"'}:
        document = decode_json(text)
    elif "," in text:
        document = _columns(text)
    if isinstance(document, list):
        document = {str(position): value for position, value in enumerate(document)}
    if not isinstance(document, dict):
        document = {mapping.value: document}
    return read_record(document, topic=topic, mapping=mapping)


def _columns(text: str) -> list[str]:
    try:
        (row,) = csv.reader([text], strict=True, skipinitialspace=True)
    except csv.Error as error:
        raise Unreadable(f"payload is no line of comma-separated values: {error}") from error
    return row


def _declared_time(record: Mapping[str, Any], mapping: TopicMapping) -> datetime | None:
    if mapping.time:
        return time_of(required(record, mapping.time), name=mapping.time, zone=mapping.zone)
    written = look_up(record, "time")
    return None if written is None else time_of(written, name="time", zone=mapping.zone)


def _kept(data: bytes, mapping: TopicMapping | None) -> str:
    """Return the payload as text to be kept: bounded, storable, and without anyone's identity."""
    if len(data) > MAX_PAYLOAD_BYTES:
        start = data[:KEPT_CHARACTERS].decode(errors="replace")
        # Cut JSON cannot be cleaned of names, so it is kept only where it has none.
        return WITHHELD if names_identity(start) else f"{_storable(start)} ... ({len(data)} bytes)"
    text = _storable(data.decode(errors="replace"))
    frigates = mapping is not None and mapping.payload == "frigate"
    if not frigates and not names_identity(text):
        return text
    try:
        document = decode_object(text)
    except Unreadable:
        return WITHHELD
    cleaned = frigate.kept(document) if frigates else without_identity(document)
    return json.dumps(cleaned, ensure_ascii=True)


def _storable(text: str) -> str:
    return text.replace("\x00", "\ufffd")  # databases refuse NUL in text
