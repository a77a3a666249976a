"""A tree of files in a local folder: a mounted share, a stick, a folder that a camera writes to.

Belongs here: reading folders without being led out of them. Not here: walking and fetching (``tree.py``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from io import RawIOBase
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from ingest.sources.tree import BLOCK_BYTES, Entry, Opened, remote_file, time_of
from outwatch.domain.errors import AccessDenied, FeedTimeout, ObjectMissing
from outwatch.domain.ports import RemoteFile


class FolderTree:
    """A ``Tree`` in a local folder. Links in it are neither listed nor followed."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.realpath(root))

    @property
    def url(self) -> str:
        """Return where the folder is."""
        return self._root.as_uri()

    @property
    def clock(self) -> datetime | None:
        """Return None: a mounted share's times come from another machine's clock."""
        return None

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield what is in a folder."""
        with self._translated(folder), os.scandir(self._inside(folder)) as found:
            for item in found:
                try:
                    status = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # removed since the folder was read: as if it had never been listed
                if S_ISDIR(status.st_mode):
                    yield Entry(item.name, is_folder=True)
                elif S_ISREG(status.st_mode):
                    yield Entry(item.name, False, status.st_size, time_of(status.st_mtime))

    def stat(self, path: str) -> RemoteFile:
        """Return a regular file as it is now."""
        with self._translated(path):
            status = _require_regular(path, self._inside(path).lstat())
        return remote_file(path, size_bytes=status.st_size, modified_at=time_of(status.st_mtime))

    @contextmanager
    def open(self, path: str, *, start: int, file: RemoteFile) -> Iterator[Opened]:
        """Open a file for reading from ``start``."""
        with self._translated(path):
            descriptor = os.open(self._inside(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as source:
            _require_regular(file.path, os.fstat(descriptor))
            source.seek(start)
            yield Opened(start, self._blocks(source, path))

    def close(self) -> None:
        """Do nothing: a folder keeps no connection."""

    def _blocks(self, source: RawIOBase, path: str) -> Iterator[bytes]:
        while True:
            with self._translated(path):
                block = source.read(BLOCK_BYTES)
            if not block:
                return
            yield block

    def _inside(self, path: str) -> Path:
        """Return a path, if no link on the way leads out of it."""
        full = self._root / path
        if os.path.realpath(full) != str(full):
            raise ObjectMissing(f"{path!r} of {self.url} passes through a link: only real files are taken")
        return full

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ObjectMissing(f"{path or 'the folder'!r} is not in {self.url}: is it mounted?") from error
        except PermissionError as error:
            raise AccessDenied(f"{self.url} may not be read at {path!r}: check owner and mode") from error
        except OSError as error:
            raise FeedTimeout(
                f"{self.url} failed at {path!r}: {error}; check the disk or the mount"
            ) from error


def _require_regular(path: str, status: os.stat_result) -> os.stat_result:
    if not S_ISREG(status.st_mode):
        raise ObjectMissing(f"{path!r} is no regular file any more")
    return status
