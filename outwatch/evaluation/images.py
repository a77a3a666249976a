"""How good a model's boxes are on labelled images: per class, altitude, camera angle and box size.

Belongs here: which figures are given of which images, and how sure they are. Not here: matching and
average precision (``detection/metrics.py``) and reading data sets (``detection/dataset.py``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detection.dataset import DataSet, read_image
from detection.evaluate import conditions, judge, spread
from detection.metrics import WORKING_CONFIDENCE, Matches, Sample, match
from outwatch.domain.ports import Detector
from outwatch.domain.types import Modality
from outwatch.evaluation.bootstrap import RESAMPLES, blocks_of, draws, interval

FIGURES = ("ap50", "ap50_95", "precision", "recall")
BOX_SIZES_PX = (0.0, 12.0, 20.0, 32.0, math.inf)
"""Edges of the groups by size, the square root of a box's area: below 12 px is a person from far, above
32 px COCO's "medium" begins."""
COLOUR_SPREAD = 24
"""A pixel whose channels differ by more is coloured: JPEG makes up to 10 of grey."""
COLOURED_SHARE = 0.001
"""From this share of coloured pixels on an image is RGB, as with clips."""
LEAST_TRUTHS = 10
"""Of fewer true boxes figures are given, but no interval: resampling cannot widen what hardly varies."""
_LOOKED_AT = 8
"""Images that are asked for their colour."""


def modality_of(data: DataSet) -> Modality:
    """Return what the camera of a data set sees, by the colour of a few of its images."""
    shares = []
    for path in spread(data.images, _LOOKED_AT):
        image = read_image(path)
        shares.append(float(np.mean(np.ptp(image.astype(np.int16), axis=2) > COLOUR_SPREAD)))
    return Modality.RGB if np.median(shares) >= COLOURED_SHARE else Modality.THERMAL


def evaluate_images(
    detector: Detector,
    data: DataSet,
    *,
    confidence: float = WORKING_CONFIDENCE,
    limit: int | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Return a detector's figures on a split, with intervals by resampling blocks of consecutive frames.

    Args:
        detector: built with ``detection.evaluate.AP_CONFIDENCE``, lest AP be cut short.
        data: the images and their truth.
        confidence: working point of precision and recall.
        limit: judge so many images only, evenly spread over the split.
        resamples: draws of the bootstrap.
    """
    samples = judge(detector, data, limit=limit)
    judged = [label for label in detector.labels if label in set(data.label_of.values())]
    measured = _Measured(judged, confidence, resamples)
    count = len(set(blocks_of([Path(sample.name).stem for sample in samples]).tolist()))
    overall = measured.of(samples)
    return {
        "kind": "images",
        "setup": {
            "data": data.description.parent.name,
            "split": data.split,
            "images": len(samples),
            "confidence": confidence,
        },
        "model": detector.model_id,
        "classes_left_out": list(data.left_out),
        "classes_not_in_model": sorted(
            {label for label in data.label_of.values() if label} - set(detector.labels)
        ),
        "intervals": f"95 %, {resamples} draws of {count} blocks of consecutive frames",
        **overall,
        "by_altitude": measured.by(samples, lambda sample: _condition(sample, "altitude_m")),
        "by_angle": measured.by(samples, lambda sample: _condition(sample, "depression_deg")),
        "by_box_size": {
            _size_name(low, high): measured.of(samples, sizes_px=(low, high))
            for low, high in itertools.pairwise(BOX_SIZES_PX)
        },
        "curves": {label: match(samples, label).curve() for label in judged},
    }


class _Measured:
    """The same figures of any group of images."""

    def __init__(self, labels: Sequence[str], confidence: float, resamples: int) -> None:
        self._labels, self._confidence, self._resamples = labels, confidence, resamples

    def of(
        self, samples: Sequence[Sample], *, sizes_px: tuple[float, float] = (0.0, math.inf)
    ) -> dict[str, Any]:
        """Return ``map50``, ``map50_95`` and ``per_class`` figures with their intervals."""
        blocks = blocks_of([Path(sample.name).stem for sample in samples])
        times = draws(blocks, resamples=self._resamples, seed=0)
        per_class = {}
        for label in self._labels:
            matches = match(samples, label, sizes_px=sizes_px)
            if matches.truths:
                per_class[label] = self._row(matches, times)
        return {
            "images": len(samples),
            "map50": _mean([row["ap50"] for row in per_class.values()]),
            "map50_95": _mean([row["ap50_95"] for row in per_class.values()]),
            "per_class": per_class,
        }

    def by(self, samples: Sequence[Sample], key: Callable[[Sample], int | None]) -> dict[str, Any]:
        """Return the figures of each group in ascending order; images without a key are in none."""
        groups: dict[int, list[Sample]] = {}
        for sample in samples:
            value = key(sample)
            if value is not None:
                groups.setdefault(value, []).append(sample)
        return {str(value): self.of(group) for value, group in sorted(groups.items())}

    def _row(self, matches: Matches, times: Sequence[Any]) -> dict[str, Any]:
        once = matches.reweighted(np.ones(len(matches.truths_of_image), np.intp), self._confidence)
        again = np.array([matches.reweighted(drawn, self._confidence) for drawn in times]).reshape(-1, 4)
        row: dict[str, Any] = {"truths": matches.truths}
        for column, (name, value) in enumerate(zip(FIGURES, once, strict=True)):
            row[name] = round(value, 4) if math.isfinite(value) else None
            row[f"{name}_ci"] = (
                interval(again[:, column].tolist()) if matches.truths >= LEAST_TRUTHS else None
            )
        return row


def _condition(sample: Sample, name: str) -> int | None:
    told: Mapping[str, int] | None = conditions(sample.name)
    return told[name] if told else None


def _size_name(low_px: float, high_px: float) -> str:
    return f"{low_px:g}+" if math.isinf(high_px) else f"{low_px:g}-{high_px:g}"


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
