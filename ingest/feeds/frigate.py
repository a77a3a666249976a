"""Events of the Frigate camera recorder, as it publishes them on ``frigate/events``.

Belongs here: the fields of that message. Not here, and never read or kept: ``sub_label``, recognised faces
and plates, attributes and pictures; only what ``_KEPT`` names survives.

Source: the recorder's documentation of its MQTT messages (``type``, ``before``, ``after``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ingest.feeds.mapping import TopicMapping
from ingest.feeds.measure import Problem
from ingest.feeds.values import (
    Unreadable,
    details_of,
    look_up,
    named,
    number_of,
    required,
    sensor_of,
    text_of,
    time_of,
)
from outwatch.domain.types import Observation

_TYPES = ("new", "update", "end")
_VEHICLES = frozenset({"car", "truck", "bus", "van", "pickup", "motorcycle", "school_bus", "vehicle"})
_LABEL = re.compile(r"[a-z][a-z0-9 _-]{0,39}")
_IDENTIFYING = ("face", "plate")
_KEPT = (
    "id",
    "camera",
    "label",
    "score",
    "top_score",
    "start_time",
    "end_time",
    "frame_time",
    "current_zones",
    "entered_zones",
    "has_clip",
    "false_positive",
    "stationary",
)


def read(record: Mapping[str, Any], *, topic: str, mapping: TopicMapping) -> list[Observation | Problem]:
    """Return the observation of one update: the confidence that a thing of a kind is in view.

    Each update of an event is one observation; its ``source_id`` is the event's id, the update's type and
    its frame's time, which a re-delivery carries again.

    Raises:
        Unreadable: it is no such event, is marked false, or is of a face or plate.
    """
    event = kept(record)["after"]
    change = record.get("type")
    if change not in _TYPES or not event:
        raise Unreadable("payload is no Frigate event: it must have type new, update or end, and after")
    if event.get("false_positive") is True:
        raise Unreadable("Frigate itself calls this event a false positive")
    identity = text_of(required(event, "id"), name="after.id")
    seen_at = look_up(event, "end_time") if change == "end" else look_up(event, "frame_time")
    at = time_of(seen_at or required(event, "start_time"), name="after.frame_time", zone=mapping.zone)
    score = look_up(event, "score")
    return [
        Observation(
            sensor=sensor_of(mapping, record=kept(record), topic=topic, default=event.get("camera")),
            kind=named(mapping.kind, record=kept(record), topic=topic) if mapping.kind else _kind(event),
            value=number_of(required(event, "top_score") if score is None else score, name="after.score"),
            at=at,
            unit=mapping.unit,
            source_id=f"{identity}/{change}/{at.timestamp():.3f}",
            details=details_of(
                type=change,
                label=event.get("label"),
                top_score=event.get("top_score"),
                zones=event.get("current_zones"),
                has_clip=event.get("has_clip"),
                stationary=event.get("stationary"),
            ),
        )
    ]


def kept(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may be kept of a message: its type and the allowed fields of ``after``."""
    after = record.get("after")
    event = after if isinstance(after, dict) else {}
    change = record.get("type")
    return {
        "type": change if change in _TYPES else None,
        "after": {name: _plain(event[name]) for name in _KEPT if name in event},
    }


def _plain(value: Any) -> Any:
    """Return numbers, short texts and lists of texts; anything nested could hold anything."""
    if isinstance(value, list):
        return [inner for inner in value if isinstance(inner, str)]
    return None if isinstance(value, dict) else value


def _kind(event: Mapping[str, Any]) -> str:
    label = text_of(required(event, "label"), name="after.label").lower()
    if not _LABEL.fullmatch(label) or any(word in label for word in _IDENTIFYING):
        raise Unreadable(f"label {label!r} is not taken: only kinds of things are, never faces or plates")
    return "vehicle_detected" if label in _VEHICLES else f"{re.sub('[ -]', '_', label)}_detected"
