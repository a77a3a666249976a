"""``outwatch files`` and ``outwatch refused-readings``: what came in, and what became of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from outwatch.cli import app
from outwatch.commands.files import Outcome
from outwatch.commands.shared import COLOUR_OF_OUTCOME
from outwatch.domain.types import RefusedReading
from outwatch.pipeline import landing, runner, wiring
from outwatch.settings import load_settings
from storage import schemas
from storage.tables import FileState


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home of the test's own, which the command finds by the environment."""
    monkeypatch.setenv("OUTWATCH_HOME", str(tmp_path / "home"))
    return tmp_path


def ask(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_outcome_has_its_colour() -> None:
    """A file of any outcome can be asked for, and shown."""
    assert {state.value for state in FileState} == set(COLOUR_OF_OUTCOME) == set(get_args(Outcome))


def test_files_are_listed_with_outcome_and_reason(home: Path) -> None:
    """A refused file and a companion left on the card both stand there, and can be asked for alone."""
    card = home / "card"
    card.mkdir()
    (card / "text.mp4").write_text("not a video")
    (card / "DJI_0001.LRF").write_bytes(b"copy")
    with wiring.open_pipeline(load_settings()) as pipeline:
        landing.land(pipeline, [card], declared={"operator": "Ali"})
        runner.run_open_work(pipeline)
    rows = {row["name"]: row for row in json.loads(ask("files", "--json"))}
    assert {name: row["outcome"] for name, row in rows.items() if "outwatch" not in name} == {
        "text.mp4": "refused",
        "DJI_0001.LRF": "set_aside",
    }
    assert rows["text.mp4"]["operator"] == "Ali"
    assert "not a video" in rows["text.mp4"]["reason"]
    shown = ask("files", "--outcome", "set_aside")
    assert "DJI_0001.LRF" in shown
    assert "text.mp4" not in shown
    assert json.loads(ask("files", "--since", "2999-01-01", "--json")) == []


def test_readings_kept_apart_are_listed_with_their_reason(home: Path) -> None:
    """The reason is for people, what came is for programs."""
    at = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
    reading = RefusedReading(
        "r1", "perimeter", at, "unknown_sensor", "no sensor is called gate-9", '{"value": 1}'
    )
    with wiring.open_pipeline(load_settings()) as pipeline:
        table = schemas.refused_readings_table([reading])
        pipeline.lake.write("refused_readings", table, dt=at.date(), name="20260314T1640Z", metadata={})
    assert reading.why in ask("refused-readings")
    (row,) = json.loads(ask("refused-readings", "--json"))
    assert (row["feed"], row["reason"], row["payload"]) == ("perimeter", "unknown_sensor", '{"value": 1}')
