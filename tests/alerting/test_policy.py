"""The priority table, the key of a happening, and the alert made of an event."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerting.policy import dedup_key, make_alert, priority_of
from outwatch.domain.types import AlertState, Event, EventKind, Outpost, OutpostKind, Priority

HOUR = timedelta(hours=1)
FRESH, OLD, FUTURE = timedelta(minutes=10), timedelta(hours=3), -timedelta(hours=3)
GATHERING, VEHICLE = EventKind.GATHERING_NEAR_OUTPOST, EventKind.VEHICLE_NEAR_OUTPOST
POST, SCHOOL = OutpostKind.POLICE_OUTPOST, OutpostKind.SCHOOL
CHECKPOINT, OFFICE = OutpostKind.CHECKPOINT, OutpostKind.GOVERNMENT_BUILDING


@pytest.mark.parametrize(
    ("kind", "place", "age", "p_inside", "confidence", "expected"),
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
    age: timedelta,
    p_inside: float,
    confidence: float,
    expected: str,
) -> None:
    """Kind and place give the level; old footage, wrong clocks and doubtful places lower it."""
    event = replace(gathering, kind=kind, p_inside=p_inside, confidence=confidence)
    priority = priority_of(
        event, outpost=replace(outpost, kind=place), raised_at=event.ended_at + age, live_within=HOUR
    )
    assert priority == Priority(expected)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    age_s=st.integers(0, 10**6),
    later_s=st.integers(0, 10**6),
    p_inside=st.floats(0, 1),
    kind=st.sampled_from(EventKind),
    place=st.sampled_from(OutpostKind),
)
def test_age_never_makes_an_event_more_urgent(
    *,
    gathering: Event,
    outpost: Outpost,
    age_s: int,
    later_s: int,
    p_inside: float,
    kind: EventKind,
    place: OutpostKind,
) -> None:
    """The same event, alerted later, has the same priority or a lower one."""
    event = replace(gathering, kind=kind, p_inside=p_inside)
    post = replace(outpost, kind=place)
    first, second = (
        priority_of(event, outpost=post, raised_at=event.ended_at + timedelta(seconds=age), live_within=HOUR)
        for age in (age_s, age_s + later_s)
    )
    assert first <= second


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
            zone=ZoneInfo("UTC"),
        )
