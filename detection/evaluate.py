"""Measure a detector against labelled images and labelled footage.

Run ``python -m detection.evaluate --model DIR_OR_PT --data DIR [--footage DIR] [--json]``.
Belongs here: running a detector over images whose truth is known, and printing the figures. Not
here: the figures themselves (``metrics.py``).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import structlog
import yaml

from detection.labels import to_label
from detection.metrics import WORKING_CONFIDENCE, Sample, figures
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.ports import Detector
from outwatch.domain.types import Box, Frame, Image

AP_CONFIDENCE = 0.001
"""Threshold a detector is built with to measure AP, as Ultralytics validates: the whole curve counts."""
HELD_S = 0.5
"""How long each labelled frame of the sample footage stays on the screen."""

_FLIGHT = re.compile(r"[01]_(?P<altitude_m>\d+)_(?P<depression_deg>\d+)_\d+_\d+")
"""HIT-UAV file names: day or night, altitude, depression of the camera, weather, frame."""


def judge_images(detector: Detector, data_dir: Path, *, split: str = "val") -> list[Sample]:
    """Run a detector over a split of a data set in Ultralytics layout.

    Raises:
        ConfigInvalid: the folder is not such a data set.
    """
    labels = _data_labels(data_dir)
    paths = sorted((data_dir / "images" / split).glob("*.jpg"))
    if not paths:
        raise ConfigInvalid(f"{data_dir / 'images' / split} has no .jpg images: name a labelled data set")
    samples = []
    for path in paths:
        image = _read_image(path)
        truth_path = data_dir / "labels" / split / f"{path.stem}.txt"
        truth = _read_truth(truth_path, labels=labels, image=image)
        samples.append(Sample(path.name, detector.detect([image])[0], truth))
    return samples


def judge_footage(detector: Detector, frames: Iterable[Frame], truth: Mapping[str, Any]) -> list[Sample]:
    """Run a detector over the frames of a clip for which the truth is known.

    Args:
        detector: the detector.
        frames: of the clip, in order; each true frame is judged on the first that falls into it.
        truth: a ``*.truth.json``: ``frames`` with ``time_s`` and ``boxes`` of ``label`` and ``xywh``,
            each holding for ``HELD_S``.
    """
    open_truths = iter(truth["frames"])
    current = next(open_truths, None)
    samples = []
    for frame in frames:
        while current is not None and current["time_s"] + HELD_S <= frame.offset_s:
            current = next(open_truths, None)
        if current is None:
            break
        if current["time_s"] <= frame.offset_s:
            true_boxes = [_true_box(box["label"], *box["xywh"]) for box in current["boxes"]]
            samples.append(Sample(current["image"], detector.detect([frame.image])[0], true_boxes))
            current = next(open_truths, None)
    return samples


def evaluate_images(
    detector: Detector, data_dir: Path, *, split: str = "val", confidence: float = WORKING_CONFIDENCE
) -> dict[str, Any]:
    """Return a detector's figures on labelled images, overall and per altitude and camera angle.

    Args:
        detector: built with ``AP_CONFIDENCE``, lest AP be cut short.
        data_dir: folder with ``data.yaml``, ``images/<split>`` and ``labels/<split>``.
        split: which part of the data set.
        confidence: working point of precision and recall.
    """
    samples = judge_images(detector, data_dir, split=split)
    return figures_by_condition(samples, labels=detector.labels, confidence=confidence)


def figures_by_condition(
    samples: Sequence[Sample], *, labels: Sequence[str], confidence: float = WORKING_CONFIDENCE
) -> dict[str, Any]:
    """Return ``figures`` overall and, where names tell them, for each altitude and camera angle."""
    return figures(samples, labels=labels, confidence=confidence) | {
        f"by_{condition}": {
            value: figures(group, labels=labels, confidence=confidence)
            for value, group in _by_condition(samples, condition).items()
        }
        for condition in ("altitude_m", "depression_deg")
    }


def evaluate_footage(
    detector: Detector,
    frames: Iterable[Frame],
    truth: Mapping[str, Any],
    *,
    confidence: float = WORKING_CONFIDENCE,
) -> dict[str, Any]:
    """Return a detector's figures on one clip with known boxes; see ``judge_footage``."""
    samples = judge_footage(detector, frames, truth)
    return figures(samples, labels=detector.labels, confidence=confidence)


def _by_condition(samples: Iterable[Sample], condition: str) -> dict[str, list[Sample]]:
    """Group the samples whose names tell the condition, by its value in ascending order."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        if flight := _FLIGHT.match(sample.name):
            groups.setdefault(flight[condition], []).append(sample)
    return dict(sorted(groups.items(), key=lambda item: int(item[0])))


def _data_labels(data_dir: Path) -> list[str | None]:
    path = data_dir / "data.yaml"
    try:
        names = yaml.safe_load(path.read_text(encoding="utf-8"))["names"]
        pairs = sorted(names.items()) if isinstance(names, dict) else enumerate(names)
        return [to_label(str(name)) for _, name in pairs]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigInvalid(f"{path} is not a data set description with 'names' ({error})") from error


def _read_image(path: Path) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ConfigInvalid(f"{path} is not a readable image: repair the data set")
    return np.asarray(image, dtype=np.uint8)


def _read_truth(path: Path, *, labels: Sequence[str | None], image: Image) -> list[Box]:
    """Read lines of class, centre and size as shares of the image; no file means nothing is there."""
    if not path.exists():
        return []
    height_px, width_px = image.shape[:2]
    boxes = []
    for line in path.read_text(encoding="utf-8").splitlines():
        class_id, x, y, width, height = map(float, line.split())
        if label := labels[int(class_id)]:
            left, top = (x - width / 2) * width_px, (y - height / 2) * height_px
            boxes.append(_true_box(label, left, top, width * width_px, height * height_px))
    return boxes


def _true_box(label: str, left: float, top: float, width: float, height: float) -> Box:
    return Box(label, 1.0, (left, top, left + width, top + height))


def open_detector(weights: Path, *, min_confidence: float) -> Detector:
    """Return the adapter for a model folder or, for a file, that of Ultralytics."""
    if weights.is_dir():
        from detection.openvino import OpenVinoDetector

        return OpenVinoDetector(weights, min_confidence=min_confidence)
    from detection.ultralytics import UltralyticsDetector

    return UltralyticsDetector(weights, min_confidence=min_confidence)


def read_frames(path: Path) -> Iterator[Frame]:
    """Yield the frames of a trusted clip from half-way through each true frame, where nothing changes."""
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if frame.time % HELD_S >= HELD_S / 2:
                yield Frame(index, frame.time, np.asarray(frame.to_ndarray(format="bgr24"), dtype=np.uint8))


def main() -> None:
    """Print the figures of a model on labelled images and, where given, on labelled footage."""
    parser = argparse.ArgumentParser(description="Measure a detector against labelled images and footage.")
    parser.add_argument("--model", type=Path, required=True, help="model folder, or a .pt file")
    parser.add_argument("--data", type=Path, required=True, help="labelled images in Ultralytics layout")
    parser.add_argument("--split", default="val")
    parser.add_argument("--footage", type=Path, help="folder of clips with *.truth.json beside them")
    parser.add_argument("--confidence", type=float, default=WORKING_CONFIDENCE)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    detector = open_detector(arguments.model, min_confidence=AP_CONFIDENCE)
    report = {
        "images": evaluate_images(
            detector, arguments.data, split=arguments.split, confidence=arguments.confidence
        )
    }
    for truth_path in sorted(arguments.footage.glob("*.truth.json")) if arguments.footage else ():
        truth = json.loads(truth_path.read_text(encoding="utf-8"))
        frames = read_frames(truth_path.with_name(truth["clip"]))
        report[truth_path.name.removesuffix(".truth.json")] = evaluate_footage(
            detector, frames, truth, confidence=arguments.confidence
        )
    print(json.dumps({"model": detector.model_id} | report, indent=1) if arguments.json else as_table(report))


def as_table(report: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures as lines for a person to read, one for each set and label."""
    rows = [("set", "label", "truths", "AP50", "AP50-95", "precision", "recall")]
    for name, section in report.items():
        parts = {name: section}
        for condition in ("altitude_m", "depression_deg"):
            groups = section.get(f"by_{condition}", {})
            parts |= {f"{condition} {value}": group for value, group in groups.items()}
        for part, values in parts.items():
            for label, row in (values["by_label"] | {"all": values}).items():
                shown = (row[key] for key in ("ap50", "ap50_95", "precision", "recall"))
                rows.append(
                    (part, label, str(row["truths"]), *("-" if x is None else f"{x:.3f}" for x in shown))
                )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )


if __name__ == "__main__":
    # Standard output is for the figures.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    main()
