"""The channel that is always there: one JSON line an alert, in a file or in the process's log.

Belongs here: writing the line so that readers never see half of one. Not here: rotating the file.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from outwatch.domain.errors import DeliveryFailed, DeliveryRefused
from outwatch.domain.ports import Message

_log = structlog.get_logger(__name__)
_FILE_MODE = 0o640
"""Alerts say where people are: not for every user of the machine."""


@dataclass(frozen=True, slots=True)
class LogChannel:
    """Appends alerts to a file of JSON lines, or logs them where ``path`` is None."""

    path: Path | None = None
    name: str = "log"

    def send(self, message: Message) -> str:
        """Write one line and return where it is.

        Raises:
            DeliveryFailed: the file cannot be written now (disk full, folder missing).
            DeliveryRefused: the path is a folder or may not be written.
        """
        fields = {
            "alert_id": message.alert_id,
            "priority": message.priority,
            "control_room": message.control_room,
            "subject": message.subject,
            "text_en": message.text_en,
            "text_ur": message.text_ur,
            "payload": dict(message.payload),
        }
        if self.path is None:
            _log.warning("alert", **fields)
            return "logged"
        line = json.dumps({"logged_at": datetime.now(UTC).isoformat(), **fields}, ensure_ascii=False)
        try:
            _append(self.path, f"{line}\n".encode())
        except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
            raise DeliveryRefused(f"alert log {self.path} must be a file we may write: {error}") from error
        except OSError as error:
            raise DeliveryFailed(f"alert log {self.path} cannot be written now: {error}") from error
        return f"appended to {self.path}"


def _append(path: Path, line: bytes) -> None:
    """Append a line whole or not at all, whoever else is appending.

    Raises:
        OSError: it could not be written; the file is as it was.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size_bytes = os.fstat(descriptor).st_size
        if os.write(descriptor, line) != len(line):
            os.ftruncate(descriptor, size_bytes)
            raise OSError("the disk took only part of a line")
    finally:
        os.close(descriptor)
