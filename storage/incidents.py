"""The book of incidents: which events are one happening, why, and what people said of it.

Belongs here: events by time and place, their incidents with the figures by which they were joined, and the
decisions of people. Not here: when events are one happening (``detection/incidents.py``).

Every change is one transaction, one at a time: it puts in the events of a clip or window, then joins again
all that the change can reach. An incident's id follows from its earliest event; where that changes, or where
events vanish when a step runs again, the old id stays as an alias (``merged_into``), so that no link breaks.
A decision names events; where a later run gave them other ids it holds for the event of the same source, kind
and outpost that overlaps most in time. It is never deleted: another row undoes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import shapely
from sqlalchemy import ColumnElement, Connection, Engine, Row, delete, insert, select, update

from outwatch.domain.errors import DecisionRefused, ObjectMissing
from outwatch.domain.geometry import distance_m
from outwatch.domain.incidents import Account, Joined, Membership, Ruling, Verdict
from outwatch.domain.types import EventKind, GeoPoint
from storage import keys, tables
from storage.database import reading, serialise, storable, upsert, writing

Join = Callable[[Sequence[Account], Sequence[Ruling]], Sequence[Joined]]
"""From events and what people said of them to incidents."""
_ROWS_A_STATEMENT = 500
"""Values of one IN: SQLite takes 32766 (https://www.sqlite.org/limits.html), and plans stay small."""
SAME_PLACE_M = 60.0
"""An event whose id changed in another run is not looked for further away: the rules part what is
(``rules.merge_distance_m``)."""
_EITHER_SIDE = 4
"""Times ``longest`` that is read on either side of what can change: a chain shows within one that it is too
long, its parts end at a mark within another, what a person joined reaches one further; one to spare."""


@dataclass(frozen=True, slots=True)
class Member:
    """One event of an incident, and why it is."""

    account: Account
    membership: Membership
    joined_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """One incident as it stands, its events in order of start."""

    id: str
    members: tuple[Member, ...]
    aliases: tuple[str, ...]
    """Ids that it, or what became part of it, had before."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided, and which later decision undid it, if any."""

    id: int
    verdict: Verdict
    who: str
    why: str
    decided_at: datetime
    undoes: int | None
    undone_by: int | None
    event_ids: tuple[tuple[str, ...], tuple[str, ...]]
    """Of either side, as they were then."""


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
            before = _accounts(connection, index.c.subject == subject)
            changed = [*before, *accounts]
            for part in _parts({item.event_id for item in changed}):
                connection.execute(delete(index).where(index.c.event_id.in_(part)))
            if accounts:
                connection.execute(insert(index), [_index_row(item) for item in accounts])
            self._join_around(connection, changed)
            return sorted(set(_incident_of(connection, [item.event_id for item in accounts]).values()))

    def decide(
        self, verdict: Verdict, one: Sequence[str], other: Sequence[str], *, who: str, why: str
    ) -> Decision:
        """Record that a person joins two sides' events, or separates each of one from each of the other.

        What people said before to the contrary of the same events is undone.

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
            sides = [_accounts(connection, index.c.event_id.in_(ids)) for ids in (one, other)]
            found = {item.event_id for side in sides for item in side}
            if missing := sorted({*one, *other} - found):
                raise ObjectMissing(f"event {missing[0]} is not known: see `outwatch events`")
            self._check(verdict, *sides)
            contrary: Verdict = "separate" if verdict == "join" else "join"
            pairs = {frozenset((a, b)) for a in one for b in other}
            for number, ruling in self._rulings(connection, [*sides[0], *sides[1]]):
                if ruling.verdict == contrary and frozenset((ruling.one, ruling.other)) in pairs:
                    self._write(connection, "undo", who=who, why=why, undoes=number)
            number = self._write(connection, verdict, who=who, why=why)
            for place, side in enumerate(sides):
                rows = [_anchor_row(number, place, item) for item in side]
                connection.execute(insert(tables.decided_events), rows)
            self._join_around(connection, [*sides[0], *sides[1]])
            return _decisions(connection, tables.incident_decisions.c.decision_id == number)[0]

    def undo(self, decision_id: int, *, who: str, why: str) -> Decision:
        """Record that a decision no longer holds.

        Raises:
            ObjectMissing: there is no such decision.
            DecisionRefused: it is undone already, or is itself an undoing.
        """
        decisions, anchors = tables.incident_decisions, tables.decided_events
        with _one_at_a_time(self._engine) as connection:
            standing = next(iter(_decisions(connection, decisions.c.decision_id == decision_id)), None)
            if standing is None:
                raise ObjectMissing(f"decision {decision_id} is not known: see `outwatch incidents decisions`")
            if standing.verdict == "undo" or standing.undone_by is not None:
                raise DecisionRefused(
                    f"decision {decision_id} ({standing.verdict}) does not hold: join or separate anew"
                )
            number = self._write(connection, "undo", who=who, why=why, undoes=decision_id)
            rows = connection.execute(select(anchors).where(anchors.c.decision_id == decision_id)).all()
            self._join_around(connection, [_anchor(row) for row in rows])
            return _decisions(connection, decisions.c.decision_id == number)[0]

    def incident_of(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Return the incident of each event that has one."""
        with reading(self._engine) as connection:
            return _incident_of(connection, event_ids)

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
            return next(iter(_standing(connection, [str(current)])), None)

    def incidents(self, since: datetime | None = None) -> list[Standing]:
        """Return the incidents with an event that ended at or after ``since``, in order of start."""
        members, index = tables.incident_members, tables.event_index
        query = select(members.c.incident_id).join(index, index.c.event_id == members.c.event_id).distinct()
        if since is not None:
            query = query.where(index.c.ended_at >= since)
        with reading(self._engine) as connection:
            return _standing(connection, list(connection.scalars(query)))

    def accounts(self, since: datetime, until: datetime) -> list[Account]:
        """Return the events that started within a span of time, in order of start."""
        with reading(self._engine) as connection:
            return _accounts(connection, tables.event_index.c.started_at.between(since, until))

    def decisions(self) -> list[Decision]:
        """Return all decisions, oldest first, those that undo others among them."""
        with reading(self._engine) as connection:
            return _decisions(connection)

    def _check(self, verdict: Verdict, one: Sequence[Account], other: Sequence[Account]) -> None:
        if not one or not other or {item.event_id for item in one} & {item.event_id for item in other}:
            raise DecisionRefused(f"cannot {verdict}: expected two events or incidents that differ")
        everything = [*one, *other]
        span = max(item.ended_at for item in everything) - min(item.started_at for item in everything)
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
        index, margin = tables.event_index, self._reach + self._longest
        first = min(item.started_at for item in changed) - margin
        last = max(item.ended_at for item in changed) + margin
        beyond = _EITHER_SIDE * self._longest + self._reach
        around = _accounts(
            connection, index.c.ended_at >= first - beyond, index.c.started_at <= last + beyond
        )
        rulings = [ruling for _, ruling in self._rulings(connection, around)]
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
        stood = _memberships(connection, [*where, *(item.event_id for item in gone)])
        fresh = {
            member.event_id: (keys.incident_id(item.event_ids[0]), member)
            for item in reached
            for member in item.members
        }
        changed = [e for e, row in fresh.items() if e not in stood or row != stood[e]]
        for incident in sorted({where[event_id] for event_id in changed}):
            row = {"incident_id": incident, "merged_into": None, "changed_at": now}
            upsert(connection, tables.incidents, row)
        for part in _parts([*changed, *(item.event_id for item in gone)]):
            connection.execute(delete(members).where(members.c.event_id.in_(part)))
        rows = [_member_row(*fresh[event_id], joined_at=now) for event_id in changed]
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
        heirs = {item.event_id: _same_event(item, new) for item in gone}
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
            connection.execute(update(incidents).where(incidents.c.incident_id == old).values(**changes))

    def _rulings(self, connection: Connection, around: Sequence[Account]) -> list[tuple[int, Ruling]]:
        """Return what people said of pairs of the given events, with the decision, those first made first."""
        if not around:
            return []
        anchors = tables.decided_events
        first = min(item.started_at for item in around)
        last = max(item.ended_at for item in around)
        decisions = [d for d in _decisions(connection) if d.verdict != "undo" and d.undone_by is None]
        near = anchors.c.started_at.between(first - self._longest, last + self._longest)
        sides: dict[int, tuple[list[str], list[str]]] = {}
        for row in connection.execute(select(anchors).where(near).order_by(anchors.c.event_id)):
            event_id = _same_event(_anchor(row), around)
            if event_id is not None:
                sides.setdefault(row.decision_id, ([], []))[row.side].append(event_id)
        return [
            (d.id, Ruling(one, other, d.verdict, f"person:{d.who}#{d.id}"))
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


def _parts(values: Iterable[str]) -> Iterator[list[str]]:
    """Yield values in lists short enough for one statement."""
    ordered = sorted(values)
    for start in range(0, len(ordered), _ROWS_A_STATEMENT):
        yield ordered[start : start + _ROWS_A_STATEMENT]


def _in_order(account: Account) -> tuple[datetime, str]:
    return account.started_at, account.event_id


def _accounts(connection: Connection, *conditions: ColumnElement[bool]) -> list[Account]:
    """Return the events that meet the conditions, in order of start."""
    index = tables.event_index
    query = select(index).where(*conditions).order_by(index.c.started_at, index.c.event_id)
    return [_account(row) for row in connection.execute(query)]


def _account(row: Row[Any]) -> Account:
    place = None if row.lat_deg is None else GeoPoint(row.lat_deg, row.lon_deg, row.alt_m)
    return Account(
        event_id=row.event_id,
        subject=row.subject,
        kind=EventKind(row.kind),
        outpost_id=row.outpost_id,
        started_at=row.started_at,
        ended_at=row.ended_at,
        clock_doubt_s=row.clock_doubt_s,
        point=place,
        covariance_m2=(row.east_east_m2, row.east_north_m2, row.north_north_m2),
        method=row.method,
        count=row._mapping["count"],
    )


def _index_row(account: Account) -> dict[str, Any]:
    point = account.point
    east_east, east_north, north_north = account.covariance_m2
    return {
        "event_id": account.event_id,
        "subject": account.subject,
        "kind": account.kind.value,
        "outpost_id": account.outpost_id,
        "started_at": account.started_at,
        "ended_at": account.ended_at,
        "clock_doubt_s": account.clock_doubt_s,
        "lat_deg": point.lat_deg if point else None,
        "lon_deg": point.lon_deg if point else None,
        "alt_m": point.alt_m if point else None,
        "east_east_m2": east_east,
        "east_north_m2": east_north,
        "north_north_m2": north_north,
        "method": account.method,
        "count": account.count,
    }


def _anchor_row(decision_id: int, side: int, account: Account) -> dict[str, Any]:
    point = account.point
    return {
        "decision_id": decision_id,
        "event_id": account.event_id,
        "side": side,
        "source": account.source,
        "kind": account.kind.value,
        "outpost_id": account.outpost_id,
        "started_at": account.started_at,
        "ended_at": account.ended_at,
        "lat_deg": point.lat_deg if point else None,
        "lon_deg": point.lon_deg if point else None,
    }


def _anchor(row: Row[Any]) -> Account:
    """Return an event as it was when a person decided on it."""
    return Account(
        event_id=row.event_id,
        subject=row.source,
        kind=EventKind(row.kind),
        outpost_id=row.outpost_id,
        started_at=row.started_at,
        ended_at=row.ended_at,
        clock_doubt_s=0.0,
        point=None if row.lat_deg is None else GeoPoint(row.lat_deg, row.lon_deg),
    )


def _same_event(wanted: Account, among: Iterable[Account]) -> str | None:
    """Return the id that an event has now: its own, or that of the nearest it must be after another run."""
    fitting: list[tuple[float, float, str]] = []
    for account in among:
        if account.event_id == wanted.event_id:
            return wanted.event_id
        if (account.source, account.kind, account.outpost_id) == (
            wanted.source,
            wanted.kind,
            wanted.outpost_id,
        ):
            overlap = min(account.ended_at, wanted.ended_at) - max(account.started_at, wanted.started_at)
            away_m = 0.0
            if account.point is not None and wanted.point is not None:
                away_m = distance_m(account.point, shapely.Point(wanted.point.lon_deg, wanted.point.lat_deg))
            if overlap >= timedelta(0) and away_m <= SAME_PLACE_M:
                fitting.append((away_m, -overlap.total_seconds(), account.event_id))
    return min(fitting)[2] if fitting else None


def _incident_of(connection: Connection, event_ids: Iterable[str]) -> dict[str, str]:
    return {event_id: incident for event_id, (incident, _) in _memberships(connection, event_ids).items()}


def _memberships(connection: Connection, event_ids: Iterable[str]) -> dict[str, tuple[str, Membership]]:
    members = tables.incident_members
    return {
        row.event_id: (row.incident_id, _membership(row))
        for part in _parts(set(event_ids))
        for row in connection.execute(select(members).where(members.c.event_id.in_(part)))
    }


def _membership(row: Row[Any]) -> Membership:
    return Membership(
        event_id=row.event_id,
        by=row.by,
        near_event_id=row.near_event_id,
        distance_m=row.distance_m,
        mahalanobis=row.mahalanobis,
        gap_s=row.gap_s,
        note=row.note,
    )


def _standing(connection: Connection, incident_ids: Iterable[str]) -> list[Standing]:
    """Return incidents with their events, in order of start."""
    members, index, incidents = tables.incident_members, tables.event_index, tables.incidents
    found: dict[str, list[Member]] = {}
    aliases: dict[str, list[str]] = {}
    for part in _parts(set(incident_ids)):
        rows = select(members, index).join(index, index.c.event_id == members.c.event_id)
        rows = rows.where(members.c.incident_id.in_(part)).order_by(index.c.started_at, index.c.event_id)
        for row in connection.execute(rows):
            member = Member(_account(row), _membership(row), row.joined_at)
            found.setdefault(row.incident_id, []).append(member)
        old = select(incidents).where(incidents.c.merged_into.in_(part)).order_by(incidents.c.incident_id)
        for row in connection.execute(old):
            aliases.setdefault(row.merged_into, []).append(row.incident_id)
    standing = [Standing(name, tuple(inside), tuple(aliases.get(name, ()))) for name, inside in found.items()]
    return sorted(standing, key=lambda item: _in_order(item.members[0].account))


def _member_row(incident: str, member: Membership, *, joined_at: datetime) -> dict[str, Any]:
    return {"incident_id": incident, "joined_at": joined_at, **asdict(member)}


def _decisions(connection: Connection, *conditions: ColumnElement[bool]) -> list[Decision]:
    decisions, anchors = tables.incident_decisions, tables.decided_events
    later = decisions.alias()
    undone_by = select(later.c.decision_id).where(later.c.undoes == decisions.c.decision_id)
    query = select(decisions, undone_by.limit(1).scalar_subquery().label("undone_by")).where(*conditions)
    rows = connection.execute(query.order_by(decisions.c.decision_id)).all()
    sides: dict[int, tuple[list[str], list[str]]] = {row.decision_id: ([], []) for row in rows}
    inside = select(anchors).join(decisions).where(*conditions).order_by(anchors.c.event_id)
    for row in connection.execute(inside):
        sides[row.decision_id][row.side].append(row.event_id)
    return [
        Decision(
            id=row.decision_id,
            verdict=row.verdict,
            who=row.who,
            why=row.why,
            decided_at=row.decided_at,
            undoes=row.undoes,
            undone_by=row.undone_by,
            event_ids=(tuple(sides[row.decision_id][0]), tuple(sides[row.decision_id][1])),
        )
        for row in rows
    ]
