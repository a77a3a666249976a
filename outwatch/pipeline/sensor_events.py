"""From windows of readings to events: which trips belong together across windows, and what proves it.

Belongs here: reading windows around one another, and the step that publishes a window's events. Not here:
the rule (``detection/trips.py``) and the writing of windows (``sensors.py``).

An event belongs to the window in which it starts. To tell whether a window's first trip goes on from the one
before, and how long its last goes on, trips are read back and forward until they pause, at most
``longest`` each way. A window that is written again may move the start of an event, so every window in which
an event of its happening starts, or started before, is asked again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from detection.evidence import draw_map
from detection.trips import (
    RULE_VERSION,
    Trip,
    Tripped,
    TripThresholds,
    find_trip_events,
    trips_near,
    trips_of,
)
from outwatch.domain.errors import ObjectMissing
from outwatch.domain.types import Event, EventKind, Outcome, Outpost
from outwatch.pipeline.alerts import window_events
from outwatch.pipeline.evidence_record import keep_record, setup_of_sensors
from outwatch.pipeline.wiring import Pipeline
from outwatch.pipeline.work import Done, Job, perform
from storage import keys, schemas

MAX_EVIDENCE_READINGS = 1000
"""Readings that a record of evidence repeats: a stuck sensor's six hours need not fill a weak link."""


class Trips:
    """The trips in the windows of the lake, each window read once."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._length: timedelta = pipeline.settings.sensors.window
        self._read: dict[str, list[Trip]] = {}
        self._digests: dict[str, str] = {}

    @cached_property
    def thresholds(self) -> TripThresholds:
        """Return when trips are one happening."""
        return self._pipeline.trip_thresholds

    def put(self, window: str, readings: pa.Table) -> None:
        """Take a window's readings from a table instead of the lake."""
        sensors = [s.id for s in self._pipeline.sensors.sensors if s.trip_from is not None]
        of_interest = readings.filter(pc.is_in(readings["sensor_id"], pa.array(sensors, pa.string())))
        self._read[window] = trips_of(schemas.readings_from(of_interest), self._pipeline.sensors)

    def events(self, outpost: Outpost, window: str) -> list[Tripped]:
        """Return the events near an outpost that a window's trips are part of."""
        return find_trip_events(
            self._around(outpost, window),
            outpost=outpost,
            thresholds=self.thresholds,
            window_of=self.window_of,
            make_id=_event_id,
        )

    def digest(self, key: str) -> str:
        """Return the SHA-256 of a window's file."""
        if key not in self._digests:
            self._digests[key] = hashlib.sha256(self._pipeline.store.get(key)).hexdigest()
        return self._digests[key]

    def window_of(self, at: datetime) -> str:
        """Return the window that a time lies in."""
        return keys.window_of(at, length=self._length)

    def _around(self, outpost: Outpost, window: str) -> list[Trip]:
        """Return a window's trips near an outpost with all that are linked to them on either side."""
        trips = self._near_in(outpost, window)
        if not trips:
            return []
        gap, start = self.thresholds.max_gap, keys.window_start(window)
        for before in self._steps(start, -self._length):
            if trips[0].at - (before + self._length) > gap:
                break
            for trip in reversed(self._near_in(outpost, self.window_of(before))):
                if trips[0].at - trip.at > gap:
                    break
                trips.insert(0, trip)
        for after in self._steps(start, self._length):
            if after - trips[-1].at > gap:
                break
            for trip in self._near_in(outpost, self.window_of(after)):
                if trip.at - trips[-1].at > gap:
                    break
                trips.append(trip)
        return trips

    def _steps(self, start: datetime, step: timedelta) -> Iterator[datetime]:
        """Yield the starts of the windows one way, as far as they can matter."""
        for number in range(1, -(-self.thresholds.longest // self._length) + 2):
            yield start + number * step

    def _near_in(self, outpost: Outpost, window: str) -> list[Trip]:
        if window not in self._read:
            try:
                dt = keys.dt_of(keys.window_start(window))
                self.put(window, self._pipeline.lake.read("readings", dt=dt, name=window))
            except ObjectMissing:
                self._read[window] = []
        return trips_near(self._read[window], outpost) if self._read[window] else []


def windows_to_ask(pipeline: Pipeline, window: str, *, readings: pa.Table) -> tuple[str, ...]:
    """Return the windows whose events may change with a window's readings, as they are to be written.

    The window's own are among them even where their trips stay the same: their evidence names its file.
    """
    trips = Trips(pipeline)
    trips.put(window, readings)
    found: set[str] = set()
    for outpost in pipeline.outposts:
        for tripped in trips.events(outpost, window):
            found.add(trips.window_of(tripped.event.started_at))
            touched = {trips.window_of(trip.at) for trip in tripped.trips} - found
            found |= {start for start in touched if window_events(pipeline, start)}
    return tuple(sorted(found))


def publish_sensor_events(pipeline: Pipeline, window: str) -> Outcome:
    """Write the events that start in a window of readings, their evidence first."""

    def work(job: Job) -> Done:
        trips = Trips(pipeline)
        found = [
            tripped
            for outpost in pipeline.outposts
            for tripped in trips.events(outpost, window)
            if tripped.event.window == window
        ]
        found.sort(key=lambda tripped: (tripped.event.started_at, tripped.event.outpost_id))
        before = window_events(pipeline, window)
        if not found and not before:
            return Done(Outcome("publish_sensor_events", window, counts={"events": 0}))
        job.confirm()
        dt = keys.dt_of(keys.window_start(window))
        events = [_with_evidence(pipeline, tripped, trips=trips) for tripped in found]
        metadata = {"rule_version": RULE_VERSION, "window": window}
        key = pipeline.lake.write(
            "events", schemas.events_table(events), dt=dt, name=window, metadata=metadata
        )
        evidence = tuple(name for event in events for name in event.evidence_keys)
        for stale in {name for event in before for name in event.evidence_keys}.difference(evidence):
            pipeline.store.delete(stale)
        outcome = Outcome("publish_sensor_events", window, (*evidence, key), {"events": len(events)})
        return Done(outcome, (("join_incidents", window),))

    return perform(pipeline, "publish_sensor_events", window, work)


def _event_id(kind: EventKind, outpost_id: str, started_at: datetime) -> str:
    return keys.event_id(source="sensors", rule=kind, place=outpost_id, started_at=started_at)


def _with_evidence(pipeline: Pipeline, tripped: Tripped, *, trips: Trips) -> Event:
    """Write an event's map and the record of what it rests on, and return the event with their keys."""
    event = tripped.event
    windows = sorted({trips.window_of(trip.at) for trip in tripped.trips})
    inputs = [keys.lake("readings", dt=keys.dt_of(keys.window_start(name)), name=name) for name in windows]
    sensors = {trip.sensor.id: trip.sensor for trip in tripped.trips}
    drawn = draw_map(
        event,
        outpost=pipeline.outpost(event.outpost_id),
        local_zone=pipeline.zone,
        sensors=list(sensors.values()),
        terrain=pipeline.terrain,
    )
    dt = keys.dt_of(event.started_at)
    key, place = (keys.evidence(event.id, dt=dt, name=name) for name in (keys.RECORD, keys.MAP))
    kept = replace(event, evidence_keys=(key, place))
    pipeline.store.put(place, drawn)
    more = {
        "sensors": {
            sensor.id: {
                "name": sensor.name,
                "lat_deg": sensor.point.lat_deg,
                "lon_deg": sensor.point.lon_deg,
                "trip_from": sensor.trip_from,
                "false_share": sensor.false_share,
            }
            for sensor in sensors.values()
        },
        "may_be_older_s": max(trip.may_be_older for trip in tripped.trips).total_seconds(),
        "reading_count": len(tripped.trips),
        "readings": [_reading(trip) for trip in tripped.trips[:MAX_EVIDENCE_READINGS]],
    }
    keep_record(
        pipeline,
        kept,
        key=key,
        inputs={name: trips.digest(name) for name in inputs},
        outputs={keys.MAP: hashlib.sha256(drawn).hexdigest()},
        setup=setup_of_sensors(pipeline, event),
        more=more,
    )
    return kept


def _reading(trip: Trip) -> dict[str, Any]:
    reading = trip.reading
    return {
        "id": reading.id,
        "sensor_id": reading.sensor_id,
        "kind": reading.kind,
        "at": reading.at.isoformat(),
        "value": reading.value,
        "unit": reading.unit,
        "feed": reading.feed,
    }
