"""The registry is read whole or refused by feature and field; items are accepted, or kept apart and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.ports import FeedItem
from outwatch.domain.readings import Accepted, duplicate, judge, silence
from outwatch.domain.sensors import Registry, parse_sensors
from outwatch.domain.types import GeoPoint, Observation, RefusedReading

NOW = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
TOLERANCE = timedelta(minutes=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def feature(**properties: object) -> dict[str, Any]:
    """Return a good sensor with some of its properties changed; ``geometry`` changes its place."""
    geometry = properties.pop("geometry", {"type": "Point", "coordinates": [71.445, 33.586, 512.0]})
    good = {
        "id": "pir-1",
        "name": "North gate",
        "kinds": ["motion"],
        "expected_interval_s": 600,
        "unit": "hits",
        "minimum": 0,
        "maximum": 10,
        "trip_from": 1,
        "aliases": ["a84041"],
    }
    return {"type": "Feature", "geometry": geometry, "properties": {**good, **properties}}


def parsed(*features: object) -> Registry:
    return parse_sensors({"type": "FeatureCollection", "features": list(features)}, source="s.geojson")


def item(**changes: Any) -> FeedItem:
    """Return an item that is accepted, with some of its observation's fields changed."""
    observation = Observation("pir-1", "motion", 2.0, NOW - timedelta(seconds=3))
    return FeedItem('{"value": 2}', NOW, replace(observation, **changes))


def judged(given_item: FeedItem, registry: Registry | None = None) -> Accepted | RefusedReading:
    return judge(given_item, feed="gate", registry=registry or parsed(feature()), tolerance=TOLERANCE)


def accepted(given_item: FeedItem) -> Accepted:
    found = judged(given_item)
    assert isinstance(found, Accepted)
    return found


def test_a_sensor_is_read_with_all_that_it_says() -> None:
    """Every property of a feature stands in the sensor; height is kept."""
    (sensor,) = parsed(feature(false_share=0.1)).sensors
    assert (sensor.id, sensor.name, sensor.kinds) == ("pir-1", "North gate", ("motion",))
    assert sensor.point == GeoPoint(33.586, 71.445, 512.0)
    assert (sensor.minimum, sensor.maximum, sensor.trip_from, sensor.false_share) == (0, 10, 1, 0.1)
    assert sensor.expected_interval == timedelta(minutes=10)


def test_what_may_be_left_out_may_be_left_out() -> None:
    """An id, a name, one kind and a place are enough; it then never trips and is never silent."""
    bare = {"id": "t", "name": "T", "kinds": "temperature"}
    (sensor,) = parsed({**feature(), "properties": bare}).sensors
    assert (sensor.kinds, sensor.trip_from, sensor.expected_interval) == (("temperature",), None, None)
    assert sensor.aliases == ()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"id": " "}, "id: expected text"),
        ({"name": 7}, "name: expected text"),
        ({"kinds": []}, "kinds: expected a word such as motion"),
        ({"kinds": ["Motion!"]}, "kinds: expected a word such as motion"),
        ({"kinds": "sensor_silent"}, "kinds: expected none that Outwatch itself writes"),
        ({"expected_interval_s": 0}, "expected_interval_s: expected seconds from 1 to 2592000"),
        ({"minimum": "low"}, "minimum: expected a number"),
        ({"minimum": 10}, r"minimum: expected a number below maximum \(10\)"),
        ({"maximum": True}, "maximum: expected a number"),
        ({"trip_from": float("nan")}, "trip_from: expected a number"),
        ({"kinds": ["motion", "battery"]}, "trip_from: expected one kind"),
        ({"false_share": 1}, "false_share: expected the share of its trips that are false"),
        ({"aliases": [1]}, "aliases: expected a list of the names"),
        ({"geometry": {"type": "LineString", "coordinates": []}}, "geometry: expected a Point"),
        (
            {"geometry": {"type": "Point", "coordinates": [33.5, 171.4]}},
            "latitude and longitude look swapped",
        ),
    ],
)
def test_a_fault_is_told_by_feature_and_field(change: dict[str, object], fault: str) -> None:
    """What is wrong is named with what was expected."""
    with pytest.raises(ConfigInvalid, match=rf"sensors file s.geojson: 1 fault\n  feature 0.*{fault}"):
        parsed(feature(**change))


@pytest.mark.parametrize(
    ("typo", "meant"), [("trip_frm", "trip_from"), ("expected_interval", "expected_interval_s")]
)
def test_a_misspelt_property_is_told(typo: str, meant: str) -> None:
    """Else the sensor would never trip, or never be silent; what a map's other columns say is let be."""
    written = feature(owner="forest office", kind="of", trip="north")
    properties = {name: value for name, value in written["properties"].items() if name != meant}
    fault = fault_of({**written, "properties": {**properties, typo: 1}})
    assert fault is not None
    assert f"{typo}: expected the property {meant}" in fault
    assert fault_of(written) is None


def test_one_id_or_one_name_and_kind_is_one_sensor() -> None:
    """A second sensor of the same id, or alias and kind, is refused; another kind may share the alias."""
    with pytest.raises(ConfigInvalid, match="id: expected an id that feature 0 lacks"):
        parsed(feature(), feature())
    with pytest.raises(ConfigInvalid, match="aliases: expected a name by which feature 0 does not report"):
        parsed(feature(), feature(id="pir-2"))
    registry = parsed(feature(), feature(id="temp-1", kinds="temperature"))
    assert ["pir-1", "temp-1"] == [sensor.id for sensor in registry.named("a84041")]


@given(st.sampled_from(["id", "kinds", "aliases", "minimum", "expected_interval_s"]), json_values)
def test_no_value_breaks_the_reading(key: str, value: object) -> None:
    """Whatever stands in a field, there is a registry or a named fault."""
    fault = fault_of(feature(**{key: value}))
    assert fault is None or f", {key}: expected" in fault or ", minimum: expected" in fault


def fault_of(given_feature: object) -> str | None:
    try:
        parsed(given_feature)
    except ConfigInvalid as error:
        return str(error)
    return None


def test_an_observation_is_accepted_by_id_or_alias() -> None:
    """The reading carries the registry's id, place and unit, and what the feed said besides."""
    reading = accepted(item(sensor="a84041", details={"battery": "3.1"})).reading
    assert (reading.sensor_id, reading.unit, reading.feed) == ("pir-1", "hits", "gate")
    assert reading.point == GeoPoint(33.586, 71.445, 512.0)
    assert reading.details == {"battery": "3.1"}


@pytest.mark.parametrize(
    ("changes", "reason", "why"),
    [
        ({"sensor": "nobody"}, "unknown_sensor", "no sensor is named 'nobody'"),
        ({"kind": "seismic"}, "unknown_kind", "pir-1 reports motion, found 'seismic'"),
        ({"kind": "sensor_silent"}, "unknown_kind", "found 'sensor_silent'"),
        ({"value": 11.0}, "out_of_range", "expected 0 to 10 hits, found 11"),
        ({"value": float("nan")}, "out_of_range", "nan is no number"),
        ({"at": datetime(1970, 1, 1, tzinfo=UTC)}, "out_of_range", "set the sensor's clock"),
        ({"at": NOW + TOLERANCE + timedelta(seconds=1)}, "in_future", "set the sensor's clock"),
    ],
)
def test_what_cannot_be_is_kept_apart(changes: dict[str, object], reason: str, why: str) -> None:
    """The refusal has the reason, words that name the sensor or the values, and the payload."""
    found = judged(item(**changes))
    assert isinstance(found, RefusedReading)
    assert (found.reason, found.payload) == (reason, '{"value": 2}')
    assert why in found.why


def test_an_unreadable_payload_is_kept_with_the_feeds_words_and_bounded() -> None:
    """Four thousand characters of a payload are enough to see what it was."""
    found = judged(FeedItem("x" * 10_000, NOW, problem="no JSON"))
    assert isinstance(found, RefusedReading)
    assert ("unreadable", "no JSON", 4096) == (found.reason, found.why, len(found.payload))


def test_a_clock_a_little_ahead_is_accepted() -> None:
    """Up to the tolerance a reading from the future stands."""
    assert accepted(item(at=NOW + TOLERANCE)).reading.at == NOW + TOLERANCE


@pytest.mark.parametrize("source_id", [None, "message-7"])
def test_the_same_reading_has_the_same_id_whenever_it_comes(source_id: str | None) -> None:
    """The id follows from sensor, kind, time, value and the feed's id; not from receipt or the name used."""
    first = item(source_id=source_id)
    again = replace(item(source_id=source_id, sensor="a84041"), received_at=NOW + timedelta(hours=1))
    assert accepted(first).reading.id == accepted(again).reading.id
    others = [item(value=3.0), item(at=NOW), item(source_id="message-8")]
    assert 4 == len({accepted(found).reading.id for found in [first, *others]})


def test_a_reading_without_a_time_is_told_apart_by_the_feeds_id_or_its_receipt() -> None:
    """With an id it is the same when it comes again; without, a second trip that reads alike is another."""
    later = NOW + timedelta(seconds=9)
    known, known_again = (
        item(at=None, source_id="7"),
        replace(item(at=None, source_id="7"), received_at=later),
    )
    assert accepted(known).reading.id == accepted(known_again).reading.id
    bare, bare_again = item(at=None), replace(item(at=None), received_at=later)
    assert accepted(bare).reading.id != accepted(bare_again).reading.id
    assert accepted(bare_again).reading.at == later


def test_a_refusal_is_the_same_whenever_it_comes() -> None:
    """What is refused again has the id that it had, so that a window keeps it once."""
    again = replace(item(value=99.0), received_at=NOW + timedelta(minutes=1))
    first, second = judged(item(value=99.0)), judged(again)
    assert isinstance(first, RefusedReading)
    assert isinstance(second, RefusedReading)
    assert first.id == second.id


def test_a_duplicate_names_the_reading_that_stands() -> None:
    """It keeps payload, sensor and time, and says what it repeats."""
    stands = accepted(item())
    apart = duplicate(stands)
    assert ("duplicate", "pir-1", stands.reading.at) == (apart.reason, apart.sensor_id, apart.at)
    assert stands.reading.id in apart.why


def test_a_silence_is_one_reading_dated_when_the_word_was_due() -> None:
    """It follows from when the sensor was last heard alone, whenever it is noted."""
    (sensor,) = parsed(feature()).sensors
    first = silence(sensor, last_heard=NOW, since=NOW, noted_at=NOW + timedelta(hours=1))
    later = silence(sensor, last_heard=NOW, since=NOW, noted_at=NOW + timedelta(hours=2))
    assert first is not None
    assert later is not None
    assert (first.id, first.at, first.value) == (later.id, NOW + timedelta(minutes=10), 600.0)
    any_time = replace(sensor, expected_interval=None)
    assert silence(any_time, last_heard=NOW, since=NOW, noted_at=NOW) is None
