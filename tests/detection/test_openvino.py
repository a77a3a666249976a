"""The OpenVINO adapter on a tiny network built here, whose boxes are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from detection.model_card import ModelCard, RecallCurve, sha256_file
from detection.openvino import OpenVinoDetector
from outwatch.domain.errors import ModelUnavailable
from outwatch.domain.types import Image

LABELS = ("person", "car", None, "other_vehicle")
ModelMaker = Callable[..., Path]


@pytest.fixture
def make_model(tmp_path: Path) -> ModelMaker:
    """Return a maker of model folders.

    The network says the same of every frame, given as rows of centre, size and a score for each
    class in pixels of its input; scores are multiplied by the mean red of the frame, 0 to 1.
    """

    def make(
        candidates: list[list[float]],
        *,
        longest_px: int = 64,
        recall: RecallCurve | None = None,
        fixed_size_px: tuple[int, int] = (-1, -1),
    ) -> Path:
        image = ops.parameter([1, 3, *fixed_size_px[::-1]], np.float32, name="image")
        red = ops.reduce_mean(ops.gather(image, [0], 1), [1, 2, 3], keep_dims=True)
        raw = np.array(candidates, dtype=np.float32).T[None]
        red = ops.reshape(red, [1, 1, 1], special_zero=False)
        output = ops.concat([ops.constant(raw[:, :4]), ops.multiply(ops.constant(raw[:, 4:]), red)], axis=1)
        folder = tmp_path / "tiny"
        folder.mkdir(exist_ok=True)
        ov.save_model(ov.Model([output], [image]), folder / "model.xml", compress_to_fp16=False)
        ModelCard("tiny", LABELS, longest_px, 32, sha256_file(folder / "model.bin"), recall).write(folder)
        return folder

    return make


def frame(*, width_px: int = 64, height_px: int = 64, red: int = 255) -> Image:
    """Return a frame of one colour: only its red may count."""
    image = np.zeros((height_px, width_px, 3), dtype=np.uint8)
    image[:, :] = (255 - red, 128, red)
    return image


CAR = [32.0, 16.0, 20.0, 10.0, 0.0, 0.9, 0.0, 0.0]
"""A car of 20 by 10 px around (32, 16)."""


def test_boxes_come_back_in_pixels_of_the_frame(make_model: ModelMaker) -> None:
    """The letterbox is undone: a frame twice as large has its boxes twice as large."""
    detector = OpenVinoDetector(make_model([CAR]), min_confidence=0.25)
    (box,) = detector.detect([frame(width_px=128, height_px=128)])[0]
    assert box.label == "car"
    assert box.confidence == pytest.approx(0.9)
    assert box.box_xyxy_px == pytest.approx((44, 22, 84, 42))


def test_the_bars_of_the_letterbox_are_taken_off(make_model: ModelMaker) -> None:
    """A frame of 64 by 40 gets bars of 12 px above and below, to reach a multiple of the stride."""
    detector = OpenVinoDetector(make_model([CAR]), min_confidence=0.25)
    grey = np.full((40, 64, 3), 255, dtype=np.uint8)
    (box,) = detector.detect([grey])[0]
    assert box.box_xyxy_px == pytest.approx((22, 0, 42, 9))


def test_the_true_aspect_ratio_is_kept(make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is reshaped to the frame's own shape, not to a square."""
    shapes = []
    reshape = ov.Model.reshape
    monkeypatch.setattr(
        ov.Model, "reshape", lambda self, shape: (shapes.append(list(shape)), reshape(self, shape))[1]
    )
    detector = OpenVinoDetector(make_model([CAR], longest_px=640), min_confidence=0.25)
    detector.detect([frame(width_px=1920, height_px=1080)])
    detector.detect([frame(width_px=640, height_px=512)])
    detector.detect([frame(width_px=1920, height_px=1080)])
    assert shapes == [[1, 3, 384, 640], [1, 3, 512, 640]]


def test_a_look_may_be_larger(make_model: ModelMaker) -> None:
    """The same box of the network covers less of a frame that is scaled to twice the size."""
    detector = OpenVinoDetector(make_model([CAR]), min_confidence=0.25)
    (box,) = detector.detect([frame()], input_px=128)[0]
    assert box.box_xyxy_px == pytest.approx((11, 5.5, 21, 10.5))


def test_a_network_of_one_size_is_run_in_it(make_model: ModelMaker) -> None:
    """An export for one size gets each frame padded into it, whatever size is asked for."""
    detector = OpenVinoDetector(make_model([CAR], fixed_size_px=(64, 64)), min_confidence=0.25)
    for input_px in (None, 640):
        (box,) = detector.detect([frame(width_px=128, height_px=64)], input_px=input_px)[0]
        # Scaled by a half, with bars of 16 px above and below: the box's 11 to 21 begin in the bar.
        assert box.box_xyxy_px == pytest.approx((44, 0, 84, 10))


def test_results_keep_the_order_of_frames(make_model: ModelMaker) -> None:
    """However many frames are in flight, each result is that of its own frame."""
    detector = OpenVinoDetector(make_model([CAR]), min_confidence=0.25)
    reds = [90, 255, 130, 200, 110, 240, 100, 180, 150]
    found = detector.detect([frame(red=red) for red in reds])
    assert [boxes[0].confidence for boxes in found] == pytest.approx(
        [0.9 * red / 255 for red in reds], rel=1e-4
    )


def test_boxes_of_one_thing_are_one_box(make_model: ModelMaker) -> None:
    """Boxes of one label that overlap by more than a half are one, those of another label stay."""
    candidates = [
        [30.0, 16.0, 20.0, 10.0, 0.0, 0.6, 0.0, 0.0],
        CAR,
        [32.0, 16.0, 20.0, 10.0, 0.8, 0.0, 0.0, 0.0],
        [42.0, 16.0, 20.0, 10.0, 0.0, 0.5, 0.0, 0.0],
    ]
    found = OpenVinoDetector(make_model(candidates), min_confidence=0.25).detect([frame()])[0]
    assert [(box.label, round(box.confidence, 2)) for box in found] == [
        ("car", 0.9),
        ("person", 0.8),
        ("car", 0.5),
    ]


def test_a_vehicle_of_two_kinds_is_one_box(make_model: ModelMaker) -> None:
    """A car and another vehicle at one place are one vehicle, by its surer name; a person there stays."""
    candidates = [
        CAR,
        [33.0, 16.0, 20.0, 10.0, 0.0, 0.0, 0.0, 0.95],
        [32.0, 16.0, 20.0, 10.0, 0.5, 0.0, 0.0, 0.0],
    ]
    found = OpenVinoDetector(make_model(candidates), min_confidence=0.25).detect([frame()])[0]
    assert [box.label for box in found] == ["other_vehicle", "person"]


def test_unsure_unknown_and_empty_boxes_are_dropped(make_model: ModelMaker) -> None:
    """Neither a faint box, nor a class without a label, nor one outside the frame is reported."""
    candidates = [
        [32.0, 16.0, 20.0, 10.0, 0.2, 0.1, 0.0, 0.0],
        [32.0, 16.0, 20.0, 10.0, 0.0, 0.0, 0.9, 0.0],
        [-30.0, 16.0, 20.0, 10.0, 0.9, 0.0, 0.0, 0.0],
    ]
    assert OpenVinoDetector(make_model(candidates), min_confidence=0.25).detect([frame()]) == [[]]


def test_boxes_end_at_the_frame(make_model: ModelMaker) -> None:
    """A box that reaches over the edge is cut there."""
    candidates = [[60.0, 60.0, 20.0, 20.0, 0.9, 0.0, 0.0, 0.0]]
    (box,) = OpenVinoDetector(make_model(candidates), min_confidence=0.25).detect([frame()])[0]
    assert box.box_xyxy_px == pytest.approx((50, 50, 64, 64))


def test_at_most_300_boxes_are_reported(make_model: ModelMaker) -> None:
    """The most confident boxes are kept where a frame is full of them."""
    candidates = [[x + 0.5, y + 0.5, 1.0, 1.0, 0.3 + 0.01 * y, 0, 0, 0] for x in range(20) for y in range(20)]
    found = OpenVinoDetector(make_model(candidates), min_confidence=0.25).detect([frame()])[0]
    assert len(found) == 300
    assert found[-1].confidence == pytest.approx(0.35)


def test_recall_is_that_of_the_chosen_confidence(make_model: ModelMaker) -> None:
    """Recall is read off the measured curve, and not said outside it."""
    folder = make_model([CAR], recall=RecallCurve((0.2, 0.4), {"person": (0.9, 0.7)}))
    assert OpenVinoDetector(folder, min_confidence=0.3).recall.overall == pytest.approx({"person": 0.8})
    assert OpenVinoDetector(folder, min_confidence=0.5).recall.overall == {}


def test_recall_by_ground_sample_distance_survives_the_card(make_model: ModelMaker) -> None:
    """Bands are read off at the chosen confidence like the rest; a card without them still loads."""
    folder = make_model([CAR], recall=RecallCurve((0.2, 0.4), {}, ((0.1, {"person": (0.8, 0.6)}),)))
    ((gsd_m, by_label),) = OpenVinoDetector(folder, min_confidence=0.3).recall.bands
    assert (gsd_m, by_label) == (0.1, pytest.approx({"person": 0.7}))
    card = json.loads((folder / "model.json").read_text())
    del card["recall"]["bands"]
    (folder / "model.json").write_text(json.dumps(card))
    assert OpenVinoDetector(folder, min_confidence=0.3).recall.bands == ()


def test_the_model_is_named_by_its_weights(make_model: ModelMaker) -> None:
    """The id is the name and the first twelve digits of the hash; unnamed classes are no labels."""
    folder = make_model([CAR])
    detector = OpenVinoDetector(folder, min_confidence=0.25)
    assert detector.model_id == f"tiny-{sha256_file(folder / 'model.bin')[:12]}"
    assert detector.labels == ("person", "car", "other_vehicle")


@pytest.mark.parametrize("name", ["model.json", "model.xml", "model.bin"])
def test_a_missing_file_is_named(make_model: ModelMaker, name: str) -> None:
    """The error names the file that is not there."""
    folder = make_model([CAR])
    (folder / name).unlink()
    with pytest.raises(ModelUnavailable, match=name):
        OpenVinoDetector(folder, min_confidence=0.25)


def test_damaged_weights_are_refused(make_model: ModelMaker) -> None:
    """One changed byte is noticed."""
    folder = make_model([CAR])
    weights = bytearray((folder / "model.bin").read_bytes())
    weights[0] ^= 1
    (folder / "model.bin").write_bytes(weights)
    with pytest.raises(ModelUnavailable, match="SHA-256"):
        OpenVinoDetector(folder, min_confidence=0.25)


def test_a_damaged_network_is_refused(make_model: ModelMaker) -> None:
    """A network file that is cut short is no network."""
    folder = make_model([CAR])
    text = (folder / "model.xml").read_text()
    (folder / "model.xml").write_text(text[: len(text) // 2])
    with pytest.raises(ModelUnavailable, match=r"model\.xml"):
        OpenVinoDetector(folder, min_confidence=0.25)


@pytest.mark.parametrize(
    "change", [{"class_labels": None}, {"surprise": 1}, {"recall": {"confidences": 1, "by_label": {}}}]
)
def test_a_damaged_card_is_refused(make_model: ModelMaker, change: dict[str, object]) -> None:
    """A card with wrong, missing or unknown fields is not guessed at."""
    path = make_model([CAR]) / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelUnavailable, match=r"model\.json"):
        OpenVinoDetector(path.parent, min_confidence=0.25)


def test_a_card_of_another_network_is_refused(make_model: ModelMaker) -> None:
    """The number of classes must fit the network's output."""
    path = make_model([CAR]) / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"class_labels": ["person"]}))
    with pytest.raises(ModelUnavailable, match="classes"):
        OpenVinoDetector(path.parent, min_confidence=0.25)
