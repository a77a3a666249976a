"""The inbox: batches are whole, nothing is stored twice, nothing is lost between inbox and lake."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.exc import StatementError

from outwatch.domain.readings import Accepted, silence
from outwatch.domain.types import GeoPoint, Outcome, RefusedReading, Sensor, SensorReading
from storage import keys, schemas
from storage.database import writing
from storage.ledger import Ledger
from storage.readings import WRITE_READINGS, Listening, ReadingInbox
from storage.tables import WorkState

START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
WINDOW, NEXT = "20260314T1640Z", "20260314T1650Z"
PLACE = GeoPoint(33.586, 71.445, 512.0)
SENSOR = Sensor("pir-1", "North", ("motion",), PLACE, expected_interval=timedelta(minutes=10))


def reading(number: int, *, after_s: float = 0.0, sensor: str = "pir-1", **changes: Any) -> SensorReading:
    at = START + timedelta(seconds=after_s)
    made = SensorReading(
        f"id-{number}", sensor, "motion", at, at + timedelta(seconds=1), PLACE, number, "hits", "gate"
    )
    return replace(made, **changes)


def accepted(*numbers: int, may_repeat: bool = False, **changes: Any) -> list[Accepted]:
    return [Accepted(reading(number, **changes), "payload", may_repeat) for number in numbers]


def refused(number: int, *, sensor: str | None = None) -> RefusedReading:
    return RefusedReading(f"no-{number}", "gate", START, "unreadable", "no JSON", "{", sensor)


@pytest.fixture
def ledger(engine: Engine, clock: Callable[[], datetime]) -> Ledger:
    return Ledger(engine, worker="worker", lease=timedelta(minutes=10), now=clock)


@pytest.fixture
def inbox(engine: Engine, ledger: Ledger) -> ReadingInbox:
    return ReadingInbox(engine, ledger, window=timedelta(minutes=10))


def store(inbox: ReadingInbox, judged: Sequence[Accepted | RefusedReading], cursor: int = 0) -> Any:
    return inbox.store(judged, feed="gate", cursor={"n": cursor})


def write(inbox: ReadingInbox, ledger: Ledger, window: str, stood: frozenset[str] = frozenset()) -> list[str]:
    """Do what the step does with a window's rows, the file apart, and return their ids."""
    claim = ledger.claim(WRITE_READINGS, window)
    assert claim is not None
    taken = inbox.take(window, limit=100)
    outcome = Outcome(WRITE_READINGS, window)
    ledger.complete(claim, outcome, also=lambda c: inbox.clear(c, window, taken, stood=stood))
    return [item.reading.id for item in taken.readings]


def test_a_batch_is_stored_with_cursor_health_and_open_work(inbox: ReadingInbox, ledger: Ledger) -> None:
    """One transaction: rows, where the feed stands, what the sensor said last, the windows to write."""
    stored = store(inbox, [*accepted(1), *accepted(2, after_s=700), refused(3)], cursor=7)
    assert (["id-1", "id-2"], 1, 0) == ([r.id for r in stored.readings], stored.refused, stored.again)
    assert {"n": 7} == inbox.cursor("gate")
    health = inbox.sensors()["pir-1"]
    assert (health.last_at, health.last_value, health.accepted) == (START + timedelta(seconds=700), 2, 2)
    assert [WINDOW, NEXT] == ledger.open_subjects(WRITE_READINGS)
    assert (2, 1) == (inbox.feeds()["gate"].accepted, inbox.feeds()["gate"].refused)


def test_what_goes_in_comes_out(inbox: ReadingInbox) -> None:
    """A reading is the same after the inbox; text that no database or Parquet takes is escaped."""
    odd = reading(1, details={"label": "a\0b\ud800"}, unit="°C", point=GeoPoint(33.5, 71.4))
    store(inbox, [Accepted(odd, "payload", may_repeat=False), refused(2)])
    taken = inbox.take(WINDOW, limit=10)
    assert (Accepted(replace(odd, details={"label": "a\\0b\\ud800"}), "payload", False),) == taken.readings
    assert (refused(2),) == taken.refused


def test_a_failing_batch_leaves_nothing(inbox: ReadingInbox, ledger: Ledger) -> None:
    """Where something cannot be stored, neither are the readings nor their open work."""
    with pytest.raises((StatementError, TypeError), match="not JSON serializable"):
        inbox.store(accepted(1), feed="gate", cursor={"since": START})
    assert (0, None, []) == (inbox.waiting(), inbox.cursor("gate"), ledger.open_subjects(WRITE_READINGS))


def test_a_redelivered_batch_changes_nothing(inbox: ReadingInbox) -> None:
    """What carries the feed's id and comes again is counted as such, and kept once."""
    store(inbox, accepted(1, 2, may_repeat=True))
    again = store(inbox, accepted(1, 2, 3, may_repeat=True))
    assert (1, 0, 2) == (len(again.readings), again.refused, again.again)
    assert (3, 3) == (inbox.waiting(), inbox.sensors()["pir-1"].accepted)


def test_a_sensor_that_says_the_same_twice_is_kept_apart(inbox: ReadingInbox, ledger: Ledger) -> None:
    """A duplicate in a batch, after it or after its writing is one refusal with its payload."""
    store(inbox, accepted(1, 1))
    store(inbox, accepted(1))
    write(inbox, ledger, WINDOW)
    store(inbox, accepted(1))
    write(inbox, ledger, WINDOW, stood=frozenset({"id-1"}))
    (apart,) = inbox.take(WINDOW, limit=10).refused
    assert ("duplicate", "payload", "pir-1") == (apart.reason, apart.payload, apart.sensor_id)
    assert 1 == inbox.sensors()["pir-1"].accepted
    assert 1 == inbox.feeds()["gate"].accepted


def test_rows_leave_the_inbox_with_their_windows_work(inbox: ReadingInbox, ledger: Ledger) -> None:
    """Written rows are gone, other windows' rows stay, and the work is done."""
    store(inbox, [*accepted(1, 2), *accepted(3, after_s=700)])
    assert ["id-1", "id-2"] == write(inbox, ledger, WINDOW)
    assert 1 == inbox.waiting()
    assert [NEXT] == ledger.open_subjects(WRITE_READINGS)


def test_a_failed_writing_keeps_the_rows(inbox: ReadingInbox, ledger: Ledger) -> None:
    """Rows of a writer that fails, or whose claim was lost, are there for the next."""
    store(inbox, accepted(1))
    claim = ledger.claim(WRITE_READINGS, WINDOW)
    assert claim is not None
    inbox.take(WINDOW, limit=10)
    ledger.fail(claim, "the store is away", retry=True)
    assert ["id-1"] == write(inbox, ledger, WINDOW)


def test_late_rows_wake_their_window(inbox: ReadingInbox, ledger: Ledger) -> None:
    """Work that is done is open again; a writer under way is left alone, and its end opens the work again."""
    store(inbox, accepted(1))
    write(inbox, ledger, WINDOW)
    store(inbox, accepted(2))
    claim = ledger.claim(WRITE_READINGS, WINDOW)
    assert claim is not None
    taken = inbox.take(WINDOW, limit=10)
    store(inbox, accepted(3))
    ledger.complete(
        claim,
        Outcome(WRITE_READINGS, WINDOW),
        also=lambda c: inbox.clear(c, WINDOW, taken, stood=frozenset()),
    )
    assert ["id-3"] == write(inbox, ledger, WINDOW)
    work = ledger.work_on(WRITE_READINGS, WINDOW)
    assert work is not None
    assert (WorkState.DONE, 0) == (work.state, inbox.waiting())


def test_a_limit_leaves_the_rest_for_another_writing(inbox: ReadingInbox, ledger: Ledger) -> None:
    """However many rows a window has, a writing takes a bounded part and wakes the next."""
    store(inbox, accepted(*range(250)))
    seen: list[str] = []
    while ledger.open_subjects(WRITE_READINGS):
        seen += write(inbox, ledger, WINDOW)
    assert sorted(f"id-{number}" for number in range(250)) == sorted(seen)


def test_no_row_is_forgotten_between_storing_and_the_end_of_a_writing(
    inbox: ReadingInbox, ledger: Ledger
) -> None:
    """While batches come in, a writer that runs again and again ends with all of them and an empty inbox."""
    total, seen = 40, []

    def feed() -> None:
        for number in range(total):
            store(inbox, accepted(number), cursor=number)

    sender = threading.Thread(target=feed)
    sender.start()
    deadline = time.monotonic() + 60
    while sender.is_alive() or ledger.open_subjects(WRITE_READINGS):
        assert time.monotonic() < deadline
        time.sleep(0.01)
        if ledger.open_subjects(WRITE_READINGS):
            seen += write(inbox, ledger, WINDOW)
    assert (sorted(f"id-{number}" for number in range(total)), 0) == (sorted(seen), inbox.waiting())


def test_an_older_reading_does_not_change_what_was_said_last(inbox: ReadingInbox) -> None:
    """Late data count, but the last word stays the last by time of capture."""
    store(inbox, accepted(5, after_s=60))
    store(inbox, accepted(1))
    health = inbox.sensors()["pir-1"]
    assert (5, 2, START + timedelta(seconds=60)) == (health.last_value, health.accepted, health.last_at)


def silent(last_heard: datetime) -> SensorReading:
    noted_at = last_heard + timedelta(hours=1)
    found = silence(SENSOR, last_heard=last_heard, since=last_heard, noted_at=noted_at)
    assert found is not None
    return found


def test_a_silence_is_noted_once_and_ends_with_the_next_word(inbox: ReadingInbox, ledger: Ledger) -> None:
    """Its reading stands in the inbox; it is no word of the sensor's; the next silence is another."""
    store(inbox, accepted(1))
    later = START + timedelta(hours=1)
    inbox.listened("gate", since=START, at=later)
    assert {"pir-1": Listening(START, START, later)} == inbox.listening(["gate"])
    assert (1, 0) == (inbox.note_silence([silent(START)]), inbox.note_silence([silent(START)]))
    health = inbox.sensors()["pir-1"]
    assert (START + timedelta(minutes=10), 1) == (health.silent_since, health.accepted)
    assert ["id-1"] == write(inbox, ledger, WINDOW)
    assert [silent(START).id] == write(inbox, ledger, NEXT)
    assert 0 == inbox.note_silence([silent(START)]), "written or not, a silence is noted once"
    store(inbox, accepted(2, after_s=7200))
    assert inbox.sensors()["pir-1"].silent_since is None
    assert 1 == inbox.note_silence([silent(START + timedelta(seconds=7200))])


def test_a_sensor_that_spoke_meanwhile_is_not_silent(inbox: ReadingInbox) -> None:
    """Between the look and the noting a word may come: it wins."""
    store(inbox, accepted(2, after_s=3600))
    assert 0 == inbox.note_silence([silent(START)])


def test_a_sensor_never_heard_is_expected_from_when_it_was_known(inbox: ReadingInbox) -> None:
    """Its silence counts from then, and only while every feed is listened to: it may be on any."""
    inbox.watch([SENSOR], since=START)
    inbox.watch([SENSOR], since=START + timedelta(hours=5))
    assert {} == inbox.listening(["gate"])
    until = START + timedelta(minutes=20)
    inbox.listened("gate", since=START, at=until)
    assert {} == inbox.listening(["gate", "broker"]), "it may be on the one that is down"
    inbox.listened("removed", since=START, at=START)
    assert {"pir-1": Listening(None, START, until)} == inbox.listening(["gate"])
    assert 1 == inbox.note_silence([silent(START)])


def test_silence_counts_anew_after_a_pause_in_which_nobody_listened(inbox: ReadingInbox) -> None:
    """What a sensor said meanwhile may be lost; a minute between two rounds is no pause."""
    store(inbox, accepted(1))
    minute, hours = timedelta(minutes=1), timedelta(hours=5)
    inbox.listened("gate", since=START, at=START + minute)
    inbox.listened("gate", since=START + 2 * minute, at=START + 3 * minute)
    assert START == inbox.listening(["gate"])["pir-1"].since
    inbox.listened("gate", since=START + hours, at=START + hours + minute)
    assert {"pir-1": Listening(START, START + hours, START + hours + minute)} == inbox.listening(["gate"])
    inbox.listened("renamed", since=START, at=START + 2 * hours)
    assert START + 2 * hours == inbox.listening(["renamed"])["pir-1"].until


def test_refusals_of_a_known_sensor_count_for_it(inbox: ReadingInbox) -> None:
    """Also before anything of it was accepted."""
    store(inbox, [refused(1, sensor="pir-1"), refused(2)])
    health = inbox.sensors()["pir-1"]
    assert (0, 1, None) == (health.accepted, health.refused, health.last_at)


def test_ten_thousand_readings_are_stored_at_far_more_than_they_come(
    inbox: ReadingInbox, engine: Engine
) -> None:
    """In batches of a thousand, 10,000 readings take well under the two seconds in which they come."""
    batches = [accepted(*range(start, start + 1000), sensor=f"s-{start}") for start in range(0, 10_000, 1000)]
    start = time.perf_counter()
    for number, batch in enumerate(batches):
        store(inbox, batch, cursor=number)
    took_s = time.perf_counter() - start
    print(f"{engine.dialect.name}: {10_000 / took_s:.0f} readings/s")
    assert 10_000 == inbox.waiting()
    assert took_s < 10


def test_a_window_under_way_is_not_taken_from_its_writer(
    inbox: ReadingInbox, ledger: Ledger, engine: Engine
) -> None:
    """Waking claimed work changes nothing: its writer completes, else a stream would starve it."""
    store(inbox, accepted(1))
    claim = ledger.claim(WRITE_READINGS, WINDOW)
    assert claim is not None
    with writing(engine) as connection:
        ledger.wake(connection, [(WRITE_READINGS, WINDOW)])
    assert ledger.renew(claim)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.sampled_from([1, 5, 10, 60, 1440]))  # noqa: DTZ001
def test_a_time_lies_in_its_window(naive: datetime, minutes: int) -> None:
    """A window's id gives its start back, and the time lies within its length after that."""
    at, length = naive.replace(tzinfo=UTC), timedelta(minutes=minutes)
    window = keys.window_of(at, length=length)
    assert keys.is_window(window)
    assert timedelta(0) <= at - keys.window_start(window) < length
    assert keys.window_of(keys.window_start(window), length=length) == window


def test_readings_and_refusals_come_back_from_the_lakes_tables_as_they_were() -> None:
    """The conversion is exact in both directions, none of the optional fields excepted."""
    odd = reading(2, unit=None, point=GeoPoint(-33.5, 71.4), details={"label": "شخص"})
    readings = [reading(1), odd]
    assert readings == schemas.readings_from(schemas.readings_table(readings))
    refusals = [refused(1), replace(refused(2, sensor="pir-1"), at=START)]
    assert refusals == schemas.refused_readings_from(schemas.refused_readings_table(refusals))
