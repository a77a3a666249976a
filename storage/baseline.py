"""The baseline: what stands at a place on every flight, and what people said of it.

Belongs here: the ground that each clip saw, candidates, and decisions, which are rows of their own and never
deleted. Not here: what makes a candidate (``detection/baseline.py``) and what a confirmed place does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, insert, select, update

from outwatch.domain.errors import DecisionRefused, ObjectMissing
from outwatch.domain.types import GeoPoint
from storage import tables
from storage.database import reading, serialise, storable, upsert, writing
from storage.tables import PlaceState

_FROM: Mapping[PlaceState, frozenset[PlaceState]] = {
    PlaceState.CONFIRMED: frozenset({PlaceState.CANDIDATE, PlaceState.REFUSED, PlaceState.REMOVED}),
    PlaceState.REFUSED: frozenset({PlaceState.CANDIDATE}),
    PlaceState.REMOVED: frozenset({PlaceState.CONFIRMED}),
}
"""What each decision may follow."""
_AS_CONFIRMED = frozenset({"lat_deg", "lon_deg", "radius_m", "count"})
"""What a person saw when confirming a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place where something stands, with what is known of it."""

    id: str
    outpost_id: str
    point: GeoPoint
    radius_m: float
    count: int
    """How many stand there."""
    state: PlaceState
    flights: tuple[str, ...]
    first_at: datetime
    last_at: datetime
    absent_flight: str | None
    """The last flight that saw the place without the thing."""


@dataclass(frozen=True, slots=True)
class PlaceDecision:
    """What a person said of a place."""

    place_id: str
    state: PlaceState
    who: str
    why: str
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class SeenGround:
    """The ground that a clip saw, as WKB, longitude first."""

    clip_id: str
    flight_id: str
    started_at: datetime
    wkb: bytes


class BaselineBook:
    """The places, and the ground that clips saw.

    Args:
        engine: a migrated database.
        now: the time, UTC-aware.
    """

    def __init__(self, engine: Engine, *, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def note_ground(self, seen: SeenGround) -> None:
        """Record which ground a clip saw, in the place of what it was said to see before."""
        row = {
            "clip_id": seen.clip_id,
            "flight_id": seen.flight_id,
            "started_at": seen.started_at,
            "ground_wkb": seen.wkb,
        }
        with writing(self._engine) as connection:
            upsert(connection, tables.clip_looks, row)

    def ground(self, since: datetime, until: datetime) -> list[SeenGround]:
        """Return what was seen by the clips that started within a span of time, oldest first."""
        looks = tables.clip_looks
        query = select(looks).where(looks.c.started_at.between(since, until))
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(looks.c.started_at, looks.c.clip_id))
            return [SeenGround(row.clip_id, row.flight_id, row.started_at, row.ground_wkb) for row in rows]

    def put(self, places: Sequence[Place]) -> None:
        """Record what is known of places now; what a person said of one stays.

        A confirmed place stays as it was confirmed: more that stands there, or beside it, nobody confirmed.
        """
        with writing(self._engine) as connection:
            serialise(connection, "outwatch/baseline")
            stood = {place.id: place for place in _places(connection)}
            for place in places:
                row, known = _row(place), stood.get(place.id)
                if known is not None and known.state is PlaceState.CONFIRMED:
                    row |= {name: value for name, value in _row(known).items() if name in _AS_CONFIRMED}
                said = known is not None and known.state not in (PlaceState.CANDIDATE, PlaceState.WITHDRAWN)
                state = known.state if known is not None and said else place.state
                upsert(connection, tables.baseline_places, {**row, "state": state})

    def places(self) -> list[Place]:
        """Return every place that was ever a candidate, in order of when something first stood there."""
        with reading(self._engine) as connection:
            return _places(connection)

    def decide(self, place_id: str, state: PlaceState, *, who: str, why: str) -> Place:
        """Record what a person said of a place and return it.

        Raises:
            ObjectMissing: there is no such place.
            DecisionRefused: what was said before does not allow it.
        """
        table = tables.baseline_places
        with writing(self._engine) as connection:
            serialise(connection, "outwatch/baseline")
            found = [place for place in _places(connection) if place.id == place_id]
            if not found:
                raise ObjectMissing(f"place {place_id} is not known: see `outwatch baseline list`")
            if found[0].state not in _FROM[state]:
                may = ", ".join(sorted(_FROM[state]))
                raise DecisionRefused(
                    f"place {place_id} is {found[0].state}; only what is {may} can be {state}"
                )
            which = table.c.place_id == place_id
            connection.execute(update(table).where(which).values(state=state))
            values = {"who": storable(who), "why": storable(why), "decided_at": self._now()}
            connection.execute(
                insert(tables.baseline_decisions).values(place_id=place_id, state=state, **values)
            )
            return next(place for place in _places(connection) if place.id == place_id)

    def decisions(self) -> list[PlaceDecision]:
        """Return all that people said of places, oldest first."""
        table = tables.baseline_decisions
        with reading(self._engine) as connection:
            rows = connection.execute(select(table).order_by(table.c.decision_id))
            return [
                PlaceDecision(row.place_id, PlaceState(row.state), row.who, row.why, row.decided_at)
                for row in rows
            ]


def _places(connection: Connection) -> list[Place]:
    table = tables.baseline_places
    return [
        _place(row) for row in connection.execute(select(table).order_by(table.c.first_at, table.c.place_id))
    ]


def _place(row: Row[Any]) -> Place:
    return Place(
        id=row.place_id,
        outpost_id=row.outpost_id,
        point=GeoPoint(row.lat_deg, row.lon_deg),
        radius_m=row.radius_m,
        count=row._mapping["count"],
        state=PlaceState(row.state),
        flights=tuple(row.flights),
        first_at=row.first_at,
        last_at=row.last_at,
        absent_flight=row.absent_flight,
    )


def _row(place: Place) -> dict[str, Any]:
    return {
        "place_id": place.id,
        "outpost_id": place.outpost_id,
        "lat_deg": place.point.lat_deg,
        "lon_deg": place.point.lon_deg,
        "radius_m": place.radius_m,
        "count": place.count,
        "flights": list(place.flights),
        "first_at": place.first_at,
        "last_at": place.last_at,
        "absent_flight": place.absent_flight,
    }
