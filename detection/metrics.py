"""How good a detector's boxes are: matching them with true ones, and the figures of it, in NumPy.

Belongs here: average precision, precision, recall. Not here: where images and truth come from
(``evaluate.py``), and judging events, which needs ground positions.

Average precision is COCO's (Lin et al. 2014, "Microsoft COCO", and the reference code
``pycocotools``): detections in order of confidence each take the free true box they overlap most;
precision is made monotone and averaged over 101 recalls from 0 to 1. Ours keeps up to
``boxes.MAX_BOXES`` a frame instead of 100.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
GSD_BANDS_M = (0.05, 0.06, 0.075, 0.1, 0.15, 0.2, 0.3)
"""Coarsest ground sample distance of each band of a recall curve: steps in which a thing's pixels change
by a quarter to a half."""
MIN_TRUTHS = 30
"""A recall over fewer true boxes is no measurement: its 95 % interval is wider than 0.35."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image's boxes, as found and as true. True boxes carry a confidence of 1."""

    name: str
    found: Sequence[Box]
    truth: Sequence[Box]
    gsd_m: float | None = None
    """Ground sample distance at the image's middle; None where nobody knows it."""


@dataclass(frozen=True, slots=True)
class Matches:
    """All boxes of one label over many images, in order of falling confidence."""

    confidences: Floats
    """(n,)"""
    correct: npt.NDArray[np.bool_]
    """(n, 10): whether the box took a true one, at each of ``IOU_THRESHOLDS``."""
    truths: int
    image: npt.NDArray[np.intp]
    """(n,): index of the image in which each box was found."""
    truths_of_image: npt.NDArray[np.intp]
    """How many true boxes each image holds, by index."""

    def average_precision(self) -> Floats:
        """Return AP at each of ``IOU_THRESHOLDS``, (10,); NaN where there is nothing to find."""
        return _average_precision(self.correct, np.ones(len(self.correct)), self.truths)

    def precision(self, confidence: float) -> float:
        """Return the share of correct boxes above a confidence at IoU 0.5; NaN where there are none."""
        sure = self.confidences > confidence
        return float(self.correct[sure, 0].mean()) if sure.any() else float("nan")

    def recall(self, confidence: float) -> float:
        """Return the share of true boxes found above a confidence at IoU 0.5; NaN where there are none."""
        hits = self.correct[self.confidences > confidence, 0].sum()
        return float(hits / self.truths) if self.truths else float("nan")

    def reweighted(self, times: npt.NDArray[np.intp], confidence: float) -> tuple[float, float, float, float]:
        """Return AP50, AP50-95, precision and recall had each image come so often; NaN where unsaid.

        Args:
            times: how often each image is drawn, by index; a bootstrap draws with replacement.
            confidence: working point of precision and recall.
        """
        weights = times[self.image].astype(np.float64)
        truths = float(times @ self.truths_of_image)
        drawn = weights > 0
        ap = _average_precision(self.correct[drawn], weights[drawn], truths)
        sure = self.confidences > confidence
        hits, claimed = float(weights[sure] @ self.correct[sure, 0]), float(weights[sure].sum())
        nan = float("nan")
        return (
            float(ap[0]),
            float(ap.mean()),
            hits / claimed if claimed else nan,
            hits / truths if truths else nan,
        )

    def curve(self, points: int = 101) -> list[tuple[float, float]]:
        """Return (recall, precision) at IoU 0.5 as confidence falls, at most so many points."""
        if not self.truths or not len(self.correct):
            return []
        hits = self.correct[:, 0].cumsum()
        kept = np.unique(np.linspace(0, len(hits) - 1, points).astype(np.intp))
        return [(float(hits[i] / self.truths), float(hits[i] / (i + 1))) for i in kept]


def match(
    samples: Iterable[Sample], label: str, *, sizes_px: tuple[float, float] = (0.0, math.inf)
) -> Matches:
    """Match the boxes of a label with the truth, image by image.

    Args:
        samples: images with their boxes.
        label: of the boxes that are compared.
        sizes_px: judge only true boxes whose size, the square root of their area in pixels, is at least
            the first and below the second. As COCO's tool does, found boxes that overlap a true box of
            another size by 0.5, and those of another size that overlap none, count neither way.
    """
    confidences: list[float] = []
    correct = [np.zeros((0, len(IOU_THRESHOLDS)), dtype=bool)]
    images: list[int] = []
    truths: list[int] = []
    for index, sample in enumerate(samples):
        found = sorted((box for box in sample.found if box.label == label), key=lambda box: -box.confidence)
        truth = [box for box in sample.truth if box.label == label]
        iou = iou_matrix(_corners(found), _corners(truth))
        judged = _within(truth, sizes_px)
        right = _correct(iou[:, judged])
        ours = iou[:, judged].max(axis=1, initial=0.0) >= IOU_THRESHOLDS[0]
        nobodys = iou.max(axis=1, initial=0.0) < IOU_THRESHOLDS[0]
        kept = ours | (nobodys & _within(found, sizes_px))
        confidences += [box.confidence for box, keep in zip(found, kept, strict=True) if keep]
        correct.append(right[kept])
        images += [index] * int(kept.sum())
        truths.append(int(judged.sum()))
    order = np.argsort(-np.array(confidences), kind="stable")
    return Matches(
        np.array(confidences)[order],
        np.concatenate(correct)[order],
        sum(truths),
        np.array(images, dtype=np.intp)[order],
        np.array(truths, dtype=np.intp),
    )


def _average_precision(correct: npt.NDArray[np.bool_], weights: Floats, truths: float) -> Floats:
    """Return AP at each threshold, (10,), where each box (n,) counts ``weights`` times."""
    if not truths:
        return np.full(len(IOU_THRESHOLDS), np.nan)
    hits = (correct * weights[:, None]).cumsum(axis=0)
    precision = hits / weights.cumsum()[:, None]
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    grid = np.linspace(0, 1, 101)
    return np.array(
        [
            np.append(envelope[:, i], 0.0)[np.searchsorted(hits[:, i] / truths, grid)].mean()
            for i in range(len(IOU_THRESHOLDS))
        ]
    )


def _within(boxes: Sequence[Box], sizes_px: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Return which boxes are at least the first size and below the second, (n,)."""
    corners = _corners(boxes)
    sizes = np.sqrt(np.prod(corners[:, 2:] - corners[:, :2], axis=1))
    return np.asarray((sizes >= sizes_px[0]) & (sizes < sizes_px[1]))


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
    """Return the recall at ``CURVE_CONFIDENCES`` of each label that occurs ``MIN_TRUTHS`` times.

    The same again for each band of ground sample distance that samples with a known one fall into,
    as far as it holds so many of a label.
    """
    banded = [
        (coarsest, [sample for sample in samples if sample.gsd_m and finest < sample.gsd_m <= coarsest])
        for finest, coarsest in pairwise((0.0, *GSD_BANDS_M))
    ]
    bands = ((coarsest, _recalls(band, labels)) for coarsest, band in banded)
    return RecallCurve(
        CURVE_CONFIDENCES,
        _recalls(samples, labels),
        tuple((coarsest, recalls) for coarsest, recalls in bands if recalls),
    )


def _recalls(samples: Sequence[Sample], labels: Sequence[str]) -> dict[str, tuple[float, ...]]:
    matches = {label: match(samples, label) for label in labels}
    return {
        label: tuple(round(one.recall(confidence), 4) for confidence in CURVE_CONFIDENCES)
        for label, one in matches.items()
        if one.truths >= MIN_TRUTHS
    }
