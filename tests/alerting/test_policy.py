"""The priority table, the key of a happening, and the alert made of an event."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerting.messages import Age
from alerting.policy import dedup_key, make_alert, priority_of
from outwatch.domain.types import AlertState, Event, EventKind, Outpost, OutpostKind, Priority

HOUR = timedelta(hours=1)
FRESH, OLD, FUTURE = timedelta(minutes=10), timedelta(hours=3), -timedelta(hours=3)
GATHERING, VEHICLE = EventKind.GATHERING_NEAR_OUTPOST, EventKind.VEHICLE_NEAR_OUTPOST
POST, SCHOOL = OutpostKind.POLICE_OUTPOST, OutpostKind.SCHOOL
CHECKPOINT, OFFICE = OutpostKind.CHECKPOINT, OutpostKind.GOVERNMENT_BUILDING


def aged(since: timedelta, uncertainty: timedelta = timedelta(seconds=2)) -> Age:
    """Return an age by telemetry's clock, or a worse one, where an hour is still live."""
    return Age(since=since, uncertainty=uncertainty, live_within=HOUR)


@pytest.mark.parametrize(
    ("kind", "place", "since", "p_inside", "confidence", "expected"),
    [
        (GATHERING, POST, FRESH, 0.93, 0.71, "P1"),
        (GATHERING, CHECKPOINT, FRESH, 0.8, 0.6, "P1"),
        (GATHERING, CHECKPOINT, FRESH, 0.79, 0.6, "P2"),
        (GATHERING, POST, FRESH, 0.8, 0.59, "P2"),
        (GATHERING, SCHOOL, FRESH, 0.93, 0.71, "P2"),
        (GATHERING, OFFICE, FRESH, 0.93, 0.71, "P2"),
        (GATHERING, POST, OLD, 0.93, 0.71, "P3"),
        (GATHERING, POST, FUTURE, 0.93, 0.71, "P3"),
        (GATHERING, POST, FRESH, 0.49, 0.71, "P3"),
        (GATHERING, SCHOOL, OLD, 0.49, 0.71, "P4"),
        (VEHICLE, POST, FRESH, 0.93, 0.71, "P3"),
        (VEHICLE, SCHOOL, OLD, 0.93, 0.71, "P4"),
        (VEHICLE, POST, OLD, 0.3, 0.3, "P4"),
    ],
)
def test_the_table(
    *,
    gathering: Event,
    outpost: Outpost,
    kind: EventKind,
    place: OutpostKind,
    since: timedelta,
    p_inside: float,
    confidence: float,
    expected: str,
) -> None:
    """Kind and place give the level; old footage, wrong clocks and doubtful places lower it."""
    event = replace(gathering, kind=kind, p_inside=p_inside, confidence=confidence)
    priority = priority_of(event, outpost=replace(outpost, kind=place), age=aged(since))
    assert priority == Priority(expected)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    age_s=st.integers(0, 10**6),
    later_s=st.integers(0, 10**6),
    doubt_s=st.integers(0, 10**5),
    more_doubt_s=st.integers(0, 10**5),
    p_inside=st.floats(0, 1),
    kind=st.sampled_from(EventKind),
    place=st.sampled_from(OutpostKind),
)
def test_neither_age_nor_doubt_makes_an_event_more_urgent(
    *,
    gathering: Event,
    outpost: Outpost,
    age_s: int,
    later_s: int,
    doubt_s: int,
    more_doubt_s: int,
    p_inside: float,
    kind: EventKind,
    place: OutpostKind,
) -> None:
    """The same event, alerted later or by a worse clock, has the same priority or a lower one."""
    event = replace(gathering, kind=kind, p_inside=p_inside)
    post = replace(outpost, kind=place)
    first, *rest = (
        priority_of(event, outpost=post, age=aged(timedelta(seconds=since), timedelta(seconds=unsure)))
        for since, unsure in [
            (age_s, doubt_s),
            (age_s + later_s, doubt_s),
            (age_s, doubt_s + more_doubt_s),
        ]
    )
    assert all(first <= later for later in rest)


@pytest.mark.parametrize(
    ("uncertainty", "expected"),
    [
        (timedelta(seconds=2), "P1"),
        (timedelta(minutes=50), "P1"),
        (timedelta(minutes=50, seconds=1), "P3"),
        (timedelta(hours=14), "P3"),
        (timedelta(hours=24), "P3"),
    ],
)
def test_an_uncertain_clock_is_not_live(
    gathering: Event, outpost: Outpost, uncertainty: timedelta, expected: str
) -> None:
    """Ten minutes old by a clock that may be a day off is not urgent as what is surely now."""
    assert priority_of(gathering, outpost=outpost, age=aged(FRESH, uncertainty)) == Priority(expected)


def test_one_happening_has_one_key(gathering: Event) -> None:
    """Place and kind make the key; clip, time and count do not."""
    again = replace(gathering, id="event-2", clip_id="clip-2", count=40)
    assert dedup_key(gathering) == dedup_key(again)
    assert dedup_key(gathering) != dedup_key(replace(gathering, outpost_id="other"))
    assert dedup_key(gathering) != dedup_key(replace(gathering, kind=VEHICLE))


def test_an_alert_carries_the_event_for_people_and_programs(gathering: Event, outpost: Outpost) -> None:
    """Ids, times, count interval, place and evidence are in it, and it survives JSON."""
    alert = make_alert(
        gathering,
        outpost=outpost,
        raised_at=gathering.ended_at + FRESH,
        alert_id="alert-1",
        live_within=HOUR,
        clock_uncertainty_s=2.0,
        zone=ZoneInfo("Asia/Karachi"),
    )
    assert (alert.id, alert.state, alert.priority) == ("alert-1", AlertState.NEW, Priority.P1)
    assert alert.control_room == "kohat-sample"
    assert alert.event_ids == ("event-1",)
    assert (alert.captured_from, alert.captured_to) == (gathering.started_at, gathering.ended_at)
    payload = json.loads(json.dumps(dict(alert.payload)))
    assert payload == dict(alert.payload)
    assert payload["count"] == {"low": 10, "best": 13, "high": 16}
    assert payload["evidence_keys"] == list(gathering.evidence_keys)
    assert payload["review"] == "unreviewed"
    assert payload["clock_uncertainty_s"] == 2.0
    assert "Sample Post" in alert.message_en
    assert "نمونہ چوکی" in alert.message_ur


def test_an_event_of_another_outpost_is_a_fault(gathering: Event, outpost: Outpost) -> None:
    """A mix-up must not name the wrong place to a control room."""
    with pytest.raises(ValueError, match="sample-post"):
        make_alert(
            gathering,
            outpost=replace(outpost, id="other"),
            raised_at=gathering.ended_at,
            alert_id="alert-1",
            live_within=HOUR,
            clock_uncertainty_s=2.0,
            zone=ZoneInfo("UTC"),
        )


def test_an_alert_of_uncertain_time_is_lower_and_says_so(gathering: Event, outpost: Outpost) -> None:
    """Priority, subject, both texts and the payload all know of the clip's clock."""
    alert = make_alert(
        gathering,
        outpost=outpost,
        raised_at=gathering.ended_at + FRESH,
        alert_id="alert-1",
        live_within=HOUR,
        clock_uncertainty_s=14 * 3600.0,
        zone=ZoneInfo("Asia/Karachi"),
    )
    assert alert.priority is Priority.P3
    assert alert.payload["clock_uncertainty_s"] == 14 * 3600.0
    assert alert.payload["subject"].endswith("near Sample Post, capture time uncertain")
    assert "uncertain by up to 14 hours" in alert.message_en.splitlines()[1]
    assert "فائل سے لیا گیا ہے" in alert.message_ur.splitlines()[1]


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_senseless_uncertainty_is_a_fault(gathering: Event, outpost: Outpost, seconds: float) -> None:
    """A negative one would make old footage look live."""
    with pytest.raises(ValueError, match=r"negative|NaN"):
        make_alert(
            gathering,
            outpost=outpost,
            raised_at=gathering.ended_at,
            alert_id="alert-1",
            live_within=HOUR,
            clock_uncertainty_s=seconds,
            zone=ZoneInfo("UTC"),
        )
