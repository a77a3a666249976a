"""Words and priorities of every kind of event, and of what is expected or suppressed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from alerting.messages import Age, text_en, text_subject, text_ur
from alerting.policy import make_alert, priority_of, raises
from outwatch.domain.types import Event, EventKind, Outpost, OutpostKind, Priority

POST, CHECKPOINT, SCHOOL = OutpostKind.POLICE_OUTPOST, OutpostKind.CHECKPOINT, OutpostKind.SCHOOL
LIVE = Age(since=timedelta(minutes=5), uncertainty=timedelta(seconds=2), live_within=timedelta(hours=1))
OLD = replace(LIVE, since=timedelta(hours=3))
KARACHI = ZoneInfo("Asia/Karachi")
OF_CLIPS = [kind for kind in EventKind if kind is not EventKind.SENSOR_TRIP]


@pytest.mark.parametrize(
    ("kind", "place", "count", "measures", "expected"),
    [
        (EventKind.GATHERING_GROWING, POST, 20, {}, "P1"),
        (EventKind.GATHERING_GROWING, SCHOOL, 20, {}, "P2"),
        (EventKind.GATHERING_DISPERSING, POST, 20, {}, "P4"),
        (EventKind.APPROACH, POST, 1, {}, "P3"),
        (EventKind.APPROACH, POST, 2, {}, "P2"),
        (EventKind.APPROACH, SCHOOL, 9, {}, "P3"),
        (EventKind.CONVOY, CHECKPOINT, 4, {"closing_m_s": 5.0}, "P2"),
        (EventKind.CONVOY, CHECKPOINT, 4, {"closing_m_s": -5.0}, "P3"),
        (EventKind.CONVOY, SCHOOL, 4, {"closing_m_s": 5.0}, "P3"),
        (EventKind.STOPPED_VEHICLE, POST, 1, {}, "P3"),
        (EventKind.LOITERING, POST, 1, {}, "P3"),
        (EventKind.LOITERING, SCHOOL, 2, {}, "P4"),
        (EventKind.NIGHT_ACTIVITY, SCHOOL, 1, {}, "P3"),
    ],
)
def test_the_table_of_kinds(
    *,
    gathering: Event,
    outpost: Outpost,
    kind: EventKind,
    place: OutpostKind,
    count: int,
    measures: Mapping[str, float],
    expected: str,
) -> None:
    """Fresh and sure, each kind at each place."""
    event = replace(gathering, kind=kind, count=count, measures=measures)
    assert priority_of(event, outpost=replace(outpost, kind=place), age=LIVE) == Priority(expected)


@pytest.mark.parametrize("kind", EventKind)
def test_what_is_expected_is_one_level_lower_each(
    gathering: Event, outpost: Outpost, kind: EventKind
) -> None:
    """Down to P4 and no further; age comes on top."""
    levels = list(Priority)
    event = replace(gathering, kind=kind)
    first = levels.index(priority_of(event, outpost=outpost, age=LIVE))
    for by in (0, 1, 2):
        lowered = priority_of(replace(event, lowered_by=by), outpost=outpost, age=LIVE)
        assert levels[min(first + by, 3)] == lowered
        assert priority_of(replace(event, lowered_by=by), outpost=outpost, age=OLD) >= lowered


def test_what_is_suppressed_raises_no_alert(gathering: Event) -> None:
    """It stays on record with its reason."""
    assert raises(gathering)
    assert not raises(replace(gathering, suppressed_by="own: motor pool"))


@pytest.mark.parametrize(
    ("kind", "count", "english", "urdu"),
    [
        (EventKind.STOPPED_VEHICLE, 1, "1 vehicle drove up and stopped", "1 گاڑی آ کر رکتی دیکھی گئی"),
        (EventKind.APPROACH, 2, "2 vehicles approaching", "2 گاڑیاں اس طرف آتی دیکھی گئیں"),
        (EventKind.CONVOY, 4, "Convoy of 4 vehicles", "قافلے میں 4 گاڑیاں دیکھی گئیں"),
        (EventKind.GATHERING_GROWING, 9, "Growing gathering of 9 people", "9 افراد کا بڑھتا ہوا اجتماع"),
        (
            EventKind.GATHERING_DISPERSING,
            9,
            "Dispersing gathering of 9 people",
            "9 افراد کا منتشر ہوتا اجتماع",
        ),
        (EventKind.LOITERING, 1, "1 person loitering", "1 شخص دیر تک ٹھہرا دیکھا گیا"),
        (EventKind.NIGHT_ACTIVITY, 3, "Activity at night, 3 people or vehicles,", "رات کو 3 افراد یا گاڑیاں"),
    ],
)
def test_the_words_of_kinds(
    gathering: Event, outpost: Outpost, kind: EventKind, count: int, english: str, urdu: str
) -> None:
    """The subject says it in English, the first line in Urdu; each has its innocent explanations."""
    event = replace(gathering, kind=kind, count_low=count, count=count, count_high=count, in_view=count)
    subject = text_subject(event, outpost=outpost, priority=Priority.P3, age=LIVE)
    assert subject == f"[P3] {english} near Sample Post"
    assert urdu in plain(text_ur(event, outpost=outpost, age=LIVE, zone=KARACHI)).splitlines()[0]


def test_a_crowd_that_approaches_is_people(gathering: Event, outpost: Outpost) -> None:
    """The noun follows what comes."""
    event = replace(gathering, kind=EventKind.APPROACH, measures={"people": 13.0})
    english = text_en(event, outpost=outpost, age=LIVE, zone=KARACHI)
    assert english.startswith("About 13 people (10 to 16) approaching near Sample Post")
    assert "13 افراد (10 سے 16) اس طرف آتے دیکھے گئے" in plain(
        text_ur(event, outpost=outpost, age=LIVE, zone=KARACHI)
    )


@pytest.mark.parametrize("kind", OF_CLIPS)
def test_every_kind_has_both_languages_line_for_line(
    gathering: Event, outpost: Outpost, kind: EventKind
) -> None:
    """Notes and lowering are told in both, in the same order."""
    event = replace(gathering, kind=kind, notes=("expected now: prayer",), lowered_by=1)
    english = text_en(event, outpost=outpost, age=OLD, zone=KARACHI).splitlines()
    urdu = plain(text_ur(event, outpost=outpost, age=OLD, zone=KARACHI)).splitlines()
    assert len(english) == len(urdu)
    assert english[5:7] == [
        "Note: expected now: prayer.",
        "Priority: one level lower, as this is expected here at this hour.",
    ]
    assert urdu[5:7] == [
        "نوٹ: expected now: prayer۔",
        "ترجیح: 1 درجہ کم، کیونکہ اس وقت یہاں یہ معمول ہے۔",
    ]


def test_programs_are_told_too(gathering: Event, outpost: Outpost) -> None:
    """The payload carries measures, notes and lowering."""
    event = replace(gathering, measures={"closed_m": 40.0}, notes=("night",), lowered_by=2)
    alert = make_alert(
        event,
        outpost=outpost,
        raised_at=event.ended_at,
        alert_id="a",
        live_within=timedelta(hours=1),
        clock_uncertainty_s=2.0,
        zone=KARACHI,
    )
    assert alert.priority is Priority.P3
    told = {name: alert.payload[name] for name in ("measures", "notes", "lowered_by")}
    assert told == {"measures": {"closed_m": 40.0}, "notes": ["night"], "lowered_by": 2}


def plain(text: str) -> str:
    """Return text without direction marks."""
    return re.sub("[\u200f\u2066\u2067\u2068\u2069]", "", text)
