"""Files on their way in: their bytes so far, and what is known of them, under ``$OUTWATCH_HOME/incoming``.

Belongs here: one folder of parts a package, one SQLite file beside them, and the limits. Not here: what a
whole file means (``incoming.py``) and how bytes come (``outwatch/console/uploads.py``, which speaks tus).

How much of a file has come is the size of its part and stands nowhere else, so that no crash can make the
two differ. All else is in the database, which several processes may use: the server and the sweep.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from outwatch.domain.errors import (
    NoRoom,
    ObjectMissing,
    PackageRefused,
    PackageTooLarge,
    StoreUnavailable,
    UploadInterrupted,
)
from outwatch.pipeline.landing import require_room
from outwatch.settings import Settings

MANIFEST_ROLE = "manifest"
"""Of the file that announces the others; theirs are ``ingest.courier.package.Role``."""
BUSY_S = 30.0
"""Two processes at once wait so long for each other's write."""
ROOM_CHECK_BYTES = 16 << 20
"""The free space is looked at again after so many bytes of one request."""
_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS packages (
    id TEXT PRIMARY KEY, client TEXT NOT NULL, declared TEXT NOT NULL, created_at TEXT NOT NULL,
    open_until TEXT);
CREATE TABLE IF NOT EXISTS files (
    package TEXT NOT NULL, number INTEGER NOT NULL, path TEXT NOT NULL, role TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, sha256 TEXT, modified_at TEXT,
    state TEXT NOT NULL, reason TEXT NOT NULL, upload_id TEXT NOT NULL,
    PRIMARY KEY (package, number));
"""


class ArrivalState(StrEnum):
    """Where a file on its way in stands."""

    WAITING = "waiting"
    """Not all of it has come, or nobody has read it through yet."""
    CONFIRMED = "confirmed"
    """All of it has come and its hash is right."""
    LANDED = "landed"
    """Handed over; its part is gone."""
    REFUSED = "refused"
    """It came whole and wrong: its part is gone, and it may be sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A file on its way in."""

    package: str
    number: int
    """Within the package; the manifest is 0."""
    path: str
    role: str
    """``manifest``, a role of the package's, or empty where nobody declared one."""
    size_bytes: int
    sha256: str | None = None
    """None where the client did not say."""
    modified_at: datetime | None = None
    state: ArrivalState = ArrivalState.WAITING
    reason: str = ""
    """Why it was refused, or why it could not be handed over yet."""
    upload_id: str = ""
    """The upload that it became a part of."""

    @property
    def id(self) -> str:
        """Return the last part of the file's tus URL."""
        return f"{self.package}-{self.number}"


@dataclass(frozen=True, slots=True)
class Parcel:
    """A package on its way in, or files that came without one."""

    id: str
    client: str
    """The address it comes from."""
    declared: Mapping[str, str]
    created_at: datetime
    files: tuple[Arrival, ...]
    open_until: datetime | None = None
    """More files may join until then, and telemetry whose clip has not come waits; None is a closed list."""


class Spool:
    """Files on their way in, as one process sees them; safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.folder, self.limits = settings.home_dir / "incoming", settings.uploads
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._opened() as database:
            database.executescript(_SCHEMA)

    def add(self, parcel: Parcel, *, join: bool = False) -> Parcel:
        """Announce a package with the files known so far, and return it as it then stands.

        Args:
            parcel: one that is known keeps what it has.
            join: add the files to a known one, numbered on; else it stays as it is.

        Raises:
            PackageTooLarge: a file, or their number, is more than is ever taken.
            NoRoom: too much is on its way, or the disk is too full.
        """
        with self._changing() as database:
            standing = _parcel(database, parcel.id)
            if standing is not None:
                # A crash may have come between the row and the folder.
                (self.folder / parcel.id).mkdir(exist_ok=True)
                if not join:
                    return standing
            known = standing.files if standing else ()
            files = [replace(file, number=file.number + len(known)) for file in parcel.files]
            self._check_limits(database, parcel.id, files, known=len(known))
            if standing is None:
                self._check_count(database)
                _insert_parcel(database, parcel)
            _insert(database, files)
        (self.folder / parcel.id).mkdir(exist_ok=True)
        return replace(parcel, files=(*known, *files))

    def extend(self, package: str, files: Sequence[Arrival], *, declared: Mapping[str, str]) -> None:
        """Announce the files that a package's manifest names, all or none.

        Raises:
            PackageTooLarge: a file, their number or their sum is more than is ever taken.
            NoRoom: too much is on its way, or the disk is too full.
        """
        with self._changing() as database:
            self._check_limits(database, package, files, known=0)
            _insert(database, files)
            told = json.dumps(dict(declared))
            database.execute("UPDATE packages SET declared = ? WHERE id = ?", (told, package))

    def parcel(self, package: str) -> Parcel | None:
        """Return a package, None where it is unknown."""
        with self._opened() as database:
            return _parcel(database, package)

    def parcels(self) -> list[Parcel]:
        """Return all packages, the oldest first."""
        with self._opened() as database:
            ids = database.execute("SELECT id FROM packages ORDER BY created_at, id").fetchall()
            found = [_parcel(database, row[0]) for row in ids]
        return [parcel for parcel in found if parcel is not None]

    def file(self, file_id: str) -> Arrival:
        """Return a file by the last part of its tus URL.

        Raises:
            ObjectMissing: there is no such file, or no longer.
        """
        package, _, number = file_id.rpartition("-")
        with self._opened() as database:
            row = database.execute(
                "SELECT * FROM files WHERE package = ? AND number = ?", (package, number)
            ).fetchone()
        if row is None:
            raise ObjectMissing(f"upload {file_id[:80]!r} is unknown here, or was given up: begin it again")
        return _arrival(row)

    def part(self, file: Arrival) -> Path:
        """Return where a file's bytes are."""
        return self.folder / file.package / str(file.number)

    def offset(self, file: Arrival) -> int:
        """Return how many bytes of a file have come."""
        if file.state is ArrivalState.LANDED:
            return file.size_bytes
        try:
            return self.part(file).stat().st_size
        except FileNotFoundError:
            return 0

    def settle(self, file: Arrival, state: ArrivalState, *, reason: str = "", upload_id: str = "") -> bool:
        """Change a file's state, unless someone else has changed it meanwhile; tell whether it was done."""
        with self._changing() as database:
            done = database.execute(
                "UPDATE files SET state = ?, reason = ?, upload_id = ? "
                "WHERE package = ? AND number = ? AND state = ?",
                (state, reason, upload_id, file.package, file.number, file.state),
            )
        return done.rowcount == 1

    def drop_part(self, file: Arrival) -> None:
        """Remove a file's bytes."""
        self.part(file).unlink(missing_ok=True)

    def remove(self, package: str) -> None:
        """Forget a package with all its parts."""
        with self._changing() as database:
            database.execute("DELETE FROM files WHERE package = ?", (package,))
            database.execute("DELETE FROM packages WHERE id = ?", (package,))
        shutil.rmtree(self.folder / package, ignore_errors=True)

    def moved_at(self, parcel: Parcel) -> datetime:
        """Return when anything of a package last came or was handed over."""
        folder = self.folder / parcel.id
        paths = [folder, *folder.iterdir()] if folder.is_dir() else []
        times = [datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in paths]
        # A part takes its file's own time when it lands, which a wrong clock may have set in the future.
        now = datetime.now(UTC)
        return max((at for at in times if at <= now), default=parcel.created_at)

    @contextmanager
    def settling(self, *, wait: bool = False) -> Iterator[bool]:
        """Keep other processes from handing files over meanwhile; yield whether the turn is ours."""
        with (self.folder / "settling.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True

    def open_part(self, file: Arrival) -> Writer:
        """Open a file's part for more bytes, by one request at a time.

        Raises:
            ObjectMissing: the package was given up.
            UploadInterrupted: another process is at the file.
        """
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(self.part(file), flags, 0o644)
        except FileNotFoundError as error:
            raise ObjectMissing(f"package {file.package} was given up meanwhile: begin it again") from error
        except OSError as error:
            raise _translated(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise UploadInterrupted(f"another request is sending {file.path}: ask again") from error
        return Writer(self, descriptor, file.size_bytes)

    def check_free(self, coming_bytes: int, *, largest_bytes: int) -> None:
        """Raise ``NoRoom`` where so many more bytes would fill the disk.

        Landing copies: what came could not land, nor ever make room, on a disk that is full of it. So room
        is left for the copy of the largest file that has come, or is coming now.
        """
        with self._opened() as database:
            query = "SELECT MAX(size_bytes) FROM files WHERE state = 'confirmed' AND role != 'manifest'"
            (waiting,) = database.execute(query).fetchone()
        require_room(self._settings, coming_bytes + max(waiting or 0, largest_bytes))

    def _check_limits(
        self, database: sqlite3.Connection, package: str, files: Sequence[Arrival], *, known: int
    ) -> None:
        limits = self.limits
        files = [file for file in files if file.role != MANIFEST_ROLE]  # it has a limit of its own
        for file in files:
            if file.size_bytes > limits.max_file_bytes:
                raise PackageTooLarge(
                    f"{file.path} has {_megabytes(file.size_bytes)}, at most "
                    f"{_megabytes(limits.max_file_bytes)} are taken: cut it, or raise uploads.max_file_bytes "
                    "on the server"
                )
        if known + len(files) > limits.max_package_files:
            raise PackageTooLarge(
                f"package {package} has {known + len(files)} files, at most {limits.max_package_files} are "
                "taken: pack it in parts, or raise uploads.max_package_files on the server"
            )
        more_bytes = sum(file.size_bytes for file in files)
        if more_bytes > limits.max_waiting_bytes:
            raise PackageTooLarge(
                f"package {package} has {_megabytes(more_bytes)}, at most "
                f"{_megabytes(limits.max_waiting_bytes)} are taken: pack it in parts, or raise "
                "uploads.max_waiting_bytes on the server"
            )
        row = database.execute("SELECT SUM(size_bytes) FROM files WHERE state != 'landed'").fetchone()
        if (row[0] or 0) + more_bytes > limits.max_waiting_bytes:
            raise NoRoom(
                f"{_megabytes(row[0])} are on their way already, at most "
                f"{_megabytes(limits.max_waiting_bytes)} are taken at once: try again when some have come"
            )
        self.check_free(more_bytes, largest_bytes=max((file.size_bytes for file in files), default=0))

    def _check_count(self, database: sqlite3.Connection) -> None:
        query = "SELECT COUNT(DISTINCT package) FROM files WHERE state IN ('waiting', 'refused')"
        (waiting,) = database.execute(query).fetchone()
        if waiting >= self.limits.max_packages:
            raise NoRoom(
                f"{waiting} packages are on their way, at most {self.limits.max_packages} are taken at once: "
                "try again when some have come"
            )

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(self.folder / "incoming.db", timeout=BUSY_S)
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(f"{self.folder}: {error}: is the disk in place?") from error
        try:
            database.row_factory = sqlite3.Row
            yield database
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise NoRoom("the server's disk is full: free some space; what came is kept") from error
            raise StoreUnavailable(f"{self.folder / 'incoming.db'}: {error}") from error
        finally:
            database.close()

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Open one transaction that no other process's can come between."""
        with self._opened() as database, database:
            database.execute("BEGIN IMMEDIATE")
            yield database


class Writer:
    """Appends to one part, never past the file's announced end."""

    def __init__(self, spool: Spool, descriptor: int, size_bytes: int) -> None:
        self._spool, self._descriptor, self._size_bytes = spool, descriptor, size_bytes
        self.offset = os.fstat(descriptor).st_size
        self._checked_at = self.offset

    def write(self, block: bytes) -> None:
        """Append bytes.

        Raises:
            PackageRefused: they exceed what was announced.
            NoRoom: the disk is full; what was written before is kept.
        """
        if self.offset + len(block) > self._size_bytes:
            raise PackageRefused(f"more bytes came than the {self._size_bytes} that were announced")
        if self.offset - self._checked_at >= ROOM_CHECK_BYTES:
            self._spool.check_free(len(block), largest_bytes=self._size_bytes)
            self._checked_at = self.offset
        rest = memoryview(block)
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                self.offset += written
                rest = rest[written:]
        except OSError as error:
            raise _translated(error) from error

    def close(self) -> None:
        """Make what was written durable, and let others have the file."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise _translated(error) from error
        finally:
            os.close(self._descriptor)


def _translated(error: OSError) -> NoRoom | StoreUnavailable:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NoRoom("the server's disk is full: free some space; what came is kept")
    return StoreUnavailable(f"{error.filename or 'incoming'}: {error.strerror}")


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def _insert_parcel(database: sqlite3.Connection, parcel: Parcel) -> None:
    row = (
        parcel.id,
        parcel.client,
        json.dumps(dict(parcel.declared)),
        parcel.created_at.isoformat(),
        parcel.open_until.isoformat() if parcel.open_until else None,
    )
    database.execute("INSERT INTO packages VALUES (?, ?, ?, ?, ?)", row)


def _insert(database: sqlite3.Connection, files: Sequence[Arrival]) -> None:
    rows = [
        (
            file.package,
            file.number,
            file.path,
            file.role,
            file.size_bytes,
            file.sha256,
            file.modified_at.isoformat() if file.modified_at else None,
            file.state,
            file.reason,
            file.upload_id,
        )
        for file in files
    ]
    # A manifest that is read twice, by server and sweep, announces the same files.
    database.executemany("INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _parcel(database: sqlite3.Connection, package: str) -> Parcel | None:
    row = database.execute("SELECT * FROM packages WHERE id = ?", (package,)).fetchone()
    if row is None:
        return None
    files = database.execute("SELECT * FROM files WHERE package = ? ORDER BY number", (package,)).fetchall()
    return Parcel(
        id=row["id"],
        client=row["client"],
        declared=json.loads(row["declared"]),
        created_at=datetime.fromisoformat(row["created_at"]),
        files=tuple(_arrival(file) for file in files),
        open_until=datetime.fromisoformat(row["open_until"]) if row["open_until"] else None,
    )


def _arrival(row: sqlite3.Row) -> Arrival:
    values: dict[str, Any] = dict(row)
    modified_at = values.pop("modified_at")
    return Arrival(
        **{**values, "state": ArrivalState(values["state"])},
        modified_at=datetime.fromisoformat(modified_at) if modified_at else None,
    )
