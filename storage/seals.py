"""Seals over records of evidence, and the book of which record was sealed when.

Belongs here: the one canonical form of a record, its digest, and the append-only chain in SQL. Not here:
what a record holds and the checks of what it names (``outwatch/pipeline``).

Each line of the book carries the digest of the line before it, so that no line can be changed, dropped or put
in between without all later ones changing. Who may write to both the store and the database can still make a
new book: against that the head of the chain must be known elsewhere (``docs/evidence.md``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row, insert, select

from outwatch.domain.errors import UnsupportedFormat
from storage import tables
from storage.database import reading, serialise, writing

SEAL = "seal"
"""The field of a record that holds the digest of all others."""
_FIRST_LINK = "0" * 64
_LINES_AT_ONCE = 1000


def canonical_json(value: object) -> bytes:
    """Return a value's one JSON form: sorted keys, no spaces, UTF-8 (as RFC 8785, but for how numbers look).

    Raises:
        ValueError: it holds a number that is none, or what JSON has no word for.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_of(value: object) -> str:
    """Return the SHA-256 of a value's canonical JSON as 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def seal_of(record: Mapping[str, Any]) -> str:
    """Return the digest of a record without its seal."""
    return digest_of({name: value for name, value in record.items() if name != SEAL})


def sealed_bytes(record: Mapping[str, Any]) -> bytes:
    """Return a record with its seal, as the bytes that are stored: to be read by people, one field a line."""
    whole = {**record, SEAL: seal_of(record)}
    return json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def read_record(data: bytes, *, name: str) -> dict[str, Any]:
    """Return a record as it is stored, whether or not its seal holds.

    Raises:
        UnsupportedFormat: the bytes are no JSON object, or hold what has no canonical form (NaN, half a
            surrogate); the message gives ``name``.
    """
    try:
        record = json.loads(data)
        canonical_json(record)
    except (ValueError, RecursionError) as error:
        raise UnsupportedFormat(f"{name} is no record of evidence: {error}") from error
    if not isinstance(record, dict):
        raise UnsupportedFormat(f"{name} is no record of evidence: expected an object of JSON")
    return record


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the book: a record of evidence was sealed."""

    number: int
    event_id: str
    seal: str
    at: datetime
    link: str
    """Digest of this line and of the link before it."""


@dataclass(frozen=True, slots=True)
class Chain:
    """How the book stands."""

    lines: int
    head: str
    """The last link; whoever keeps a copy elsewhere can tell that no line before it was changed."""
    broken_at: int | None
    """Number of the first line that does not follow from the one before it; None where all do."""


class SealBook:
    """The append-only book of seals.

    Args:
        engine: a migrated database.
        now: the time, UTC-aware.
    """

    def __init__(self, engine: Engine, *, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def enter(self, event_id: str, seal: str) -> None:
        """Add a line, unless the event's last one already has this seal."""
        book = tables.evidence_seals
        with writing(self._engine) as connection:
            serialise(connection, "outwatch/evidence_seals")
            of_event = select(book.c.seal).where(book.c.event_id == event_id)
            if connection.scalar(of_event.order_by(book.c.number.desc()).limit(1)) == seal:
                return
            last = connection.execute(select(book).order_by(book.c.number.desc()).limit(1)).first()
            number, before = (last.number + 1, last.link) if last else (1, _FIRST_LINK)
            at = self._now()
            link = _link(before, number=number, event_id=event_id, seal=seal, at=at)
            row = {"number": number, "event_id": event_id, "seal": seal, "at": at, "link": link}
            connection.execute(insert(book).values(row))

    def of_event(self, event_id: str) -> list[Line]:
        """Return an event's lines, oldest first."""
        book = tables.evidence_seals
        with reading(self._engine) as connection:
            query = select(book).where(book.c.event_id == event_id).order_by(book.c.number)
            return [_line(row) for row in connection.execute(query)]

    def sealed_events(self, beginning: str) -> set[str]:
        """Return the ids of all events ever sealed that begin so."""
        event_id = tables.evidence_seals.c.event_id
        with reading(self._engine) as connection:
            query = select(event_id).where(event_id.startswith(beginning, autoescape=True)).distinct()
            return set(connection.scalars(query))

    def check(self) -> Chain:
        """Walk the whole chain and return how it stands."""
        before, count, broken_at = _FIRST_LINK, 0, None
        with reading(self._engine) as connection:
            query = select(tables.evidence_seals).order_by(tables.evidence_seals.c.number)
            for row in connection.execute(query).yield_per(_LINES_AT_ONCE):
                line, count = _line(row), count + 1
                follows = _link(
                    before, number=line.number, event_id=line.event_id, seal=line.seal, at=line.at
                )
                if broken_at is None and (line.number != count or line.link != follows):
                    broken_at = count
                before = line.link
        return Chain(count, before, broken_at)


def _line(row: Row[Any]) -> Line:
    return Line(row.number, row.event_id, row.seal, row.at, row.link)


def _link(before: str, *, number: int, event_id: str, seal: str, at: datetime) -> str:
    return digest_of([before, number, event_id, seal, at.isoformat()])
