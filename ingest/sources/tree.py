"""Footage from a tree of folders, however it is reached: walking it and fetching from it, within bounds.

Belongs here: what SFTP, FTP, HTTP and local folders have in common. Not here: their libraries
(``sftp.py``, ``ftp.py``, ``http.py``, ``folder.py``), and which files may be taken (``taking.py``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import structlog

from ingest.sources.taking import is_unfinished, is_wanted, why_unsafe
from outwatch.domain.errors import ConfigInvalid, FeedTimeout, PermanentError
from outwatch.domain.ports import RemoteFile

MAX_FILES = 100_000
"""Files of one listing: some hundred bytes each, and ten years of thirty flights a day."""
MAX_ENTRIES = 10 * MAX_FILES
"""Names looked at for one listing, wanted or not."""
MAX_DEPTH = 16
"""Folders within folders: cards have three; a deeper tree is a mistake or a trap."""
BLOCK_BYTES = 1 << 18
"""Bytes asked for at a time: what a slow link carries in seconds."""
MAX_ETAG_CHARACTERS = 200
_MAX_SIZE_BYTES = (1 << 63) - 1
PARTIAL_SUFFIX = ".partial"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a remote folder; links and devices are no entries."""

    name: str
    is_folder: bool
    size_bytes: int | None = None
    """None where only ``Tree.stat`` can tell."""
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A remote file's bytes from ``start`` on, which is 0 where the server cannot begin elsewhere."""

    start: int
    blocks: Iterator[bytes]


class Tree(Protocol):
    """One protocol's way to folders and files. Paths are relative to the root, "" is the root itself.

    Every method raises only ``FeedTimeout``, ``AccessDenied``, ``ObjectMissing`` and ``ConfigInvalid``.
    """

    @property
    def url(self) -> str:
        """Return where the tree is, without secrets."""
        ...

    @property
    def clock(self) -> datetime | None:
        """Return what the server's clock said last, None where it does not say."""
        ...

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield what is in a folder."""
        ...

    def stat(self, path: str) -> RemoteFile:
        """Return a regular file as it is now."""
        ...

    def open(self, path: str, *, start: int, file: RemoteFile) -> AbstractContextManager[Opened]:
        """Open a file for reading from ``start``, if it is still ``file``."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


class Deadline:
    """How long one run may spend on a source, so that one that trickles holds up nothing else."""

    def __init__(self, source: str, *, max_run_s: float) -> None:
        self._source, self._max_run_s = source, max_run_s
        self._ends_at = time.monotonic() + max_run_s

    def check(self) -> None:
        """Raise ``FeedTimeout`` where the time is over."""
        if time.monotonic() > self._ends_at:
            raise FeedTimeout(
                f"source {self._source} took more than {self._max_run_s:.0f} s and was left: the next run "
                "goes on where this one stopped; raise max_run for a slow link"
            )


class TreeSource:
    """A ``FootageSource`` over a tree.

    Args:
        name: of the source, in settings.
        tree: how it is reached.
        include: patterns of the file names that are wanted, without regard to case.
        max_run_s: after so long, in seconds from now, every call raises ``FeedTimeout``.
    """

    def __init__(self, name: str, tree: Tree, *, include: Collection[str], max_run_s: float) -> None:
        self._name, self._tree, self._include = name, tree, include
        self._deadline = Deadline(name, max_run_s=max_run_s)
        self._skipped: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Return the source's name in settings."""
        return self._name

    @property
    def clock(self) -> datetime | None:
        """Return what the source's own clock said last, None where it does not say."""
        return self._tree.clock

    @property
    def skipped(self) -> Mapping[str, str]:
        """Return by path why the last listing left folders and files out."""
        return self._skipped

    def list(self) -> Iterator[RemoteFile]:
        """Yield the wanted files, and the unfinished ones beside them, folder by folder.

        Neither links nor hidden folders are followed; what cannot be read is ``skipped``. Names are as the
        server gives them: ``why_unsafe`` judges them, and ``fetch`` refuses what it does not pass.

        Raises:
            ConfigInvalid: there are too many files; a narrower folder or pattern helps.
            FeedTimeout, AccessDenied, ObjectMissing: as the server answers for the root.
        """
        self._skipped = {}
        entries = files = 0
        folders = [""]
        while folders:
            folder = folders.pop()
            for entry in self._entries(folder):
                self._deadline.check()
                entries += 1
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_folder:
                    if self._may_enter(path):
                        folders.append(path)
                elif is_wanted(entry.name, self._include):
                    files += 1
                    yield from self._file(path, entry)
                if entries > MAX_ENTRIES or files > MAX_FILES:
                    raise ConfigInvalid(
                        f"{self._tree.url} has more than {MAX_FILES} files that are wanted, or {MAX_ENTRIES} "
                        "in all: name a narrower folder in url, or narrower patterns in include"
                    )

    def stat(self, path: str) -> RemoteFile:
        """Return a file as it is now."""
        self._deadline.check()
        return self._tree.stat(path)

    def fetch(self, file: RemoteFile, path: Path) -> None:
        """Write a remote file to a local one in an existing folder, whole or not at all.

        What a broken or killed fetch has got stays beside ``path`` under ``.partial``, and the next one
        goes on from there; the caller gives each version of a file a folder of its own.

        Raises:
            ObjectMissing: it is gone.
            FeedTimeout: the server did not answer, or sent more or less than it had listed.
            ConfigInvalid: its path is not safe to use.
            OSError: the local file cannot be written.
        """
        if reason := why_unsafe(file.path):
            raise ConfigInvalid(f"{file.path!r} of source {self._name} is not fetched: {reason}")
        partial = path.with_name(path.name + PARTIAL_SUFFIX)
        size_bytes = self._receive(file, partial)
        if size_bytes != file.size_bytes and file.size_bytes is not None:
            # Either end may be wrong: nothing of it can be trusted to go on from.
            partial.unlink()
            raise FeedTimeout(
                f"{file.path}: {self._tree.url} listed {file.size_bytes} bytes and sent "
                f"{'more' if size_bytes > file.size_bytes else size_bytes}: it may still be being written"
            )
        keep_time(partial, file.modified_at)
        partial.replace(path)

    def close(self) -> None:
        """End the connection."""
        self._tree.close()

    def _receive(self, file: RemoteFile, partial: Path) -> int:
        """Go on with a partial file until the server has no more, or one byte too many; return its size."""
        most = _MAX_SIZE_BYTES if file.size_bytes is None else file.size_bytes
        have = partial.stat().st_size if partial.exists() else 0
        if have > most:
            have = 0
        if have and have == most:
            return have
        with (
            self._tree.open(file.path, start=have, file=file) as opened,
            partial.open("r+b" if partial.exists() else "wb") as out,
        ):
            size_bytes = out.seek(out.truncate(opened.start))
            for block in opened.blocks:
                out.write(block)
                size_bytes += len(block)
                if size_bytes > most:
                    break
                self._deadline.check()
            out.flush()
            os.fsync(out.fileno())
        return size_bytes

    def _entries(self, folder: str) -> Iterator[Entry]:
        """Yield what is in a folder; one below the root that cannot be read stops no other."""
        try:
            yield from self._tree.entries(folder)
        except PermanentError as error:
            if not folder:
                raise
            self._skip(folder, str(error))

    def _file(self, path: str, entry: Entry) -> Iterator[RemoteFile]:
        if entry.size_bytes is not None or is_unfinished(path) or why_unsafe(path):
            yield remote_file(path, size_bytes=entry.size_bytes, modified_at=entry.modified_at)
            return
        try:
            yield self._tree.stat(path)
        except PermanentError as error:
            self._skip(path, str(error))

    def _skip(self, path: str, reason: str) -> None:
        self._skipped[path] = reason
        log.warning("remote_path_skipped", source=self._name, path=repr(path), reason=reason)

    def _may_enter(self, folder: str) -> bool:
        name = folder.rpartition("/")[2]
        if name.startswith(".") and name not in {".", ".."}:
            return False
        reason = why_unsafe(folder) or ("it lies too deep" if folder.count("/") >= MAX_DEPTH else None)
        if reason:
            self._skip(folder, reason)
        return reason is None


def remote_file(
    path: str, *, size_bytes: int | None, modified_at: datetime | None, etag: str | None = None
) -> RemoteFile:
    """Return a file as a server lists it, with numbers and texts cut to what a database keeps."""
    if size_bytes is not None:
        size_bytes = min(size_bytes, _MAX_SIZE_BYTES) if size_bytes >= 0 else None
    if etag is not None:
        etag = "".join(c for c in etag if c.isascii() and c.isprintable())[:MAX_ETAG_CHARACTERS] or None
    return RemoteFile(path, size_bytes, modified_at, etag)


def time_of(seconds: float | None) -> datetime | None:
    """Return a Unix time as UTC, None where it is missing or senseless."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def keep_time(path: Path, modified_at: datetime | None) -> None:
    """Give a local copy the modification time of its original, which may be all that tells a clip's date."""
    if modified_at is not None and modified_at.timestamp() >= 0:
        os.utime(path, (time.time(), modified_at.timestamp()))
