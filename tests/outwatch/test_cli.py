"""The command line: exit codes, JSON for programs, and words for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner, Result

from outwatch import __version__
from outwatch.cli import app
from outwatch.domain.cameras import camera_names
from outwatch.domain.types import Alert, Event, Priority
from outwatch.pipeline import wiring
from storage import schemas
from storage.keys import dt_of


@pytest.fixture(autouse=True)
def logging_of_its_own() -> Iterator[None]:
    """Take back where the command line sends logs: its stream ends with the test."""
    yield
    structlog.reset_defaults()


def outwatch(*words: str | Path) -> Result:
    """Run one command; an exception that is no exit fails the test."""
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def failed_work(home: Path) -> None:
    """Leave one piece of work that a person must look at."""
    with wiring.open_pipeline() as pipeline:
        pipeline.ledger.open_work("detect_clips", "clip-1")
        claim = pipeline.ledger.claim("detect_clips", "clip-1")
        assert claim is not None
        assert pipeline.ledger.fail(claim, "ModelUnavailable: no weights", retry=False)


def test_version_needs_neither_command_nor_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The health check of a container asks for nothing else."""
    monkeypatch.setenv("OUTWATCH_NO_SUCH_SETTING", "1")
    result = outwatch("--version")
    assert (result.exit_code, result.stdout) == (0, f"{__version__}\n")


def test_no_command_shows_help() -> None:
    """Wrong usage is 2, and says what there is."""
    result = outwatch()
    assert result.exit_code == 2
    assert "ingest" in result.output


@pytest.mark.parametrize("command", ["events", "alerts", "work", "run", "retry"])
def test_wrong_settings_are_one_line_and_exit_1(
    command: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback for what an operator can mend."""
    monkeypatch.setenv("OUTWATCH_OUTPOST", "/x")
    result = outwatch(command)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("ConfigInvalid: environment: OUTWATCH_OUTPOST is no setting")


def test_ingest_of_what_is_no_video_exits_1_with_the_reason(home: Path, tmp_path: Path) -> None:
    """The file is kept in quarantine, and the JSON says why."""
    bad = tmp_path / "text.mp4"
    bad.write_text("not a video")
    result = outwatch("ingest", bad, "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 1
    (upload,) = answer["uploads"]
    (file,) = upload["files"]
    assert (file["name"], file["outcome"], file["clip_id"]) == ("text.mp4", "refused", None)
    assert "text.mp4" in file["reason"]
    assert answer["failures"] == []


def test_ingest_of_an_unknown_camera_exits_1_and_lands_nothing(home: Path, tmp_path: Path) -> None:
    """A misspelt camera is told before anything is handed over."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"data")
    result = outwatch("ingest", clip, "--camera", "no such camera")
    assert result.exit_code == 1
    assert "no such camera" in result.stderr
    with wiring.open_pipeline() as pipeline:
        assert list(pipeline.store.list("")) == []
        assert pipeline.ledger.uploads() == []


def test_cameras_are_listed() -> None:
    """Every name that `--camera` takes."""
    result = outwatch("cameras")
    assert result.exit_code == 0
    assert camera_names()
    assert [name for name in camera_names() if name not in result.stdout] == []
    assert [row["name"] for row in json.loads(outwatch("cameras", "--json").stdout)] == list(camera_names())


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """Return a card with one clip, which need not be read to be refused or packed."""
    folder = tmp_path / "card"
    folder.mkdir()
    (folder / "clip.mp4").write_bytes(b"data")
    return folder


@pytest.mark.parametrize("command", ["ingest", "telemetry", "upload"])
def test_a_mount_without_its_pitch_is_refused(command: str, home: Path, card: Path) -> None:
    """A heading alone is no attitude, and is not dropped in silence."""
    where = ("--to", "http://127.0.0.1:9", card) if command == "upload" else (card / "clip.mp4",)
    result = outwatch(command, "--mount-heading", "30", *where)
    assert result.exit_code == 1
    assert "mount_pitch_deg" in result.output


def test_what_went_to_a_stick_is_told_to_programs(home: Path, card: Path, tmp_path: Path) -> None:
    """Which package it is, and what stays behind and why."""
    (card / "clip.THM").write_bytes(b"thumbnail")
    stick = tmp_path / "stick"
    stick.mkdir()
    (row,) = json.loads(outwatch("upload", card, "--usb", stick, "--json").stdout)
    assert (row["folder"], row["files"], row["size_bytes"]) == (str(card), 1, 4)
    assert [left["path"] for left in row["left_out"]] == ["clip.THM"]
    assert (stick / f"outwatch-{row['package']}").is_dir()


def test_events_are_printed_as_json_and_as_a_table(home: Path, gathering: Event) -> None:
    """With the place where the still can be opened; `--since` leaves out earlier days."""
    with wiring.open_pipeline() as pipeline:
        table = schemas.events_table([gathering])
        pipeline.lake.write("events", table, dt=dt_of(gathering.started_at), name="clip-1", metadata={})
    (row,) = json.loads(outwatch("events", "--json").stdout)
    assert (row["id"], row["count"], row["lat_deg"]) == ("event-1", 13, 33.58662)
    assert row["evidence"] == [str(home / "store" / gathering.evidence_keys[0])]
    assert json.loads(outwatch("events", "--json", "--since", "2026-03-15").stdout) == []
    shown = outwatch("events").stdout
    assert "13 (10-16)" in shown
    assert f"1: {row['evidence'][0]}" in shown


def test_events_of_a_day_that_is_none_is_wrong_usage(home: Path) -> None:
    """Wrong usage is 2."""
    assert outwatch("events", "--since", "yesterday").exit_code == 2


def test_alerts_are_printed_as_json_and_as_messages(home: Path, gathering: Event) -> None:
    """With the state of each delivery, and both languages."""
    alert = Alert(
        id="alert-1",
        dedup_key="sample-post/gathering",
        priority=Priority.P2,
        kind=gathering.kind,
        outpost_id=gathering.outpost_id,
        control_room="Peshawar",
        event_ids=(gathering.id,),
        raised_at=gathering.ended_at,
        captured_from=gathering.started_at,
        captured_to=gathering.ended_at,
        message_en="About 13 people near Sample Post",
        message_ur="سیمپل پوسٹ کے قریب تقریباً 13 افراد",
    )
    with wiring.open_pipeline() as pipeline:
        pipeline.alert_book.raise_or_join(
            alert, cool_down=timedelta(0), longest=timedelta(hours=1), channels=["log"]
        )
    (row,) = json.loads(outwatch("alerts", "--json").stdout)
    assert (row["id"], row["event_ids"], row["message_ur"]) == ("alert-1", ["event-1"], alert.message_ur)
    assert [delivery["state"] for delivery in row["deliveries"]] == ["pending"]
    assert json.loads(outwatch("alerts", "--json", "--control-room", "Quetta").stdout) == []
    shown = outwatch("alerts").stdout
    assert alert.message_en in shown
    assert "log: pending" in shown


@pytest.mark.usefixtures("failed_work")
def test_failed_work_is_listed_with_its_reason() -> None:
    """In JSON with its fields, in the table with its subject."""
    (row,) = json.loads(outwatch("work", "--json").stdout)
    assert row == {
        "step": "detect_clips",
        "subject": "clip-1",
        "state": "failed",
        "attempts": 1,
        "error": "ModelUnavailable: no weights",
    }
    assert "clip-1" in outwatch("work").stdout


@pytest.mark.usefixtures("failed_work")
def test_retry_opens_failed_work_once() -> None:
    """Then it is open, and there is nothing more to retry."""
    assert outwatch("retry").stdout == "1 opened again\n"
    assert [row["state"] for row in json.loads(outwatch("work", "--json").stdout)] == ["open"]
    assert outwatch("retry").stdout == "0 opened again\n"
    assert json.loads(outwatch("retry", "--json").stdout) == {"reopened": 0}


def test_run_tells_of_each_failure_and_exits_1(home: Path) -> None:
    """Work on a clip that is not there cannot be done."""
    with wiring.open_pipeline() as pipeline:
        pipeline.ledger.open_work("detect_clips", "clip-1")
    result = outwatch("run", "--json")
    (failure,) = json.loads(result.stdout)["failures"]
    assert result.exit_code == 1
    assert (failure["step"], failure["input"]) == ("detect_clips", "clip-1")
    assert failure["error"].startswith("ObjectMissing")


def test_doctor_exits_1_where_a_check_failed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without readable settings nothing else can be checked."""
    monkeypatch.setenv("OUTWATCH_OUTPOST", "/x")
    result = outwatch("doctor", "--json")
    (check,) = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (check["name"], check["state"]) == ("settings", "failed")
    assert "OUTWATCH_OUTPOSTS" in check["found"]
    assert outwatch("doctor").exit_code == 1


def test_demo_refuses_a_folder_of_someone_else(tmp_path: Path) -> None:
    """In one line, with what lies there untouched."""
    (tmp_path / "thesis.txt").write_text("years of work")
    result = outwatch("demo", "--folder", tmp_path)
    assert result.exit_code == 1
    assert "ConfigInvalid" in result.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
