"""Figures come from the right images, frames and labels."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from detection import evaluate
from detection.evaluate import evaluate_footage, evaluate_images
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import Box, Frame, Image


def box(left: float, *, label: str = "person", confidence: float = 1.0, width: float = 10.0) -> Box:
    """Return a box of 10 px height at the top of the frame."""
    return Box(label, confidence, (left, 0.0, left + width, 10.0))


class Oracle:
    """A detector that knows the answer by the frame's colour."""

    model_id = "oracle-000000000000"
    labels = ("person", "car")
    recall: Mapping[str, float] = {}

    def __init__(self, answers: Mapping[int, list[Box]]) -> None:
        self._answers = answers

    def detect(self, images: Sequence[Image]) -> list[list[Box]]:
        """Return the answer for each frame's colour."""
        return [self._answers[round(float(image.mean()) / 20)] for image in images]


def plain(colour: int) -> Image:
    """Return a frame of a colour that the oracle knows."""
    return np.full((50, 100, 3), 20 * colour, dtype=np.uint8)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return two labelled images, from 60 m and 90 m, the second of nothing."""
    for folder in ("images/val", "labels/val"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("names: {0: person, 1: car, 2: dog}\n")
    cv2.imwrite(str(tmp_path / "images/val/1_60_45_0_00001.jpg"), plain(3))
    cv2.imwrite(str(tmp_path / "images/val/0_90_90_0_00002.jpg"), plain(6))
    (tmp_path / "labels/val/1_60_45_0_00001.txt").write_text(
        "0 0.05 0.1 0.1 0.2\n1 0.5 0.5 0.2 0.2\n2 0.9 0.9 0.1 0.1\n"
    )
    return tmp_path


def test_labelled_images_are_judged_by_altitude_and_angle(data_dir: Path) -> None:
    """Figures are given overall and for each group that the file names tell."""
    detector = Oracle({3: [box(0, confidence=0.9)], 6: [box(0, confidence=0.5)]})
    result = evaluate_images(detector, data_dir)
    assert (result["images"], result["truths"]) == (2, 2)
    assert (result["precision"], result["recall"]) == (0.5, 0.5)
    assert result["by_label"]["person"]["recall"] == 1.0
    assert result["by_label"]["car"]["ap50"] == 0.0
    assert list(result["by_altitude_m"]) == ["60", "90"]
    assert result["by_altitude_m"]["60"]["recall"] == 0.5
    assert result["by_altitude_m"]["90"]["recall"] is None
    assert result["by_depression_deg"]["45"]["precision"] == 1.0


@pytest.mark.parametrize("missing", ["data.yaml", "images/val"])
def test_a_folder_that_is_no_data_set_is_named(data_dir: Path, missing: str) -> None:
    """The error says what was looked for."""
    (data_dir / missing).rename(data_dir / "elsewhere")
    with pytest.raises(ConfigInvalid, match=missing):
        evaluate_images(Oracle({}), data_dir)


def footage_truth() -> dict[str, object]:
    """Return the truth of a clip of three half-seconds, of which the second has nothing in it."""
    person = {"label": "person", "xywh": [0, 0, 10, 10]}
    return {
        "clip": "clip.mp4",
        "frames": [
            {"time_s": 0.0, "image": "a", "boxes": [person]},
            {"time_s": 0.5, "image": "b", "boxes": []},
            {"time_s": 1.0, "image": "c", "boxes": [person]},
        ],
    }


def test_footage_is_judged_once_for_each_true_frame() -> None:
    """Of the frames that show one true frame the first is judged; frames beyond the truth are not."""
    frames = [
        Frame(i, offset, plain(colour))
        for i, (offset, colour) in enumerate([(0.1, 1), (0.3, 9), (0.6, 2), (1.2, 3), (1.6, 9)])
    ]
    detector = Oracle({1: [box(0, confidence=0.9)], 2: [box(0, confidence=0.8)], 3: []})
    result = evaluate_footage(detector, frames, footage_truth())
    assert (result["images"], result["truths"]) == (3, 2)
    assert (result["precision"], result["recall"]) == (0.5, 0.5)


def test_footage_with_lost_frames_keeps_its_place() -> None:
    """A true frame of which no picture came is left out, not judged on another picture."""
    frames = [Frame(0, 0.1, plain(1)), Frame(1, 1.1, plain(3))]
    detector = Oracle({1: [box(0, confidence=0.9)], 3: [box(0, confidence=0.9)]})
    result = evaluate_footage(detector, frames, footage_truth())
    assert (result["images"], result["recall"]) == (2, 1.0)


def test_the_command_prints_a_table_or_json(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person gets lines, a program gets JSON, with the same figures."""
    detector = Oracle({3: [box(0, confidence=0.9)], 6: []})
    monkeypatch.setattr(evaluate, "open_detector", lambda *_, **__: detector)
    arguments = ["evaluate", "--model", "oracle", "--data", str(data_dir)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--json"])
    evaluate.main()
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == "oracle-000000000000"
    assert report["images"]["by_label"]["person"]["ap50"] == 1.0
    monkeypatch.setattr(sys, "argv", arguments)
    evaluate.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["images", "person", "1", "1.000", "1.000", "1.000", "1.000"] in rows
