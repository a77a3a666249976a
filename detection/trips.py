"""From readings of sensors to events: one or several sensors tripped near an outpost.

Belongs here: what a trip is, which trips are one happening, and what it is worth that sensors agree. Not
here: which readings are looked at (``outwatch/pipeline/sensors.py``), who is told (``alerting``).

Trips near one outpost with no more than ``max_gap`` between them are a *happening*, so that a sensor that
chatters for hours is one event until it has been quiet. A happening that lasts longer than ``longest`` is cut
at fixed marks, multiples of ``longest`` since 1970: where the cuts lie is then known from the trips within
``longest`` on either side, however long it has gone on.

**Confidence.** Sensors that trip within ``agree_within`` of one another agree. Each has its own share of
false alarms, and what sets one off, a fox, wind, a flat battery, is taken as independent of what sets off the
next; so the chance that all of them are false is the product of their shares, and the confidence is what is
left of 1. Neighbours that share a cause (one gust, one herd) agree more often than this says: it is a measure
to sort by, as every confidence here is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import shapely

from outwatch.domain.geometry import LocalFrame, bearing_deg, centre, distance_m
from outwatch.domain.readings import MAY_BE_OLDER
from outwatch.domain.sensors import SENSOR_SILENT, Registry
from outwatch.domain.types import Event, EventKind, GroundFix, Outpost, Sensor, SensorReading

RULE_VERSION = "sensors-1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MakeId = Callable[[EventKind, str, datetime], str]


@dataclass(frozen=True, slots=True)
class TripThresholds:
    """When trips are one happening; names and meanings are those of the settings' ``sensors``."""

    max_gap: timedelta
    longest: timedelta
    agree_within: timedelta


@dataclass(frozen=True, slots=True)
class Trip:
    """One reading at or above its sensor's threshold."""

    reading: SensorReading
    sensor: Sensor

    @property
    def at(self) -> datetime:
        """Return when it was observed."""
        return self.reading.at

    @property
    def may_be_older(self) -> timedelta:
        """Return by how much longer ago it may have been: a feed kept it, and it has no time of its own."""
        return timedelta(seconds=float(self.reading.details.get(MAY_BE_OLDER, 0)))


@dataclass(frozen=True, slots=True)
class Tripped:
    """An event with the trips that it is made of, in order of time."""

    event: Event
    trips: tuple[Trip, ...]


def trips_of(readings: Iterable[SensorReading], registry: Registry) -> list[Trip]:
    """Return the readings that are trips, by the registry as it is now, in order of time."""
    trips = [
        Trip(reading, sensor)
        for reading in readings
        if (sensor := registry.sensor(reading.sensor_id)) is not None and is_trip(reading, sensor)
    ]
    return in_order(trips)


def is_trip(reading: SensorReading, sensor: Sensor) -> bool:
    """Return whether a sensor's reading is a trip."""
    return (
        sensor.trip_from is not None and reading.kind != SENSOR_SILENT and reading.value >= sensor.trip_from
    )


def in_order(trips: Iterable[Trip]) -> list[Trip]:
    """Return trips in order of time, those of one moment in order of reading."""
    return sorted(trips, key=lambda trip: (trip.at, trip.reading.id))


def trips_near(trips: Sequence[Trip], outpost: Outpost) -> list[Trip]:
    """Return the trips of sensors that watch an outpost: that stand within its watch radius."""
    frame = LocalFrame.at(centre(outpost.geometry))
    points = [trip.reading.point for trip in trips]
    places_m = frame.to_local([point.lat_deg for point in points], [point.lon_deg for point in points])
    away_m = shapely.distance(shapely.points(*places_m), frame.project(outpost.geometry))
    return [trip for trip, near in zip(trips, away_m <= outpost.watch_radius_m, strict=True) if near]


def find_trip_events(
    trips: Sequence[Trip],
    *,
    outpost: Outpost,
    thresholds: TripThresholds,
    window_of: Callable[[datetime], str],
    make_id: MakeId,
) -> list[Tripped]:
    """Return the events that trips near one outpost are, in order of start.

    Args:
        trips: of sensors near the outpost, in any order.
        outpost: the watched place.
        thresholds: when trips are one happening.
        window_of: from an event's start to the window of readings it belongs to.
        make_id: from kind, place and start to the event's id.
    """
    return [
        _event(part, outpost=outpost, within=thresholds.agree_within, window_of=window_of, make_id=make_id)
        for happening in _happenings(in_order(trips), thresholds.max_gap)
        for part in _cut(happening, thresholds.longest)
    ]


def _happenings(trips: Sequence[Trip], max_gap: timedelta) -> list[list[Trip]]:
    found: list[list[Trip]] = []
    for trip in trips:
        if found and trip.at - found[-1][-1].at <= max_gap:
            found[-1].append(trip)
        else:
            found.append([trip])
    return found


def _cut(happening: list[Trip], longest: timedelta) -> list[list[Trip]]:
    """Return a happening whole, or its parts between marks where it lasts longer than ``longest``."""
    if happening[-1].at - happening[0].at <= longest:
        return [happening]
    parts: dict[int, list[Trip]] = {}
    for trip in happening:
        parts.setdefault((trip.at - _EPOCH) // longest, []).append(trip)
    return list(parts.values())


def _event(
    trips: Sequence[Trip],
    *,
    outpost: Outpost,
    within: timedelta,
    window_of: Callable[[datetime], str],
    make_id: MakeId,
) -> Tripped:
    # What came at once after a pause need not have happened at once.
    agreeing = _agreeing([trip for trip in trips if not trip.may_be_older] or trips[:1], within)
    all_sensors = {trip.sensor.id: trip.sensor for trip in trips}
    start, first = trips[0].at, agreeing[0]
    point = first.reading.point
    event = Event(
        id=make_id(EventKind.SENSOR_TRIP, outpost.id, start),
        kind=EventKind.SENSOR_TRIP,
        clip_id=None,
        outpost_id=outpost.id,
        started_at=start,
        ended_at=trips[-1].at,
        peak_at=first.at,
        peak_frame_index=None,
        fix=GroundFix(first.at, point, error_ellipse=None, error_radius_m=None, method="sensor"),
        distance_m=distance_m(point, outpost.geometry),
        bearing_deg=bearing_deg(centre(outpost.geometry), point),
        p_inside=1.0,  # a sensor further away is no sensor of this outpost
        count_low=len(agreeing),
        count=len(agreeing),
        count_high=len(all_sensors),
        in_view=len(all_sensors),
        confidence=1.0 - math.prod(trip.sensor.false_share for trip in agreeing),
        model_id=None,
        rule_version=RULE_VERSION,
        window=window_of(start),
        sensor_ids=tuple(all_sensors),
    )
    return Tripped(event, tuple(trips))


def _agreeing(trips: Sequence[Trip], within: timedelta) -> list[Trip]:
    """Return each sensor's first trip in the first span, ``within`` long, that shows the most sensors."""
    best: list[Trip] = []
    inside: dict[str, int] = {}
    first = 0
    for last, trip in enumerate(trips):
        inside[trip.sensor.id] = inside.get(trip.sensor.id, 0) + 1
        while trips[first].at < trip.at - within:
            gone = trips[first].sensor.id
            inside[gone] -= 1
            if not inside[gone]:
                del inside[gone]
            first += 1
        if len(inside) > len(best):
            span = trips[first : last + 1]
            best = list({item.sensor.id: item for item in reversed(span)}.values())
            best.sort(key=lambda item: item.at)
    return best
