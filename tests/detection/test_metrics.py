"""Figures are those of COCO's definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.evaluate import named_gsd_m
from detection.metrics import IOU_THRESHOLDS, Sample, figures, match, recall_curve
from outwatch.domain.types import Box


def box(left: float, *, label: str = "person", confidence: float = 1.0, width: float = 10.0) -> Box:
    """Return a box of 10 px height at the top of the frame."""
    return Box(label, confidence, (left, 0.0, left + width, 10.0))


def test_perfect_boxes_score_one() -> None:
    """All true boxes found exactly, and nothing else, is AP 1 at every overlap."""
    samples = [Sample("a", [box(0, confidence=0.9), box(50, confidence=0.3)], [box(0), box(50)])]
    assert match(samples, "person").average_precision() == pytest.approx(np.ones(10))


def test_nothing_found_scores_nought() -> None:
    """A detector that sees nothing has AP 0 and recall 0, and no precision."""
    found = figures([Sample("a", [], [box(0)])], labels=["person"])
    assert (found["ap50"], found["recall"], found["precision"]) == (0.0, 0.0, None)


def test_average_precision_of_a_known_case() -> None:
    """Right, wrong, right of two true boxes: precision 1 up to half the recall, then 2/3."""
    found = [box(0, confidence=0.9), box(25, confidence=0.8), box(50, confidence=0.7)]
    ap = match([Sample("a", found, [box(0), box(50)])], "person").average_precision()[0]
    assert ap == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_precision_never_falls_towards_lower_recall() -> None:
    """Wrong, right, right of two true boxes: the best precision beyond a recall counts, 2/3 throughout."""
    found = [box(25, confidence=0.9), box(0, confidence=0.8), box(50, confidence=0.7)]
    ap = match([Sample("a", found, [box(0), box(50)])], "person").average_precision()[0]
    assert ap == pytest.approx(2 / 3)


def test_a_true_box_is_found_once() -> None:
    """A second box on the same thing is wrong, and the surer one is the right one."""
    matches = match([Sample("a", [box(1, confidence=0.5), box(0, confidence=0.9)], [box(0)])], "person")
    assert matches.correct[:, 0].tolist() == [True, False]
    assert matches.confidences.tolist() == [0.9, 0.5]


def test_a_box_takes_the_free_true_box_it_overlaps_most() -> None:
    """Two things close together are both found by two boxes, whichever is surer."""
    found = [box(2, confidence=0.9), box(0, confidence=0.8)]
    matches = match([Sample("a", found, [box(0), box(3)])], "person")
    assert matches.correct[:, 0].tolist() == [True, True]


def test_overlap_decides_at_each_threshold() -> None:
    """A box that overlaps by 0.6 is right up to 0.6 and wrong above."""
    matches = match([Sample("a", [box(0, width=6.0)], [box(0)])], "person")
    assert matches.correct[0].tolist() == [threshold <= 0.6 + 1e-9 for threshold in IOU_THRESHOLDS]


def test_labels_and_images_are_kept_apart() -> None:
    """A box of another label or in another image finds nothing."""
    samples = [Sample("a", [box(0, label="car")], [box(0)]), Sample("b", [box(0)], [])]
    found = figures(samples, labels=["person", "car"])
    assert (found["recall"], found["precision"]) == (0.0, 0.0)


def test_precision_and_recall_are_those_of_the_working_confidence() -> None:
    """Boxes at or below it count neither for nor against."""
    found = [box(0, confidence=0.9), box(25, confidence=0.6), box(50, confidence=0.2)]
    result = figures([Sample("a", found, [box(0), box(50)])], labels=["person"], confidence=0.25)
    assert (result["precision"], result["recall"]) == (0.5, 0.5)


def test_the_recall_curve_falls_with_confidence() -> None:
    """Each label has its recall at each confidence, if there are enough true boxes to say one."""
    found = [box(0, confidence=0.9), box(50, confidence=0.32), box(75, label="car", confidence=0.9)]
    sample = Sample("a", found, [box(0), box(50), box(75, label="car")])
    curve = recall_curve([sample] * 15, labels=["person", "car"])
    assert set(curve.by_label) == {"person"}
    assert (curve.at(0.3).overall["person"], curve.at(0.35).overall["person"]) == (1.0, 0.5)


def test_the_name_of_an_image_tells_its_ground_sample_distance() -> None:
    """HIT-UAV's names carry altitude and depression: 100 m straight above, 43.6 m over 640 pixels."""
    assert named_gsd_m("0_100_90_0_00001.jpg", width_px=640) == pytest.approx(0.0681, abs=1e-4)
    assert named_gsd_m("1_100_30_0_00001.jpg", width_px=640) == pytest.approx(0.1363, abs=1e-4)
    assert named_gsd_m("frame_7.jpg", width_px=640) is None


def test_recall_is_measured_for_each_ground_sample_distance() -> None:
    """Fine images, in which all is found, do not speak for coarse ones; without a distance none speak."""
    truth = [box(0), box(50)]
    fine = Sample("a", [box(0, confidence=0.9), box(50, confidence=0.9)], truth, gsd_m=0.045)
    coarse = Sample("b", [box(0, confidence=0.9)], truth, gsd_m=0.12)
    too_few = Sample("c", [], truth, gsd_m=0.25)
    curve = recall_curve([*[fine, coarse] * 15, too_few, *[Sample("d", [], truth)] * 4], labels=["person"])
    recall = curve.at(0.5)
    assert recall.bands == ((0.05, {"person": 1.0}), (0.15, {"person": 0.5}))
    assert recall.at(0.04) == {"person": 1.0}
    assert recall.at(0.15) == {"person": 0.5}
    assert recall.at(0.16) == {}
    assert recall.at(None) == {"person": round(45 / 70, 4)}


@given(
    st.lists(
        st.tuples(st.floats(0, 90), st.floats(0.01, 1)),
        max_size=12,
    ),
    st.lists(st.floats(0, 90), min_size=1, max_size=8),
)
def test_average_precision_is_a_share_that_falls_with_overlap(
    found: list[tuple[float, float]], truth: list[float]
) -> None:
    """Whatever is found, AP lies between 0 and 1 and no stricter overlap has a higher recall."""
    matches = match(
        [Sample("a", [box(left, confidence=c) for left, c in found], [box(left) for left in truth])], "person"
    )
    ap = matches.average_precision()
    assert ((ap >= 0) & (ap <= 1)).all()
    assert matches.correct.sum(axis=0).max(initial=0) <= len(truth)


def test_average_precision_agrees_with_ultralytics() -> None:
    """On noisy boxes AP differs by less than 0.01 from that of Ultralytics' own metric."""
    pytest.importorskip("ultralytics", reason="needs the extra outwatch[ultralytics]", exc_type=ImportError)
    from detection.ultralytics import _ultralytics

    _ultralytics()
    from ultralytics.utils.metrics import ap_per_class

    random = np.random.default_rng(3)
    truths = [[box(100 * i) for i in range(8)] for _ in range(40)]
    samples = []
    for truth in truths:
        found = [
            box(100 * i + random.normal(0, 2), confidence=float(random.beta(4, 2)))
            for i in range(8)
            if random.random() < 0.8
        ]
        found += [
            box(100 * i + 50, confidence=float(random.beta(2, 4))) for i in range(random.integers(0, 5))
        ]
        samples.append(Sample("a", found, truth))
    matches = match(samples, "person")
    zeros = np.zeros(len(matches.confidences))
    theirs = ap_per_class(matches.correct, matches.confidences, zeros, np.zeros(matches.truths))[5][0]
    assert matches.average_precision() == pytest.approx(theirs, abs=0.01)
