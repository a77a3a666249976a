"""The alert book: alerts, the events that belong to each, and their deliveries to channels.

Belongs here: one alert a happening, and which delivery is due, under way, done or refused. Not here:
priorities and words (``alerting/policy.py``, ``alerting/messages.py``), sending (``alerting/delivery.py``).

A delivery is ``pending``, then ``sending`` under a lease, then ``delivered``, ``refused``, or ``pending``
again; a refused one waits until a person has it tried again. A sender killed between sending and saying
so leads to a second sending: better twice than never, and channels carry the alert's id so that receivers
can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    and_,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)

from outwatch.domain.types import Alert, AlertState, EventKind, Priority
from storage import tables
from storage.database import insert_new, reading, serialise, storable, writing
from storage.tables import DeliveryState
from storage.workers import is_dead

_CLOSED = (AlertState.RESOLVED, AlertState.FALSE)
"""A person has answered: what is seen afterwards is another question."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One alert on its way through one channel."""

    id: str
    alert_id: str
    channel: str
    state: DeliveryState
    attempts: int
    """How often it was claimed for sending; killed tries count."""
    next_attempt_at: datetime | None
    """When it is due, None unless it is pending."""
    last_error: str | None
    answer: str | None
    """What the receiver said."""
    updated_at: datetime


class AlertBook:
    """The alert book, as one worker sees it.

    Args:
        engine: a migrated database.
        worker: this process's ``storage.workers.worker_name()``.
        lease: how long a sending lasts at most; above the channels' time-outs.
        now: the time, UTC-aware.
    """

    def __init__(self, engine: Engine, *, worker: str, lease: timedelta, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._worker = worker
        self._lease = lease
        self._now = now

    def raise_or_join(
        self,
        alert: Alert,
        *,
        cool_down: timedelta,
        longest: timedelta,
        channels: Sequence[str],
        also_events: Sequence[str] = (),
    ) -> tuple[Alert, bool]:
        """Raise an alert, or add its events to the one that already tells of the same happening.

        The happening is the same where the dedup key is and the capture windows, widened by
        ``cool_down``, overlap, and where the alert tells of an event of the same incident, whatever its kind.
        It is told again where it is more urgent than it was told before, where a person has closed the alert
        that stood for it, and where it goes on for too long; of several alerts it joins the most urgent.
        Alerts of one outpost go one after the other, whoever raises them.

        Args:
            alert: names at least one event, the first of which raised it.
            cool_down: in capture time, not in time of arrival.
            longest: no joining widens an alert's capture window beyond this.
            channels: where it goes if it is raised: one pending delivery each.
            also_events: the other events of its incident that tell of the same outpost.

        Returns:
            The alert as it stands in the book, and whether it was raised. An alert whose first event
            is in the book raises nothing, so that a step may run again, unless that event has become
            more urgent than it was told; where it has gone on since, the alert that told of it does too.

        Raises:
            ValueError: the alert names no event.
        """
        if not alert.event_ids:
            raise ValueError(f"alert {alert.id} names no event")
        with writing(self._engine) as connection:
            serialise(connection, f"outwatch/alert/{alert.outpost_id}")
            known = _with_event(connection, alert.event_ids[0])
            if known is not None and (known.id == alert.id or known.priority <= alert.priority):
                if _has_room(known, alert, longest):
                    _join(connection, known, alert)
                return _with_event(connection, alert.event_ids[0]) or known, False
            if known is not None:
                _release_events(connection, alert.event_ids)
            same = _same_happening(alert, cool_down=cool_down, also_events=also_events)
            standing = _to_join(connection, alert, same, longest=longest)
            if standing is None:
                self._insert(connection, alert, channels)
            else:
                _join(connection, standing, alert)
            stands = _with_event(connection, alert.event_ids[0])
        return stands or alert, standing is None

    def alert(self, alert_id: str) -> Alert | None:
        """Return an alert, or None where it is unknown."""
        with reading(self._engine) as connection:
            return next(iter(_alerts(connection, tables.alerts.c.alert_id == alert_id)), None)

    def alerts(
        self,
        control_room: str | None = None,
        state: AlertState | None = None,
        since: datetime | None = None,
    ) -> list[Alert]:
        """Return alerts, oldest first: of one control room, in one state, raised at or after ``since``."""
        alerts, conditions = tables.alerts, []
        if control_room is not None:
            conditions.append(alerts.c.control_room == control_room)
        if state is not None:
            conditions.append(alerts.c.state == state)
        if since is not None:
            conditions.append(alerts.c.raised_at >= since)
        with reading(self._engine) as connection:
            return _alerts(connection, *conditions)

    def deliveries(self, alert_id: str) -> list[Delivery]:
        """Return an alert's deliveries in order of channel."""
        deliveries = tables.deliveries
        query = select(deliveries).where(deliveries.c.alert_id == alert_id)
        with reading(self._engine) as connection:
            return [_delivery(row) for row in connection.execute(query.order_by(deliveries.c.channel))]

    def due(self, now: datetime) -> list[Delivery]:
        """Return the deliveries that can be claimed at ``now``, the most urgent and then the oldest first.

        Those whose sender died or whose lease ran out are among them.
        """
        deliveries, alerts = tables.deliveries, tables.alerts
        with reading(self._engine) as connection:
            query = (
                select(deliveries)
                .join(alerts)
                .where(_free(now, _dead_senders(connection)))
                .order_by(alerts.c.priority, alerts.c.raised_at, deliveries.c.alert_id, deliveries.c.channel)
            )
            return [_delivery(row) for row in connection.execute(query)]

    def claim_delivery(self, delivery_id: str) -> Delivery | None:
        """Take a due delivery for sending, or return None where it is not to be had."""
        deliveries, now = tables.deliveries, self._now()
        which = deliveries.c.delivery_id == delivery_id
        with writing(self._engine) as connection:
            row = connection.execute(
                update(deliveries)
                .where(which, _free(now, _dead_senders(connection, which)))
                .values(
                    state=DeliveryState.SENDING,
                    attempts=deliveries.c.attempts + 1,
                    next_attempt_at=None,
                    worker=self._worker,
                    lease_until=now + self._lease,
                    updated_at=now,
                )
                .returning(deliveries)
            ).one_or_none()
            return None if row is None else _delivery(row)

    def delivered(self, delivery: Delivery, answer: str) -> bool:
        """Record that a channel took the message; the last to do so makes a new alert delivered.

        Returns:
            False where another sender has claimed the delivery meanwhile, so that nothing changes.
        """
        alerts, deliveries = tables.alerts, tables.deliveries
        missing = exists().where(
            deliveries.c.alert_id == delivery.alert_id, deliveries.c.state != DeliveryState.DELIVERED
        )
        with writing(self._engine) as connection:
            # Two channels that end at once must see each other, or neither is the last.
            serialise(connection, f"outwatch/deliveries/{delivery.alert_id}")
            changes = {"state": DeliveryState.DELIVERED, "answer": storable(answer), "last_error": None}
            if not self._change(connection, delivery, changes):
                return False
            connection.execute(
                update(alerts)
                .where(alerts.c.alert_id == delivery.alert_id, alerts.c.state == AlertState.NEW, ~missing)
                .values(state=AlertState.DELIVERED)
            )
        return True

    def failed(
        self, delivery: Delivery, error: BaseException | str, *, next_attempt_at: datetime | None
    ) -> bool:
        """Record that a channel did not take the message.

        Args:
            delivery: as claimed.
            error: what went wrong.
            next_attempt_at: when to try again; None is never, and the refusal stays on record.

        Returns:
            False where another sender has claimed the delivery meanwhile, so that nothing changes.
        """
        state = DeliveryState.REFUSED if next_attempt_at is None else DeliveryState.PENDING
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        changes = {"state": state, "last_error": storable(text), "next_attempt_at": next_attempt_at}
        with writing(self._engine) as connection:
            return self._change(connection, delivery, changes)

    def reopen_refused(self) -> int:
        """Make every refused delivery due now, as if it had never been tried, and return how many."""
        deliveries, now = tables.deliveries, self._now()
        changes = {"state": DeliveryState.PENDING, "attempts": 0, "next_attempt_at": now, "updated_at": now}
        with writing(self._engine) as connection:
            return connection.execute(
                update(deliveries).where(deliveries.c.state == DeliveryState.REFUSED).values(**changes)
            ).rowcount

    def _change(self, connection: Connection, delivery: Delivery, changes: dict[str, Any]) -> bool:
        """Change a delivery under way, if it is still the caller's.

        Every claim counts ``attempts`` up; the time tells claims apart that a reopening lies between.
        """
        deliveries = tables.deliveries
        statement = update(deliveries).where(
            deliveries.c.delivery_id == delivery.id,
            deliveries.c.state == DeliveryState.SENDING,
            deliveries.c.attempts == delivery.attempts,
            deliveries.c.updated_at == delivery.updated_at,
        )
        values = {"worker": None, "lease_until": None, "updated_at": self._now(), **changes}
        return connection.execute(statement.values(**values)).rowcount == 1

    def _insert(self, connection: Connection, alert: Alert, channels: Sequence[str]) -> None:
        columns = [column.name for column in tables.alerts.c if column.name not in {"alert_id", "payload"}]
        row = {name: getattr(alert, name) for name in columns}
        connection.execute(
            insert(tables.alerts).values(alert_id=alert.id, payload=dict(alert.payload), **row)
        )
        _add_events(connection, alert.id, alert.event_ids)
        now = self._now()
        fresh = {"state": DeliveryState.PENDING, "attempts": 0, "next_attempt_at": now, "updated_at": now}
        insert_new(
            connection,
            tables.deliveries,
            [
                {"delivery_id": f"{alert.id}/{channel}", "alert_id": alert.id, "channel": channel, **fresh}
                for channel in channels
            ],
        )


def _with_event(connection: Connection, event_id: str) -> Alert | None:
    events = tables.alert_events
    holder = select(events.c.alert_id).where(events.c.event_id == event_id).scalar_subquery()
    return next(iter(_alerts(connection, tables.alerts.c.alert_id == holder)), None)


def _same_happening(alert: Alert, *, cool_down: timedelta, also_events: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition for alerts that tell of the same happening."""
    alerts, events = tables.alerts, tables.alert_events
    again = and_(
        alerts.c.dedup_key == alert.dedup_key,
        alerts.c.captured_from <= alert.captured_to + cool_down,
        alerts.c.captured_to >= alert.captured_from - cool_down,
    )
    told = select(events.c.alert_id).where(events.c.event_id.in_(also_events))
    same_place = and_(alerts.c.outpost_id == alert.outpost_id, alerts.c.control_room == alert.control_room)
    return or_(again, and_(same_place, alerts.c.alert_id.in_(told)))


def _to_join(
    connection: Connection, alert: Alert, same: ColumnElement[bool], *, longest: timedelta
) -> Alert | None:
    """Return the alert that this one joins: the most urgent, then the earliest, of those that may take it."""
    alerts = tables.alerts
    found = _alerts(
        connection,
        same,
        # Words that are out cannot grow more urgent, and nobody looks at a closed alert again.
        alerts.c.priority <= alert.priority,
        alerts.c.state.not_in(_CLOSED),
    )
    fitting = [standing for standing in found if _has_room(standing, alert, longest)]
    return min(fitting, key=lambda item: (item.priority, item.captured_from, item.id), default=None)


def _has_room(standing: Alert, alert: Alert, longest: timedelta) -> bool:
    """Return whether an alert's capture window holds another's, or may be widened to do so."""
    start, end = _joint_window(standing, alert)
    return (start, end) == (standing.captured_from, standing.captured_to) or end - start <= longest


def _joint_window(standing: Alert, alert: Alert) -> tuple[datetime, datetime]:
    return min(standing.captured_from, alert.captured_from), max(standing.captured_to, alert.captured_to)


def _join(connection: Connection, standing: Alert, alert: Alert) -> None:
    alerts = tables.alerts
    start, end = _joint_window(standing, alert)
    connection.execute(
        update(alerts).where(alerts.c.alert_id == standing.id).values(captured_from=start, captured_to=end)
    )
    _add_events(connection, standing.id, alert.event_ids, start=len(standing.event_ids))


def _add_events(connection: Connection, alert_id: str, event_ids: Sequence[str], *, start: int = 0) -> None:
    """Give an alert its events in order; those that already have an alert stay there."""
    rows = [
        {"event_id": event_id, "alert_id": alert_id, "position": position}
        for position, event_id in enumerate(event_ids, start)
    ]
    insert_new(connection, tables.alert_events, rows)


def _release_events(connection: Connection, event_ids: Sequence[str]) -> None:
    """Take events from the alerts that they have, for the more urgent one that is to have them."""
    events = tables.alert_events
    connection.execute(delete(events).where(events.c.event_id.in_(event_ids)))


def _free(now: datetime, dead: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition for deliveries that can be claimed at ``now``."""
    deliveries = tables.deliveries
    waiting = and_(deliveries.c.state == DeliveryState.PENDING, deliveries.c.next_attempt_at <= now)
    ended = or_(deliveries.c.lease_until <= now, deliveries.c.worker.in_(dead))
    return or_(waiting, and_(deliveries.c.state == DeliveryState.SENDING, ended))


def _dead_senders(connection: Connection, *conditions: ColumnElement[bool]) -> list[str]:
    deliveries = tables.deliveries
    senders = select(deliveries.c.worker).where(deliveries.c.state == DeliveryState.SENDING, *conditions)
    return [worker for worker in connection.scalars(senders.distinct()) if is_dead(worker)]


def _alerts(connection: Connection, *conditions: ColumnElement[bool]) -> list[Alert]:
    """Return the alerts that meet the conditions, oldest first."""
    alerts, events = tables.alerts, tables.alert_events
    which = select(alerts).where(*conditions).order_by(alerts.c.raised_at, alerts.c.alert_id)
    inside = select(events).join(alerts).where(*conditions).order_by(events.c.position, events.c.event_id)
    rows = connection.execute(which).all()
    event_ids: dict[str, list[str]] = {row.alert_id: [] for row in rows}
    for row in connection.execute(inside):
        event_ids.setdefault(row.alert_id, []).append(row.event_id)
    return [_alert(row, tuple(event_ids[row.alert_id])) for row in rows]


def _alert(row: Row[Any], event_ids: tuple[str, ...]) -> Alert:
    values = {
        **row._mapping,
        "priority": Priority(row.priority),
        "kind": EventKind(row.kind),
        "state": AlertState(row.state),
        "event_ids": event_ids,
    }
    return Alert(id=values.pop("alert_id"), **values)


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.delivery_id,
        alert_id=row.alert_id,
        channel=row.channel,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        last_error=row.last_error,
        answer=row.answer,
        updated_at=row.updated_at,
    )
