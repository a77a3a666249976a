"""What every detector keeps, over both adapters, and how closely they agree.

Both run the same COCO weights, exported here once, where the extra ``[ultralytics]`` and real
samples are there; the shipped thermal model is held to the same contract everywhere.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from detection.boxes import iou_matrix
from detection.labels import LABELS
from detection.openvino import OpenVinoDetector
from detection.tiling import STRIDE_PX
from outwatch.domain.errors import ModelUnavailable
from outwatch.domain.ports import Detector
from outwatch.domain.types import Box, Image

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "detection/weights/thermal_yolo11n"
MIN_CONFIDENCE = 0.25


@pytest.fixture(scope="session")
def start_weights(samples: Path) -> Path:
    """Return the weights that both adapters run."""
    pytest.importorskip("ultralytics", reason="needs the extra outwatch[ultralytics]", exc_type=ImportError)
    return samples / "models/yolo11n_coco.pt"


@pytest.fixture(scope="session")
def exported(start_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same weights as a model folder."""
    from detection.ultralytics import export_openvino

    folder = tmp_path_factory.mktemp("weights") / "yolo11n_coco"
    export_openvino(start_weights, out_dir=folder)
    return folder


@pytest.fixture(scope="session")
def openvino(exported: Path) -> Detector:
    """Return the OpenVINO adapter on the common weights."""
    return OpenVinoDetector(exported, min_confidence=MIN_CONFIDENCE)


@pytest.fixture(scope="session")
def ultralytics(start_weights: Path) -> Detector:
    """Return the Ultralytics adapter on the common weights."""
    from detection.ultralytics import UltralyticsDetector

    return UltralyticsDetector(start_weights, min_confidence=MIN_CONFIDENCE)


@pytest.fixture(scope="session")
def shipped() -> Detector:
    """Return the thermal model that comes with Outwatch."""
    return OpenVinoDetector(SHIPPED, min_confidence=MIN_CONFIDENCE)


@pytest.fixture(params=["shipped", "openvino", "ultralytics"])
def detector(request: pytest.FixtureRequest) -> Detector:
    """Return each detector in turn."""
    found: Detector = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def scenes(samples: Path) -> list[Image]:
    """Return real frames of several sizes: RGB from masts and aircraft, and thermal."""
    thermal = sorted((samples / "thermal/images/val").glob("*.jpg"))[::30]
    images = [cv2.imread(str(path)) for path in thermal]
    for name, step in (("tower_gate_cars.mp4", 60), ("tower_pedestrians.avi", 80), ("aerial_traffic.mp4", 5)):
        with av.open(str(samples / "footage" / name)) as container:
            frames = list(container.decode(video=0))[::step]
        images += [frame.to_ndarray(format="bgr24") for frame in frames]
    return [np.asarray(image, dtype=np.uint8) for image in images]


def noise(*, size_px: tuple[int, int] = (640, 512)) -> Image:
    """Return a frame of coarse noise, in which a detector may well see things."""
    cells = (size_px[1] // 16, size_px[0] // 16, 3)
    coarse = np.random.default_rng(0).integers(0, 255, cells, dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, size_px, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def test_the_model_id_is_a_name_and_a_hash(detector: Detector) -> None:
    """Keys and tables carry the id, so its form is fixed."""
    assert re.fullmatch(r"[a-z0-9_]+-[0-9a-f]{12}", detector.model_id)


def test_labels_are_words_of_ours(detector: Detector) -> None:
    """Whatever a model calls its classes, its labels are ours, each once."""
    assert set(detector.labels) <= set(LABELS)
    assert len(set(detector.labels)) == len(detector.labels)


def test_recall_is_a_share_per_label(detector: Detector) -> None:
    """Recall is given for known labels only, between 0 and 1."""
    assert set(detector.recall.overall) <= set(detector.labels)
    assert all(0 <= recall <= 1 for recall in detector.recall.overall.values())


def test_recall_by_ground_sample_distance_is_in_order(detector: Detector) -> None:
    """Bands ascend, and each holds shares of known labels."""
    edges_m = [gsd_m for gsd_m, _ in detector.recall.bands]
    assert edges_m == sorted(set(edges_m))
    for _, by_label in detector.recall.bands:
        assert set(by_label) <= set(detector.labels)
        assert all(0 <= recall <= 1 for recall in by_label.values())


def test_the_input_is_of_whole_strides(detector: Detector) -> None:
    """A plan takes the size that a model was trained for from the model."""
    assert detector.input_px > 0
    assert detector.input_px % STRIDE_PX == 0


def test_a_larger_look_has_boxes_in_pixels_of_the_image(detector: Detector, scenes: list[Image]) -> None:
    """However large the input, most surely seen things lie where they lay, in pixels of the image."""
    for image in scenes[-2:]:
        plain = [box for box in detector.detect([image])[0] if box.confidence > 0.6]
        larger = detector.detect([image], input_px=2 * detector.input_px)[0]
        corners = np.array([box.box_xyxy_px for box in larger]).reshape(-1, 4)
        found = [iou_matrix(np.array([box.box_xyxy_px]), corners).max(initial=0.0) > 0.5 for box in plain]
        assert sum(found) >= 0.7 * len(plain)


def test_no_image_gives_no_result(detector: Detector) -> None:
    """An empty list is answered with an empty list."""
    assert detector.detect([]) == []


def test_a_black_image_holds_nothing(detector: Detector) -> None:
    """Nothing is seen where there is nothing."""
    assert detector.detect([np.zeros((512, 640, 3), dtype=np.uint8)]) == [[]]


def test_images_of_two_sizes_are_refused(detector: Detector) -> None:
    """A batch is of one clip, hence of one size."""
    with pytest.raises(ValueError, match="one size"):
        detector.detect([noise(), noise(size_px=(320, 256))])


def test_images_of_another_type_are_refused(detector: Detector) -> None:
    """A grey image is not silently taken for a colour one."""
    with pytest.raises(ValueError, match="uint8"):
        detector.detect([noise()[:, :, 0]])


def test_boxes_are_sorted_and_within_the_image(detector: Detector, scenes: list[Image]) -> None:
    """Boxes have an area inside the image, are above the threshold, and the surest comes first."""
    for image in scenes:
        boxes = detector.detect([image])[0]
        confidences = [box.confidence for box in boxes]
        assert confidences == sorted(confidences, reverse=True)
        assert all(MIN_CONFIDENCE < confidence <= 1 for confidence in confidences)
        for left, top, right, bottom in (box.box_xyxy_px for box in boxes):
            assert 0 <= left < right <= image.shape[1]
            assert 0 <= top < bottom <= image.shape[0]


def test_a_batch_gives_what_single_images_give(detector: Detector, scenes: list[Image]) -> None:
    """Results come in the order of the images, and do not depend on their neighbours."""
    batch = [image for image in scenes if image.shape == scenes[-1].shape] + [np.zeros_like(scenes[-1])]
    together = detector.detect(batch)
    alone = [detector.detect([image])[0] for image in batch]
    assert [[box.label for box in boxes] for boxes in together] == [
        [box.label for box in boxes] for boxes in alone
    ]
    for first, second in zip(chain(*together), chain(*alone), strict=True):
        assert first.confidence == pytest.approx(second.confidence, abs=1e-3)
        assert first.box_xyxy_px == pytest.approx(second.box_xyxy_px, abs=0.1)


def test_the_same_image_gives_the_same_boxes(detector: Detector, scenes: list[Image]) -> None:
    """A second run is equal to the last bit."""
    assert detector.detect([scenes[0]]) == detector.detect([scenes[0]])


def test_both_adapters_know_the_same_labels(openvino: Detector, ultralytics: Detector) -> None:
    """Labels come from the weights, not from the runtime."""
    assert openvino.labels == ultralytics.labels == ("person", "bicycle", "car", "other_vehicle")


def test_both_adapters_see_the_same(openvino: Detector, ultralytics: Detector, scenes: list[Image]) -> None:
    """Of the boxes above 0.3, 99 % have a twin: same label, IoU of at least 0.9, confidence within 0.05."""
    twins = []
    for image in scenes:
        first, second = openvino.detect([image])[0], ultralytics.detect([image])[0]
        twins += [has_twin(box, second) for box in first if box.confidence > 0.3]
        twins += [has_twin(box, first) for box in second if box.confidence > 0.3]
    assert len(twins) > 100
    assert np.mean(twins) >= 0.99


def has_twin(box: Box, others: Sequence[Box]) -> bool:
    """Return whether the other adapter saw the same thing."""
    corners = np.array([box.box_xyxy_px])
    return any(
        other.label == box.label
        and abs(other.confidence - box.confidence) <= 0.05
        and iou_matrix(corners, np.array([other.box_xyxy_px]))[0, 0] >= 0.9
        for other in others
    )


def test_missing_weights_are_named(start_weights: Path, tmp_path: Path) -> None:
    """Without a file, and with no official one of its name, the error says where it was looked for."""
    from detection.ultralytics import UltralyticsDetector

    with pytest.raises(ModelUnavailable, match=r"mine\.pt"):
        UltralyticsDetector(tmp_path / "mine.pt", min_confidence=MIN_CONFIDENCE)


def test_official_weights_without_a_network_are_unavailable(
    start_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed download is told as such, with what to do."""
    from ultralytics.utils import downloads

    from detection.ultralytics import UltralyticsDetector

    def fail(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(downloads, "safe_download", fail)
    with pytest.raises(ModelUnavailable, match="no network"):
        UltralyticsDetector(tmp_path / "yolo11n.pt", min_confidence=MIN_CONFIDENCE)


def test_broken_weights_are_refused(start_weights: Path, tmp_path: Path) -> None:
    """A file that is cut short is no model."""
    from detection.ultralytics import UltralyticsDetector

    broken = tmp_path / "broken.pt"
    broken.write_bytes(start_weights.read_bytes()[:10_000])
    with pytest.raises(ModelUnavailable, match=r"broken\.pt"):
        UltralyticsDetector(broken, min_confidence=MIN_CONFIDENCE)


def test_a_missing_extra_is_named(samples: Path) -> None:
    """Without Ultralytics the error says what to install."""
    code = (
        "import sys; sys.modules['ultralytics'] = None\n"
        "from detection.ultralytics import UltralyticsDetector\n"
        "UltralyticsDetector('yolo11n.pt', min_confidence=0.25)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ModelUnavailable" in run.stderr
    assert "outwatch[ultralytics]" in run.stderr


def test_ultralytics_calls_nobody_and_leaves_nothing(start_weights: Path, tmp_path: Path) -> None:
    """A run writes neither settings nor results, prints nothing, and its telemetry is off."""
    code = (
        "import socket, sys, numpy as np, structlog\n"
        "structlog.configure(processors=[structlog.processors.JSONRenderer()],"
        " logger_factory=structlog.ReturnLoggerFactory())\n"
        "def refuse(*a, **k): raise SystemExit('network call')\n"
        "socket.getaddrinfo = socket.socket.connect = refuse\n"
        "from detection.ultralytics import UltralyticsDetector\n"
        "detector = UltralyticsDetector(sys.argv[1], min_confidence=0.25)\n"
        "detector.detect([np.zeros((64, 64, 3), np.uint8)])\n"
        "from ultralytics.utils.events import events\n"
        "assert not events.enabled"
    )
    environment = os.environ | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", code, str(start_weights)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert list(tmp_path.rglob("*")) == []
