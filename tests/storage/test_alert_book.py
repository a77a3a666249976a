"""The alert book's promises: one alert a happening, every delivery made or kept with its reason."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, update

from outwatch.domain.errors import DeliveryFailed
from outwatch.domain.types import Alert, AlertState, EventKind, Priority
from storage import tables
from storage.alert_book import AlertBook, Delivery
from storage.database import writing
from storage.workers import worker_name

COOL_DOWN = timedelta(minutes=30)
LONGEST = timedelta(hours=6)
LEASE = timedelta(minutes=2)
CAPTURED = datetime(2026, 3, 1, 15, 0, tzinfo=UTC)

CLAIM_AND_HANG = """
import sys, time
from datetime import UTC, datetime, timedelta
from storage.alert_book import AlertBook
from storage.database import connect
from storage.workers import worker_name
book = AlertBook(
    connect(sys.argv[1]), worker=worker_name(), lease=timedelta(hours=1), now=lambda: datetime.now(UTC)
)
print(book.claim_delivery(sys.argv[2]), flush=True)
time.sleep(600)
"""


@pytest.fixture
def book(engine: Engine, clock: Callable[[], datetime]) -> AlertBook:
    """Return an empty alert book, as this process sees it."""
    return AlertBook(engine, worker=worker_name(), lease=LEASE, now=clock)


def alert(
    event: str = "e1", *, minute: float = 0, key: str = "post-1/gathering", priority: Priority = Priority.P2
) -> Alert:
    """Return an alert on one event that was captured for a minute, so many minutes after the first."""
    start = CAPTURED + timedelta(minutes=minute)
    return Alert(
        id=f"alert-{event}",
        dedup_key=key,
        priority=priority,
        kind=EventKind.GATHERING_NEAR_OUTPOST,
        outpost_id="post-1",
        control_room="Peshawar",
        event_ids=(event,),
        raised_at=datetime(2026, 3, 1, 18, 0, tzinfo=UTC),
        captured_from=start,
        captured_to=start + timedelta(minutes=1),
        message_en="About 13 people near Sample Post",
        message_ur="سیمپل پوسٹ کے قریب تقریباً 13 افراد",
        payload={"count": [11, 13, 22], "still": None},
    )


def take(
    book: AlertBook, item: Alert, *, channels: tuple[str, ...] = ("log", "webhook")
) -> tuple[Alert, bool]:
    """Enter one alert and return the one that stands, and whether it was raised."""
    return book.raise_or_join(item, cool_down=COOL_DOWN, longest=LONGEST, channels=channels)


def enter(book: AlertBook, *alerts: Alert, channels: tuple[str, ...] = ("log", "webhook")) -> list[bool]:
    """Enter alerts one after the other and return which were raised."""
    return [take(book, item, channels=channels)[1] for item in alerts]


def put(engine: Engine, state: AlertState, *, alert_id: str = "alert-e1") -> None:
    """Put an alert into a state, as a person's answer does."""
    with writing(engine) as connection:
        which = tables.alerts.c.alert_id == alert_id
        connection.execute(update(tables.alerts).where(which).values(state=state))


def sending(book: AlertBook, channel: str = "log") -> Delivery:
    """Return a delivery of the first alert under way."""
    delivery = book.claim_delivery(f"alert-e1/{channel}")
    assert delivery is not None
    return delivery


def test_alert_is_raised_with_a_delivery_for_each_channel(book: AlertBook) -> None:
    """It comes back exactly, and each channel is due at once."""
    standing, raised = take(book, alert(), channels=("webhook", "log"))
    assert raised
    assert alert() == standing == book.alert("alert-e1")
    assert [(item.channel, item.state, item.attempts) for item in book.deliveries("alert-e1")] == [
        ("log", "pending", 0),
        ("webhook", "pending", 0),
    ]


def test_alert_raised_again_changes_nothing(book: AlertBook) -> None:
    """A step that runs twice sends once, even long after."""
    enter(book, alert())
    standing, raised = take(book, alert(), channels=("email",))
    assert (standing, raised) == (alert(), False)
    assert [item.channel for item in book.deliveries("alert-e1")] == ["log", "webhook"]


def test_event_that_joined_stays_with_its_alert(book: AlertBook) -> None:
    """Running the later clip's step again finds the earlier alert."""
    enter(book, alert(), alert("e2", minute=10))
    standing, raised = take(book, alert("e2", minute=10))
    assert not raised
    assert (standing.id, standing.event_ids) == ("alert-e1", ("e1", "e2"))


@pytest.mark.parametrize("minute", [31, -31, 0])
def test_same_happening_joins(book: AlertBook, minute: float) -> None:
    """Within the cool-down before and after, the event is added, the window widened, nothing sent."""
    enter(book, alert())
    standing, raised = take(book, alert("e2", minute=minute))
    assert not raised
    assert standing == book.alert("alert-e1")
    assert standing.event_ids == ("e1", "e2")
    assert standing.captured_from == CAPTURED + timedelta(minutes=min(minute, 0))
    assert standing.captured_to == CAPTURED + timedelta(minutes=max(minute, 0) + 1)
    assert len(book.alerts()) == 1
    assert len(book.deliveries("alert-e1")) == 2


@pytest.mark.parametrize("minute", [31.01, -31.01])
def test_later_happening_is_another_alert(book: AlertBook, minute: float) -> None:
    """Beyond the cool-down, in capture time, a control room is told again."""
    assert enter(book, alert(), alert("e2", minute=minute)) == [True, True]


def test_joined_event_extends_the_happening(book: AlertBook) -> None:
    """A gathering seen every 25 minutes for hours is one alert."""
    seen = [alert(f"e{number}", minute=25 * number) for number in range(8)]
    assert enter(book, *seen) == [True] + [False] * 7


@pytest.mark.parametrize("direction", [1, -1])
def test_happening_that_goes_on_is_told_again(book: AlertBook, direction: int) -> None:
    """Seen every 25 minutes for a day, it is told every six hours, in whatever order clips come in."""
    seen = [alert(f"e{number}", minute=direction * 25 * number) for number in range(57)]
    raised = enter(book, *seen)
    assert [number for number, is_new in enumerate(raised) if is_new] == [0, 15, 30, 45]
    assert max(item.captured_to - item.captured_from for item in book.alerts()) <= LONGEST


def test_window_may_grow_to_the_longest_and_no_further(book: AlertBook) -> None:
    """Up to it joins, past it raises; what lies inside a full window still joins."""
    first = replace(alert(), captured_to=CAPTURED + LONGEST - timedelta(minutes=10))
    assert enter(book, first, alert("e2", minute=359), alert("e3", minute=360)) == [True, False, True]
    assert [item.event_ids for item in book.alerts()] == [("e1", "e2"), ("e3",)]
    standing, raised = take(book, alert("e4", minute=358))
    assert (standing.id, raised) == ("alert-e1", False)


def test_alert_of_one_event_beyond_the_longest_takes_what_lies_inside(book: AlertBook) -> None:
    """Only widening is bounded: what it already covers is not told twice."""
    endless = replace(alert(), captured_to=CAPTURED + 2 * LONGEST)
    assert enter(book, endless, alert("e2", minute=700), alert("e3", minute=720)) == [True, False, True]


def test_more_urgent_than_what_was_told_is_told(book: AlertBook) -> None:
    """A P4 from old footage does not hide a live P1: it has its own alert and its own deliveries."""
    assert enter(book, alert(priority=Priority.P4), alert("e2", minute=5, priority=Priority.P1)) == [True] * 2
    assert [item.priority for item in book.alerts()] == [Priority.P4, Priority.P1]
    assert [item.state for item in book.deliveries("alert-e2")] == ["pending", "pending"]


@pytest.mark.parametrize("priority", [Priority.P1, Priority.P3, Priority.P4])
def test_of_several_alerts_the_most_urgent_is_joined(book: AlertBook, priority: Priority) -> None:
    """What comes later of the happening, as urgent or less, is where a control room looks first."""
    enter(book, alert(priority=Priority.P4), alert("e2", minute=5, priority=Priority.P1))
    standing, raised = take(book, alert("e3", minute=2, priority=priority))
    assert (standing.id, standing.event_ids, raised) == ("alert-e2", ("e2", "e3"), False)


def test_event_in_an_alert_is_known_though_it_has_grown_urgent(book: AlertBook) -> None:
    """A step that runs again raises nothing, whatever priority it now finds."""
    enter(book, alert(priority=Priority.P4))
    standing, raised = take(book, alert(priority=Priority.P1))
    assert (standing, raised) == (alert(priority=Priority.P4), False)


def test_event_that_grew_urgent_is_told_by_an_alert_of_its_own(book: AlertBook) -> None:
    """Under another id a known event is told again where it is more urgent, and belongs to that alert."""
    take(book, alert(priority=Priority.P3))
    grown = replace(alert(priority=Priority.P2), id="alert-e1-agreed")
    assert (("alert-e1-agreed", ("e1",)), True) == (
        (take(book, grown)[0].id, take(book, grown)[0].event_ids),
        book.alert("alert-e1-agreed") is not None,
    )
    assert [("alert-e1", ()), ("alert-e1-agreed", ("e1",))] == [
        (item.id, item.event_ids) for item in book.alerts()
    ]
    assert not take(book, replace(grown, id="alert-e1-third"))[1], "as urgent as told already"


def test_known_event_that_goes_on_widens_its_alert(book: AlertBook) -> None:
    """What follows it is then within the cool-down of its end."""
    take(book, alert())
    longer = replace(alert(), captured_to=CAPTURED + timedelta(hours=2))
    standing, raised = take(book, longer)
    assert (CAPTURED + timedelta(hours=2), False) == (standing.captured_to, raised)
    assert not take(book, alert("e2", minute=140))[1]


@pytest.mark.parametrize("state", [AlertState.RESOLVED, AlertState.FALSE])
def test_closed_alert_takes_no_new_happening(book: AlertBook, engine: Engine, state: AlertState) -> None:
    """What is seen after a person's answer is told; what the answer was about is not told again."""
    enter(book, alert())
    put(engine, state)
    assert enter(book, alert("e2", minute=5), alert("e3", minute=6)) == [True, False]
    assert [item.event_ids for item in book.alerts()] == [("e1",), ("e2", "e3")]
    standing, raised = take(book, alert())
    assert (standing.id, standing.state, raised) == ("alert-e1", state, False)


@pytest.mark.parametrize("state", [AlertState.DELIVERED, AlertState.ACKNOWLEDGED])
def test_alert_at_work_takes_more(book: AlertBook, engine: Engine, state: AlertState) -> None:
    """Delivered and acknowledged alerts are open questions still."""
    enter(book, alert())
    put(engine, state)
    assert enter(book, alert("e2", minute=5)) == [False]


def test_other_key_is_another_alert(book: AlertBook) -> None:
    """Another outpost, or another kind, is another happening."""
    assert enter(book, alert(), alert("e2", key="post-2/gathering")) == [True, True]


def test_happening_between_two_alerts_joins_the_earlier(book: AlertBook) -> None:
    """A clip that comes late and closes the gap is added once."""
    enter(book, alert("e1"), alert("e3", minute=60), alert("e2", minute=30))
    assert [item.event_ids for item in book.alerts()] == [("e1", "e2"), ("e3",)]


def test_alert_without_events_is_refused(book: AlertBook) -> None:
    """There is nothing to look at."""
    with pytest.raises(ValueError, match="names no event"):
        enter(book, replace(alert(), event_ids=()))


def test_escalation_reported_by_many_at_once_is_one_alert(book: AlertBook) -> None:
    """Eight urgent clips at the same moment, beside a lesser alert, raise one more with all events."""
    enter(book, alert("e9", priority=Priority.P4))
    results: list[bool] = []
    start = threading.Barrier(8)

    def report(number: int) -> None:
        start.wait()
        results.extend(enter(book, alert(f"e{number}", minute=number, priority=Priority.P1)))

    threads = [threading.Thread(target=report, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    lesser, urgent = sorted(book.alerts(), key=lambda item: len(item.event_ids))
    assert (lesser.event_ids, urgent.priority) == (("e9",), Priority.P1)
    assert sorted(urgent.event_ids) == [f"e{number}" for number in range(8)]


def test_happening_reported_by_many_at_once_is_one_alert(book: AlertBook) -> None:
    """Eight clips of one gathering, worked on at the same moment, raise one alert with all events."""
    results: list[bool] = []
    start = threading.Barrier(8)

    def report(number: int) -> None:
        start.wait()
        results.extend(enter(book, alert(f"e{number}", minute=number)))

    threads = [threading.Thread(target=report, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    (standing,) = book.alerts()
    assert sorted(standing.event_ids) == [f"e{number}" for number in range(8)]
    assert (standing.captured_from, standing.captured_to) == (CAPTURED, CAPTURED + timedelta(minutes=8))


def test_alerts_are_listed_by_room_state_and_time(book: AlertBook, clock: Callable[[], datetime]) -> None:
    """What a control room asks for."""
    enter(book, alert(), alert("e2", minute=90))
    assert [item.id for item in book.alerts(control_room="Peshawar")] == ["alert-e1", "alert-e2"]
    assert book.alerts(control_room="Swat") == []
    assert book.alerts(state=AlertState.DELIVERED) == []
    assert len(book.alerts(since=datetime(2026, 3, 1, 18, 0, tzinfo=UTC))) == 2
    assert book.alerts(since=datetime(2026, 3, 1, 18, 1, tzinfo=UTC)) == []
    assert book.alert("alert-e9") is None


def test_most_urgent_delivery_is_due_first(book: AlertBook, clock: Callable[[], datetime]) -> None:
    """P1 does not wait behind what came before it."""
    enter(book, alert(), alert("e2", key="b", priority=Priority.P1), channels=("log",))
    assert [item.alert_id for item in book.due(clock())] == ["alert-e2", "alert-e1"]


def test_delivery_is_claimed_by_one(book: AlertBook, clock: Callable[[], datetime]) -> None:
    """While one sends, the delivery is due to nobody."""
    enter(book, alert(), channels=("log",))
    delivery = sending(book)
    assert (delivery.state, delivery.attempts) == ("sending", 1)
    assert book.deliveries("alert-e1") == [delivery]
    assert book.due(clock()) == []
    assert book.claim_delivery("alert-e1/log") is None
    assert book.claim_delivery("alert-e1/pigeon") is None


def test_alert_is_delivered_when_every_channel_took_it(book: AlertBook) -> None:
    """One channel is not all: the alert stays new until the last."""
    enter(book, alert())
    assert book.delivered(sending(book, "log"), "written")
    assert book.alert("alert-e1").state is AlertState.NEW
    assert book.delivered(sending(book, "webhook"), "200 OK")
    assert book.alert("alert-e1").state is AlertState.DELIVERED
    assert [item.answer for item in book.deliveries("alert-e1")] == ["written", "200 OK"]


def test_channels_that_end_at_once_make_the_alert_delivered(book: AlertBook) -> None:
    """Whichever is last sees the others, though they end at the same moment."""
    channels = tuple(f"c{number}" for number in range(6))
    enter(book, alert(), channels=channels)
    start = threading.Barrier(len(channels))

    def deliver(channel: str) -> None:
        delivery = sending(book, channel)
        start.wait()
        book.delivered(delivery, "ok")

    threads = [threading.Thread(target=deliver, args=(channel,)) for channel in channels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert book.alert("alert-e1").state is AlertState.DELIVERED


def test_failed_delivery_waits_for_its_next_attempt(book: AlertBook, clock: Callable[[], datetime]) -> None:
    """The reason is kept, and it is due when it was told to be, not before."""
    enter(book, alert(), channels=("log",))
    later = clock() + timedelta(minutes=4)
    assert book.failed(sending(book), DeliveryFailed("timed out \0"), next_attempt_at=later)
    (delivery,) = book.deliveries("alert-e1")
    assert (delivery.state, delivery.last_error) == ("pending", "DeliveryFailed: timed out \\0")
    assert delivery.next_attempt_at == later
    assert book.claim_delivery(delivery.id) is None
    assert book.due(later) == [delivery]
    clock.advance(minutes=4)
    second = sending(book)
    assert second.attempts == 2
    book.delivered(second, "ok")
    assert book.deliveries("alert-e1")[0].last_error is None


def test_refused_delivery_stays_on_record(book: AlertBook, clock: Callable[[], datetime]) -> None:
    """It is never due again, its alert not delivered, and the reason visible."""
    enter(book, alert())
    book.failed(sending(book, "webhook"), "404 Not Found", next_attempt_at=None)
    book.delivered(sending(book, "log"), "written")
    clock.advance(days=365)
    assert book.due(clock()) == []
    assert [(item.state, item.last_error) for item in book.deliveries("alert-e1")] == [
        ("delivered", None),
        ("refused", "404 Not Found"),
    ]
    assert book.alert("alert-e1").state is AlertState.NEW


def test_refused_deliveries_are_reopened(book: AlertBook, clock: Callable[[], datetime]) -> None:
    """Due at once as if new, with the reason kept until it is delivered; others stay as they are."""
    enter(book, alert(), channels=("email", "log", "webhook"))
    book.failed(sending(book, "webhook"), "404 Not Found", next_attempt_at=None)
    book.delivered(sending(book, "log"), "written")
    book.failed(sending(book, "email"), "busy", next_attempt_at=clock() + timedelta(hours=2))
    clock.advance(hours=1)
    assert book.reopen_refused() == 1
    (due,) = book.due(clock())
    assert (due.channel, due.state, due.attempts, due.last_error) == (
        "webhook",
        "pending",
        0,
        "404 Not Found",
    )
    assert book.deliveries("alert-e1")[0].attempts == 1
    assert book.delivered(sending(book, "webhook"), "200 OK")
    assert book.reopen_refused() == 0


def test_word_of_a_sender_from_before_a_reopening_does_not_count(
    book: AlertBook, clock: Callable[[], datetime]
) -> None:
    """Attempts are counted anew, yet the first sender and the new one are told apart."""
    enter(book, alert(), channels=("log",))
    late = sending(book)
    clock.advance(minutes=2)
    book.failed(sending(book), "404 Not Found", next_attempt_at=None)
    clock.advance(minutes=1)
    book.reopen_refused()
    current = sending(book)
    assert current.attempts == late.attempts
    assert not book.delivered(late, "too late")
    assert book.delivered(current, "ok")


def test_lease_of_a_sending_runs_out(book: AlertBook, clock: Callable[[], datetime]) -> None:
    """Another sender takes over, and the late one's word no longer counts."""
    enter(book, alert(), channels=("log",))
    late = sending(book)
    clock.advance(minutes=2)
    assert [item.id for item in book.due(clock())] == ["alert-e1/log"]
    sending(book)
    assert not book.failed(late, "too late", next_attempt_at=None)
    assert not book.delivered(late, "too late")
    assert book.deliveries("alert-e1")[0].state == "sending"


def test_killed_sender_frees_the_delivery_at_once(
    database_url: str, engine: Engine, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    """An alert does not wait for the lease of a process that no longer lives."""
    book = AlertBook(engine, worker=worker_name(), lease=LEASE, now=lambda: datetime.now(UTC))
    enter(book, alert(), channels=("log",))
    process = start_python(CLAIM_AND_HANG, database_url, "alert-e1/log")
    assert process.stdout.readline().startswith("Delivery(")
    assert book.due(datetime.now(UTC)) == []

    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert [item.id for item in book.due(datetime.now(UTC))] == ["alert-e1/log"]
    assert sending(book).attempts == 2


def same_incident(book: AlertBook, item: Alert, *others: str) -> tuple[Alert, bool]:
    """Enter an alert whose event is of one incident with others; return what stands, and if it is new."""
    return book.raise_or_join(
        item, cool_down=COOL_DOWN, longest=LONGEST, channels=("log",), also_events=others
    )


def test_alert_joins_that_of_another_event_of_its_incident_whatever_its_kind(book: AlertBook) -> None:
    """A sensor's trip and a crowd of one incident are one question."""
    take(book, alert("e1"))
    trip = alert("s1", minute=50, key="post-1/sensor_trip")
    standing, raised = same_incident(book, trip, "e1")
    assert (standing.id, standing.event_ids, raised) == ("alert-e1", ("e1", "s1"), False)
    assert same_incident(book, trip, "e1") == (standing, False)


def test_alert_of_an_incident_is_told_again_where_it_is_more_urgent(book: AlertBook) -> None:
    """The trip was told as less; what is told next joins the more urgent."""
    take(book, alert("s1", key="post-1/sensor_trip", priority=Priority.P3))
    standing, raised = same_incident(book, alert("e1", minute=5), "s1")
    assert (standing.id, raised) == ("alert-e1", True)
    standing, raised = same_incident(book, alert("s2", minute=9, priority=Priority.P3), "e1", "s1")
    assert (standing.id, raised) == ("alert-e1", False)


def test_alert_of_an_incident_stays_with_its_outpost(book: AlertBook) -> None:
    """Each control room is asked about its own places."""
    take(book, alert("e1"))
    other = replace(alert("e2", key="post-2/gathering"), outpost_id="post-2")
    assert same_incident(book, other, "e1")[1]


def test_alert_of_an_incident_that_a_person_closed_is_told_again(book: AlertBook, engine: Engine) -> None:
    """What is seen after the answer is another question."""
    take(book, alert("e1"))
    put(engine, AlertState.RESOLVED)
    assert same_incident(book, alert("s1", minute=50, key="post-1/sensor_trip"), "e1")[1]
