"""The gate and the joining: what is one happening, whatever the order, and when two groups stay two."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.incident_gate import JoinRules, same_place
from detection.incidents import join
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.incidents import Account, Joined, Ruling
from outwatch.domain.types import EventKind, GeoPoint

SEEN_AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
PLACE = LocalFrame(33.4431, 71.3127)
RULES = JoinRules(
    max_gap=timedelta(minutes=15),
    longest=timedelta(hours=6),
    clock_doubt_at_most=timedelta(minutes=10),
    furthest_m=250.0,
    people_extent_m=15.0,
    vehicle_extent_m=10.0,
    moving_extent_m=60.0,
    sensor_reach_m=50.0,
)
CROWD, GROWING = EventKind.GATHERING_NEAR_OUTPOST, EventKind.GATHERING_GROWING
CAR, TRIP = EventKind.VEHICLE_NEAR_OUTPOST, EventKind.SENSOR_TRIP


def seen(
    event_id: str,
    clip: str | None = None,
    *,
    minute: float = 0.0,
    at_m: tuple[float, float] | None = (0.0, 0.0),
    kind: EventKind = CROWD,
    sigma_m: float = 5.0,
    doubt_s: float = 2.0,
    lasts_s: float = 60.0,
    outpost: str = "post",
) -> Account:
    """Return an event so many minutes after the first, at metres east and north of a place."""
    start = SEEN_AT + timedelta(minutes=minute)
    point = None
    if at_m is not None:
        lat_deg, lon_deg = PLACE.to_geo(*at_m)
        point = GeoPoint(float(lat_deg), float(lon_deg))
    variance_m2 = 0.0 if kind is TRIP else sigma_m**2
    return Account(
        event_id=event_id,
        subject=clip or f"clip-{event_id}",
        kind=kind,
        outpost_id=outpost,
        started_at=start,
        ended_at=start + timedelta(seconds=lasts_s),
        clock_doubt_s=doubt_s,
        point=point,
        covariance_m2=(variance_m2, 0.0, variance_m2),
    )


def joined(*accounts: Account, rulings: Iterable[Ruling] = ()) -> set[tuple[str, ...]]:
    """Return the events of each incident."""
    return {incident.event_ids for incident in join(accounts, rules=RULES, rulings=tuple(rulings))}


def notes(incidents: Iterable[Joined]) -> dict[str, str]:
    """Return the notes by event."""
    return {m.event_id: m.note for incident in incidents for m in incident.members if m.note}


def test_overlapping_flights_and_a_sensor_are_one() -> None:
    """Two fixes 20 m apart and a sensor 40 m away, within minutes."""
    trip = seen("s", "window", minute=1, at_m=(40, 0), kind=TRIP)
    assert joined(seen("a"), seen("b", minute=2, at_m=(0, 20)), trip) == {("a", "s", "b")}


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (seen("b", minute=1, at_m=(0, 60)), "too far for what is known of both places"),
        (seen("b", minute=18), "too late"),
        (seen("b", minute=1, kind=CAR), "another kind of thing"),
        (seen("b", minute=1, at_m=None), "its place is not known"),
        (seen("b", minute=1, at_m=(0, 300), sigma_m=500), "beyond the furthest, however uncertain"),
        (seen("b", minute=1, at_m=(0, 90), kind=TRIP), "out of a sensor's reach"),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_what_the_gate_parts(other: Account, why: str) -> None:
    """Place, time and kind must all agree."""
    assert joined(seen("a"), other) == {("a",), ("b",)}, why


def test_uncertain_place_and_clock_widen_the_gate_but_not_beyond_reason() -> None:
    """60 m apart is one where fixes are good to 40 m; a clock that may be a day off does not join a day."""
    assert joined(seen("a"), seen("b", at_m=(0, 60), sigma_m=20)) == {("a", "b")}
    assert joined(seen("a"), seen("b", minute=24, doubt_s=86_400)) == {("a", "b")}
    assert joined(seen("a"), seen("b", minute=120, doubt_s=86_400)) == {("a",), ("b",)}


def test_two_groups_of_one_clip_stay_two_through_a_third() -> None:
    """An uncertain fix between them goes to the nearer, and both sides say so."""
    incidents = join(
        [
            seen("a", "clip", at_m=(0, 0), sigma_m=30),
            seen("b", "clip", at_m=(0, 80), sigma_m=30),
            seen("c", minute=1, at_m=(0, 35), sigma_m=30),
        ],
        rules=RULES,
    )
    assert {incident.event_ids for incident in incidents} == {("a", "c"), ("b",)}
    assert set(notes(incidents)) == {"b", "c"}
    assert "event b, 45 m away" in notes(incidents)["c"]


def test_two_clips_of_two_groups_are_paired_off_whatever_shift_the_poses_share() -> None:
    """A shift of 45 m brings each group nearest to the other's neighbour; one to one they still fit."""
    assert joined(
        seen("a1", "a", at_m=(0, 0), sigma_m=20),
        seen("a2", "a", at_m=(0, 80), sigma_m=20),
        seen("b1", "b", minute=1, at_m=(0, 45), sigma_m=20),
        seen("b2", "b", minute=1, at_m=(0, 125), sigma_m=20),
    ) == {("a1", "b1"), ("a2", "b2")}


def test_one_clip_says_of_one_group_several_things() -> None:
    """A gathering that grows, near two outposts, and again later in the clip: one happening."""
    assert joined(
        seen("a", "clip"),
        seen("b", "clip", minute=0.5, at_m=(5, 5), kind=GROWING),
        seen("c", "clip", at_m=(1, 0), outpost="school"),
        seen("d", "clip", minute=6, at_m=(4, 0)),
    ) == {("a", "c", "b", "d")}


def test_sensor_never_makes_people_and_a_vehicle_one() -> None:
    """It goes to what is nearer, and says what else would have fitted."""
    incidents = join(
        [
            seen("a"),
            seen("v", at_m=(60, 0), kind=CAR),
            seen("s", "w", minute=0.5, at_m=(25, 0), kind=TRIP),
        ],
        rules=RULES,
    )
    assert {incident.event_ids for incident in incidents} == {("a", "s"), ("v",)}
    assert set(notes(incidents)) == {"s", "v"}


def test_person_goes_before_the_gate() -> None:
    """Joined against place and kind, separated against both; of a pair the last word counts."""
    pair = seen("a"), seen("b", minute=5)
    apart = Ruling("b", "a", "separate", "person:afridi#1")
    assert joined(*pair, rulings=[apart]) == {("a",), ("b",)}
    assert joined(*pair, rulings=[apart, Ruling("a", "b", "join", "person:khan#2")]) == {("a", "b")}
    far = seen("a"), seen("v", minute=200, at_m=(900, 0), kind=CAR)
    together = Ruling("a", "v", "join", "person:khan#3")
    (incident,) = join(far, rules=RULES, rulings=[together])
    assert [member.by for member in incident.members] == ["person:khan#3", "person:khan#3"]
    assert joined(*far, rulings=[Ruling("a", "gone", "join", "person:khan#4")]) == {("a",), ("v",)}


def test_chain_longer_than_the_longest_is_cut_at_fixed_marks() -> None:
    """Ten minutes apart for nine hours: the cuts are at 18:00 UTC and 00:00 UTC."""
    chain = [seen(f"e{number:02}", minute=10.0 * number) for number in range(54)]
    incidents = join(chain, rules=RULES)
    starts = [SEEN_AT + timedelta(minutes=10.0 * int(item.event_ids[0][1:])) for item in incidents]
    assert [(start.hour, start.minute) for start in starts] == [(16, 40), (18, 0), (0, 0)]
    assert sum(len(item.event_ids) for item in incidents) == len(chain)
    whole = chain[:36]
    assert len(join(whole, rules=RULES)) == 1


@st.composite
def happenings(draw: st.DrawFn) -> list[Account]:
    """Give events of few clips and places, close enough to be joined in many ways."""
    count = draw(st.integers(0, 16))
    return [
        seen(
            f"e{number}",
            draw(st.sampled_from([None, "x", "y", "z"])),
            minute=draw(st.integers(0, 600)) / 4,
            at_m=(draw(st.sampled_from([0.0, 20.0, 45.0])), draw(st.sampled_from([0.0, 40.0, 80.0, 120.0]))),
            kind=draw(st.sampled_from([CROWD, GROWING, CAR, TRIP])),
            sigma_m=draw(st.sampled_from([3.0, 30.0])),
        )
        for number in range(count)
    ]


@settings(max_examples=80, deadline=None)
@given(data=st.data(), events=happenings())
def test_order_never_shows_and_every_event_has_one_incident(
    data: st.DataObject, events: list[Account]
) -> None:
    """Also never two groups that one clip parts, nor people with vehicles, nor more than the longest."""
    incidents = join(events, rules=RULES)
    assert join(data.draw(st.permutations(events)), rules=RULES) == incidents
    assert sorted(e for item in incidents for e in item.event_ids) == sorted(e.event_id for e in events)
    known = {event.event_id: event for event in events}
    for incident in incidents:
        members = [known[event_id] for event_id in incident.event_ids]
        assert not {CROWD, GROWING} & {m.kind for m in members} or CAR not in {m.kind for m in members}
        for one in members:
            same = [
                m for m in members if m.clip_id is not None and (m.clip_id, m.kind) == (one.clip_id, one.kind)
            ]
            near = same_place(one, [m for m in same if m is not one], rules=RULES)
            chained = len(same) > 2 or any(
                m.clip_id == one.clip_id and m.kind is not one.kind for m in members
            )
            assert all(near) or chained
