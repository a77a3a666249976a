"""The rules for what moves, stays, grows or comes by night, each on scenes that can be checked by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detection.rules import RULE_VERSION, Thresholds, find_events
from detection.rules.approach import closing_of
from detection.rules.loitering import legs
from detection.rules.paths import stays
from outwatch.domain.expected import Activity, BaselinePlace, Expected, Hours, OwnTraffic
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.types import (
    Coverage,
    Detection,
    ErrorEllipse,
    Event,
    EventKind,
    GeoPoint,
    GroundFix,
    Outpost,
    OutpostKind,
    Recall,
)
from outwatch.settings import RuleSettings

DAY = datetime(2026, 3, 14, 7, 0, tzinfo=UTC)
"""Noon in Karachi."""
NIGHT = datetime(2026, 3, 14, 19, 0, tzinfo=UTC)
THRESHOLDS = Thresholds(**RuleSettings().model_dump())
POST = GeoPoint(33.5862, 71.445)
FRAME = LocalFrame.at(POST)
VIEW = shapely.box(71.4, 33.5, 71.5, 33.7)
few = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
Way = Callable[[float], tuple[float, float]]


def outpost(kind: OutpostKind = OutpostKind.POLICE_OUTPOST) -> Outpost:
    return Outpost("post", "Post", "چوکی", kind, shapely.Point(POST.lon_deg, POST.lat_deg), 400.0, "room")


def follow(
    way: Way,
    seconds: Iterable[float],
    *,
    label: str = "car",
    track: int | None = None,
    start: datetime = DAY,
) -> list[Detection]:
    """Return a thing on its way, metres around the post by seconds, at each of some moments."""
    found = []
    for second in seconds:
        east_m, north_m = way(second)
        lat, lon = FRAME.to_geo(east_m, north_m)
        at = start + timedelta(seconds=second)
        point = GeoPoint(float(lat), float(lon))
        fix = GroundFix(at, point, ErrorEllipse(8.0, 4.0, 30.0), 8.0, "flat_ground")
        box = (east_m, -north_m, east_m + 1, 2 - north_m)
        frame = round(second * 30)
        found.append(Detection("clip", at, second, frame, label, 0.8, box, "m", track, fix, east_m, north_m))
    return found


def standing(east_m: float, north_m: float) -> Way:
    return lambda _second: (east_m, north_m)


def every(step_s: float, until_s: float) -> list[float]:
    return np.arange(0.0, until_s + step_s / 2, step_s).tolist()


def parked(seconds: Sequence[float], *, start: datetime = DAY) -> list[Detection]:
    """Return three bicycles that stand and tell that the camera does: no rule counts them."""
    return [
        thing
        for number in range(3)
        for thing in follow(
            standing(30.0 * number, 150.0), seconds, label="bicycle", track=90 + number, start=start
        )
    ]


def found(
    things: Sequence[Detection],
    seconds: Sequence[float],
    *,
    post: Outpost | None = None,
    start: datetime = DAY,
    blind_to: tuple[str, ...] = (),
    thresholds: Thresholds = THRESHOLDS,
    expected: Expected | None = None,
    baseline: Sequence[BaselinePlace] = (),
    clock_uncertainty_s: float = 2.0,
    recall: Recall | None = None,
) -> list[Event]:
    looks = [
        Coverage("clip", start + timedelta(seconds=s), s, round(s * 30), VIEW, gsd_m=0.1, blind_to=blind_to)
        for s in seconds
    ]
    return find_events(
        things,
        looks=looks,
        outposts=[post or outpost()],
        thresholds=thresholds,
        recall=recall or Recall({"person": 1.0, "car": 1.0}),
        make_id=lambda kind, place, at: f"{kind}/{place}/{at:%H:%M:%S}",
        expected=expected,
        baseline=baseline,
        clock_uncertainty_s=clock_uncertainty_s,
    )


def kinds(events: Sequence[Event]) -> list[str]:
    return sorted(event.kind.value for event in events)


def only(events: Sequence[Event], kind: EventKind) -> Event:
    (event,) = [event for event in events if event.kind is kind]
    return event


def drives_up(second: float, *, stops_at_s: float = 15.0, speed_m_s: float = 8.0) -> tuple[float, float]:
    """Come from the south-west, past the post's side, and stand 80 m beside it."""
    return 80.0, -40.0 - speed_m_s * max(0.0, stops_at_s - second)


# A stopped vehicle


def test_a_vehicle_that_drives_up_and_stands_has_stopped() -> None:
    """It stands from the end of its way on, and the event says how long and how far it came."""
    seconds = every(0.5, 60)
    events = found([*parked(seconds), *follow(drives_up, seconds, track=1)], seconds)
    stop = only(events, EventKind.STOPPED_VEHICLE)
    assert stop.rule_version == RULE_VERSION
    assert abs((stop.started_at - DAY).total_seconds() - 15) <= 1.5
    assert stop.measures["stood_s"] == pytest.approx(45, abs=1.5)
    assert stop.measures["drove_m"] == pytest.approx(120, abs=10)
    assert (stop.count_low, stop.count, stop.count_high) == (1, 1, 1)


def test_a_way_is_measured_to_where_the_car_stands() -> None:
    """25 m are more than 20, though the last 8 of them already lie within its stay."""
    seconds = every(0.5, 60)
    car = follow(lambda s: (40.0, 40.0 + max(0.0, 25.0 - 5.0 * s)), seconds, track=1)
    stop = only(found([*parked(seconds), *car], seconds), EventKind.STOPPED_VEHICLE)
    assert stop.measures["drove_m"] == pytest.approx(25, abs=2)


def test_a_car_that_was_parked_from_the_first_look_did_not_stop() -> None:
    """However long it stands, with its track or without."""
    seconds = every(0.5, 90)
    for track in (1, None):
        assert kinds(found(follow(standing(40, 40), seconds, track=track), seconds)) == [
            "vehicle_near_outpost"
        ]


def test_a_camera_that_turns_moves_nothing() -> None:
    """All that stands seems to drive 200 m and to stop: nothing did, whatever the map says."""
    seconds = every(0.5, 60)

    def drifting(east_m: float, north_m: float) -> Way:
        return lambda second: (east_m, north_m - 12.0 * max(0.0, 15.0 - second))

    things = [
        thing for number in range(4) for thing in follow(drifting(20.0 * number, 60.0), seconds, track=number)
    ]
    assert kinds(found(things, seconds)) == ["vehicle_near_outpost"]


def test_a_broken_track_is_still_one_vehicle() -> None:
    """Its number changes on the way and again where it stands."""
    seconds = every(0.5, 60)
    things = follow(drives_up, seconds)
    things = [replace(thing, track_id=1 if n < 12 else 2 if n < 70 else 3) for n, thing in enumerate(things)]
    events = found([*parked(seconds), *things], seconds)
    assert only(events, EventKind.STOPPED_VEHICLE).measures["stood_s"] == pytest.approx(45, abs=1.5)


@few
@given(st.integers(10, 80), st.integers(0, 40))
def test_a_longer_threshold_never_finds_more_stops(least_s: int, more_s: int) -> None:
    """Monotone in how long it must stand."""
    seconds = every(1.0, 60)
    things = [*parked(seconds), *follow(drives_up, seconds, track=1)]

    def stops(least: int) -> int:
        rules = replace(THRESHOLDS, stopped_min_duration=timedelta(seconds=least))
        return kinds(found(things, seconds, thresholds=rules)).count("stopped_vehicle")

    assert stops(least_s + more_s) <= stops(least_s)


# An approach


def test_a_vehicle_that_comes_straight_at_the_outpost_approaches() -> None:
    """It closes by 150 m at 10 m/s; how fast is said with the slope's own bound."""
    seconds = every(0.5, 15)
    events = found([*parked(seconds), *follow(lambda s: (0.0, -180 + 10 * s), seconds, track=1)], seconds)
    event = only(events, EventKind.APPROACH)
    assert event.measures["closed_m"] == pytest.approx(150, abs=2)
    assert event.measures["speed_m_s"] == pytest.approx(10, abs=0.5)
    assert event.distance_m == pytest.approx(30, abs=2)
    assert (event.measures["vehicles"], event.measures["people"]) == (1, 0)


@pytest.mark.parametrize(
    "way",
    [
        lambda s: (60.0, -200 + 20 * s),
        lambda s: (0.0, 40 + 10 * s),
        lambda s: (180.0, -90 + 6 * s),
        lambda s: (0.0, -600 + 10 * s),
        standing(0.0, -60.0),
    ],
    ids=["drives by", "drives off", "passes aside", "far off", "stands"],
)
def test_what_does_not_come_is_no_approach(way: Way) -> None:
    """Roads lead past every outpost."""
    seconds = every(0.5, 20)
    assert "approach" not in kinds(found([*parked(seconds), *follow(way, seconds, track=1)], seconds))


def test_a_crowd_that_walks_at_the_outpost_approaches() -> None:
    """Nine people at 1.5 m/s, told from a turning camera by what stands around."""
    seconds = every(0.5, 50)

    def walker(number: int) -> Way:
        return lambda s: (4.0 * number - 16.0, -130 + 1.5 * s)

    people = [person for n in range(9) for person in follow(walker(n), seconds, label="person", track=n + 1)]
    event = only(found([*parked(seconds), *people], seconds), EventKind.APPROACH)
    assert (event.measures["people"], event.count) == (9, 9)
    assert "approach" not in kinds(found(people, seconds))


@few
@given(st.floats(0.2, 30), st.floats(-40, 40), st.integers(0, 2**31))
def test_closing_knows_the_speed_and_never_overstates_it(
    speed_m_s: float, offset_m: float, seed: int
) -> None:
    """The bound is at most the true speed but for one case in a hundred, whatever is common to all looks."""
    at_s = np.arange(0.0, 15.0, 0.5)
    noise_m = np.random.default_rng(seed).normal(0, 0.5, len(at_s))
    closing = closing_of(at_s, 600.0 + offset_m - speed_m_s * at_s + noise_m)
    assert closing is None or closing.speed_m_s <= speed_m_s + 0.1
    exact = closing_of(at_s, 600.0 + offset_m - speed_m_s * at_s)
    assert exact is not None
    assert exact.speed_m_s == pytest.approx(speed_m_s, rel=1e-6)


# A convoy


def test_vehicles_in_file_are_a_convoy() -> None:
    """Four at 10 m/s, 25 m apart, on their way past; their number, spacing and heading are told."""
    seconds = every(0.5, 15)

    def member(number: int) -> Way:
        return lambda s: (60.0, -50 - 25.0 * number + 10 * s)

    cars = [car for n in range(4) for car in follow(member(n), seconds, track=n + 1)]
    event = only(found([*parked(seconds), *cars], seconds), EventKind.CONVOY)
    assert (event.count, event.measures["vehicles"]) == (4, 4)
    assert event.measures["spacing_m"] == pytest.approx(25, abs=1)
    assert min(event.measures["heading_deg"], 360 - event.measures["heading_deg"]) < 2
    assert event.measures["speed_m_s"] == pytest.approx(10, abs=0.2)


@pytest.mark.parametrize(
    "ways",
    [
        [lambda s, n=n: (60.0, -50 - 25.0 * n + 10 * s) for n in range(2)],
        [lambda s, n=n: (60.0, -50 - 90.0 * n + 10 * s) for n in range(4)],
        [lambda s, n=n: (60.0 + 12.0 * n, -50 + 10 * s) for n in range(4)],
        [lambda s, n=n: (60.0, 25.0 * n + 10 * s * (1 if n % 2 else -1)) for n in range(4)],
        [standing(60.0, 25.0 * n) for n in range(4)],
    ],
    ids=["two", "too far apart", "side by side", "both ways", "parked in file"],
)
def test_what_is_no_file_is_no_convoy(ways: list[Way]) -> None:
    """Each part of the rule by itself keeps one from being claimed."""
    seconds = every(0.5, 15)
    cars = [car for n, way in enumerate(ways) for car in follow(way, seconds, track=n + 1)]
    assert "convoy" not in kinds(found([*parked(seconds), *cars], seconds))


# Loitering


def test_one_who_stays_loiters_and_who_walks_past_does_not() -> None:
    """Three minutes within a few metres, 60 m from the post; a walker meanwhile is none."""
    seconds = every(1.0, 180)

    def stroll(second: float) -> tuple[float, float]:
        return 60.0 + 3 * np.sin(second / 9), 20.0 + 3 * np.cos(second / 7)

    stays_there = follow(stroll, seconds, label="person", track=1)
    walks = follow(lambda s: (-130 + 1.4 * s, 60.0), seconds, label="person", track=2)
    event = only(found([*stays_there, *walks], seconds), EventKind.LOITERING)
    assert event.measures["dwell_s"] == pytest.approx(180, abs=2)
    assert event.count == 1
    assert found(walks, seconds) == []


def test_who_stands_at_the_door_belongs_to_the_place() -> None:
    """A guard 10 m from the outpost is no event, nor is a visitor of one minute."""
    seconds = every(1.0, 180)
    assert found(follow(standing(8, 6), seconds, label="person", track=1), seconds) == []
    visitor = follow(standing(60, 20), every(1.0, 60), label="person", track=1)
    assert found(visitor, seconds) == []


def test_to_and_fro_is_loitering() -> None:
    """Four legs of 40 m in front of the post, never long in one place."""
    seconds = every(0.5, 130)

    def to_and_fro(second: float) -> tuple[float, float]:
        leg, along = divmod(1.3 * second, 40.0)
        return (along if int(leg) % 2 == 0 else 40.0 - along), 60.0

    person = follow(to_and_fro, seconds, label="person", track=1)
    event = only(found([*parked(seconds), *person], seconds), EventKind.LOITERING)
    assert event.measures["passes"] == 4
    assert found(person, seconds) == []


@few
@given(st.floats(1, 30), st.floats(0, 30))
def test_longer_legs_are_never_more(least_m: float, more_m: float) -> None:
    """Monotone in the length of a leg; a straight way is one leg at most."""
    swing = np.column_stack([50 * np.sin(np.linspace(0, 20, 200)), np.linspace(0, 5, 200)])
    assert legs(swing, least_m=least_m + more_m) <= legs(swing, least_m=least_m)
    straight = np.column_stack([np.linspace(0, 100, 50), np.zeros(50)])
    assert legs(straight, least_m=least_m) == 1


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=40))
def test_stays_cover_what_they_say(places: list[tuple[float, float]]) -> None:
    """Stretches are in order, do not overlap, and end near where they began."""
    places_m = np.array(places)
    found_stays = stays(np.arange(len(places), dtype=float), places_m, radius_m=10.0)
    assert found_stays[0][0] == 0
    for (first, last), (after, _) in zip(found_stays, [*found_stays[1:], (len(places), 0)], strict=True):
        assert first <= last < after
        assert np.hypot(*(places_m[last] - places_m[first])) <= 10.0


# A gathering that grows or disperses


def crowd_of(size: Callable[[float], int], seconds: Sequence[float]) -> list[Detection]:
    return [
        person
        for second in seconds
        for n in range(size(second))
        for person in follow(standing(60.0 + 2 * (n % 5), 60.0 + 2 * (n // 5)), [second], label="person")
    ]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (lambda s: 8 + int(s / 4), "gathering_growing"),
        (lambda s: 23 - int(s / 4), "gathering_dispersing"),
        (lambda s: 14 + int(s * 7) % 4, None),
        (lambda s: 14 + int(s / 20), None),
    ],
    ids=["grows", "disperses", "flickers", "hardly grows"],
)
def test_a_trend_beyond_noise_is_told(size: Callable[[float], int], expected: str | None) -> None:
    """From 8 to 23 in a minute is news, three more are not; the gathering itself is an event as well."""
    seconds = every(1.0, 60)
    events = found(crowd_of(size, seconds), seconds, recall=Recall({"person": 0.8}))
    assert kinds(events) == sorted(filter(None, ["gathering_near_outpost", expected]))


def test_a_group_that_the_view_cuts_off_has_no_trend() -> None:
    """Where the picture's edge lies within the group, fewer people are not fewer people."""
    seconds = every(1.0, 60)
    people = crowd_of(lambda s: 8 + int(s / 4), seconds)
    lat, lon = FRAME.to_geo([50.0, 75.0], [50.0, 75.0])
    tight = shapely.box(lon[0], lat[0], lon[1], lat[1])
    looks = [Coverage("clip", DAY + timedelta(seconds=s), s, round(s * 30), tight) for s in seconds]
    events = find_events(
        people,
        looks=looks,
        outposts=[outpost()],
        thresholds=THRESHOLDS,
        recall=Recall({"person": 0.8}),
        make_id=lambda kind, _place, _at: str(kind),
    )
    assert kinds(events) == ["gathering_near_outpost"]


# Night


def by_night(kind: OutpostKind, *, start: datetime = NIGHT, unsure_s: float = 2.0) -> list[Event]:
    seconds = every(1.0, 70)
    person = follow(standing(20, 20), seconds, label="person", track=1, start=start)
    return found(person, seconds, post=outpost(kind), start=start, clock_uncertainty_s=unsure_s)


def test_a_person_close_to_a_closed_school_at_night_is_an_event() -> None:
    """By day, at a manned post, or by a clock that is half a day off, it is none."""
    (event,) = by_night(OutpostKind.SCHOOL)
    assert event.kind is EventKind.NIGHT_ACTIVITY
    assert event.measures["sun_elevation_deg"] < -18
    assert event.notes[0].startswith("night: the sun is")
    assert by_night(OutpostKind.SCHOOL, start=DAY) == []
    assert by_night(OutpostKind.POLICE_OUTPOST) == []
    assert by_night(OutpostKind.SCHOOL, unsure_s=12 * 3600.0) == []


def test_a_car_that_stands_at_the_school_all_night_is_no_activity() -> None:
    """One that drives up is; both are vehicles near the place."""
    seconds, school = every(0.5, 80), outpost(OutpostKind.SCHOOL)
    parked_car = follow(standing(20, 20), seconds, track=1, start=NIGHT)
    others = parked(seconds, start=NIGHT)
    assert kinds(found([*others, *parked_car], seconds, post=school, start=NIGHT)) == ["vehicle_near_outpost"]

    arriving = follow(lambda s: (20.0, 20 + 6 * max(0.0, 10 - s)), seconds, track=1, start=NIGHT)
    assert "night_activity" in kinds(found([*others, *arriving], seconds, post=school, start=NIGHT))


# What holds for all


SCENE_S = every(1.0, 60)
SCENE = [
    *parked(SCENE_S),
    *follow(drives_up, SCENE_S, track=1),
    *crowd_of(lambda s: 8 + int(s / 4), SCENE_S),
]


@few
@given(st.randoms(use_true_random=False))
def test_order_does_not_matter(random: object) -> None:
    """The same detections in any order give the same events."""
    shuffled = list(SCENE)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert found(shuffled, SCENE_S) == found(SCENE, SCENE_S)


@few
@given(st.integers(-10_000, 10_000))
def test_a_later_flight_gives_the_same_events_later(hours: int) -> None:
    """Only the sun may differ."""
    later = timedelta(hours=hours)
    moved = [replace(d, at=d.at + later, fix=replace(d.fix, at=d.fix.at + later)) for d in SCENE]
    as_they_are, as_moved = found(SCENE, SCENE_S), found(moved, SCENE_S, start=DAY + later)
    assert [
        (e.kind, e.started_at + later, e.ended_at + later, e.count_low, e.count, e.count_high)
        for e in as_they_are
    ] == [(e.kind, e.started_at, e.ended_at, e.count_low, e.count, e.count_high) for e in as_moved]


@few
@given(st.floats(700, 5000), st.floats(0, 2 * np.pi))
def test_nothing_outside_the_perimeter_is_an_event(away_m: float, turn: float) -> None:
    """The same scene beyond the watch radius and its doubt gives nothing."""
    east_m, north_m = away_m * np.sin(turn), away_m * np.cos(turn)
    lat, lon = FRAME.to_geo(-east_m, -north_m)
    there = replace(outpost(), geometry=shapely.Point(float(lon), float(lat)))
    assert found(SCENE, SCENE_S, post=there) == []


def test_time_weighs_and_not_the_number_of_looks() -> None:
    """Twenty looks in two seconds that show a crowd are two seconds; the minute around shows none."""
    seconds = sorted({*every(1.0, 60), *[30 + 0.1 * n for n in range(20)]})
    assert found(crowd_of(lambda s: 10 if 30 <= s < 32 else 0, seconds), seconds) == []
    dense = sorted({*every(1.0, 60), *[30 + 0.1 * n for n in range(100)]})
    people = crowd_of(lambda s: 16 if 30 <= s < 40 else 9, dense)
    assert only(found(people, dense), EventKind.GATHERING_NEAR_OUTPOST).count == 9


def test_a_look_that_is_blind_to_people_did_not_look_for_them() -> None:
    """A crowd shown by every fourth look lasts where the others could not see people at all."""
    seconds = every(1.0, 60)
    people = crowd_of(lambda s: 10 if s % 4 == 0 else 0, seconds)
    looks = [
        Coverage(
            "clip",
            DAY + timedelta(seconds=s),
            s,
            round(s * 30),
            VIEW,
            blind_to=("person",) if s % 4 else (),
        )
        for s in seconds
    ]

    def asked(looks: Sequence[Coverage]) -> list[str]:
        return kinds(
            find_events(
                people,
                looks=looks,
                outposts=[outpost()],
                thresholds=THRESHOLDS,
                recall=Recall(),
                make_id=lambda kind, _place, _at: str(kind),
            )
        )

    assert asked(looks) == ["gathering_near_outpost"]
    assert asked([replace(look, blind_to=()) for look in looks]) == []


def test_recall_is_that_of_the_looks_ground_sample_distance() -> None:
    """At 0.1 m a pixel the model finds four of five, however good it is over all."""
    seconds = every(1.0, 30)
    recall = Recall({"person": 1.0}, ((0.05, {"person": 1.0}), (0.2, {"person": 0.8})))
    (event,) = found(crowd_of(lambda _s: 12, seconds), seconds, recall=recall)
    assert (event.count, event.count_high) == (12, 15)


# What is expected, and what is a place's own

NOON = Hours(frozenset(range(7)), time(11, 0), time(13, 0))
KARACHI = ZoneInfo("Asia/Karachi")
PEOPLE_COME = frozenset({EventKind.GATHERING_NEAR_OUTPOST})


@pytest.mark.parametrize(
    ("usual", "hours", "unsure_s", "expected"),
    [
        (None, NOON, 2.0, 1),
        (20, NOON, 2.0, 2),
        (10, NOON, 2.0, 1),
        (5, NOON, 2.0, 0),
        (20, Hours(NOON.days, time(15), time(16)), 2.0, 0),
        (20, NOON, 2 * 3600.0, 0),
    ],
    ids=["no number", "as usual", "perhaps more", "surely more", "another hour", "a clock two hours off"],
)
def test_what_is_expected_lowers_and_never_hides(
    usual: int | None, hours: Hours, unsure_s: float, expected: int
) -> None:
    """Twelve people, of whom the view shows eight for a while, at noon in Karachi."""
    seconds = every(1.0, 30)
    people = crowd_of(lambda s: 8 if s < 6 else 12, seconds)
    prayer = Expected(KARACHI, (Activity("prayer", frozenset({"post"}), PEOPLE_COME, hours, usual),))
    (event,) = found(people, seconds, expected=prayer, clock_uncertainty_s=unsure_s)
    assert (event.count_low, event.count) == (8, 12)
    assert (event.lowered_by, event.suppressed_by) == (expected, None)
    assert any("prayer" in note for note in event.notes) == (expected > 0 or usual == 5)


def test_own_vehicles_are_suppressed_and_a_stranger_among_them_is_not() -> None:
    """Two events: the car park's own with the reason, and one other vehicle that raises an alert."""
    seconds = every(1.0, 30)
    lat, lon = FRAME.to_geo([30.0, 70.0], [30.0, 70.0])
    area = shapely.box(lon[0], lat[0], lon[1], lat[1])
    own = Expected(
        KARACHI,
        own=(OwnTraffic("motor pool", frozenset(), frozenset({EventKind.VEHICLE_NEAR_OUTPOST}), area=area),),
    )
    ours = [car for n in range(3) for car in follow(standing(40 + 10 * n, 50), seconds, track=n)]
    stranger = follow(standing(-60, 20), seconds, track=9)
    events = found([*ours, *stranger], seconds, expected=own)
    assert sorted((e.count, e.suppressed_by or "") for e in events) == [(1, ""), (3, "own: motor pool")]
    assert len({event.id for event in events}) == 2
    two = replace(own, own=(replace(own.own[0], at_most=2),))
    assert [event.suppressed_by for event in found(ours, seconds, expected=two)] == [None]


def test_the_baseline_suppresses_with_its_reason() -> None:
    """A wreck that a person confirmed raises nothing; another kind, place or number does."""
    seconds = every(1.0, 30)
    wreck = follow(standing(40, 50), seconds, track=1)
    lat, lon = FRAME.to_geo(41.0, 50.0)
    place = BaselinePlace(
        GeoPoint(float(lat), float(lon)), 10.0, EventKind.VEHICLE_NEAR_OUTPOST, "wreck, by Khan", at_most=1
    )
    reasons = [event.suppressed_by for event in found(wreck, seconds, baseline=[place])]
    assert reasons == ["baseline: wreck, by Khan"]
    beside = follow(standing(45, 50), seconds, track=2)
    assert [e.suppressed_by for e in found([*wreck, *beside], seconds, baseline=[place])] == [None]
    other = replace(place, kind=EventKind.GATHERING_NEAR_OUTPOST)
    assert [e.suppressed_by for e in found(wreck, seconds, baseline=[other])] == [None]


def test_vehicles_of_two_baseline_places_are_two_suppressed_events() -> None:
    """Each place has one: together they are not too many for either."""
    seconds = every(1.0, 30)
    places = []
    for north_m in (50.0, -40.0):
        lat, lon = FRAME.to_geo(40.0, north_m)
        point = GeoPoint(float(lat), float(lon))
        reason = f"at {north_m:.0f}"
        places.append(BaselinePlace(point, 10.0, EventKind.VEHICLE_NEAR_OUTPOST, reason, at_most=1))
    parked = [*follow(standing(40, 50), seconds, track=1), *follow(standing(40, -40), seconds, track=2)]
    events = found(parked, seconds, baseline=places)
    assert {e.suppressed_by for e in events} == {"baseline: at 50", "baseline: at -40"}
    assert [event.count for event in events] == [1, 1]


def test_thresholds_are_those_of_the_settings() -> None:
    """Every rule setting has its threshold of the same name."""
    assert set(RuleSettings.model_fields) == {field.name for field in fields(Thresholds)}
