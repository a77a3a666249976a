"""The command prints figures for people or programs, writes the report, and fails where one got worse."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from outwatch.cli import app


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return two plain grey images, one of them said to show a person, as no model will agree."""
    monkeypatch.setenv("OUTWATCH_HOME", str(tmp_path / "home"))
    folder = tmp_path / "grey"
    for name in ("images/val", "labels/val"):
        (folder / name).mkdir(parents=True)
    for number in (1, 2):
        cv2.imwrite(
            str(folder / f"images/val/1_60_45_0_0000{number}.png"), np.full((128, 160, 3), 120, np.uint8)
        )
    (folder / "labels/val/1_60_45_0_00001.txt").write_text("0 0.5 0.5 0.1 0.2\n")
    (folder / "data.yaml").write_text("names: [Person]\nval: images/val\n")
    return folder


def accepted(folder: Path, value: float) -> Path:
    path = folder / "accepted.json"
    setup = {"data": "grey", "split": "val", "images": 2, "confidence": 0.25}
    figures = {"per_class.person.ap50": {"value": value, "better": "higher", "tolerance": 0.01}}
    path.write_text(json.dumps({"images": {"setup": setup, "figures": figures}}))
    return path


def test_figures_come_as_json_and_as_a_page(data: Path, tmp_path: Path) -> None:
    """Names are stable, grey images are judged by the thermal model, and the page stands beside the JSON."""
    report_dir, file = tmp_path / "report", accepted(tmp_path, 0.0)
    run = CliRunner().invoke(
        app,
        [
            "evaluate",
            "images",
            "--data",
            str(data),
            "--out",
            str(report_dir),
            "--accept",
            str(file),
            "--json",
        ],
    )
    assert run.exit_code == 0, run.output
    report = json.loads(run.stdout)
    assert report["model"].startswith("thermal_yolo11n-")
    assert report["per_class"]["person"]["ap50"] == 0.0
    assert report["by_altitude"]["60"]["per_class"]["person"]["truths"] == 1
    assert report["against_accepted"] == {"per_class.person.ap50": "same"}
    assert json.loads((report_dir / "report.json").read_text()) == report
    assert "evaluated on images" in (report_dir / "report.html").read_text()


def test_a_worse_figure_fails_and_renewing_accepts_it(data: Path, tmp_path: Path) -> None:
    """The exit code is 1 with the figure's name, until a person renews what is accepted."""
    file = accepted(tmp_path, 0.9)
    arguments = [
        "evaluate",
        "images",
        "--data",
        str(data),
        "--model",
        "thermal_yolo11n",
        "--accept",
        str(file),
    ]
    worse = CliRunner().invoke(app, arguments)
    assert (worse.exit_code, "worse per_class.person.ap50" in worse.stderr) == (1, True)
    assert CliRunner().invoke(app, [*arguments, "--renew"]).exit_code == 0
    assert json.loads(file.read_text())["images"]["figures"]["per_class.person.ap50"]["value"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["images", "--data", "nowhere"], "nowhere"),
        (["clips", "--data", "nowhere"], "nowhere"),
        (["simulated", "--model", "nobodys"], "nobodys"),
    ],
)
def test_what_is_not_there_is_named(data: Path, arguments: list[str], words: str) -> None:
    """One line in plain words, and 1."""
    run = CliRunner().invoke(app, ["evaluate", *arguments])
    assert run.exit_code == 1
    assert "ConfigInvalid" in run.stderr
    assert words in run.stderr
