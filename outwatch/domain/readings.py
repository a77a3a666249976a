"""What is accepted as a reading and what is kept apart, and why; and what a sensor's silence says.

Belongs here: pure decisions on one item of a feed at a time. Not here: payloads (``ingest/feeds``), what is
stored (``storage/readings.py``), and whether a reading is news: that takes a look at what is stored.

A reading's id follows from what it says, so that the same reading twice has one id. A payload with neither
time nor id of its own is told from the next one like it by its receipt alone: two trips of one sensor may
read alike, and to lose one is worse than to count one twice. Feeds that can deliver such a payload again know
it by their cursor.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from outwatch.domain.ports import FeedItem
from outwatch.domain.sensors import SENSOR_SILENT, Registry
from outwatch.domain.types import Observation, RefusedReading, Sensor, SensorReading

OWN_FEED = "outwatch"
"""The feed of what no sensor said: the readings of silence."""
MAX_PAYLOAD_CHARS = 4096
"""Of a refused payload so much is kept: enough to see what it was, whatever is sent."""
EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)
"""A clock that says less was never set: chips start in 1970, 1980 or 2000; old GPS is 1024 weeks behind."""
MAY_BE_OLDER = "may_be_older_s"
"""Detail of a reading without a time that its feed had kept: so long before its receipt nobody listened."""
_SHOWN = 60
"""Characters of a foreign name that a reason repeats."""
Reason = Literal["unreadable", "unknown_sensor", "unknown_kind", "out_of_range", "in_future", "duplicate"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A reading that may stand, and how to tell whether it is one that stands already."""

    reading: SensorReading
    payload: str
    may_repeat: bool
    """It carries an id of its feed: to come again is a delivery made twice, not a sensor's fault."""


Judged = Accepted | RefusedReading


def judge(
    item: FeedItem, *, feed: str, registry: Registry, tolerance: timedelta, away: timedelta = timedelta(0)
) -> Judged:
    """Return the reading that an item is, or why it is kept apart.

    Args:
        item: what a feed delivered.
        feed: its name.
        registry: the sensors that are known.
        tolerance: how far a sensor's clock may be ahead of the time of receipt.
        away: how long nobody had listened to the feed: a time of receipt may be late by as much.
    """
    observation = item.observation
    if observation is None:
        return _refused(item, feed, "unreadable", item.problem or "the feed gave neither value nor reason")
    named = registry.named(observation.sensor)
    if not named:
        why = f"no sensor is named {_shown(observation.sensor)}: add it to the registry or mend the mapping"
        return _refused(item, feed, "unknown_sensor", why)
    sensor = next((sensor for sensor in named if observation.kind in sensor.kinds), None)
    if sensor is None:
        known = ", ".join(kind for sensor in named for kind in sensor.kinds)
        why = f"{named[0].id} reports {known}, found {_shown(observation.kind)}"
        return _refused(item, feed, "unknown_kind", why, sensor=named[0])
    if problem := _value_problem(observation, sensor):
        return _refused(item, feed, "out_of_range", problem, sensor=sensor)
    if observation.at is not None and observation.at > item.received_at + tolerance:
        ahead = observation.at - item.received_at
        why = f"its time lies {ahead} after its receipt, more than {tolerance}: set the sensor's clock"
        return _refused(item, feed, "in_future", why, sensor=sensor)
    if observation.at is None and item.waited and away > tolerance:
        older = {MAY_BE_OLDER: f"{away.total_seconds():.0f}"}
        observation = replace(observation, details={**observation.details, **older})
    return _accepted(item, observation, sensor, feed=feed)


def duplicate(accepted: Accepted) -> RefusedReading:
    """Return a reading that stands already as one to keep apart."""
    reading = accepted.reading
    why = f"reading {reading.id} of {reading.sensor_id} stands already with the same time and value"
    return RefusedReading(
        id=_digest("duplicate", reading.feed, reading.id),
        feed=reading.feed,
        received_at=reading.received_at,
        reason="duplicate",
        why=why,
        payload=accepted.payload[:MAX_PAYLOAD_CHARS],
        sensor_id=reading.sensor_id,
        at=reading.at,
    )


def silence(
    sensor: Sensor, *, last_heard: datetime | None, since: datetime, noted_at: datetime
) -> SensorReading | None:
    """Return the reading that says a sensor should have spoken; None for one that need not.

    There is one for each silence: it is dated when the next word was due, and its value is the interval
    in seconds within which it was due.

    Args:
        sensor: which it is.
        last_heard: when it last spoke, None where it never did.
        since: from when its next word is counted: from its last, or from when listening began again.
        noted_at: when this is said.
    """
    if sensor.expected_interval is None:
        return None
    due_at, value = since + sensor.expected_interval, sensor.expected_interval.total_seconds()
    return SensorReading(
        id=_digest("at", sensor.id, SENSOR_SILENT, value, due_at.isoformat(), None),
        sensor_id=sensor.id,
        kind=SENSOR_SILENT,
        at=due_at,
        received_at=noted_at,
        point=sensor.point,
        value=value,
        unit="s",
        feed=OWN_FEED,
        details={} if last_heard is None else {"last_heard": last_heard.isoformat()},
    )


def _accepted(item: FeedItem, observation: Observation, sensor: Sensor, *, feed: str) -> Accepted:
    what = sensor.id, observation.kind, observation.value
    if observation.at is not None:
        at = observation.at.astimezone(UTC)
        reading_id = _digest("at", *what, at.isoformat(), observation.source_id)
    else:
        at = item.received_at.astimezone(UTC)
        told_apart = (observation.source_id,) if observation.source_id else (at.isoformat(), item.payload)
        reading_id = _digest("received", feed, *what, *told_apart)
    reading = SensorReading(
        id=reading_id,
        sensor_id=sensor.id,
        kind=observation.kind,
        at=at,
        received_at=item.received_at.astimezone(UTC),
        point=sensor.point,
        value=observation.value,
        unit=observation.unit or sensor.unit,
        feed=feed,
        details=observation.details,
    )
    return Accepted(reading, item.payload, may_repeat=observation.source_id is not None)


def _value_problem(observation: Observation, sensor: Sensor) -> str | None:
    value, low, high = observation.value, sensor.minimum, sensor.maximum
    if not math.isfinite(value):
        return f"{value} is no number"
    if (low is not None and value < low) or (high is not None and value > high):
        limits = f"{'any' if low is None else f'{low:g}'} to {'any' if high is None else f'{high:g}'}"
        return f"expected {limits} {sensor.unit or ''}".rstrip() + f", found {value:g}"
    if observation.at is not None and observation.at < EARLIEST:
        return f"its time {observation.at.isoformat()} lies before {EARLIEST:%Y}: set the sensor's clock"
    return None


def _refused(
    item: FeedItem, feed: str, reason: Reason, why: str, *, sensor: Sensor | None = None
) -> RefusedReading:
    # Not of the time of receipt: what is delivered again, or repeats itself, is one refusal a window.
    return RefusedReading(
        id=_digest(feed, reason, item.payload, why if item.observation is None else repr(item.observation)),
        feed=feed,
        received_at=item.received_at.astimezone(UTC),
        reason=reason,
        why=why,
        payload=item.payload[:MAX_PAYLOAD_CHARS],
        sensor_id=None if sensor is None else sensor.id,
        at=None if item.observation is None else _utc(item.observation.at),
    )


def _utc(at: datetime | None) -> datetime | None:
    try:
        return None if at is None else at.astimezone(UTC)
    except OverflowError:  # the first or the last day that there is, in another zone
        return None


def _digest(*parts: object) -> str:
    """Return 32 hex digits of what is said: 128 bits, so that chance never makes two readings one."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()[:32]


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
