"""The log channel writes whole lines, alone or in company."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from alerting.log import LogChannel
from outwatch.domain.errors import DeliveryFailed
from outwatch.domain.ports import Message

MESSAGE = Message("a1", "P1", "room", "subject", "text", "متن", {"n": 1}, b"jpeg")
WRITER = """
import sys
from pathlib import Path
from alerting.log import LogChannel
from outwatch.domain.ports import Message
channel = LogChannel(Path(sys.argv[1]))
for number in range(50):
    channel.send(Message(f"{sys.argv[2]}-{number}", "P1", "room", "s", "x" * 20_000, "y", {}))
"""


def test_a_line_is_readable_json_without_the_picture(tmp_path: Path) -> None:
    """Urdu stays Urdu, and the still stays out of the log."""
    path = tmp_path / "alerts.jsonl"
    LogChannel(path).send(MESSAGE)
    text = path.read_text(encoding="utf-8")
    assert "متن" in text
    assert "jpeg" not in text
    assert json.loads(text)["payload"] == {"n": 1}


def test_the_file_is_not_for_everyone(tmp_path: Path) -> None:
    """Alerts say where people are."""
    path = tmp_path / "alerts.jsonl"
    LogChannel(path).send(MESSAGE)
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


def test_writers_side_by_side_never_tear_a_line(tmp_path: Path) -> None:
    """Three processes append 50 long lines each; all 150 are whole."""
    path = tmp_path / "alerts.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "abc"]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    ids = {json.loads(line)["alert_id"] for line in path.read_text(encoding="utf-8").splitlines()}
    assert ids == {f"{name}-{number}" for name in "abc" for number in range(50)}


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up in the middle of a line leaves the file as it was."""
    path = tmp_path / "alerts.jsonl"
    LogChannel(path).send(MESSAGE)
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr("os.write", lambda descriptor, data: write(descriptor, data[:10]))
    with pytest.raises(DeliveryFailed, match="part of a line"):
        LogChannel(path).send(MESSAGE)
    assert path.read_bytes() == before


def test_a_missing_folder_is_a_failure_that_names_the_file(tmp_path: Path) -> None:
    """It may be a mount that is not there yet."""
    with pytest.raises(DeliveryFailed, match=r"alerts\.jsonl"):
        LogChannel(tmp_path / "missing" / "alerts.jsonl").send(MESSAGE)


def test_without_a_file_the_alert_is_an_event_of_the_log() -> None:
    """Fields, not prose, and no picture."""
    with capture_logs() as logs:
        LogChannel().send(MESSAGE)
    (entry,) = logs
    assert (entry["event"], entry["alert_id"], entry["priority"]) == ("alert", "a1", "P1")
    assert "still_jpeg" not in entry
