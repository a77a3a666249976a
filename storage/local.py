"""An object store in a local folder: the embedded default.

Belongs here: keys as files, written whole, and the translation of operating-system errors. Not
here: what keys look like (``keys.py``).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

import structlog
from pyarrow.fs import FileSystem, LocalFileSystem

from outwatch.domain.errors import AccessDenied, KeyInvalid, ObjectExists, ObjectMissing, StoreUnavailable
from outwatch.domain.ports import ObjectInfo
from storage.keys import PARTIAL_FOLDER, check_key, check_prefix
from storage.partial import BLOCK_BYTES, partial_file, settle, sync_folder

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PLACE_TRIES = 20
"""A delete may remove an emptied folder between its making and its use; each try is a new race."""

log = structlog.get_logger(__name__)


class LocalStore:
    """An ``ObjectStore`` in the folder ``root``, made at the first write.

    Symbolic links inside ``root`` are neither followed nor listed. A file system keeps no object
    ``a`` beside an object ``a/b``: writing the second of the two raises ``KeyInvalid``.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.realpath(root.expanduser()))

    def __repr__(self) -> str:
        return f"LocalStore({str(self._root)!r})"

    @property
    def url(self) -> str:
        """Return where the store is."""
        return self._root.as_uri()

    @cached_property
    def atomic_create(self) -> bool:
        """Return whether this file system makes hard links, on which ``if_absent`` stands.

        FAT and some network mounts make none.
        """
        with self._translated(".probe"), partial_file(self._partial_folder()) as file:
            link = Path(f"{file.name}.link")
            try:
                link.hardlink_to(file.name)
            except OSError as error:
                log.warning("store_without_hard_links", store=self.url, error=str(error))
                return False
            link.unlink()
            return True

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object; with ``if_absent`` raise ``ObjectExists`` where the key is taken."""
        self._write(key, [data], if_absent=if_absent)

    def upload(self, key: str, path: Path) -> None:
        """Write a local file as an object, in blocks of ``BLOCK_BYTES``.

        Raises:
            OSError: ``path`` cannot be read.
        """
        with path.open("rb") as source:
            self._write(key, iter(lambda: source.read(BLOCK_BYTES), b""))

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return an object's bytes, or ``length`` of them from ``start``; none past its end."""
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"range of {key!r} must not be negative, found {start=}, {length=}")
        with self._translated(key), self._open(key) as file:
            left = max(0, os.fstat(file.fileno()).st_size - start)
            file.seek(start)
            return file.read(left if length is None else min(left, length))

    def download(self, key: str, path: Path) -> None:
        """Write an object to a local file in an existing folder, whole or not at all.

        Raises:
            OSError: ``path`` cannot be written.
        """
        with partial_file(path.parent) as file:
            file.writelines(self._blocks(key))
            settle(file, path)

    def head(self, key: str) -> ObjectInfo:
        """Return size and time of an object."""
        with self._translated(key):
            stat = self._path(key).stat()
        if not S_ISREG(stat.st_mode):
            raise ObjectMissing(f"no object {key!r} in {self.url}: it is a folder of objects")
        return _info(key, stat)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key starts with ``prefix``, in order of key."""
        folder = check_prefix(prefix).rpartition("/")[0]
        if folder:
            self._path(folder)
        with self._translated(prefix):
            yield from self._walk(f"{folder}/" if folder else "", prefix=prefix)

    def delete(self, key: str) -> None:
        """Remove an object and the folders that this empties; a missing one is no error."""
        path = self._path(key)
        with self._translated(key):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            for folder in path.relative_to(self._root).parents[:-1]:
                try:
                    (self._root / folder).rmdir()
                except OSError:
                    break  # not empty, or already gone: either way its parents stay

    def sweep_partial(self, older_than: timedelta) -> int:
        """Remove what killed writers left behind and return how many; a running write is younger."""
        cutoff = datetime.now(UTC) - older_than
        removed = 0
        folder = self._root / PARTIAL_FOLDER
        if not folder.is_dir():
            return 0
        with self._translated(PARTIAL_FOLDER):
            for path in folder.iterdir():
                try:
                    if datetime.fromtimestamp(path.stat().st_mtime, UTC) < cutoff:
                        path.unlink()
                        removed += 1
                except FileNotFoundError:
                    continue  # its writer finished meanwhile
        return removed

    def arrow_filesystem(self) -> tuple[FileSystem, str]:
        """Return a pyarrow file system and the path in it under which this store's keys lie."""
        return LocalFileSystem(), str(self._root)

    def _path(self, key: str) -> Path:
        path = self._root / check_key(key)
        if os.path.realpath(path) != str(path):
            raise KeyInvalid(f"object key {key!r} passes through a symbolic link in {self.url}; remove it")
        return path

    def _partial_folder(self) -> Path:
        folder = self._root / PARTIAL_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _open(self, key: str) -> BinaryIO:
        path = self._path(key)
        # Opening a pipe that someone left in the folder would wait for ever.
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return path.open("rb")

    def _blocks(self, key: str) -> Iterator[bytes]:
        with self._translated(key), self._open(key) as file:
            yield from iter(lambda: file.read(BLOCK_BYTES), b"")

    def _write(self, key: str, blocks: Iterable[bytes], *, if_absent: bool = False) -> None:
        """Write blocks as one object; only the store's own errors are translated, not the source's."""
        target = self._path(key)
        with ExitStack() as stack:
            with self._translated(key):
                file = stack.enter_context(partial_file(self._partial_folder()))
            for block in blocks:
                with self._translated(key):
                    file.write(block)
            with self._translated(key):
                self._place(file, target, if_absent=if_absent)

    def _place(self, file: BinaryIO, target: Path, *, if_absent: bool) -> None:
        key = target.relative_to(self._root).as_posix()
        if if_absent and not self.atomic_create and target.exists():
            raise ObjectExists(f"object {key!r} is already in {self.url}")
        for _ in range(_PLACE_TRIES):
            try:
                self._make_folder(target.parent)
                settle(file, target, if_absent=if_absent and self.atomic_create)
            except FileNotFoundError:
                continue
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                # Of the calls above only the link names two files.
                if isinstance(error, FileExistsError) and error.filename2 and not target.is_dir():
                    raise ObjectExists(f"object {key!r} is already in {self.url}") from error
                raise KeyInvalid(
                    f"object key {key!r} lies above or below another object's key in {self.url}; "
                    "a file system keeps only one of the two"
                ) from error
            return
        raise StoreUnavailable(
            f"{self.url}: the folder of {key!r}, or its partial file, was removed while written; try again"
        )

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError as error:
            # Found taken, and then no folder: a file's, or a delete has removed the folder in between.
            if folder.is_file():
                raise
            raise FileNotFoundError(str(folder)) from error
        sync_folder(folder.parent)

    def _walk(self, base: str, *, prefix: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(self._root / base) as entries:
                found = sorted(
                    f"{base}{entry.name}/" if entry.is_dir(follow_symlinks=False) else f"{base}{entry.name}"
                    for entry in entries
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in found:
            if not name.startswith(prefix) or name == f"{PARTIAL_FOLDER}/":
                continue
            if name.endswith("/"):
                yield from self._walk(name, prefix=prefix)
                continue
            try:
                stat = (self._root / name).lstat()
            except FileNotFoundError:
                continue  # deleted since the folder was read
            if S_ISREG(stat.st_mode):
                yield _info(name, stat)

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ObjectMissing(f"no object {key!r} in {self.url}") from error
        except PermissionError as error:
            raise AccessDenied(f"{self.url} refused {key!r}: {error}; check its owner and mode") from error
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise StoreUnavailable(
                    f"no room left in {self.url} for {key!r}: {error}; free space"
                ) from error
            raise StoreUnavailable(f"{self.url} failed for {key!r}: {error}; check the disk") from error


def _info(key: str, stat: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))
