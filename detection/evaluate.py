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
import numpy as np
import structlog

from detection.dataset import DataSet, read_dataset, read_image
from detection.metrics import WORKING_CONFIDENCE, Sample, figures
from detection.tiling import gsd_of
from outwatch.domain.ports import Detector
from outwatch.domain.types import Box, Frame, TelemetrySample

AP_CONFIDENCE = 0.001
"""Threshold a detector is built with to measure AP, as Ultralytics validates: the whole curve counts."""
HELD_S = 0.5
"""How long each labelled frame of the sample footage stays on the screen."""

HIT_UAV_HFOV_DEG = 24.6
"""Of its camera, a DJI XT2 with the 25 mm lens (640 pixels of 17 um), estimated from the size of people."""
_FLIGHT = re.compile(r"[01]_(?P<altitude_m>\d+)_(?P<depression_deg>\d+)_\d+_\d+")
"""HIT-UAV file names: day or night, altitude, depression of the camera, weather, frame."""


def judge_images(
    detector: Detector, data_dir: Path, *, split: str = "val", limit: int | None = None
) -> list[Sample]:
    """Run a detector over a split of a data set in Ultralytics layout.

    Args:
        detector: the detector.
        data_dir: a folder with ``data.yaml``, or such a file.
        split: which part of the data set.
        limit: judge so many images only, evenly spread over the split.

    Raises:
        ConfigInvalid: the folder is not such a data set.
    """
    return judge(detector, read_dataset(data_dir, split=split), limit=limit)


def judge(detector: Detector, data: DataSet, *, limit: int | None = None) -> list[Sample]:
    """Run a detector over images whose truth is known; see ``judge_images``."""
    samples = []
    for path in spread(data.images, limit):
        image = read_image(path)
        gsd_m = named_gsd_m(path.name, width_px=image.shape[1])
        samples.append(Sample(path.name, detector.detect([image])[0], data.truth(path, image), gsd_m))
    return samples


def spread(paths: Sequence[Path], limit: int | None) -> Sequence[Path]:
    """Return at most ``limit`` of the paths, evenly spread from first to last, always the same."""
    if limit is None or limit >= len(paths):
        return paths
    return [paths[index] for index in np.linspace(0, len(paths) - 1, limit).round().astype(int)]


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
        if flight := conditions(sample.name):
            groups.setdefault(str(flight[condition]), []).append(sample)
    return dict(sorted(groups.items(), key=lambda item: int(item[0])))


def conditions(name: str) -> dict[str, int] | None:
    """Return ``altitude_m`` and ``depression_deg`` as an image's name tells them, None where it does not."""
    flight = _FLIGHT.match(name)
    return {key: int(value) for key, value in flight.groupdict().items()} if flight else None


def named_gsd_m(name: str, *, width_px: int) -> float | None:
    """Return the ground sample distance of a HIT-UAV image by its name, None where it tells none."""
    flight = conditions(name)
    if flight is None:
        return None
    pose = TelemetrySample(
        offset_s=0.0,
        at=None,
        point=None,
        height_agl_m=flight["altitude_m"],
        pitch_deg=-flight["depression_deg"],
        hfov_deg=HIT_UAV_HFOV_DEG,
    )
    return gsd_of(pose, camera=None, width_px=width_px)


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
