"""Readings from the feeds to the lake: into the inbox, noted where missing, written window by window.

Belongs here: the order of calls into feeds, inbox and lake. Not here: what is accepted
(``outwatch/domain/readings.py``), events (``sensor_events.py``), and who asks (a DAG, the CLI).

A batch is stored in one transaction with its feed's cursor, and only then acknowledged; a window's rows leave
the inbox in the transaction that completes the writing of its file. Killed at any moment, nothing is lost;
whatever comes again has the id that it had, so that nothing stands twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from outwatch.domain.errors import ObjectMissing
from outwatch.domain.readings import judge, silence
from outwatch.domain.types import Outcome, Sensor
from outwatch.pipeline.sensor_events import windows_to_ask
from outwatch.pipeline.wiring import Pipeline
from outwatch.pipeline.work import Done, Job, perform
from storage import keys, schemas
from storage.lake import merge_rows
from storage.readings import WRITE_READINGS, SensorHealth, Stored

WRITE_LIMIT = 50_000
"""Rows that one writing takes from the inbox, some seconds of work and 100 MB; the rest wakes the window."""

Heard = Callable[[Stored], None]


@dataclass(frozen=True, slots=True)
class SensorState:
    """How a sensor stands: ``ok``, ``silent`` past its interval, or ``never`` heard."""

    sensor: Sensor
    state: str
    health: SensorHealth


def feed_names(pipeline: Pipeline) -> list[str]:
    """Return the names of the feeds in the settings, in their order."""
    return [feed.name for feed in pipeline.settings.sensors.feeds]


def collect(pipeline: Pipeline, name: str, *, for_s: float, heard: Heard | None = None) -> Outcome:
    """Take what a feed has, and what comes within ``for_s`` seconds, into the inbox.

    Args:
        pipeline: where the feed and the inbox are.
        name: the feed's, in the settings.
        for_s: how long to listen; a feed that is polled ends as soon as it has all.
        heard: told of every batch once it is stored and acknowledged.

    Raises:
        ConfigInvalid: there is no such feed, or it or the registry is wrong.
        FeedTimeout: the feed's server did not answer; what was stored stays stored.
        AccessDenied: it refused our credentials.
    """
    feed, registry = pipeline.feed(name), pipeline.sensors
    tolerance = pipeline.settings.sensors.future_tolerance
    counts = Counter({"batches": 0, "accepted": 0, "refused": 0, "again": 0})
    began, before = pipeline.now(), pipeline.inbox.feeds().get(name)
    away = timedelta(0) if before is None or before.listened_at is None else began - before.listened_at
    caught_up_at, behind = None, False
    for batch in feed.batches(pipeline.inbox.cursor(name), for_s=for_s):
        judged = [
            judge(item, feed=name, registry=registry, tolerance=tolerance, away=away) for item in batch.items
        ]
        stored = pipeline.inbox.store(judged, feed=name, cursor=batch.cursor)
        batch.acknowledge()
        counts.update(batches=1, accepted=len(stored.readings), refused=stored.refused, again=stored.again)
        if heard is not None:
            heard(stored)
        behind = batch.behind
        caught_up_at = caught_up_at if behind else pipeline.now()
    if not behind:
        caught_up_at = pipeline.now()
    if caught_up_at is not None:
        pipeline.inbox.listened(name, since=began, at=caught_up_at)
    return Outcome("collect_readings", name, counts=dict(counts))


def note_silence(pipeline: Pipeline) -> Outcome:
    """Store one reading for each sensor that should have spoken while its feed was listened to, and did not.

    A feed that is down says nothing of its sensors, nor one that has more to tell: silence is only claimed
    until it was last heard to its end, and counts anew after a pause in which nobody listened.
    """
    watched = [sensor for sensor in pipeline.sensors.sensors if sensor.expected_interval is not None]
    known, now = pipeline.inbox.sensors(), pipeline.now()
    unknown = [sensor for sensor in watched if not _is_expected(known.get(sensor.id))]
    if unknown:
        pipeline.inbox.watch(unknown, since=now)
    listening = pipeline.inbox.listening(feed_names(pipeline))
    factor = pipeline.settings.sensors.silence_after
    readings = [
        reading
        for sensor in watched
        if (found := listening.get(sensor.id)) is not None
        and (reading := silence(sensor, last_heard=found.last_heard, since=found.since, noted_at=now))
        is not None
        and found.until - found.since > factor * (reading.at - found.since)
    ]
    noted = pipeline.inbox.note_silence(readings) if readings else 0
    return Outcome("note_silence", "", counts={"watched": len(watched), "silent": noted})


def write_readings(pipeline: Pipeline, window: str) -> Outcome:
    """Move a window's rows from the inbox into its files in the lake, each reading once, in order of time."""

    def work(job: Job) -> Done:
        taken = pipeline.inbox.take(window, limit=WRITE_LIMIT)
        readings = schemas.readings_table([item.reading for item in taken.readings])
        refused = schemas.refused_readings_table(taken.refused)
        readings, stood_since = _merge(pipeline, "readings", readings, window=window)
        refused, _ = _merge(pipeline, "refused_readings", refused, window=window)
        # What stands with the same receipt is this very row, written by a worker that died at it.
        stood = frozenset(
            item.reading.id
            for item in taken.readings
            if stood_since.get(item.reading.id, item.reading.received_at) != item.reading.received_at
        )
        job.confirm()
        outputs = []
        if len(stood) < len(taken.readings):
            outputs.append(_write(pipeline, "readings", readings, window=window))
        if taken.refused:
            outputs.append(_write(pipeline, "refused_readings", refused, window=window))
        asked = windows_to_ask(pipeline, window, readings=readings) if outputs else ()
        counts = {
            "written": len(taken.readings) - len(stood),
            "stood": len(stood),
            "refused": len(taken.refused),
        }
        return Done(
            Outcome(WRITE_READINGS, window, tuple(outputs), counts),
            opens=tuple(("publish_sensor_events", start) for start in asked),
            also=lambda connection: pipeline.inbox.clear(connection, window, taken, stood=stood),
        )

    return perform(pipeline, WRITE_READINGS, window, work)


def health(pipeline: Pipeline) -> list[SensorState]:
    """Return how every sensor of the registry stands, in its order."""
    known = pipeline.inbox.sensors()
    return [
        SensorState(sensor, _state(found), found)
        for sensor in pipeline.sensors.sensors
        for found in [known.get(sensor.id, SensorHealth(sensor.id))]
    ]


def sensor_row(item: SensorState) -> dict[str, Any]:
    """Return a sensor's state as JSON-ready fields."""
    sensor, found = item.sensor, item.health
    return {
        "sensor_id": sensor.id,
        "name": sensor.name,
        "kinds": list(sensor.kinds),
        "state": item.state,
        "last_at": _iso(found.last_at),
        "last_received_at": _iso(found.last_received_at),
        "last_kind": found.last_kind,
        "last_value": found.last_value,
        "unit": sensor.unit,
        "silent_since": _iso(found.silent_since),
        "expected_interval_s": sensor.expected_interval and sensor.expected_interval.total_seconds(),
        "accepted": found.accepted,
        "refused": found.refused,
    }


def feed_rows(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Return where every feed of the settings stands, as JSON-ready fields."""
    known = pipeline.inbox.feeds()
    return [
        {
            "feed": name,
            "listened_at": _iso(known[name].listened_at) if name in known else None,
            "accepted": known[name].accepted if name in known else 0,
            "refused": known[name].refused if name in known else 0,
        }
        for name in feed_names(pipeline)
    ]


def _merge(
    pipeline: Pipeline, table_name: str, new: pa.Table, *, window: str
) -> tuple[pa.Table, dict[str, datetime]]:
    """Return a window's rows with the new ones in order of time, and the receipt of those that stood."""
    key, time = _ORDER[table_name]
    try:
        standing = pipeline.lake.read(table_name, dt=keys.dt_of(keys.window_start(window)), name=window)
    except ObjectMissing:
        standing = schemas.schema_of(table_name).empty_table()
    merged, stood = merge_rows(schemas.checked(table_name, standing), new, key=key, order=(time, key))
    return merged, dict(zip(stood[key].to_pylist(), stood["result_time"].to_pylist(), strict=True))


_ORDER: Mapping[str, tuple[str, str]] = {
    "readings": ("reading_id", "phenomenon_time"),
    "refused_readings": ("refusal_id", "result_time"),
}


def _write(pipeline: Pipeline, table_name: str, table: pa.Table, *, window: str) -> str:
    dt = keys.dt_of(keys.window_start(window))
    return pipeline.lake.write(table_name, table, dt=dt, name=window, metadata={"window": window})


def _is_expected(found: SensorHealth | None) -> bool:
    return found is not None and (found.last_at is not None or found.watched_since is not None)


def _state(found: SensorHealth) -> str:
    if found.silent_since is not None:
        return "silent"
    return "never" if found.last_at is None else "ok"


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
