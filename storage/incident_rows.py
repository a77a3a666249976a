"""Rows of the book of incidents: events by time and place, memberships, decisions, there and back.

Belongs here: rows and values, in a transaction of the caller's, and knowing an event again after another run.
Not here: what changes and when (``incidents.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import shapely
from sqlalchemy import ColumnElement, Connection, Row, select

from outwatch.domain.geometry import distance_m
from outwatch.domain.incidents import Account, Membership, Verdict
from outwatch.domain.types import EventKind, GeoPoint
from storage import tables

_ROWS_A_STATEMENT = 500
"""Values of one IN: SQLite takes 32766 (https://www.sqlite.org/limits.html), and plans stay small."""
SAME_PLACE_M = 60.0
"""An event whose id changed in another run is not looked for further away: the rules part what is
(``rules.merge_distance_m``)."""


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
class Change:
    """When an incident last changed, and what became of it."""

    incident_id: str
    changed_at: datetime
    merged_into: str | None
    standing: Standing | None
    """None where none of its events is in it any more."""


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


def in_parts(values: Iterable[str]) -> Iterator[list[str]]:
    """Yield values in lists short enough for one statement."""
    ordered = sorted(values)
    for start in range(0, len(ordered), _ROWS_A_STATEMENT):
        yield ordered[start : start + _ROWS_A_STATEMENT]


def in_order(account: Account) -> tuple[datetime, str]:
    """Return what events are sorted by: their start."""
    return account.started_at, account.event_id


def read_accounts(connection: Connection, *conditions: ColumnElement[bool]) -> list[Account]:
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


def index_row(account: Account) -> dict[str, Any]:
    """Return an event as a row of the index."""
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


def anchor_row(decision_id: int, side: int, account: Account) -> dict[str, Any]:
    """Return an event as a row of a decision on it, on one of its sides."""
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


def anchor(row: Row[Any]) -> Account:
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


def same_event(wanted: Account, among: Iterable[Account]) -> str | None:
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


def read_incident_of(connection: Connection, event_ids: Iterable[str]) -> dict[str, str]:
    """Return the incident of each event that has one."""
    return {event_id: incident for event_id, (incident, _) in read_memberships(connection, event_ids).items()}


def read_memberships(connection: Connection, event_ids: Iterable[str]) -> dict[str, tuple[str, Membership]]:
    """Return the incident of each event that has one, and why it belongs there."""
    members = tables.incident_members
    return {
        row.event_id: (row.incident_id, _membership(row))
        for part in in_parts(set(event_ids))
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


def read_standing(connection: Connection, incident_ids: Iterable[str]) -> list[Standing]:
    """Return incidents with their events, in order of start."""
    members, index, incidents = tables.incident_members, tables.event_index, tables.incidents
    found: dict[str, list[Member]] = {}
    aliases: dict[str, list[str]] = {}
    for part in in_parts(set(incident_ids)):
        rows = select(members, index).join(index, index.c.event_id == members.c.event_id)
        rows = rows.where(members.c.incident_id.in_(part)).order_by(index.c.started_at, index.c.event_id)
        for row in connection.execute(rows):
            member = Member(_account(row), _membership(row), row.joined_at)
            found.setdefault(row.incident_id, []).append(member)
        old = select(incidents).where(incidents.c.merged_into.in_(part)).order_by(incidents.c.incident_id)
        for row in connection.execute(old):
            aliases.setdefault(row.merged_into, []).append(row.incident_id)
    standing = [Standing(name, tuple(inside), tuple(aliases.get(name, ()))) for name, inside in found.items()]
    return sorted(standing, key=lambda item: in_order(item.members[0].account))


def member_row(incident: str, member: Membership, *, joined_at: datetime) -> dict[str, Any]:
    """Return why an event belongs to an incident as a row."""
    return {"incident_id": incident, "joined_at": joined_at, **asdict(member)}


def read_decisions(connection: Connection, *conditions: ColumnElement[bool]) -> list[Decision]:
    """Return the decisions that meet the conditions, oldest first."""
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
