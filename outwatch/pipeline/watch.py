"""Listen to all feeds at once and act within a second of a trip, for stations that want no minute's wait.

Belongs here: threads, waits and what goes on after a failure. Not here: collecting, writing and publishing
(``sensors.py``, ``sensor_events.py``), and how a person is told (``commands/sensors.py``).

It may run beside the DAGs, except that an MQTT broker gives a session to one client at a time: the feeds
should be left to one of both.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import structlog

from detection.trips import is_trip
from outwatch.domain.errors import PermanentError
from outwatch.domain.types import Outcome
from outwatch.pipeline import runner, sensors
from outwatch.pipeline.wiring import Pipeline
from storage.readings import Stored

ROUND_S = 60.0
"""A feed is listened to for so long at a time; its end says that silence up to then was silence."""
POLL_S = 5.0
"""A feed that is polled is asked again after this, and one that failed is tried again."""
SETTLE_S = 10.0
"""Readings that are no trip are written this often: each writing rewrites its window's file."""
SILENCE_S = 60.0
"""How often it is asked who is silent."""

log = structlog.get_logger(__name__)
Told = Callable[[Outcome], None]


def watch_sensors(pipeline: Pipeline, *, for_s: float | None, told: Told) -> None:
    """Collect from every feed and run the sensors' steps, at once where something trips.

    Args:
        pipeline: where feeds, inbox and lake are.
        for_s: when to stop, None never.
        told: hears of every feed's round that ended and of every step that did something or failed.

    Raises:
        ConfigInvalid: a setting, the registry or the places are wrong.
    """
    deadline = None if for_s is None else time.monotonic() + for_s
    tripped = threading.Event()
    # Built here, where a fault of theirs is the caller's to see, and only once.
    _ = pipeline.sensors, pipeline.outposts, pipeline.channels, pipeline.lake
    names = sensors.feed_names(pipeline)
    for name in names:
        pipeline.feed(name)
    listen = partial(_listen, pipeline, tripped=tripped, deadline=deadline, told=told)
    # An interrupted watch leaves them behind: what they had not stored comes again.
    threads = [threading.Thread(target=listen, args=(name,), name=name, daemon=True) for name in names]
    for thread in threads:
        thread.start()
    _act(pipeline, tripped=tripped, deadline=deadline, told=told)
    for thread in threads:
        thread.join()
    _tell(told, runner.run_sensor_work(pipeline))


def _listen(
    pipeline: Pipeline,
    name: str,
    *,
    tripped: threading.Event,
    deadline: float | None,
    told: Told,
) -> None:
    """Collect one feed in rounds until the end."""

    def heard(stored: Stored) -> None:
        registry = pipeline.sensors
        for reading in stored.readings:
            sensor = registry.sensor(reading.sensor_id)
            if sensor is not None and is_trip(reading, sensor):
                tripped.set()
                return

    while (left_s := _left_s(deadline)) > 0:
        began, round_s = time.monotonic(), min(ROUND_S, left_s)
        try:
            told(sensors.collect(pipeline, name, for_s=round_s, heard=heard))
        except Exception as error:  # noqa: BLE001  whatever it is, it is told, and never silences other feeds
            told(Outcome("collect_readings", name, error=f"{type(error).__name__}: {error}"))
            log.warning("feed_failed", feed=name, error=str(error))
            if isinstance(error, PermanentError):  # a person must mend it, and need not start us again then
                began, round_s = time.monotonic(), 0.0
                time.sleep(min(ROUND_S, max(0.0, _left_s(deadline))))
        # A round that ends early is that of a polled feed, or of one that failed.
        if time.monotonic() - began < round_s:
            time.sleep(min(POLL_S, max(0.0, _left_s(deadline))))


def _act(pipeline: Pipeline, *, tripped: threading.Event, deadline: float | None, told: Told) -> None:
    silence_at = time.monotonic()
    while (left_s := _left_s(deadline)) > 0:
        tripped.wait(min(SETTLE_S, left_s))
        tripped.clear()
        note_silence = time.monotonic() >= silence_at
        if note_silence:
            silence_at = time.monotonic() + SILENCE_S
        _tell(told, runner.run_sensor_work(pipeline, note_silence=note_silence))


def _tell(told: Told, report: runner.Report) -> None:
    for outcome in (*report.outcomes, *report.failures):
        if outcome.error or any(outcome.counts.values()):
            told(outcome)


def _left_s(deadline: float | None) -> float:
    return float("inf") if deadline is None else deadline - time.monotonic()
