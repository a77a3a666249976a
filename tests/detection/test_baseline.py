"""What stands there on every flight: who shows it, who saw the place without it, and who did not look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import shapely

from detection.baseline import BaselineRules, GroundSeen, StandingThing, find_standing, ground_seen
from detection.incident_gate import JoinRules
from outwatch.domain.errors import DecisionRefused, ObjectMissing
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.incidents import Account
from outwatch.domain.types import Coverage, EventKind, GeoPoint
from storage import keys
from storage.baseline import BaselineBook, Place
from storage.database import connect, migrate
from storage.tables import PlaceState

FIRST = datetime(2026, 3, 14, 9, 0, tzinfo=UTC)
PLACE = LocalFrame(33.4431, 71.3127)
GATE = JoinRules(
    max_gap=timedelta(minutes=15),
    longest=timedelta(hours=6),
    clock_doubt_at_most=timedelta(minutes=10),
    furthest_m=250.0,
    people_extent_m=15.0,
    vehicle_extent_m=10.0,
    moving_extent_m=60.0,
    sensor_reach_m=50.0,
)
RULES = BaselineRules(min_flights=3, min_days=2)


def square(*, side_m: float = 100.0, east_m: float = 0.0) -> shapely.Polygon:
    """Return a square of ground around a place, WGS 84."""
    east = [east_m - side_m / 2, east_m + side_m / 2, east_m + side_m / 2, east_m - side_m / 2]
    north = [-side_m / 2, -side_m / 2, side_m / 2, side_m / 2]
    lat_deg, lon_deg = PLACE.to_geo(east, north)
    return shapely.Polygon(zip(lon_deg.tolist(), lat_deg.tolist(), strict=True))


def flight(number: int, *, hours: float, ground: shapely.Polygon | None = None) -> GroundSeen:
    """Return what a flight of one clip saw."""
    start = FIRST + timedelta(hours=hours)
    return GroundSeen(f"clip-{number}", f"flight-{number}", start, ground or square())


def car(number: int, *, hours: float, east_m: float = 0.0) -> Account:
    """Return the event by which a flight shows a car."""
    lat_deg, lon_deg = PLACE.to_geo(east_m, 0.0)
    start = FIRST + timedelta(hours=hours)
    return Account(
        event_id=f"event-{number}",
        subject=f"clip-{number}",
        kind=EventKind.VEHICLE_NEAR_OUTPOST,
        outpost_id="post",
        started_at=start,
        ended_at=start + timedelta(minutes=1),
        clock_doubt_s=1.0,
        point=GeoPoint(float(lat_deg), float(lon_deg)),
        covariance_m2=(16.0, 0.0, 16.0),
    )


def find(accounts: list[Account], seen: list[GroundSeen]) -> list[StandingThing]:
    """Return what stood there, by the default rules."""
    return find_standing(accounts, seen, gate=GATE, rules=RULES)


HOURS = (0.0, 2.0, 26.0)


def test_car_on_three_flights_of_two_days_is_a_candidate() -> None:
    """Its place is between where the flights saw it, and holds all of them; order does not matter."""
    cars = [car(number, hours=hours, east_m=4.0 * number) for number, hours in enumerate(HOURS)]
    flights = [flight(number, hours=hours) for number, hours in enumerate(HOURS)]
    (thing,) = find(cars, flights)
    assert thing.is_candidate
    assert thing.flights == ("flight-0", "flight-1", "flight-2")
    assert thing.first_event_id == "event-0"
    assert thing.radius_m == 10.0
    east_m, _ = PLACE.to_local(thing.point.lat_deg, thing.point.lon_deg)
    assert float(east_m) == pytest.approx(4.0, abs=0.01)
    assert find(cars[::-1], flights[::-1]) == [thing]


@pytest.mark.parametrize("hours", [(0.0, 26.0), (0.0, 2.0, 4.0)], ids=["two_flights", "one_day"])
def test_too_few_flights_or_days_are_no_candidate(hours: tuple[float, ...]) -> None:
    """A visitor of one evening, or a coincidence."""
    cars = [car(number, hours=hour) for number, hour in enumerate(hours)]
    (thing,) = find(cars, [flight(number, hours=hour) for number, hour in enumerate(hours)])
    assert not thing.is_candidate


@pytest.mark.parametrize(
    ("ground", "speaks"),
    [(square(), True), (square(east_m=300), False), (square(side_m=12), False)],
    ids=["saw_the_place", "looked_elsewhere", "saw_half_of_it"],
)
def test_flight_without_the_car_speaks_only_where_it_saw_the_place(
    ground: shapely.Polygon, speaks: bool
) -> None:
    """What was not looked at cannot be missing."""
    cars = [car(number, hours=hours) for number, hours in enumerate(HOURS)]
    flights = [flight(number, hours=hours) for number, hours in enumerate(HOURS)]
    (thing,) = find(cars, [*flights, flight(9, hours=12, ground=ground)])
    assert thing.is_candidate is not speaks
    assert thing.absent_flight == ("flight-9" if speaks else None)


def test_flight_before_the_car_came_says_nothing() -> None:
    """It stands there since it was first seen."""
    cars = [car(number, hours=hours) for number, hours in enumerate(HOURS)]
    flights = [flight(number, hours=hours) for number, hours in enumerate(HOURS)]
    (thing,) = find(cars, [flight(9, hours=-5), *flights])
    assert thing.is_candidate


def look(offset_s: float, ground: shapely.Polygon | None, *, blind_to: tuple[str, ...] = ()) -> Coverage:
    """Return one look."""
    at = FIRST + timedelta(seconds=offset_s)
    return Coverage("clip", at, offset_s, round(offset_s), ground, None, None, blind_to)


def test_ground_counts_as_seen_where_a_car_would_have_been_claimed() -> None:
    """In view for two seconds, in looks that are not blind to vehicles."""
    wide, passing = square(side_m=200), square(east_m=60)
    looks = [look(0, wide), look(1, passing), look(2, square()), look(3, None)]
    seen = ground_seen(looks, min_duration=timedelta(seconds=2))
    assert seen is not None
    assert seen.symmetric_difference(square()).area == pytest.approx(0.0, abs=1e-12)
    blind = [look(0, wide, blind_to=("car",)), look(2, wide, blind_to=("car",))]
    assert ground_seen(blind, min_duration=timedelta(seconds=2)) is None
    assert ground_seen([look(0, wide)], min_duration=timedelta(seconds=2)) is None


@pytest.fixture
def book(tmp_path: Path) -> Iterator[BaselineBook]:
    """Return an empty book."""
    engine = connect(f"sqlite:///{tmp_path / 'outwatch.db'}")
    migrate(engine)
    yield BaselineBook(engine, now=lambda: FIRST)
    engine.dispose()


def place(state: PlaceState = PlaceState.CANDIDATE) -> Place:
    """Return a place as a run finds it."""
    return Place(
        id=keys.place_id("event-0"),
        outpost_id="post",
        point=GeoPoint(33.4, 71.3),
        radius_m=10.0,
        count=1,
        state=state,
        flights=("flight-0", "flight-1"),
        first_at=FIRST,
        last_at=FIRST + timedelta(days=1),
        absent_flight=None,
    )


def test_what_a_person_said_outlives_the_next_flight(book: BaselineBook) -> None:
    """A flight without the car withdraws a candidate; a confirmed place stays, and says which flight."""
    book.put([place()])
    book.put([place(PlaceState.WITHDRAWN)])
    assert [item.state for item in book.places()] == [PlaceState.WITHDRAWN]
    book.put([place()])
    book.decide(place().id, PlaceState.CONFIRMED, who="afridi", why="the post's own pick-up")
    book.put([place(PlaceState.WITHDRAWN)])
    assert [item.state for item in book.places()] == [PlaceState.CONFIRMED]
    book.decide(place().id, PlaceState.REMOVED, who="khan", why="sold")
    assert [(item.state, item.who, item.why) for item in book.decisions()] == [
        (PlaceState.CONFIRMED, "afridi", "the post's own pick-up"),
        (PlaceState.REMOVED, "khan", "sold"),
    ]


def test_confirmed_place_stays_as_it_was_confirmed(book: BaselineBook) -> None:
    """A second vehicle that parks there on later flights was confirmed by nobody."""
    book.put([place()])
    book.decide(place().id, PlaceState.CONFIRMED, who="afridi", why="the post's own pick-up")
    later = replace(place(), count=2, radius_m=25.0, flights=("flight-0", "flight-1", "flight-2"))
    book.put([later])
    expected = replace(place(PlaceState.CONFIRMED), flights=later.flights)
    assert book.places() == [expected]


def test_decision_that_makes_no_sense_is_refused(book: BaselineBook) -> None:
    """The message says what the place is; an unknown place is named."""
    book.put([place()])
    with pytest.raises(DecisionRefused, match="is candidate; only what is confirmed can be removed"):
        book.decide(place().id, PlaceState.REMOVED, who="khan", why="sold")
    with pytest.raises(ObjectMissing, match="place nowhere"):
        book.decide("nowhere", PlaceState.CONFIRMED, who="khan", why="ours")
