"""Packages on a stick: written at a station, read at headquarters.

A package is a folder ``outwatch-<id>`` with the files under ``files/`` and the manifest, which is written
last: a folder without one is not finished. Belongs here: that layout, and copying with every byte checked.
Not here: what becomes of the files at headquarters (``outwatch/pipeline/courier.py``).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ingest.courier.pack import Packed
from ingest.courier.package import MANIFEST_NAME, MAX_MANIFEST_BYTES, Package, PackedFile, parse_package
from outwatch.domain.errors import NoRoom, PackageRefused, UploadInterrupted

FOLDER_PREFIX = "outwatch-"
FILES = "files"
BLOCK_BYTES = 1 << 20
SPARE_BYTES = 1 << 20
"""Left free beside the files, for the manifest and the stick's own book-keeping."""
SEARCH_DEPTH = 3
"""Folders below the named one in which packages are looked for."""
Watcher = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Found:
    """A package on a stick, or why a folder holds none that can be taken in."""

    folder: Path
    package: Package | None
    reason: str = ""

    def path(self, file: PackedFile) -> Path:
        """Return where a file should lie."""
        return self.folder / FILES / file.path


def write_package(packed: Packed, stick: Path, *, watch: Watcher = lambda *_: None) -> Path:
    """Write a package to a stick and read it back; go on where an earlier try was broken off.

    Returns:
        The package's folder.

    Raises:
        NoRoom: the stick has too little space, or takes no file so large.
        UploadInterrupted: the stick or the card cannot be read or written.
        PackageRefused: a file changed since it was packed, or the stick does not keep what is written.
    """
    if not stick.is_dir():
        raise UploadInterrupted(f"{stick} is no folder: is the stick in place and mounted?")
    folder = stick / f"{FOLDER_PREFIX}{packed.package.id}"
    try:
        _write(packed, folder, watch=watch)
    except OSError as error:
        raise _translated(error, stick) from error
    return folder


def find_packages(folder: Path) -> Iterator[Found]:
    """Yield the packages under a folder, in order of name, and the folders that should hold one.

    Links are not followed: a stick is a stranger's.
    """
    try:
        if not folder.is_dir():
            raise UploadInterrupted(f"{folder} is no folder: is the stick in place and mounted?")
        yield from _find(folder, depth=0)
    except OSError as error:
        raise _translated(error, folder) from error


def read_blocks(found: Found, file: PackedFile) -> Iterator[bytes]:
    """Yield a file of a package in blocks, as it lies on the stick; its hash is the reader's to check.

    Raises:
        PackageRefused: it is not there, or is no regular file of the stick.
        UploadInterrupted: it cannot be read.
    """
    source = found.path(file)
    try:
        # A link, in place of the file or of a folder, would make us read what is not on the stick.
        expected = Path(os.path.realpath(found.folder), FILES, file.path)
        if os.path.realpath(source) != str(expected) or not source.is_file():
            raise PackageRefused(f"{file.path} is not on the stick: copy the package again at the station")
        with source.open("rb") as reader:
            while block := reader.read(BLOCK_BYTES):
                yield block
    except OSError as error:
        raise _translated(error, source) from error


def _write(packed: Packed, folder: Path, *, watch: Watcher) -> None:
    total = packed.package.size_bytes
    missing = {
        file.path: total_missing for file in packed.package.files if (total_missing := _missing(file, folder))
    }
    free = shutil.disk_usage(folder.parent).free
    if sum(missing.values()) + SPARE_BYTES > free:
        raise NoRoom(
            f"{folder.parent} has {free / 1e6:.0f} MB free and the package still needs "
            f"{(sum(missing.values()) + SPARE_BYTES) / 1e6:.0f} MB: empty it or take a larger one"
        )
    done = total - sum(file.size_bytes for file in packed.package.files if file.path in missing)
    for file in packed.in_order():
        target = folder / FILES / file.path
        if file.path in missing:
            before = done

            def told(bytes_here: int, name: str = file.path, base: int = before) -> None:
                watch(name, base + bytes_here, total)

            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(packed.sources[file.path], target, file=file, told=told)
            done += file.size_bytes
    data = packed.package.to_json()
    partial = folder / f"{MANIFEST_NAME}.part"
    with partial.open("wb") as writer:
        writer.write(data)
        _make_durable(writer)
    partial.replace(folder / MANIFEST_NAME)
    _sync_folder(folder)
    watch("", total, total)


def _missing(file: PackedFile, folder: Path) -> int:
    """Return how many bytes of a file are still to be written; one that is whole was read back before."""
    target = folder / FILES / file.path
    if target.is_file() and target.stat().st_size == file.size_bytes:
        return 0
    partial = _partial(target)
    written = partial.stat().st_size if partial.is_file() else 0
    return max(1, file.size_bytes - written)


def _copy(source: Path, target: Path, *, file: PackedFile, told: Callable[[int], None]) -> None:
    """Copy a file, make it durable, read it back from the stick, and only then give it its name."""
    partial = _partial(target)
    resumed = partial.is_file()
    with source.open("rb") as reader, partial.open("ab") as writer:
        reader.seek(min(writer.tell(), file.size_bytes))
        writer.truncate(reader.tell())
        while block := reader.read(BLOCK_BYTES):
            writer.write(block)
            told(writer.tell())
        _make_durable(writer)
    if _read_back(partial) != file.sha256:
        partial.unlink()
        if resumed:  # the end of a write that was broken off may hold anything
            _copy(source, target, file=file, told=told)
            return
        raise PackageRefused(
            f"{file.path} reads back from the stick otherwise than it was packed: take another stick, "
            "and see that the card is sound"
        )
    partial.replace(target)
    _sync_folder(target.parent)


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _make_durable(writer: BinaryIO) -> None:
    writer.flush()
    os.fsync(writer.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_back(path: Path) -> str:
    """Return the SHA-256 of what lies on the stick, not of what the machine remembers of it."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find(folder: Path, *, depth: int) -> Iterator[Found]:
    manifest = folder / MANIFEST_NAME
    if manifest.is_file() and not manifest.is_symlink():
        yield _found(folder, manifest)
        return
    if folder.name.startswith(FOLDER_PREFIX) and (folder / FILES).is_dir():
        yield Found(folder, None, "it was not finished at the station: write it there again")
        return
    if depth < SEARCH_DEPTH:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.is_symlink():
                yield from _find(child, depth=depth + 1)


def _found(folder: Path, manifest: Path) -> Found:
    try:
        with manifest.open("rb") as file:
            return Found(folder, parse_package(file.read(MAX_MANIFEST_BYTES + 1)))
    except PackageRefused as error:
        return Found(folder, None, str(error))
    except OSError as error:
        return Found(folder, None, f"{MANIFEST_NAME} cannot be read: {error.strerror}")


def _translated(error: OSError, path: Path) -> NoRoom | UploadInterrupted:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NoRoom(f"no space is left for {path}: free some, then run the same command to go on")
    if error.errno == errno.EFBIG:
        return NoRoom(f"{path} takes no file so large (FAT32 ends at 4 GB): format it as exFAT")
    return UploadInterrupted(
        f"{error.filename or path}: {error.strerror}: is the stick in place and writable?"
    )
