"""The book of incidents: the same whatever the order, late events, other runs, and what people decide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete

from detection.incident_gate import JoinRules
from detection.incidents import join
from outwatch.domain.errors import DecisionRefused, ObjectMissing
from outwatch.domain.incidents import Account
from outwatch.domain.types import EventKind, GeoPoint
from storage import keys, tables
from storage.database import connect, migrate, writing
from storage.incidents import IncidentBook

SEEN_AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
M_PER_DEG_LAT = 110_900.0
RULES = JoinRules(
    max_gap=timedelta(minutes=15),
    longest=timedelta(hours=1),
    clock_doubt_at_most=timedelta(minutes=1),
    furthest_m=250.0,
    people_extent_m=15.0,
    vehicle_extent_m=10.0,
    moving_extent_m=60.0,
    sensor_reach_m=50.0,
)


def book_on(engine: Engine) -> IncidentBook:
    """Return the book on a migrated database, joining by the real rule."""
    return IncidentBook(
        engine,
        join=lambda accounts, rulings: join(accounts, rules=RULES, rulings=rulings),
        longest=RULES.longest,
        reach=RULES.reach,
        now=lambda: SEEN_AT,
    )


@pytest.fixture
def book(tmp_path: Path) -> Iterator[IncidentBook]:
    """Return an empty book on SQLite."""
    opened = connect(f"sqlite:///{tmp_path / 'outwatch.db'}")
    migrate(opened)
    yield book_on(opened)
    opened.dispose()


def seen(
    event_id: str,
    clip: str | None = None,
    *,
    minute: float = 0.0,
    north_m: float = 0.0,
    lasts_s: float = 60.0,
    kind: EventKind = EventKind.GATHERING_NEAR_OUTPOST,
) -> Account:
    """Return an event so many minutes after the first and so many metres north of it."""
    start = SEEN_AT + timedelta(minutes=minute)
    return Account(
        event_id=event_id,
        subject=clip or f"clip-{event_id}",
        kind=kind,
        outpost_id="post",
        started_at=start,
        ended_at=start + timedelta(seconds=lasts_s),
        clock_doubt_s=2.0,
        point=GeoPoint(33.5 + north_m / M_PER_DEG_LAT, 71.4),
        covariance_m2=(30.0, 5.0, 20.0),
        method="flat_ground",
        count=12,
    )


def take(book: IncidentBook, accounts: Iterable[Account]) -> None:
    """Enter events in their order, each clip when its last event came."""
    so_far: dict[str, list[Account]] = {}
    for account in accounts:
        so_far.setdefault(account.subject, []).append(account)
        book.take(account.subject, so_far[account.subject])


def groups(book: IncidentBook) -> dict[str, tuple[str, ...]]:
    """Return the events of each incident that stands, by its id."""
    return {
        standing.id: tuple(member.account.event_id for member in standing.members)
        for standing in book.incidents()
    }


def in_groups(book: IncidentBook) -> set[tuple[str, ...]]:
    """Return the events of each incident that stands."""
    return set(groups(book).values())


def test_each_engine_keeps_what_was_joined_and_decided(engine: Engine) -> None:
    """Rows, figures, names and decisions come back the same from SQLite and PostgreSQL."""
    book = book_on(engine)
    take(book, [seen("b", minute=3), seen("c", minute=6), seen("a")])
    decision = book.decide("separate", ["b"], ["a", "c"], who="afridi", why="another group")
    assert in_groups(book) == {("a", "c"), ("b",)}
    book.undo(decision.id, who="khan", why="the same after all")
    (standing,) = book.incidents()
    assert standing.aliases == (keys.incident_id("b"),)
    assert book.incident(keys.incident_id("b")) == standing
    assert standing.members[1].membership.gap_s == 120.0


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_two_flights_and_a_sensor_are_one_incident_in_every_order(
    book: IncidentBook, order: tuple[int, ...]
) -> None:
    """The same incident with the same id, the figures of its gate beside each event."""
    events = (
        seen("a", minute=0),
        seen("b", minute=3, north_m=12),
        seen("s", "20260314T1640Z", minute=1, north_m=40, kind=EventKind.SENSOR_TRIP),
    )
    take(book, [events[place] for place in order])
    (standing,) = book.incidents()
    assert standing.id == keys.incident_id("a")
    assert [member.account for member in standing.members] == [events[0], events[2], events[1]]
    assert {member.membership.by for member in standing.members} == {"incidents-1"}
    second = standing.members[2].membership
    assert second.near_event_id == "a"
    assert second.distance_m == pytest.approx(12.0, rel=0.01)
    assert second.gap_s == 120.0


def test_late_event_that_comes_first_renames_and_old_names_still_lead_there(book: IncidentBook) -> None:
    """Clips that arrive days later give the incident new ids, and links to all the old ones hold."""
    take(book, [seen("c", minute=10)])
    take(book, [seen("b", minute=5)])
    take(book, [seen("a", minute=0)])
    (standing,) = book.incidents()
    old = [keys.incident_id(name) for name in "bc"]
    assert standing.id == keys.incident_id("a")
    assert standing.aliases == tuple(sorted(old))
    assert [book.incident(name) for name in old] == [standing, standing]


def test_late_event_between_two_incidents_makes_them_one(book: IncidentBook) -> None:
    """What nobody had seen in between joins what was two."""
    take(book, [seen("a"), seen("c", minute=25)])
    assert in_groups(book) == {("a",), ("c",)}
    take(book, [seen("b", minute=12)])
    assert in_groups(book) == {("a", "b", "c")}
    book.take("clip-b", [])
    assert in_groups(book) == {("a",), ("c",)}
    assert set(groups(book)) == {keys.incident_id("a"), keys.incident_id("c")}


def test_event_that_vanishes_in_another_run_leaves_and_its_name_leads_to_its_heir(book: IncidentBook) -> None:
    """A start that shifts changes the event's id; the incident's old id leads to the new."""
    take(book, [seen("old", "clip")])
    book.take("clip", [seen("new", "clip", minute=0.1)])
    assert groups(book) == {keys.incident_id("new"): ("new",)}
    standing = book.incident(keys.incident_id("old"))
    assert standing is not None
    assert standing.id == keys.incident_id("new")
    book.take("clip", [])
    assert book.incidents() == []
    assert book.incident(keys.incident_id("old")) is None


def test_taking_the_same_again_changes_nothing(book: IncidentBook) -> None:
    """A step that runs twice leaves every row as it was."""
    take(book, [seen("a"), seen("b", minute=3)])
    before = book.incidents()
    take(book, [seen("a"), seen("b", minute=3)])
    assert book.incidents() == before


moments = st.builds(
    seen,
    st.uuids().map(str),
    st.sampled_from([None, None, "x", "y", "z"]),
    minute=st.integers(0, 240).map(float),
    north_m=st.sampled_from([0.0, 25.0, 80.0, 90.0, 400.0]),
    lasts_s=st.sampled_from([30.0, 600.0]),
    kind=st.sampled_from(
        [EventKind.GATHERING_NEAR_OUTPOST, EventKind.VEHICLE_NEAR_OUTPOST, EventKind.SENSOR_TRIP]
    ),
)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Return one database for all examples; each empties it first."""
    opened = connect(f"sqlite:///{tmp_path_factory.mktemp('book') / 'outwatch.db'}")
    migrate(opened)
    return opened


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), events=st.lists(moments, max_size=14, unique_by=lambda item: item.event_id))
def test_any_order_of_arrival_ends_in_what_all_at_once_gives(
    sqlite: Engine, data: st.DataObject, events: list[Account]
) -> None:
    """Chains longer than the longest, two of a kind in one clip, events that go again: order never shows."""
    with writing(sqlite) as connection:
        for table in (tables.incident_members, tables.incidents, tables.event_index):
            connection.execute(delete(table))
    book = book_on(sqlite)
    gone = data.draw(st.sampled_from([None, *sorted({item.subject for item in events})]))
    take(book, data.draw(st.permutations(events)))
    if gone is not None:
        book.take(gone, [])
    left = [item for item in events if item.subject != gone]
    expected = {keys.incident_id(item.event_ids[0]): item.event_ids for item in join(left, rules=RULES)}
    assert groups(book) == expected


def test_person_separates_and_takes_it_back(book: IncidentBook) -> None:
    """The event stands alone until the decision is undone; both rows stay on record."""
    take(book, [seen("a"), seen("b", minute=3), seen("c", minute=6)])
    decision = book.decide("separate", ["b"], ["a", "c"], who="afridi", why="another group, seen by eye")
    assert in_groups(book) == {("a", "c"), ("b",)}
    undone = book.undo(decision.id, who="khan", why="the same after all")
    assert in_groups(book) == {("a", "b", "c")}
    assert [(item.verdict, item.undone_by) for item in book.decisions()] == [
        ("separate", undone.id),
        ("undo", None),
    ]
    with pytest.raises(DecisionRefused, match="does not hold"):
        book.undo(decision.id, who="khan", why="again")
    with pytest.raises(ObjectMissing, match="decision 99"):
        book.undo(99, who="khan", why="again")


def test_person_joins_what_no_gate_would(book: IncidentBook) -> None:
    """People and a vehicle, far apart: a person's word goes first, and its row says whose it was."""
    take(book, [seen("a"), seen("v", minute=20, north_m=900, kind=EventKind.VEHICLE_NEAR_OUTPOST)])
    decision = book.decide("join", ["a"], ["v"], who="afridi", why="they came in it")
    (standing,) = book.incidents()
    assert standing.members[1].membership.by == f"person:afridi#{decision.id}"
    assert standing.members[1].membership.distance_m is None


def test_of_two_decisions_the_last_word_counts(book: IncidentBook) -> None:
    """Whoever joins what was separated need not look for the decision first; each is one row."""
    take(book, [seen("a"), seen("b", minute=3), seen("c", minute=6)])
    book.decide("separate", ["b"], ["a", "c"], who="afridi", why="another group")
    later = book.decide("join", ["b"], ["a", "c"], who="khan", why="the same group")
    assert in_groups(book) == {("a", "b", "c")}
    assert [item.verdict for item in book.decisions()] == ["separate", "join"]
    book.undo(later.id, who="khan", why="not the same after all")
    assert in_groups(book) == {("a", "c"), ("b",)}


def test_decision_leaves_what_was_said_of_other_events(book: IncidentBook) -> None:
    """One event is taken out of three that a person joined: the other two stay joined."""
    take(book, [seen("a"), seen("b", minute=3, north_m=900), seen("c", minute=6, north_m=1800)])
    book.decide("join", ["a"], ["b"], who="afridi", why="one party")
    book.decide("join", ["a", "b"], ["c"], who="afridi", why="one party")
    book.decide("separate", ["a"], ["b", "c"], who="khan", why="another party")
    assert in_groups(book) == {("a",), ("b", "c")}


def test_decision_holds_for_the_event_that_another_run_gives(book: IncidentBook) -> None:
    """Two groups of one clip get new ids: each decision finds its own again, by place and time."""
    take(book, [seen("a1", "clip"), seen("a2", "clip", north_m=45), seen("b", minute=3, north_m=20)])
    before = in_groups(book)
    (with_b,) = (group for group in before if "b" in group)
    near = next(event for event in with_b if event != "b")
    book.decide("separate", ["b"], [near], who="afridi", why="not them")
    again = {"a1": seen("n1", "clip", minute=0.1), "a2": seen("n2", "clip", minute=0.1, north_m=45)}
    book.take("clip", list(again.values()))
    apart = again[near].event_id
    assert all({"b", apart} - set(group) for group in in_groups(book))
    assert [item.verdict for item in book.decisions()] == ["separate"]


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [(["a"], ["a"], "that differ"), ([], ["a"], "that differ"), (["a"], ["far"], "at most 1:00:00")],
)
def test_decision_that_cannot_stand_is_refused(
    book: IncidentBook, one: list[str], other: list[str], words: str
) -> None:
    """With the reason, and nothing is written."""
    take(book, [seen("a"), seen("far", minute=90)])
    with pytest.raises(DecisionRefused, match=words):
        book.decide("join", one, other, who="afridi", why="because")
    assert book.decisions() == []


def test_decision_on_an_unknown_event_is_refused(book: IncidentBook) -> None:
    """The message names it."""
    take(book, [seen("a")])
    with pytest.raises(ObjectMissing, match="event nobody"):
        book.decide("join", ["a"], ["nobody"], who="afridi", why="because")


def test_incidents_since(book: IncidentBook) -> None:
    """Only those with an event that had not ended before."""
    take(book, [seen("a"), seen("b", minute=40)])
    later = SEEN_AT + timedelta(minutes=30)
    assert [standing.members[0].account.event_id for standing in book.incidents(later)] == ["b"]
