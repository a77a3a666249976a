"""``outwatch telemetry``: what it says of files of every kind, to people and to programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from outwatch.cli import app
from outwatch.simulate import SimulatedFlight

POINTS = "".join(
    f'<trkpt lat="33.6" lon="{71.4 + second * 1e-4:.6f}"><ele>700</ele>'
    f"<time>2026-03-14T16:40:{second:02}Z</time></trkpt>"
    for second in range(10)
)
GPX = (
    f'<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{POINTS}</trkseg></trk></gpx>'
)


@pytest.fixture
def track(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a GPX track of ten seconds."""
    monkeypatch.setenv("OUTWATCH_HOME", str(tmp_path / "home"))
    path = tmp_path / "track.gpx"
    path.write_text(GPX)
    return path


def ask(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["telemetry", *map(str, arguments)], env={"COLUMNS": "200"})


def as_json(*arguments: object) -> Any:
    return json.loads(ask("--json", *arguments).stdout)


def test_programs_are_told_format_span_clock_and_positions(track: Path) -> None:
    """One file gives one object, with every field that the guide names."""
    said = as_json(track)
    assert (said["format"], said["samples"], said["duration_s"]) == ("gpx", 10, 9.0)
    assert (said["first_at"], said["last_at"]) == ("2026-03-14T16:40:00+00:00", "2026-03-14T16:40:09+00:00")
    assert said["first_position"] == {"lat_deg": 33.6, "lon_deg": 71.4, "alt_m": 700.0}
    assert said["last_position"]["lon_deg"] == pytest.approx(71.4009)
    assert said["clock"] == "gps"
    assert "gimbal" in said["missing"]
    assert "mount_pitch_deg" in said["not_georeferenced"]


def test_fixed_mount_makes_a_track_georeferenced(track: Path) -> None:
    """With the angle declared nothing is missing any more to look at the ground."""
    assert as_json(track, "--mount-pitch", "-90")["not_georeferenced"] is None


def test_people_are_shown_each_file_and_why_one_is_refused(track: Path, tmp_path: Path) -> None:
    """What is of use and what is not stand in one table; one refusal ends with 1."""
    empty, junk = tmp_path / "empty.srt", tmp_path / "junk.bin"
    empty.write_bytes(b"")
    junk.write_bytes(b"nothing of the kind" * 100)
    result = ask(track, empty, junk, tmp_path / "absent.srt")
    assert result.exit_code == 1
    for text in ("track.gpx", "33.600000 71.400000 700 m", "copy it again", "no telemetry of a kind"):
        assert text in " ".join(result.stdout.split()), text
    assert [("refused" in said) for said in as_json(track, empty, junk)] == [False, True, True]


def test_video_tells_what_it_has_inside(
    gathering_flight: SimulatedFlight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video without telemetry says to name the file beside it, which itself is read."""
    monkeypatch.setenv("OUTWATCH_HOME", str(tmp_path / "home"))
    assert "name the file beside it" in as_json(gathering_flight.video)["refused"]
    said = as_json(gathering_flight.telemetry)
    assert (said["format"], said["zone"], said["not_georeferenced"]) == ("dji_srt", "Asia/Karachi", None)


def test_every_real_sample_gives_samples_or_a_reason(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every telemetry file that lies at hand it says what is in it, or why not."""
    monkeypatch.setenv("OUTWATCH_HOME", str(tmp_path / "home"))
    licences = {"LICENSE", "COPYING"}
    files = [path for path in sorted((samples / "telemetry").rglob("*")) if path.is_file()]
    files = [path for path in files if path.name not in licences]
    for said in as_json(*files):
        assert said["samples"] > 0 or said["refused"], said
