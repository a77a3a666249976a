"""What an alert says of tripped sensors, in both languages, and how soon a control room must look."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from alerting.messages import Age, text_en, text_subject, text_ur, write_message
from alerting.policy import make_alert, priority_of
from outwatch.domain.types import Event, EventKind, GeoPoint, GroundFix, Outpost, Priority

TRIPPED_AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
KARACHI = ZoneInfo("Asia/Karachi")
LIVE = Age(since=timedelta(seconds=4), uncertainty=timedelta(0), live_within=timedelta(hours=1))
OLD = replace(LIVE, since=timedelta(hours=3))


@pytest.fixture
def trip() -> Event:
    """Return two sensors that agree."""
    return Event(
        id="event-1",
        kind=EventKind.SENSOR_TRIP,
        clip_id=None,
        outpost_id="sample-post",
        started_at=TRIPPED_AT,
        ended_at=TRIPPED_AT + timedelta(seconds=20),
        peak_at=TRIPPED_AT,
        peak_frame_index=None,
        fix=GroundFix(TRIPPED_AT, GeoPoint(33.58662, 71.44410), None, None, "sensor"),
        distance_m=66.0,
        bearing_deg=52.0,
        p_inside=1.0,
        count_low=2,
        count=2,
        count_high=2,
        in_view=2,
        confidence=0.75,
        model_id=None,
        rule_version="sensors-1",
        window="20260314T1640Z",
        sensor_ids=("north-pir-1", "north-seis-2"),
    )


def alone(trip: Event) -> Event:
    return replace(
        trip, count_low=1, count=1, count_high=1, in_view=1, confidence=0.5, sensor_ids=("north-pir-1",)
    )


def plain(text: str) -> str:
    """Return text without direction marks."""
    return re.sub("[\u200f\u2066-\u2069]", "", text)


def test_the_english_words_name_the_sensors(trip: Event, outpost: Outpost) -> None:
    """Count, place, sensors, time, how sure, and what to do."""
    expected = """\
2 sensors tripped near Sample Post (police outpost): north-pir-1, north-seis-2.
Where: about 65 m north-east of Sample Post; on the map 33.58662, 71.44410.
When: 14 March 2026, 21:40:00 to 21:40:20 (local time, Asia/Karachi); less than a minute before this alert.
How sure: 75% that at least one of them is no false alarm; all of the sensors stand within 400 m of the \
police outpost.
No person has checked this yet. It may be innocent: an animal, the wind or a resident.
What to do: call the place or have someone look, then answer: confirmed or false."""
    assert expected == text_en(trip, outpost=outpost, age=LIVE, zone=KARACHI)


def test_the_urdu_words_say_the_same_line_for_line(trip: Event, outpost: Outpost) -> None:
    """Numbers and sensors' names are isolated; the words are those of sensors, not of footage."""
    urdu = text_ur(trip, outpost=outpost, age=OLD, zone=KARACHI)
    english = text_en(trip, outpost=outpost, age=OLD, zone=KARACHI)
    assert len(english.splitlines()) == len(urdu.splitlines())
    assert "\u2066north-pir-1, north-seis-2\u2069" in urdu
    lines = plain(urdu).splitlines()
    assert "پرانی ریڈنگ: 3 گھنٹے پہلے کی پیمائش۔ یہ براہِ راست نہیں ہے۔" == lines[0]
    assert "نمونہ چوکی (پولیس چوکی) کے قریب 2 سینسر فعال ہوئے: north-pir-1, north-seis-2۔" == lines[1]
    assert "فوٹیج" not in urdu
    assert "تصویر" not in urdu


def test_one_sensor_is_told_in_the_singular(trip: Event, outpost: Outpost) -> None:
    """Neither "sensors" nor "them"."""
    text = text_en(alone(trip), outpost=outpost, age=LIVE, zone=KARACHI)
    assert text.startswith("1 sensor tripped near Sample Post (police outpost): north-pir-1.")
    assert "50% that this is no false alarm; the sensor stands within 400 m" in text
    assert "1 سینسر فعال ہوا" in plain(text_ur(alone(trip), outpost=outpost, age=LIVE, zone=KARACHI))


def test_sensors_beyond_those_that_agree_are_told_apart_and_long_lists_cut(
    trip: Event, outpost: Outpost
) -> None:
    """Eight sensors in the course of it, two together: six names and how many more."""
    many = replace(trip, in_view=8, count_high=8, sensor_ids=tuple(f"s-{number}" for number in range(8)))
    first = text_en(many, outpost=outpost, age=LIVE, zone=KARACHI).splitlines()[0]
    assert first.startswith("2 sensors tripped near Sample Post (police outpost), 8 in the course of it: s-0")
    assert first.endswith("s-5 and 2 more.")
    assert "s-5 اور مزید 2۔" in plain(text_ur(many, outpost=outpost, age=LIVE, zone=KARACHI))


@pytest.mark.parametrize(
    ("age", "end"),
    [
        (LIVE, ""),
        (OLD, ", measured 3 hours ago"),
        (replace(LIVE, since=-timedelta(hours=1)), ", measured time unknown"),
    ],
)
def test_the_subject_says_how_old_it_is(trip: Event, outpost: Outpost, age: Age, end: str) -> None:
    """Old readings never look live."""
    subject = text_subject(trip, outpost=outpost, priority=Priority.P2, age=age)
    assert f"[P2] 2 sensors tripped near Sample Post{end}" == subject


def test_sensors_that_agree_come_before_one_alone(trip: Event, outpost: Outpost) -> None:
    """P2 against P3, each one lower where the readings are old."""
    found = [
        priority_of(event, outpost=outpost, age=age) for event in (trip, alone(trip)) for age in (LIVE, OLD)
    ]
    assert [Priority.P2, Priority.P3, Priority.P3, Priority.P4] == found


def test_a_delayed_message_speaks_of_readings(trip: Event, outpost: Outpost) -> None:
    """Sent late, it says how old the readings are by then, and programs get the sensors' ids."""
    alert = make_alert(
        trip,
        outpost=outpost,
        raised_at=TRIPPED_AT + timedelta(minutes=1),
        alert_id="alert-1",
        live_within=timedelta(hours=1),
        clock_uncertainty_s=300,
        zone=KARACHI,
    )
    message = write_message(alert, now=TRIPPED_AT + timedelta(minutes=31))
    first = message.text_en.splitlines()[0]
    assert "DELAYED: this alert was raised 30 minutes ago, the readings taken 30 minutes ago." == first
    assert ["north-pir-1", "north-seis-2"] == message.payload["sensor_ids"]
