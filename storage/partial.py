"""Files that come into being whole or not at all: written aside, made durable, then moved.

Belongs here: the partial file and its move. Not here: where it goes and what its failure means
(``local.py``, ``s3.py``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

BLOCK_BYTES = 1 << 20
"""Bytes held in memory while copying: past the knee of throughput, small on any machine."""


@contextmanager
def partial_file(folder: Path) -> Iterator[BinaryIO]:
    """Yield a new file in ``folder``, gone at the end unless ``settle`` moved it.

    The file takes the process's umask, unlike those of ``tempfile``: what it becomes is shared.
    """
    path = folder / f".{uuid4().hex}.partial"
    file = path.open("xb")
    try:
        yield file
    finally:
        # ``settle`` has flushed what counts; a full disk found again here would hide the first error.
        with suppress(OSError):
            file.close()
        path.unlink(missing_ok=True)


def settle(file: BinaryIO, target: Path, *, if_absent: bool = False) -> None:
    """Move a partial file to ``target`` on the same file system, so that a power cut leaves it whole.

    Raises:
        FileExistsError: ``if_absent`` and the target is there; the test and the move are one.
    """
    file.flush()
    os.fsync(file.fileno())
    if if_absent:
        os.link(file.name, target)
    else:
        Path(file.name).replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
