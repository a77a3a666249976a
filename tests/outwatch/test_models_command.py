"""``outwatch models``: what looks at what; weights that come in, are judged, promoted and taken back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops
from typer.testing import CliRunner

from detection.model_card import ModelCard
from outwatch.cli import app
from outwatch.domain.types import Modality
from outwatch.pipeline import wiring
from outwatch.settings import load_settings

Run = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTWATCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run(home: Path) -> Run:
    """Run a command and return what it printed, as JSON where it can be read so."""

    def call(*words: object, exit_code: int = 0) -> Any:
        result = CliRunner().invoke(app, ["models", *map(str, words)])
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout) if "--json" in words else " ".join(result.output.split())

    return call


def tiny_network(path: Path, *, rows: int = 6) -> Path:
    """Write a network in the manner of YOLO: three channels in, boxes by rows out, none of them sure."""
    frame = ops.parameter([1, 3, -1, -1], np.float32, name="images")
    small = ops.interpolate(
        frame, np.array([4, 5], np.int64), "nearest", "sizes", axes=np.array([2, 3], np.int64)
    )
    flat = ops.reshape(ops.reduce_mean(small, np.array([1]), keep_dims=True), np.array([1, 1, 20]), False)
    boxes = ops.multiply(ops.tile(flat, np.array([1, rows, 1])), np.float32(0.001))
    ov.save_model(ov.Model([boxes], [frame], "tiny"), path / "tiny.xml")
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Return a folder with an OpenVINO model of two classes that it does not name."""
    (tmp_path / "weights").mkdir()
    return tiny_network(tmp_path / "weights")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return eight grey frames with a car in each, none a neighbour of another."""
    data = tmp_path / "yard"
    for kind in ("images", "labels"):
        (data / kind / "val").mkdir(parents=True)
    for index in "abcdefgh":
        frame = np.full((128, 160, 3), 40, np.uint8)
        cv2.rectangle(frame, (60, 50), (100, 78), (200, 200, 200), -1)
        cv2.imwrite(str(data / f"images/val/{index}.jpg"), frame)
        (data / f"labels/val/{index}.txt").write_text("0 0.5 0.5 0.25 0.22\n")
    (data / "data.yaml").write_text("val: images/val\nnames: [car]\n")
    return data


def test_the_shipped_models_look_until_another_is_promoted(run: Run, tiny: Path, home: Path) -> None:
    """A promoted model looks at the footage of its kind of camera, and only until it is taken back."""
    shipped = {row["modality"]: row["id"] for row in run("list", "--json")}
    assert {"thermal", "rgb"} == set(shipped)
    told = run("add", tiny, "--modality", "rgb", "--labels", "car,person", "--licence", "MIT")
    model_id = told.split()[0]
    run("promote", model_id, "--modality", "rgb")
    assert {shipped["thermal"], model_id} == {row["id"] for row in run("list", "--json") if row["looks"]}
    with wiring.open_pipeline(load_settings()) as pipeline:
        assert (model_id, ("car", "person")) == (
            (detector := pipeline.detector(Modality.RGB)).model_id,
            detector.labels,
        )
        assert pipeline.weights(Modality.RGB) == home / "models" / model_id
    assert "the shipped model since" in run("promote", "shipped", "--modality", "rgb")
    assert set(shipped.values()) == {row["id"] for row in run("list", "--json") if row["looks"]}


def test_settings_win_over_promotions(run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names weights in the settings is told that a promotion would do nothing."""
    model_id = run("add", tiny, "--modality", "rgb", "--labels", "car,person").split()[0]
    monkeypatch.setenv("OUTWATCH_DETECTION__RGB_WEIGHTS", str(tiny))
    assert "OUTWATCH_DETECTION__RGB_WEIGHTS" in run("promote", model_id, "--modality", "rgb", exit_code=1)


def test_a_shipped_folder_comes_in_whole(run: Run, tmp_path: Path) -> None:
    """A model folder of ours keeps its labels, its figures and its card; only its name may change."""
    folder = wiring.shipped_weights(Modality.THERMAL)
    run("add", folder, "--modality", "thermal", "--name", "valley")
    row = next(row for row in run("list", "--json") if row["id"].startswith("valley-"))
    card = ModelCard.read(folder)
    assert (["person", "car", "bicycle", "other_vehicle"], card.sha256) == (row["labels"], row["sha256"])
    stored = tmp_path / "home/store/models" / row["id"]
    assert (folder / "CARD.md").read_text() == (stored / "card.md").read_text()


def test_what_cannot_run_is_refused_with_its_reason(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Nothing enters the registry that a dry run has not seen work."""

    def refused(source: Path, *options: str) -> str:
        return run("add", source, "--modality", "thermal", *options, exit_code=1)

    assert "give --labels" in refused(tiny)
    assert "gives 6 rows, expected 7" in refused(tiny, "--labels", "person,car,-")
    assert "label 'tank' is none of" in refused(tiny, "--labels", "person,tank")
    (broken := tmp_path / "broken.onnx").write_bytes(b"no network")
    assert "OpenVINO cannot read" in refused(broken, "--labels", "person,car")
    (text := tmp_path / "notes.txt").write_text("weights")
    assert "is no model: expected" in refused(text)
    shutil.copytree(wiring.shipped_weights(Modality.THERMAL), half := tmp_path / "half")
    (half / "model.bin").unlink()
    assert "has no model.bin" in refused(half)
    assert 2 == len(run("list", "--json"))


def test_a_network_of_fixed_size_is_refused(run: Run, tmp_path: Path) -> None:
    """A clip's frames have their own shape: a network that takes one only is no use."""
    frame = ops.parameter([1, 3, 640, 640], np.float32, name="images")
    flat = ops.reshape(frame, np.array([1, 6, 204800]), False)
    (folder := tmp_path / "fixed").mkdir()
    ov.save_model(ov.Model([flat], [frame], "fixed"), folder / "fixed.xml")
    said = run("add", folder, "--modality", "rgb", "--labels", "person,car", exit_code=1)
    assert "takes frames of 640x640 only" in said


def test_two_models_are_compared_on_the_same_images(run: Run, images: Path, tiny: Path, home: Path) -> None:
    """The difference has an interval, and the report is kept under ``trials/``."""
    model_id = run("add", tiny, "--modality", "thermal", "--labels", "car,person").split()[0]
    report = run("compare", model_id, "thermal_yolo11n", "--data", images, "--json")
    row = report["per_class"]["car"]["ap50"]
    assert row["difference"] == pytest.approx(row["second"] - row["first"], abs=1e-4)
    low, high = row["difference_ci"]
    assert low <= row["difference"] <= high
    assert report["images"] == 8
    kept = json.loads((home / "store" / report["key"]).read_text())
    assert kept == {name: value for name, value in report.items() if name != "key"}


def test_evaluate_gives_figures_per_class(run: Run, images: Path) -> None:
    """The figures name their model and count the true boxes."""
    report = run("evaluate", "thermal_yolo11n", "--data", images, "--json")
    shipped = ModelCard.read(wiring.shipped_weights(Modality.THERMAL)).model_id
    assert (shipped, 8) == (report["model"], report["per_class"]["car"]["truths"])


@pytest.mark.slow
def test_ultralytics_weights_come_in_with_a_warning(run: Run, samples: Path, home: Path) -> None:
    """A .pt is a program: that is said, and it is kept as the source but never fetched to run."""
    pytest.importorskip("ultralytics", reason="needs the extra outwatch[ultralytics]", exc_type=ImportError)
    told = run("add", samples / "models/yolo11n_coco.pt", "--modality", "rgb", "--name", "coco")
    assert "A .pt file is a program" in told
    row = next(row for row in run("list", "--json") if row["id"].startswith("coco-"))
    assert {"person", "bicycle", "car", "other_vehicle"} == set(row["labels"])
    stored = sorted(path.name for path in (home / "store/models" / row["id"]).iterdir())
    assert ["card.md", "manifest.json", "model.bin", "model.json", "model.xml", "source.pt"] == stored
