"""Logs are read behind the wall: what comes through it is the same, and whatever breaks becomes a reason."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ingest import sandbox
from ingest.confinement import Limits
from ingest.telemetry.ardupilot_dataflash import ArduPilotDataFlash
from ingest.telemetry.confined import read_confined
from ingest.telemetry.log_reader import COLUMNS
from ingest.telemetry.px4_ulog import Px4ULog
from outwatch.domain.errors import TelemetryInvalid

KARACHI = ZoneInfo("Asia/Karachi")
ABOUT = {
    "skipped": 0,
    "missing": [],
    "warnings": [],
    "time_base": "log",
    "clock": "none",
    "zone": None,
    "clock_uncertainty_s": None,
}


@pytest.mark.parametrize(
    ("name", "source"),
    [("px4/sample_log_small.ulg", Px4ULog()), ("ardupilot/test.BIN", ArduPilotDataFlash())],
)
def test_the_wall_changes_nothing(
    samples: Path, limits: Limits, name: str, source: Px4ULog | ArduPilotDataFlash
) -> None:
    """Telemetry comes out of the child as it is read in process, from a file and from bytes."""
    path = samples / "telemetry" / name
    expected = source.read(path.read_bytes(), zone=KARACHI)
    assert expected == read_confined(path, format=source.format, zone=KARACHI, limits=limits)
    assert expected == read_confined(path.read_bytes(), format=source.format, zone=KARACHI, limits=limits)


def test_what_holds_nothing_keeps_its_reason(limits: Limits, tmp_path: Path) -> None:
    """The reader's own words come through, with the file's name."""
    path = tmp_path / "flight.BIN"
    path.write_bytes(b"\xa3\x95\x80" * 50)
    with pytest.raises(TelemetryInvalid, match=r"flight\.BIN: .*no position, height or attitude"):
        read_confined(path, format="ardupilot_dataflash", zone=KARACHI, limits=limits)


def test_what_is_no_file_is_refused(limits: Limits, tmp_path: Path) -> None:
    """Links and empty files are refused before a child starts."""
    (tmp_path / "link.ulg").symlink_to("/etc/passwd")
    (tmp_path / "empty.ulg").touch()
    for name, reason in (("link.ulg", "symbolic link"), ("empty.ulg", "empty")):
        with pytest.raises(TelemetryInvalid, match=reason):
            read_confined(tmp_path / name, format="px4_ulog", zone=KARACHI, limits=limits)


def test_a_log_that_needs_too_much_memory_is_refused(limits: Limits) -> None:
    """A limit on memory ends in words that name it."""
    small = Limits(max_pixels=1, memory_mb=400, cpu_s=20, silence_s=20)
    with pytest.raises(TelemetryInvalid, match="needs more than 400 MB to read"):
        read_confined(b"\x00" * (380 << 20), format="mavlink_tlog", zone=KARACHI, limits=small)


@pytest.fixture
def taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replace the child's program, as if a log had taken it over."""

    def take_over(body: str) -> None:
        package = tmp_path / "ingest" / "telemetry"
        package.mkdir(parents=True)
        for folder in (package.parent, package):
            (folder / "__init__.py").touch()
        (package / "log_reader.py").write_text(f"import os, struct, sys, time, json, signal\n{SAY}\n{body}\n")
        monkeypatch.setattr(sandbox, "__file__", str(package.parent / "sandbox.py"))

    return take_over


SAY = "def say(kind, data): os.write(1, struct.pack('<cI', kind, len(data)) + data)"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("time.sleep(60)", "gave nothing for 1 s"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed the decoder"),
        ("sys.exit(3)", "exit code 3"),
        ("os.write(1, b'Z' * 99)", "no longer speaks sense"),
        ("say(b'R', b'not json')", "no longer speaks sense"),
        ("say(b'R', json.dumps(ABOUT).encode())", "no longer speaks sense"),
        ("say(b'F', bytes(7)); say(b'R', json.dumps(ABOUT).encode())", "no longer speaks sense"),
        ("say(b'F', b''); say(b'R', json.dumps(ABOUT).encode())", "no longer speaks sense"),
        (
            "say(b'F', ROW); say(b'R', json.dumps({**ABOUT, 'clock': 'mine'}).encode())",
            "no longer speaks sense",
        ),
        (
            "say(b'F', ROW); say(b'R', json.dumps({**ABOUT, 'warnings': ['\\x1b[31m']}).encode())",
            "no longer speaks sense",
        ),
        ("say(b'F', ROW); say(b'R', b'[]')", "no longer speaks sense"),
    ],
)
def test_a_child_that_was_taken_over_is_not_believed(
    taken_over: Callable[[str], None], body: str, reason: str
) -> None:
    """Silence, crashes, lies and nonsense each become one plain reason."""
    row = struct.pack(f"<{len(COLUMNS)}d", 0.0, *[0.0] * (len(COLUMNS) - 1))
    taken_over(f"ABOUT = json.loads({json.dumps(ABOUT)!r}); ROW = {row!r}\n{body}")
    limits = Limits(max_pixels=1, memory_mb=512, cpu_s=5, silence_s=1)
    with pytest.raises(TelemetryInvalid, match=reason):
        read_confined(b"log", format="px4_ulog", zone=KARACHI, limits=limits)


@pytest.mark.parametrize(
    ("column", "value"), [("offset_s", np.nan), ("lat_deg", 91.0), ("at_us", 1e300), ("alt_m", np.inf)]
)
def test_impossible_samples_are_not_believed(
    taken_over: Callable[[str], None], column: str, value: float
) -> None:
    """Places off Earth, times out of range and infinities are no samples."""
    row = np.zeros(len(COLUMNS))
    row[COLUMNS.index(column)] = value
    taken_over(f"say(b'F', {row.tobytes()!r}); say(b'R', {json.dumps(ABOUT).encode()!r})")
    limits = Limits(max_pixels=1, memory_mb=512, cpu_s=5, silence_s=5)
    with pytest.raises(TelemetryInvalid, match="no longer speaks sense"):
        read_confined(b"log", format="px4_ulog", zone=KARACHI, limits=limits)
