"""The memory of remote pulls: what each source showed, since when, and what was taken.

Belongs here: one row a remote file, as it was last listed. Not here: reaching sources and deciding
what may be taken (``ingest/sources``).

A file is known by its path and told apart by its fingerprint: size, modification time and ETag, as far
as the source gives them. A new fingerprint starts the row anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, insert, select, update

from outwatch.domain.ports import RemoteFile
from storage import tables
from storage.database import reading, serialise, storable, writing
from storage.tables import PullState

_ROWS_A_STATEMENT = 500
"""Values of one IN: SQLite takes 32766 (https://www.sqlite.org/limits.html), and plans stay small."""


@dataclass(frozen=True, slots=True)
class PulledFile:
    """A remote file as it was last listed, and what became of it."""

    source: str
    path: str
    size_bytes: int | None
    modified_at: datetime | None
    etag: str | None
    first_seen_at: datetime
    last_seen_at: datetime
    unchanged_since: datetime
    """When a listing first showed this fingerprint, by our clock."""
    state: PullState
    upload_id: str | None = None
    reason: str | None = None
    """Why it waits or was refused, in words a person can act on."""
    sha256: str | None = None


def fingerprint(file: RemoteFile | PulledFile) -> tuple[int | None, datetime | None, str | None]:
    """Return what tells one version of a file from the next."""
    return file.size_bytes, file.modified_at, file.etag


class PulledFiles:
    """The memory of all sources.

    Args:
        engine: a migrated database.
        now: the time, UTC-aware.
    """

    def __init__(self, engine: Engine, *, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def see(self, source: str, files: Sequence[RemoteFile]) -> list[PulledFile]:
        """Record a listing and return what is now known of each of its files, in its order.

        A file that is new or has changed waits; one that was listed before stays what it was.
        """
        now = self._now()
        with writing(self._engine) as connection:
            serialise(connection, f"outwatch/pulled/{source}")
            query = select(tables.pulled_files).where(tables.pulled_files.c.source == source)
            known = {row.path: _file(row) for row in connection.execute(query)}
            seen = [_seen(source, file, known.get(storable(file.path) or ""), now=now) for file in files]
            self._write(connection, {row.path: row for row in seen}, known=known)
        return seen

    def _write(
        self, connection: Connection, seen: Mapping[str, PulledFile], *, known: Mapping[str, PulledFile]
    ) -> None:
        table = tables.pulled_files
        if new := [asdict(row) for path, row in seen.items() if path not in known]:
            connection.execute(insert(table), new)
        same = []
        for path, row in seen.items():
            if path in known and fingerprint(known[path]) == fingerprint(row):
                same.append(path)
            elif path in known:
                one = update(table).where(table.c.source == row.source, table.c.path == path)
                connection.execute(one.values(**asdict(row)))
        for start in range(0, len(same), _ROWS_A_STATEMENT):
            part = table.c.path.in_(same[start : start + _ROWS_A_STATEMENT])
            source, last_seen_at = seen[same[0]].source, seen[same[0]].last_seen_at
            connection.execute(
                update(table).where(table.c.source == source, part).values(last_seen_at=last_seen_at)
            )

    def settle(
        self,
        source: str,
        file: RemoteFile,
        state: PullState,
        *,
        reason: str | None = None,
        upload_id: str | None = None,
        sha256: str | None = None,
    ) -> bool:
        """Say what became of a file; return False where a later listing shows it changed, which stands."""
        table = tables.pulled_files
        statement = update(table).where(
            table.c.source == source,
            table.c.path == storable(file.path),
            table.c.size_bytes.is_not_distinct_from(file.size_bytes),
            table.c.modified_at.is_not_distinct_from(file.modified_at),
            table.c.etag.is_not_distinct_from(file.etag),
        )
        values = {"state": state, "reason": storable(reason), "upload_id": upload_id, "sha256": sha256}
        with writing(self._engine) as connection:
            return connection.execute(statement.values(**values)).rowcount == 1

    def reopen_refused(self, source: str) -> int:
        """Have refused files of a source looked at again, once the cause is mended; return how many."""
        table = tables.pulled_files
        statement = update(table).where(table.c.source == source, table.c.state == PullState.REFUSED)
        with writing(self._engine) as connection:
            return connection.execute(statement.values(state=PullState.WAITING, reason=None)).rowcount

    def files(self, source: str | None = None, state: PullState | None = None) -> list[PulledFile]:
        """Return what is known, of one source or in one state where given, by source and path."""
        table = tables.pulled_files
        query = select(table).order_by(table.c.source, table.c.path)
        if source is not None:
            query = query.where(table.c.source == source)
        if state is not None:
            query = query.where(table.c.state == state)
        with reading(self._engine) as connection:
            return [_file(row) for row in connection.execute(query)]


def _file(row: Row[Any]) -> PulledFile:
    return PulledFile(**{**row._mapping, "state": PullState(row.state)})


def _seen(source: str, file: RemoteFile, before: PulledFile | None, *, now: datetime) -> PulledFile:
    """Return a file's row after a listing: as it was, or begun anew where it is new or has changed."""
    if before is not None and fingerprint(before) == fingerprint(file):
        return replace(before, last_seen_at=now)
    return PulledFile(
        source=source,
        path=storable(file.path) or "",
        size_bytes=file.size_bytes,
        modified_at=file.modified_at,
        etag=file.etag,
        first_seen_at=before.first_seen_at if before else now,
        last_seen_at=now,
        unchanged_since=now,
        state=PullState.WAITING,
    )
