"""The book of incidents: which events are one happening, why, and what people said of it.

Belongs here: events by time and place, their incidents with the figures by which they were joined, and the
decisions of people. Not here: when events are one happening (``detection/incidents.py``).

Every change is one transaction, one at a time: it puts in the events of a clip or window, then joins again
all that the change can reach. An incident's id follows from its earliest event; where that changes, or where
events vanish when a step runs again, the old id stays as an alias (``merged_into``), so that no link breaks.
A decision names events; where a later run gave them other ids it holds for the nearest event of the same
source, kind and outpost that overlaps in time. It is never deleted: another row undoes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, delete, insert, or_, select, update

from outwatch.domain.errors import DecisionRefused, ObjectMissing
from outwatch.domain.incidents import Account, Joined, Membership, Ruling, Verdict
from storage import keys, tables
from storage.database import reading, serialise, storable, upsert, writing
from storage.incident_rows import (
    Change,
    Decision,
    Standing,
    anchor,
    anchor_row,
    in_parts,
    index_row,
    member_row,
    read_accounts,
    read_decisions,
    read_incident_of,
    read_memberships,
    read_standing,
    same_event,
)

Join = Callable[[Sequence[Account], Sequence[Ruling]], Sequence[Joined]]
"""From events and what people said of them to incidents."""
_EITHER_SIDE = 4
"""Times ``longest`` that is read on either side of what can change: a chain shows within one that it is too
long, its parts end at a mark within another, what a person joined reaches one further; one to spare."""


class IncidentBook:
    """The book of incidents.

    Args:
        engine: a migrated database.
        join: says which events are one happening.
        longest: no incident is longer, but for its last event's own length.
        reach: how far apart in time two events that are joined can be.
        now: the time, UTC-aware.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        join: Join,
        longest: timedelta,
        reach: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._join = join
        self._longest = longest
        self._reach = reach
        self._now = now

    def take(self, subject: str, accounts: Sequence[Account]) -> list[str]:
        """Put the events of a clip or window in the place of those that it had, and join what they can reach.

        Returns:
            The ids of their incidents, sorted; none where there are no events.
        """
        index = tables.event_index
        with _one_at_a_time(self._engine) as connection:
            before = read_accounts(connection, index.c.subject == subject)
            changed = [*before, *accounts]
            for part in in_parts({item.event_id for item in changed}):
                connection.execute(delete(index).where(index.c.event_id.in_(part)))
            if accounts:
                connection.execute(insert(index), [index_row(item) for item in accounts])
            self._join_around(connection, changed)
            return sorted(set(read_incident_of(connection, [item.event_id for item in accounts]).values()))

    def decide(
        self, verdict: Verdict, one: Sequence[str], other: Sequence[str], *, who: str, why: str
    ) -> Decision:
        """Record that a person joins two sides' events, or separates each of one from each of the other.

        Of two events the last word counts; an earlier one to the contrary counts again where the later is
        undone.

        Args:
            verdict: what is decided.
            one: ids of events.
            other: ids of events; to separate one event from the rest of its incident, the rest.
            who: the person.
            why: the reason, for the record.

        Raises:
            ObjectMissing: there is no such event.
            DecisionRefused: a side is empty, both share an event, or together they are too long.
        """
        with _one_at_a_time(self._engine) as connection:
            index = tables.event_index
            sides = [read_accounts(connection, index.c.event_id.in_(ids)) for ids in (one, other)]
            found = {item.event_id for side in sides for item in side}
            if missing := sorted({*one, *other} - found):
                raise ObjectMissing(f"event {missing[0]} is not known: see `outwatch events`")
            self._check(verdict, *sides)
            number = self._write(connection, verdict, who=who, why=why)
            for place, side in enumerate(sides):
                rows = [anchor_row(number, place, item) for item in side]
                connection.execute(insert(tables.decided_events), rows)
            self._join_around(connection, [*sides[0], *sides[1]])
            return read_decisions(connection, tables.incident_decisions.c.decision_id == number)[0]

    def undo(self, decision_id: int, *, who: str, why: str) -> Decision:
        """Record that a decision no longer holds.

        Raises:
            ObjectMissing: there is no such decision.
            DecisionRefused: it is undone already, or is itself an undoing.
        """
        decisions, anchors = tables.incident_decisions, tables.decided_events
        with _one_at_a_time(self._engine) as connection:
            standing = next(iter(read_decisions(connection, decisions.c.decision_id == decision_id)), None)
            if standing is None:
                raise ObjectMissing(
                    f"decision {decision_id} is not known: see `outwatch incidents decisions`"
                )
            if standing.verdict == "undo" or standing.undone_by is not None:
                raise DecisionRefused(
                    f"decision {decision_id} ({standing.verdict}) does not hold: join or separate anew"
                )
            number = self._write(connection, "undo", who=who, why=why, undoes=decision_id)
            rows = connection.execute(select(anchors).where(anchors.c.decision_id == decision_id)).all()
            self._join_around(connection, [anchor(row) for row in rows])
            return read_decisions(connection, decisions.c.decision_id == number)[0]

    def incident_of(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Return the incident of each event that has one."""
        with reading(self._engine) as connection:
            return read_incident_of(connection, event_ids)

    def incident(self, incident_id: str) -> Standing | None:
        """Return an incident by its id or one that it had before; None where none of its events stands."""
        with reading(self._engine) as connection:
            current: str | None = incident_id
            incidents = tables.incidents
            while current is not None:
                row = connection.execute(
                    select(incidents).where(incidents.c.incident_id == current)
                ).one_or_none()
                if row is None or row.merged_into is None:
                    break
                current = row.merged_into
            return next(iter(read_standing(connection, [str(current)])), None)

    def incidents(self, since: datetime | None = None) -> list[Standing]:
        """Return the incidents with an event that ended at or after ``since``, in order of start."""
        members, index = tables.incident_members, tables.event_index
        query = select(members.c.incident_id).join(index, index.c.event_id == members.c.event_id).distinct()
        if since is not None:
            query = query.where(index.c.ended_at >= since)
        with reading(self._engine) as connection:
            return read_standing(connection, list(connection.scalars(query)))

    def changed(self, since: datetime, also: Sequence[str] = ()) -> list[Change]:
        """Return the incidents that changed at or after a time, and those with the ids ``also``, by id."""
        incidents = tables.incidents
        which = or_(incidents.c.changed_at >= since, incidents.c.incident_id.in_(also))
        with reading(self._engine) as connection:
            rows = connection.execute(select(incidents).where(which).order_by(incidents.c.incident_id)).all()
            standing = {
                item.id: item for item in read_standing(connection, [row.incident_id for row in rows])
            }
        return [
            Change(row.incident_id, row.changed_at, row.merged_into, standing.get(row.incident_id))
            for row in rows
        ]

    def accounts(self, since: datetime, until: datetime) -> list[Account]:
        """Return the events that started within a span of time, in order of start."""
        with reading(self._engine) as connection:
            return read_accounts(connection, tables.event_index.c.started_at.between(since, until))

    def decisions(self) -> list[Decision]:
        """Return all decisions, oldest first, those that undo others among them."""
        with reading(self._engine) as connection:
            return read_decisions(connection)

    def _check(self, verdict: Verdict, one: Sequence[Account], other: Sequence[Account]) -> None:
        if not one or not other or {item.event_id for item in one} & {item.event_id for item in other}:
            raise DecisionRefused(f"cannot {verdict}: expected two events or incidents that differ")
        everything = [*one, *other]
        first, last = _span(everything)
        span = last - first
        if verdict == "join" and span > self._longest:
            raise DecisionRefused(
                f"cannot join what lasts {span}: an incident is at most {self._longest} long "
                "(OUTWATCH_INCIDENTS__LONGEST)"
            )

    def _write(
        self, connection: Connection, verdict: str, *, who: str, why: str, undoes: int | None = None
    ) -> int:
        values = {"who": storable(who), "why": storable(why), "decided_at": self._now(), "undoes": undoes}
        decisions = tables.incident_decisions
        row = insert(decisions).values(verdict=verdict, **values).returning(decisions.c.decision_id)
        return int(connection.execute(row).scalar_one())

    def _join_around(self, connection: Connection, changed: Sequence[Account]) -> None:
        """Join again whatever events that changed, came or went can reach, and write what is different."""
        if not changed:
            return
        first, last = _span(changed, margin=self._reach + self._longest)
        beyond = _EITHER_SIDE * self._longest + self._reach
        around = _between(connection, first - beyond, last + beyond)
        rulings = self._rulings(connection, around)
        known = {item.event_id: item for item in around}
        reached = [
            joined
            for joined in self._join(around, rulings)
            if any(known[e].ended_at >= first and known[e].started_at <= last for e in joined.event_ids)
        ]
        gone = [item for item in changed if item.event_id not in known]
        self._store(connection, reached, known=known, gone=gone)

    def _store(
        self,
        connection: Connection,
        reached: Sequence[Joined],
        *,
        known: dict[str, Account],
        gone: Sequence[Account],
    ) -> None:
        """Write incidents that differ from those that stand; ids that stood for the same become aliases."""
        now, members = self._now(), tables.incident_members
        where = {
            event_id: keys.incident_id(item.event_ids[0]) for item in reached for event_id in item.event_ids
        }
        stood = read_memberships(connection, [*where, *(item.event_id for item in gone)])
        fresh = {
            member.event_id: (keys.incident_id(item.event_ids[0]), member)
            for item in reached
            for member in item.members
        }
        changed = [e for e, row in fresh.items() if e not in stood or row != stood[e]]
        left = {stood[e][0] for e in [*changed, *(item.event_id for item in gone)] if e in stood}
        for incident in sorted({where[e] for e in changed} | left.intersection(where.values())):
            row = {"incident_id": incident, "merged_into": None, "changed_at": now}
            upsert(connection, tables.incidents, row)
        for part in in_parts([*changed, *(item.event_id for item in gone)]):
            connection.execute(delete(members).where(members.c.event_id.in_(part)))
        rows = [member_row(*fresh[event_id], joined_at=now) for event_id in changed]
        if rows:
            connection.execute(insert(members), rows)
        self._rename(connection, stood, where=where, known=known, gone=gone)

    def _rename(
        self,
        connection: Connection,
        stood: dict[str, tuple[str, Membership]],
        *,
        where: dict[str, str],
        known: dict[str, Account],
        gone: Sequence[Account],
    ) -> None:
        """Let each id that stands for nothing any more lead to where most of its events went."""
        went: dict[str, Counter[str]] = {}
        new = [known[event_id] for event_id in where if event_id not in stood]
        heirs = {item.event_id: same_event(item, new) for item in gone}
        for event_id, (incident, _) in stood.items():
            heir = heirs.get(event_id, event_id)
            target = where.get(heir) if heir is not None else None
            counted = went.setdefault(incident, Counter())
            if target is not None:
                counted[target] += 1
        incidents, now = tables.incidents, self._now()
        for old in sorted(set(went) - set(where.values())):
            most = min(went[old], key=lambda new: (-went[old][new], new), default=None)
            changes = {"merged_into": most, "changed_at": now}
            which = incidents.c.incident_id == old
            if most is not None:  # what led to the old one leads on
                which = or_(which, incidents.c.merged_into == old)
            connection.execute(update(incidents).where(which).values(**changes))

    def _rulings(self, connection: Connection, around: Sequence[Account]) -> list[Ruling]:
        """Return what people said of pairs of the given events, in the order in which they said it."""
        if not around:
            return []
        anchors = tables.decided_events
        first, last = _span(around, margin=self._longest)
        decisions = [d for d in read_decisions(connection) if d.verdict != "undo" and d.undone_by is None]
        near = anchors.c.started_at.between(first, last)
        sides: dict[int, tuple[list[str], list[str]]] = {}
        for row in connection.execute(select(anchors).where(near).order_by(anchors.c.event_id)):
            event_id = same_event(anchor(row), around)
            if event_id is not None:
                sides.setdefault(row.decision_id, ([], []))[row.side].append(event_id)
        return [
            Ruling(one, other, d.verdict, f"person:{d.who}#{d.id}")
            for d in decisions
            for one in sides.get(d.id, ([], []))[0]
            for other in sides.get(d.id, ([], []))[1]
        ]


@contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[Connection]:
    """Give a transaction that no other change of the book runs beside."""
    with writing(engine) as connection:
        serialise(connection, "outwatch/incidents")
        yield connection


def _span(accounts: Sequence[Account], *, margin: timedelta = timedelta(0)) -> tuple[datetime, datetime]:
    """Return when the first of events began and the last ended, wider by a margin on either side."""
    first, last = min(item.started_at for item in accounts), max(item.ended_at for item in accounts)
    return first - margin, last + margin


def _between(connection: Connection, first: datetime, last: datetime) -> list[Account]:
    index = tables.event_index
    return read_accounts(connection, index.c.ended_at >= first, index.c.started_at <= last)
