"""What is expected at a place: hours, and faults that a person can mend in one go."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.expected import Expected, Hours, parse_expected
from outwatch.domain.types import EventKind

KARACHI = ZoneInfo("Asia/Karachi")
FRIDAY = datetime(2026, 3, 13, tzinfo=KARACHI)
FILE = """
[[activity]]
name = "Friday prayer"
outposts = ["post"]
kinds = ["gathering_near_outpost"]
days = ["fri"]
from = "12:30"
to = 14:30:00
usual = 60

[[own]]
name = "car park"
kinds = ["vehicle_near_outpost"]
at_most = 4
area = { type = "Polygon", coordinates = [[[71.0, 33.0], [71.1, 33.0], [71.1, 33.1], [71.0, 33.0]]] }
"""


def parsed(data: object) -> Expected:
    return parse_expected(data, source="e.toml", zone=KARACHI, outposts=["post"])


def test_a_file_is_read() -> None:
    """Each entry with all that it says; what is left out holds everywhere and always."""
    expected = parsed(tomllib.loads(FILE))
    (prayer,), (park,) = expected.activities, expected.own
    assert (prayer.name, prayer.outposts, prayer.usual) == ("Friday prayer", frozenset({"post"}), 60)
    assert prayer.kinds == {EventKind.GATHERING_NEAR_OUTPOST}
    assert prayer.hours == Hours(frozenset({4}), time(12, 30), time(14, 30))
    assert (park.outposts, park.hours, park.at_most) == (frozenset(), None, 4)
    assert park.area is not None
    assert park.area.bounds == (71.0, 33.0, 71.1, 33.1)


def test_json_says_the_same() -> None:
    """Times are text there."""
    data = json.loads(json.dumps(tomllib.loads(FILE), default=str).replace("14:30:00", "14:30"))
    assert parsed(data).activities == parsed(tomllib.loads(FILE)).activities


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": ""}, "activity 1, name: expected text"),
        ({"kinds": ["crowd"]}, r"activity 1 \(bazaar\), kinds: expected a list of .*found 'crowd'"),
        ({"kinds": []}, "kinds: expected a list"),
        ({"kinds": ["sensor_trip"]}, "found 'sensor_trip'"),
        ({"outposts": ["pots"]}, "outposts: expected a list of post, found 'pots'"),
        ({"outposts": []}, r"outposts: expected a list of post, found \[\]"),
        ({"days": ["freitag"]}, "days: expected a list of fri, mon"),
        ({"from": "25:00"}, "from: expected a local time .*found '25:00'"),
        ({"to": 9}, "to: expected a local time"),
        ({"usual": 2.5}, "usual: expected a whole number"),
        ({"usual": True}, "usual: expected a whole number"),
        ({"colour": "red"}, "colour: expected only"),
    ],
)
def test_a_fault_names_its_entry(entry: dict[str, object], message: str) -> None:
    """Table, number, name, key, what was expected and what was found."""
    good = {"name": "bazaar", "kinds": ["gathering_near_outpost"], "from": "08:00", "to": "12:00"}
    with pytest.raises(ConfigInvalid, match=message):
        parsed({"activity": [good | entry]})


def test_all_faults_are_told_at_once() -> None:
    """Two entries and an unknown table are three faults; an own entry needs hours or an area."""
    data = {"activity": [{"name": "a", "kinds": ["convoy"], "from": "1", "to": "02:00"}], "own": [7], "x": 1}
    with pytest.raises(ConfigInvalid, match=r"e.toml: 3 faults"):
        parsed(data)
    with pytest.raises(ConfigInvalid, match="an area, or hours"):
        parsed({"own": [{"name": "patrol", "kinds": ["convoy"]}]})


def test_an_area_that_is_none_is_told() -> None:
    """A polygon in the wrong order of coordinates is found by GeoJSON's own checks."""
    area = {"type": "Polygon", "coordinates": [[[33.0, 171.0], [33.1, 171.0], [33.0, 171.1], [33.0, 171.0]]]}
    with pytest.raises(ConfigInvalid, match=r"own 1 \(park\), .*swapped"):
        parsed({"own": [{"name": "park", "kinds": ["stopped_vehicle"], "area": area}]})


@pytest.mark.parametrize("data", [None, [], "text", {"activity": {}}, {"own": [None]}])
def test_what_is_no_file_of_ours_is_refused(data: object) -> None:
    """Never an error of Python's."""
    with pytest.raises(ConfigInvalid):
        parsed(data)


def test_hours_hold_what_lies_wholly_within() -> None:
    """From the first minute to the last, on its day alone."""
    prayer = Hours(frozenset({4}), time(12, 30), time(14, 30))
    noon, minute = FRIDAY + timedelta(hours=12, minutes=30), timedelta(minutes=1)
    assert prayer.cover(noon, noon + timedelta(hours=2))
    assert not prayer.cover(noon - minute, noon + minute)
    assert not prayer.cover(noon + timedelta(hours=1), noon + timedelta(hours=2) + minute)
    assert not prayer.cover(noon + timedelta(days=1), noon + timedelta(days=1))


def test_hours_over_midnight_belong_to_the_day_they_start_on() -> None:
    """A night watch of Friday ends on Saturday morning."""
    watch = Hours(frozenset({4}), time(22), time(5))
    at = FRIDAY + timedelta(hours=28)
    assert watch.cover(at, at)
    assert not watch.cover(at - timedelta(days=1), at - timedelta(days=1))


@given(
    st.integers(0, 1439),
    st.integers(0, 1439),
    st.integers(0, 10_000),
    st.integers(0, 300),
    st.integers(0, 60),
)
def test_a_longer_span_is_never_covered_by_more(
    start: int, end: int, at_min: int, long_min: int, more_min: int
) -> None:
    """Doubt in the clock only takes expectations away; a week later the same hour holds."""
    hours = Hours(frozenset({0, 4}), time(*divmod(start, 60)), time(*divmod(end, 60)))
    first = FRIDAY + timedelta(minutes=at_min)
    last, more = first + timedelta(minutes=long_min), timedelta(minutes=more_min)
    assert hours.cover(first, last) or not hours.cover(first - more, last + more)
    week = timedelta(days=7)
    assert hours.cover(first, last) == hours.cover(first + week, last + week)


def test_nothing_expected_is_the_default() -> None:
    """Without a file nothing is lowered and nothing suppressed."""
    assert (Expected().activities, Expected().own) == ((), ())
    assert parse_expected({}, source="e", zone=ZoneInfo("UTC")) == Expected()
    assert datetime(2026, 3, 14, tzinfo=UTC).astimezone(Expected().zone).utcoffset() == timedelta(0)
