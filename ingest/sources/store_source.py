"""Footage from an object store: a bucket of another agency, or a gateway that speaks S3.

Belongs here: an ``ObjectStore`` as a source of footage. Not here: S3 itself (``storage/s3.py``), built by
the pipeline with the source's own credentials.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from ingest.sources.taking import is_wanted, why_unsafe
from ingest.sources.tree import MAX_ENTRIES, MAX_FILES, PARTIAL_SUFFIX, Deadline, keep_time, remote_file
from outwatch.domain.errors import ConfigInvalid, FeedTimeout, StoreUnavailable
from outwatch.domain.ports import ObjectInfo, ObjectStore, RemoteFile

PART_BYTES = 8 << 20
"""Bytes of one ranged read: the most that a broken link costs."""


class StoreSource:
    """A ``FootageSource`` over an object store. Arguments are those of ``TreeSource``."""

    def __init__(self, name: str, store: ObjectStore, *, include: Collection[str], max_run_s: float) -> None:
        self._name, self._store, self._include = name, store, include
        self._deadline = Deadline(name, max_run_s=max_run_s)

    @property
    def name(self) -> str:
        """Return the source's name in settings."""
        return self._name

    @property
    def clock(self) -> datetime | None:
        """Return None: a store's listing tells no time."""
        return None

    @property
    def skipped(self) -> Mapping[str, str]:
        """Return nothing: a store lists all its keys, or fails."""
        return {}

    def list(self) -> Iterator[RemoteFile]:
        """Yield the wanted objects."""
        files = 0
        with self._translated():
            for number, info in enumerate(self._store.list("")):
                self._deadline.check()
                parts = info.key.split("/")
                hidden = any(part.startswith(".") for part in parts[:-1])
                if not hidden and is_wanted(parts[-1], self._include):
                    files += 1
                    yield _listed(info)
                if files > MAX_FILES or number > MAX_ENTRIES:
                    raise ConfigInvalid(
                        f"{self._store.url} has more than {MAX_FILES} objects that are wanted, or "
                        f"{MAX_ENTRIES} in all: narrow the prefix in url, or the patterns in include"
                    )

    def stat(self, path: str) -> RemoteFile:
        """Return an object as it is now."""
        with self._translated():
            return _listed(self._store.head(path))

    def fetch(self, file: RemoteFile, path: Path) -> None:
        """Write an object to a local file, part by part, going on where a broken fetch has stopped.

        Raises:
            ObjectMissing, FeedTimeout, ConfigInvalid, OSError: as ``TreeSource.fetch``.
        """
        if reason := why_unsafe(file.path):
            raise ConfigInvalid(f"{file.path!r} of source {self._name} is not fetched: {reason}")
        partial = path.with_name(path.name + PARTIAL_SUFFIX)
        total = file.size_bytes or 0
        with partial.open("ab") as out:
            if out.tell() > total:
                out.truncate(0)
            while (have := out.seek(0, os.SEEK_END)) < total:
                self._deadline.check()
                with self._translated():
                    data = self._store.get(file.path, start=have, length=min(PART_BYTES, total - have))
                if not data:
                    break
                out.write(data)
            out.flush()
            os.fsync(out.fileno())
        if have != total:
            partial.unlink()
            raise FeedTimeout(
                f"{file.path}: {self._store.url} listed {total} bytes and sent {have}: "
                "it may still be being written"
            )
        keep_time(partial, file.modified_at)
        partial.replace(path)

    def close(self) -> None:
        """Do nothing: a store keeps its connections to itself."""

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except StoreUnavailable as error:
            raise FeedTimeout(f"source {self._name}: {error}") from error


def _listed(info: ObjectInfo) -> RemoteFile:
    # S3 lists milliseconds and heads whole seconds: one object must look the same to both.
    modified_at = info.modified_at.replace(microsecond=0)
    return remote_file(info.key, size_bytes=info.size_bytes, modified_at=modified_at, etag=info.etag)
