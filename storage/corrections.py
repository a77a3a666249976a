"""The corrections of flights that people made, every revision of them.

Belongs here: keeping a flight's correction, and which one stands. Not here: what is in it
(``detection/correction.py``), and having its clips worked on again (``outwatch/pipeline/corrections.py``).

A correction is never changed or deleted: a new one, or the word that there is none, is the next revision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row, func, insert, select

from storage import tables
from storage.database import reading, serialise, storable, writing


@dataclass(frozen=True, slots=True)
class Revision:
    """What one person said of one flight's heading and height at one time."""

    flight_id: str
    number: int
    """From 1, without gaps."""
    body: Mapping[str, Any] | None
    """JSON values; None says that the flight's telemetry stands as it came."""
    who: str
    at: datetime


class Corrections:
    """The book of corrections.

    Args:
        engine: a migrated database.
        now: the time, UTC-aware.
    """

    def __init__(self, engine: Engine, *, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def record(self, flight_id: str, body: Mapping[str, Any] | None, *, who: str) -> Revision:
        """Write a flight's next revision, which from then on stands, and return it."""
        table = tables.flight_corrections
        with writing(self._engine) as connection:
            serialise(connection, f"outwatch/corrections/{flight_id}")
            query = select(func.max(table.c.revision)).where(table.c.flight_id == flight_id)
            number = (connection.scalar(query) or 0) + 1
            revision = Revision(flight_id, number, body, storable(who) or "", self._now())
            connection.execute(
                insert(table).values(
                    flight_id=flight_id,
                    revision=number,
                    body=None if body is None else dict(body),
                    who=revision.who,
                    at=revision.at,
                )
            )
        return revision

    def standing(self, flight_id: str) -> Revision | None:
        """Return the newest revision, or None where nobody ever corrected the flight."""
        return next(reversed(self.revisions(flight_id)), None)

    def revisions(self, flight_id: str) -> list[Revision]:
        """Return all of a flight's revisions, oldest first."""
        table = tables.flight_corrections
        query = select(table).where(table.c.flight_id == flight_id).order_by(table.c.revision)
        with reading(self._engine) as connection:
            return [_revision(row) for row in connection.execute(query)]


def _revision(row: Row[Any]) -> Revision:
    return Revision(row.flight_id, row.revision, row.body, row.who, row.at)
