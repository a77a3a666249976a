"""How good a detector's boxes are: matching them with true ones, and the figures of it, in NumPy.

Belongs here: average precision, precision, recall. Not here: where images and truth come from
(``evaluate.py``), and judging events, which needs ground positions.

Average precision is COCO's (Lin et al. 2014, "Microsoft COCO", and the reference code
``pycocotools``): detections in order of confidence each take the free true box they overlap most;
precision is made monotone and averaged over 101 recalls from 0 to 1. Ours keeps up to
``boxes.MAX_BOXES`` a frame instead of 100.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detection.boxes import Floats, iou_matrix
from detection.model_card import RecallCurve
from outwatch.domain.types import Box

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""COCO's; the first is the one that precision and recall are given at."""
WORKING_CONFIDENCE = 0.25
"""Where precision and recall are measured unless told otherwise: the default of the settings."""
CURVE_CONFIDENCES = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Where a recall curve is measured."""
MIN_TRUTHS = 30
"""A recall over fewer true boxes is no measurement: its 95 % interval is wider than 0.35."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image's boxes, as found and as true. True boxes carry a confidence of 1."""

    name: str
    found: Sequence[Box]
    truth: Sequence[Box]


@dataclass(frozen=True, slots=True)
class Matches:
    """All boxes of one label over many images, in order of falling confidence."""

    confidences: Floats
    """(n,)"""
    correct: npt.NDArray[np.bool_]
    """(n, 10): whether the box took a true one, at each of ``IOU_THRESHOLDS``."""
    truths: int

    def average_precision(self) -> Floats:
        """Return AP at each of ``IOU_THRESHOLDS``, (10,); NaN where there is nothing to find."""
        if not self.truths:
            return np.full(len(IOU_THRESHOLDS), np.nan)
        hits = self.correct.cumsum(axis=0)
        precision = hits / np.arange(1, len(hits) + 1)[:, None]
        envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        grid = np.linspace(0, 1, 101)
        return np.array(
            [
                np.append(envelope[:, i], 0.0)[np.searchsorted(hits[:, i] / self.truths, grid)].mean()
                for i in range(len(IOU_THRESHOLDS))
            ]
        )

    def precision(self, confidence: float) -> float:
        """Return the share of correct boxes above a confidence at IoU 0.5; NaN where there are none."""
        sure = self.confidences > confidence
        return float(self.correct[sure, 0].mean()) if sure.any() else float("nan")

    def recall(self, confidence: float) -> float:
        """Return the share of true boxes found above a confidence at IoU 0.5; NaN where there are none."""
        hits = self.correct[self.confidences > confidence, 0].sum()
        return float(hits / self.truths) if self.truths else float("nan")


def match(samples: Iterable[Sample], label: str) -> Matches:
    """Match the boxes of a label with the truth, image by image."""
    confidences: list[float] = []
    correct = [np.zeros((0, len(IOU_THRESHOLDS)), dtype=bool)]
    truths = 0
    for sample in samples:
        found = sorted((box for box in sample.found if box.label == label), key=lambda box: -box.confidence)
        truth = [box for box in sample.truth if box.label == label]
        confidences += [box.confidence for box in found]
        correct.append(_correct(iou_matrix(_corners(found), _corners(truth))))
        truths += len(truth)
    order = np.argsort(-np.array(confidences), kind="stable")
    return Matches(np.array(confidences)[order], np.concatenate(correct)[order], truths)


def _corners(boxes: Sequence[Box]) -> Floats:
    return np.array([box.box_xyxy_px for box in boxes], dtype=np.float64).reshape(-1, 4)


def _correct(iou: Floats) -> npt.NDArray[np.bool_]:
    """Return which of n found boxes, most confident first, take one of m true ones: (n, m) to (n, 10)."""
    correct = np.zeros((len(iou), len(IOU_THRESHOLDS)), dtype=bool)
    if not iou.size:
        return correct
    for column, threshold in enumerate(IOU_THRESHOLDS):
        free = iou.copy()
        for row in np.flatnonzero(iou.max(axis=1) >= threshold):
            best = free[row].argmax()
            if free[row, best] >= threshold:
                correct[row, column] = True
                free[:, best] = -1.0
    return correct


def figures(
    samples: Sequence[Sample], *, labels: Sequence[str], confidence: float = WORKING_CONFIDENCE
) -> dict[str, Any]:
    """Return the figures of a set of images: AP50, AP50-95, precision and recall, by label and overall.

    Overall AP is the mean over the labels that occur, overall precision and recall count all boxes
    alike. A figure that cannot be said is None.
    """
    matches = {label: match(samples, label) for label in labels}
    by_label = {label: _label_figures(one, confidence) for label, one in matches.items() if one.truths}
    found = sum(int((one.confidences > confidence).sum()) for one in matches.values())
    hits = sum(int(one.correct[one.confidences > confidence, 0].sum()) for one in matches.values())
    truths = sum(one.truths for one in matches.values())
    return {
        "images": len(samples),
        "truths": truths,
        "confidence": confidence,
        "ap50": _mean([row["ap50"] for row in by_label.values()]),
        "ap50_95": _mean([row["ap50_95"] for row in by_label.values()]),
        "precision": hits / found if found else None,
        "recall": hits / truths if truths else None,
        "by_label": by_label,
    }


def _label_figures(matches: Matches, confidence: float) -> dict[str, Any]:
    ap = matches.average_precision()
    precision = matches.precision(confidence)
    return {
        "truths": matches.truths,
        "ap50": float(ap[0]),
        "ap50_95": float(ap.mean()),
        "precision": None if np.isnan(precision) else precision,
        "recall": matches.recall(confidence),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def recall_curve(samples: Sequence[Sample], *, labels: Sequence[str]) -> RecallCurve:
    """Return the recall at ``CURVE_CONFIDENCES`` of each label that occurs ``MIN_TRUTHS`` times."""
    matches = {label: match(samples, label) for label in labels}
    return RecallCurve(
        CURVE_CONFIDENCES,
        {
            label: tuple(round(one.recall(confidence), 4) for confidence in CURVE_CONFIDENCES)
            for label, one in matches.items()
            if one.truths >= MIN_TRUTHS
        },
    )
