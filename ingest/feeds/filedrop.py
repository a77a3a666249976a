"""Readings from files dropped into a folder: CSV with a header row, or JSON lines.

Belongs here: which files are whole, how far each was read, and where it goes afterwards. Not here: lines
(``lines.py``) and what they say (``payloads.py``).

A file counts as whole when size and time stand still for ``settle_s``. It is known by its content's SHA-256,
so that a copy under another name gives nothing new. Large files are read in batches, with the offset of the
next line in the cursor.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from io import BufferedReader
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from ingest.feeds.lines import Lines
from ingest.feeds.mapping import TopicMapping
from outwatch.domain.errors import AccessDenied, ConfigInvalid, FeedTimeout
from outwatch.domain.ports import FeedBatch, FeedItem

_REMEMBERED = 1000
"""Hashes of the files taken last: enough where done files are moved, some weeks of hourly files where not."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Place:
    """Before which line reading stands: its offset in bytes, and how many lines lie before it."""

    offset: int
    line: int


class _State:
    """What the cursor remembers: files taken, by hash with their signature, and places in files half read."""

    def __init__(self, cursor: Mapping[str, Any] | None) -> None:
        known = cursor or {}
        self.taken: dict[str, str] = dict(known.get("taken", {}))
        self.places = {sha256: _Place(*place) for sha256, place in known.get("places", {}).items()}

    def stored(self, sha256: str, *, signature: str, place: _Place | None) -> None:
        """Take note that a file is stored up to ``place``, or whole where that is None."""
        self.places.pop(sha256, None)
        if place is not None:
            self.places[sha256] = place
            return
        self.taken[sha256] = signature
        for forgotten in list(self.taken)[:-_REMEMBERED]:
            del self.taken[forgotten]

    def cursor(self) -> dict[str, Any]:
        """Return this state as JSON values."""
        places = {sha256: [place.offset, place.line] for sha256, place in self.places.items()}
        return {"taken": dict(self.taken), "places": places}


class FileDropFeed:
    """A ``SensorFeed`` from one folder; folders in it, links and hidden files are left alone."""

    def __init__(
        self,
        name: str,
        *,
        folder: Path,
        mapping: TopicMapping,
        patterns: Sequence[str] = ("*.csv", "*.jsonl", "*.ndjson"),
        settle_s: float = 10.0,
        batch_max: int = 1000,
        done_folder: Path | None = None,
        keep_in_place: bool = False,
    ) -> None:
        """Prepare a feed; nothing is read.

        Args:
            name: the feed's name in settings and in the ledger.
            folder: where files are dropped.
            mapping: what their lines mean; its filter does not matter.
            patterns: file names to take, without regard to case.
            settle_s: a file is whole when it has not changed for so long.
            batch_max: lines handed on at once.
            done_folder: where files go once all their lines are stored; None is ``done`` in ``folder``.
            keep_in_place: leave them where they are, as on a read-only share.

        Raises:
            ConfigInvalid: no pattern is given.
        """
        if not patterns:
            raise ConfigInvalid(f"file-drop feed {name!r} needs at least one pattern such as *.csv")
        self._name = name
        self._folder = folder
        self._mapping = mapping
        self._patterns = tuple(pattern.lower() for pattern in patterns)
        self._settle_s = settle_s
        self._batch_max = batch_max
        self._done = None if keep_in_place else done_folder or folder / "done"

    def __repr__(self) -> str:
        return f"FileDropFeed({self._name!r}, {str(self._folder)!r})"

    @property
    def name(self) -> str:
        """Return the feed's name in settings and in the ledger."""
        return self._name

    def batches(self, cursor: Mapping[str, Any] | None, *, for_s: float) -> Iterator[FeedBatch]:
        """Yield the lines of all whole files, oldest file first, and end; at the latest after ``for_s``.

        Raises:
            FeedTimeout: the folder is not there, or does not answer.
            AccessDenied: we may not read it.
        """
        deadline = time.monotonic() + for_s
        state = _State(cursor)
        files = self._whole_files()
        for number, (path, signature) in enumerate(files, 1):
            if signature in state.taken.values():
                self._move(path, signature)
                continue
            for batch in self._file(path, signature=signature, state=state):
                yield replace(batch, behind=batch.behind or number < len(files))
                if time.monotonic() >= deadline:
                    return

    def _whole_files(self) -> list[tuple[Path, str]]:
        """Return plain files that match a pattern and stand still, with their signatures, oldest first."""
        newest_ns = time.time_ns() - int(self._settle_s * 1e9)
        found = []
        with self._translated(), os.scandir(self._folder) as entries:
            for entry in entries:
                name = entry.name.lower()
                if name.startswith(".") or not any(fnmatchcase(name, pattern) for pattern in self._patterns):
                    continue
                about = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(about.st_mode) or not name.isprintable():
                    log.warning("file_drop_refused", feed=self._name, file=repr(entry.name))
                elif about.st_mtime_ns <= newest_ns:
                    found.append((about.st_mtime_ns, entry.name, _signature(entry.name, about)))
        return [(self._folder / name, signature) for _, name, signature in sorted(found)]

    def _file(self, path: Path, *, signature: str, state: _State) -> Iterator[FeedBatch]:
        with self._translated(), _open_plain(path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if sha256 in state.taken:
                log.info("file_drop_known_content", feed=self._name, file=path.name)
                self._move(path, signature)
                return
            lines = Lines(file, name=path.name, mapping=self._mapping)
            if sha256 in state.places:
                lines.seek(state.places[sha256].offset, line=state.places[sha256].line)
            at_end = False
            while not at_end:
                items, at_end = lines.take(self._batch_max)
                if _signature(path.name, os.fstat(file.fileno())) != signature:
                    log.info("file_drop_still_written", feed=self._name, file=path.name)
                    return
                place = None if at_end else _Place(lines.offset, lines.line)
                yield self._batch(
                    items, path=path, sha256=sha256, signature=signature, place=place, state=state
                )

    def _batch(
        self,
        items: Sequence[FeedItem],
        *,
        path: Path,
        sha256: str,
        signature: str,
        place: _Place | None,
        state: _State,
    ) -> FeedBatch:
        after = _State(state.cursor())
        after.stored(sha256, signature=signature, place=place)

        def acknowledge() -> None:
            state.stored(sha256, signature=signature, place=place)
            if place is None:
                self._move(path, signature)

        return FeedBatch(
            items=tuple(items), cursor=after.cursor(), acknowledge=acknowledge, behind=place is not None
        )

    def _move(self, path: Path, signature: str) -> None:
        """Move a taken file out of the way, unless another was put there meanwhile under its name."""
        if self._done is None:
            return
        with self._translated():
            if not path.exists() or _signature(path.name, path.lstat()) != signature:
                return
            self._done.mkdir(parents=True, exist_ok=True)
            target = self._done / path.name
            if target.exists():
                target = self._done / f"{path.stem}.{uuid4().hex[:8]}{path.suffix}"
            shutil.move(path, target)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise AccessDenied(
                f"folder {self._folder} of feed {self._name!r} may not be read or its files moved: {error}; "
                "give the account that runs Outwatch the right to both, or set keep_in_place"
            ) from error
        except OSError as error:
            raise FeedTimeout(
                f"folder {self._folder} of feed {self._name!r} does not answer: {error}; is it mounted?"
            ) from error


def _open_plain(path: Path) -> BufferedReader:
    """Open a file, neither through a link nor waiting for a pipe that took its place."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def _signature(name: str, about: os.stat_result) -> str:
    """Return what changes when a file does, without reading it."""
    return f"{about.st_ino}-{about.st_size}-{about.st_mtime_ns}-{name}"
