"""The training set of the RGB model: whose boxes it takes, what it leaves out, and that nothing leaks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import yaml

from detection import rgb_data
from detection.labels import CAR, PERSON
from detection.rgb_data import Labelled
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import Box, Image, Recall

NAMES = {0: "person", 1: "bicycle", 2: "car", 7: "truck"}
LABELS = Path(__file__).parents[1] / "labels" / "tower_pedestrians"


class Scripted:
    """A detector that sees one car at a third of each frame, surer at a larger input."""

    model_id, labels, recall, input_px = "scripted", (CAR,), Recall(), 640

    def __init__(self, confidence: float) -> None:
        self._confidence = confidence

    def detect(self, images: Sequence[Image], *, input_px: int | None = None) -> list[list[Box]]:
        """Return a box left of the middle, mirrored where the frame's bright side is on the right."""
        found = []
        for image in images:
            width = image.shape[1]
            left = width / 4 if image[:, : width // 2].mean() > image[:, width // 2 :].mean() else width / 2
            shift = (input_px or 640) / 1600
            found.append([Box(CAR, self._confidence, (left, 10 + shift, left + width / 4, 40 + shift))])
        return found


def picture(seed: int, *, width_px: int = 160, height_px: int = 96) -> Image:
    """Return a picture of coarse noise, bright on the left."""
    noise = np.random.default_rng(seed).integers(0, 200, (8, 16, 3), dtype=np.uint8)
    image = cv2.resize(noise, (width_px, height_px), interpolation=cv2.INTER_NEAREST)
    image[:, : width_px // 2] += 50
    return np.asarray(image, np.uint8)


def write_video(path: Path, *, frames: int) -> None:
    """Write a clip whose frames are all ``picture(0)``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        frame = av.VideoFrame.from_ndarray(picture(0), format="bgr24")
        for _ in range(frames):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return samples, flights and mast labels in the layout of the real ones."""
    samples, flights, mast = (tmp_path / name for name in ("samples", "flights", "mast"))
    for kind in ("images", "labels"):
        (samples / "aerial_rgb" / kind).mkdir(parents=True)
    for number, width_px in ((74, 160), (75, 160), (155, 1764), (156, 1764)):
        cv2.imwrite(str(samples / f"aerial_rgb/images/MOS{number}.jpg"), picture(number, width_px=width_px))
        (samples / f"aerial_rgb/labels/MOS{number}.txt").write_text("0 0.5 0.5 0.02 0.2\n")
    write_video(samples / "footage/tower_pedestrians.avi", frames=512)
    write_video(samples / "footage/tower_gate_cars.mp4", frames=345)
    write_video(flights / "000/daylight_0.mp4", frames=2)
    actor = {"label": PERSON, "box_xyxy_px": [10, 10, 20, 30], "visible_fraction": 1.0}
    hidden = actor | {"visible_fraction": 0.1}
    away = actor | {"box_xyxy_px": None}
    truth = {"frames": [{"index": index, "actors": [actor, hidden, away]} for index in range(2)]}
    (flights / "000/daylight_0.truth.json").write_text(json.dumps(truth))
    mast.mkdir()
    for index in (500, 510):
        (mast / f"{index:06d}.txt").write_text("0 0.5 0.5 0.1 0.4\n")
    return samples, flights, mast


def test_the_set_has_its_parts_and_keeps_the_start_weights_classes(
    sources: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Wide aerial pictures come in windows, what is left out stays whole, and class ids are COCO's."""
    samples, flights, mast = sources
    counts = rgb_data.build(
        samples=samples,
        flights=flights,
        mast_labels=mast,
        start=Scripted(0.9),
        names=NAMES,
        out=tmp_path / "set",
    )
    windows, whole = 2 * 3, 1
    expected = windows + whole + 2 + len(rgb_data.MAST_TRAIN) + len(rgb_data.GATE_BOXES)
    assert {"train": expected, "aerial": 2, "mast": 2} == counts
    description = yaml.safe_load((tmp_path / "set/data.yaml").read_text())
    assert (NAMES, "images/aerial") == (description["names"], description["val"])
    text = (tmp_path / "set/labels/train/daylight_0_000.txt").read_text()
    assert ["0 0.093750 0.208333 0.062500 0.208333"] == text.splitlines()
    assert {"2"} == {
        line.split()[0] for line in (tmp_path / "set/labels/aerial/MOS74.txt").read_text().splitlines()
    }


def test_a_scene_that_is_left_out_is_not_trained_on() -> None:
    """A neighbouring frame of the test sequence under another name is found out."""
    scene = picture(1)
    brighter = np.asarray(np.clip(scene.astype(int) + 20, 0, 255), np.uint8)
    train, test = Labelled("MOS200", brighter, ()), Labelled("MOS74", scene, ())
    with pytest.raises(ConfigInvalid, match=r"MOS200 .* MOS74"):
        rgb_data.check_apart([train], [test])
    rgb_data.check_apart([Labelled("MOS201", picture(2), ())], [test])


def test_the_frames_of_the_mast_test_are_a_second_away_from_those_trained_on() -> None:
    """The clip has ten frames a second; the labels in the repository are those of the test."""
    nearest = min(abs(one - other) for one in rgb_data.MAST_TRAIN for other in rgb_data.MAST_TEST)
    assert nearest >= 10
    assert [int(path.stem) for path in sorted(LABELS.glob("*.txt"))] == list(rgb_data.MAST_TEST)


def test_labels_made_by_eye_are_boxes_within_the_frame() -> None:
    """Every line is a person whose box lies in the picture."""
    lines = [line for path in LABELS.glob("*.txt") for line in path.read_text().splitlines()]
    assert len(lines) == 207
    for line in lines:
        class_id, x, y, width, height = map(float, line.split())
        assert class_id == 0
        assert 0 <= x - width / 2 + 1e-4
        assert x + width / 2 <= 1 + 1e-4
        assert 0 <= y - height / 2 + 1e-4
        assert y + height / 2 <= 1 + 1e-4


def test_boxes_of_all_looks_are_merged_into_one() -> None:
    """A thing seen at three sizes and mirrored is one box, as sure as it was on the mean."""
    (box,) = rgb_data.pseudo_boxes(Scripted(0.8), picture(3))
    left, top, right, bottom = box.box_xyxy_px
    assert (CAR, pytest.approx(0.8)) == (box.label, box.confidence)
    assert (pytest.approx(40), pytest.approx(80)) == (left, right)
    assert 10.6 < top < 11
    assert bottom - top == pytest.approx(30)


def test_what_no_look_is_sure_of_is_no_label() -> None:
    """A mean confidence below the threshold gives no box to train on."""
    assert [] == rgb_data.pseudo_boxes(Scripted(0.2), picture(3))


def test_a_box_mostly_outside_a_window_is_cut_away() -> None:
    """A window keeps what shows by two fifths, cut at its edge."""
    width_px = 2 * rgb_data.WINDOW_PX
    edge = float(rgb_data.WINDOW_PX)
    boxes = [Box(CAR, 1.0, (edge - 30, 5, edge + 20, 25)), Box(CAR, 1.0, (edge - 10, 30, edge + 40, 50))]
    first, second = rgb_data.windows(Labelled("MOS155", picture(4, width_px=width_px), boxes))
    assert [(edge - 30, 5, edge, 25)] == [box.box_xyxy_px for box in first.boxes]
    assert [(0, 5, 20, 25), (0, 30, 40, 50)] == [box.box_xyxy_px for box in second.boxes]


def test_a_clip_that_is_too_short_is_refused(tmp_path: Path) -> None:
    """Labels by frame number belong to one clip only: another is not trained on by mistake."""
    write_video(tmp_path / "short.mp4", frames=5)
    with pytest.raises(ConfigInvalid, match="ends before its frames"):
        list(rgb_data.read_frames(tmp_path / "short.mp4", [3, 9]))
