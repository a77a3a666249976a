"""What a station remembers between runs: hashes of files it has read, previews, packages on their way.

Belongs here: one small SQLite file and a folder of previews. Not here: what has arrived, which only the
server knows and is asked for (``send.py``). Losing this folder costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from outwatch.domain.errors import UploadInterrupted

BUSY_S = 30.0
"""Two commands at once wait so long for each other's write."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS hashes (
    path TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, modified_ns INTEGER NOT NULL, sha256 TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS waiting (
    folder TEXT PRIMARY KEY, declared TEXT NOT NULL, url TEXT NOT NULL, created_at TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A folder whose upload was begun and not yet confirmed."""

    folder: Path
    declared: Mapping[str, str]
    url: str
    created_at: datetime


class Queue:
    """A station's memory, in a folder of its own; several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.previews.mkdir(parents=True, exist_ok=True)
        with self._opened() as database:
            database.executescript(_SCHEMA)

    @property
    def previews(self) -> Path:
        """Return the folder of previews, by the hash of the clip they show."""
        return self._folder / "previews"

    def sha256(self, path: Path) -> str:
        """Return a file's SHA-256, read once for as long as its size and time stay the same.

        Raises:
            UploadInterrupted: the file changed while it was read, or cannot be read.
        """
        try:
            before = path.stat()
            known = self._known(path, before.st_size, before.st_mtime_ns)
            if known is not None:
                return known
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = path.stat()
        except OSError as error:
            raise UploadInterrupted(
                f"{path} cannot be read ({error.strerror}): is the card in place?"
            ) from error
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise UploadInterrupted(
                f"{path} changed while it was read: wait until it is written, then run again"
            )
        with self._opened() as database:
            row = (str(path.absolute()), after.st_size, after.st_mtime_ns, digest)
            database.execute("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?)", row)
        return digest

    def begin(self, folder: Path, *, declared: Mapping[str, str], url: str, now: datetime) -> datetime:
        """Remember an upload until ``done``; return when it was first begun with this declaration."""
        place, text = str(folder.absolute()), json.dumps(dict(declared), sort_keys=True)
        with self._opened() as database:
            row = database.execute(
                "SELECT declared, created_at FROM waiting WHERE folder = ?", (place,)
            ).fetchone()
            created = row[1] if row is not None and row[0] == text else now.isoformat()
            database.execute(
                "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?)", (place, text, url, created)
            )
        return datetime.fromisoformat(created).astimezone(UTC)

    def waiting(self) -> list[Waiting]:
        """Return the uploads that were begun and are not done, oldest first."""
        with self._opened() as database:
            rows = database.execute(
                "SELECT folder, declared, url, created_at FROM waiting ORDER BY created_at"
            ).fetchall()
        return [
            Waiting(Path(row[0]), json.loads(row[1]), row[2], datetime.fromisoformat(row[3])) for row in rows
        ]

    def done(self, folder: Path) -> None:
        """Forget an upload that the server has confirmed."""
        with self._opened() as database:
            database.execute("DELETE FROM waiting WHERE folder = ?", (str(folder.absolute()),))

    def _known(self, path: Path, size_bytes: int, modified_ns: int) -> str | None:
        with self._opened() as database:
            row = database.execute(
                "SELECT sha256 FROM hashes WHERE path = ? AND size_bytes = ? AND modified_ns = ?",
                (str(path.absolute()), size_bytes, modified_ns),
            ).fetchone()
        return None if row is None else str(row[0])

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self._folder / "queue.db", timeout=BUSY_S)
        try:
            with database:
                yield database
        finally:
            database.close()
