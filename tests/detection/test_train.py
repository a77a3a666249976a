"""The one command that trains, exports and measures a model, on a toy data set."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from detection import train
from detection.model_card import ModelCard
from detection.openvino import OpenVinoDetector
from outwatch.domain.types import Modality


@pytest.fixture
def toy_data(tmp_path: Path) -> Path:
    """Return eight frames with ten warm spots in each, labelled as people."""
    random = np.random.default_rng(5)
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (tmp_path / "data" / folder / split).mkdir(parents=True)
        for index in range(4):
            image = np.full((96, 96, 3), 60, dtype=np.uint8)
            centres = random.uniform(0.1, 0.9, (10, 2))
            for x, y in centres:
                cv2.circle(image, (int(96 * x), int(96 * y)), 4, (230, 230, 230), -1)
            cv2.imwrite(str(tmp_path / f"data/images/{split}/{index}.jpg"), image)
            lines = "".join(f"0 {x} {y} 0.09 0.09\n" for x, y in centres)
            (tmp_path / f"data/labels/{split}/{index}.txt").write_text(lines)
    (tmp_path / "data/data.yaml").write_text(
        "train: images/train\nval: images/val\nnames: [person, car, bicycle, other_vehicle]\n"
    )
    return tmp_path / "data"


@pytest.mark.slow
def test_one_command_trains_exports_and_measures(
    toy_data: Path,
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What comes out is a model folder that runs, knows our labels and says its measured recall."""
    pytest.importorskip("ultralytics", reason="needs the extra outwatch[ultralytics]", exc_type=ImportError)
    start = samples / "models/yolo11n_coco.pt"
    for stage in ("GENERAL", "CONTRAST", "SHARP"):
        monkeypatch.setattr(train, stage, replace(getattr(train, stage), epochs=1, imgsz=320))
    arguments = {"--data": toy_data, "--start": start, "--out": tmp_path / "out"}
    monkeypatch.setattr(sys, "argv", ["train", *(str(part) for pair in arguments.items() for part in pair)])
    train.main()
    course = train.COURSES[Modality.THERMAL]
    folder = tmp_path / "out" / course.model_name
    detector = OpenVinoDetector(folder, min_confidence=0.25)
    card = ModelCard.read(folder)
    assert (Modality.THERMAL, course.longest_px, train.LICENCE) == (
        card.modality,
        card.longest_px,
        card.licence,
    )
    assert {"data": train.labels_digest(toy_data)} == card.training_data
    assert {"val.person.ap50"} == set(card.metrics)
    assert detector.labels == ("person", "car", "bicycle", "other_vehicle")
    assert set(detector.recall.overall) == {"person"}
    assert "val" in capsys.readouterr().out
