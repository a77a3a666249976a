"""Trips near an outpost become events: debounced, agreeing, cut where they never end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from shapely.geometry import Point

from detection.trips import Trip, TripThresholds, find_trip_events, trips_near, trips_of
from outwatch.domain.sensors import Registry
from outwatch.domain.types import Event, EventKind, GeoPoint, Outpost, OutpostKind, Sensor, SensorReading

START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
PLACE = GeoPoint(33.5871, 71.445)
POST = Outpost("post", "Post", "چوکی", OutpostKind.POLICE_OUTPOST, Point(71.445, 33.5862), 400.0, "room")
THRESHOLDS = TripThresholds(timedelta(minutes=2), timedelta(hours=6), timedelta(minutes=1))
A = Sensor("a", "A", ("motion",), PLACE, None, trip_from=1.0)
B = Sensor("b", "B", ("seismic",), PLACE, None, trip_from=5.0, false_share=0.2)
C = Sensor("c", "C", ("motion",), PLACE, None, trip_from=1.0)


def trip(sensor: Sensor, after_s: float) -> Trip:
    at = START + timedelta(seconds=after_s)
    reading_id = f"{sensor.id}-{after_s}"
    return Trip(SensorReading(reading_id, sensor.id, sensor.kinds[0], at, at, PLACE, 9, None, "feed"), sensor)


def events(trips: Sequence[Trip]) -> list[Event]:
    found = find_trip_events(
        trips,
        outpost=POST,
        thresholds=THRESHOLDS,
        window_of=lambda at: f"{at:%Y%m%dT%H%MZ}",
        make_id=lambda kind, place, at: f"{kind}/{place}/{at.isoformat()}",
    )
    assert sorted(t.reading.id for t in trips) == sorted(t.reading.id for item in found for t in item.trips)
    return [item.event for item in found]


def test_one_trip_is_an_event_of_one_sensor() -> None:
    """It says where the sensor stands, when it tripped, and is as sure as that sensor is right."""
    (event,) = events([trip(A, 0)])
    assert (event.kind, event.started_at, event.ended_at) == (EventKind.SENSOR_TRIP, START, START)
    assert (event.count_low, event.count, event.count_high, event.confidence) == (1, 1, 1, 0.5)
    assert (event.fix.point, event.fix.method, event.p_inside) == (PLACE, "sensor", 1.0)
    assert (event.clip_id, event.window, event.sensor_ids) == (None, "20260314T1640Z", ("a",))
    assert event.distance_m == pytest.approx(99.8, abs=0.5)
    assert event.bearing_deg == pytest.approx(0, abs=0.1)


def test_trips_with_short_pauses_are_one_event() -> None:
    """A pause of max_gap still joins; a longer one parts."""
    found = events([trip(A, 0), trip(A, 120), trip(A, 241)])
    spans = [(event.started_at - START, event.ended_at - START) for event in found]
    seconds = timedelta(seconds=1)
    assert [(0 * seconds, 120 * seconds), (241 * seconds, 241 * seconds)] == spans


def test_sensors_that_agree_raise_the_confidence() -> None:
    """The chance that all are false is the product of their shares of false alarms."""
    (event,) = events([trip(A, 0), trip(B, 30), trip(C, 60)])
    assert (event.count, event.sensor_ids) == (3, ("a", "b", "c"))
    assert event.confidence == pytest.approx(1 - 0.5 * 0.2 * 0.5)


def test_sensors_of_one_happening_that_trip_far_apart_do_not_agree() -> None:
    """Two trips 100 s apart are one happening in which never more than one sensor spoke at a time."""
    (event,) = events([trip(A, 0), trip(B, 100)])
    assert (event.count, event.count_high, event.sensor_ids) == (1, 2, ("a", "b"))
    assert event.confidence == pytest.approx(0.5)


def test_the_peak_is_the_first_span_that_shows_the_most_sensors() -> None:
    """Trips of one sensor again and again do not count as agreement."""
    (event,) = events([trip(A, 0), trip(A, 50), trip(A, 100), trip(B, 130), trip(A, 140)])
    assert (event.count, event.peak_at) == (2, START + timedelta(seconds=100))


def test_a_chattering_sensor_is_one_event_until_it_pauses() -> None:
    """Five hours of a trip a minute are one event."""
    (event,) = events([trip(A, 60 * minute) for minute in range(300)])
    assert event.ended_at - event.started_at == timedelta(minutes=299)
    assert event.confidence == 0.5


def test_what_never_ends_is_cut_at_fixed_marks() -> None:
    """Fourteen hours are cut at 18:00, 00:00 and 06:00 UTC, wherever one begins to read."""
    trips = [trip(A, 60 * minute) for minute in range(14 * 60)]
    found = events(trips)
    starts = [event.started_at.strftime("%H:%M") for event in found]
    assert ["16:40", "18:00", "00:00", "06:00"] == starts
    part = events([item for item in trips if item.at >= START + timedelta(hours=1)])
    assert [event.id for event in found[1:]] == [event.id for event in part[1:]]


def test_the_order_of_trips_changes_nothing() -> None:
    """Late trips give the events that they would have given in time."""
    trips = [trip(A, 0), trip(B, 30), trip(C, 200), trip(A, 900)]
    assert events(trips) == events(trips[::-1])


def test_only_readings_from_the_threshold_on_are_trips() -> None:
    """Below it, of a sensor without one, of silence or of a sensor that is gone, there is no trip."""
    none = replace(A, id="n", trip_from=None)
    readings = [
        replace(trip(A, 0).reading, value=value, kind=kind, sensor_id=sensor)
        for value, kind, sensor in [
            (1.0, "motion", "a"),
            (0.9, "motion", "a"),
            (600.0, "sensor_silent", "a"),
            (9.0, "motion", "n"),
            (9.0, "motion", "gone"),
        ]
    ]
    found = trips_of(readings, Registry((A, none)))
    assert [1.0] == [item.reading.value for item in found]


@pytest.mark.parametrize(("lat_deg", "near"), [(33.5897, True), (33.5899, False)])
def test_a_sensor_is_near_within_the_watch_radius(lat_deg: float, near: bool) -> None:
    """The radius is 400 m: 389 m is near, 411 m is not."""
    tripped = trip(A, 0)
    there = replace(tripped, reading=replace(tripped.reading, point=GeoPoint(lat_deg, 71.445)))
    assert ([there] if near else []) == trips_near([there], POST)
