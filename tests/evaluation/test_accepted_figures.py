"""A figure that gets worse is noticed, one that gets better is told, and neither can be of something else.

The last tests measure a small fixed part of everything and hold it against ``tests/accepted.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detection.dataset import read_dataset
from detection.evaluate import AP_CONFIDENCE, open_detector
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import Modality
from outwatch.evaluation.accepted import Compared, compare, figure_at, renew
from outwatch.evaluation.images import evaluate_images
from outwatch.evaluation.simulated import evaluate_simulated
from outwatch.pipeline.wiring import shipped_weights

ACCEPTED = Path(__file__).parents[1] / "accepted.json"
SETUP = {"data": "thermal", "images": 60}


def rule(value: float, better: object, tolerance: float = 0.02) -> dict[str, Any]:
    return {"value": value, "better": better, "tolerance": tolerance}


def accepted(folder: Path, figures: dict[str, Any], setup: dict[str, Any] | None = None) -> Path:
    """Write a file of accepted figures of images and return it."""
    path = folder / "accepted.json"
    path.write_text(json.dumps({"images": {"setup": setup or SETUP, "figures": figures}}))
    return path


def report(**figures: float | None) -> dict[str, Any]:
    return {"kind": "images", "setup": SETUP, "per_class": {"person": figures}}


@pytest.mark.parametrize(
    ("better", "measured", "verdict"),
    [
        ("higher", 0.83, "better"),
        ("higher", 0.81, "same"),
        ("higher", 0.79, "same"),
        ("higher", 0.77, "worse"),
        ("lower", 0.77, "better"),
        ("lower", 0.83, "worse"),
        ([0.75, 0.85], 0.76, "same"),
        ([0.75, 0.85], 0.86, "same"),
        ([0.75, 0.85], 0.88, "worse"),
        ([0.75, 0.85], 0.72, "worse"),
        ("higher", None, "worse"),
    ],
)
def test_worse_by_more_than_its_tolerance_is_worse(
    tmp_path: Path, better: object, measured: float | None, verdict: str
) -> None:
    """Higher, lower, or within bounds; a figure that can no longer be said is worse than any."""
    path = accepted(tmp_path, {"per_class.person.ap50": rule(0.8, better)})
    (found,) = compare(report(ap50=measured), path)
    assert found == Compared("per_class.person.ap50", 0.8, measured, 0.02, verdict)


def test_figures_of_other_images_cannot_be_compared(tmp_path: Path) -> None:
    """A run over fewer images is told what differs instead of passing."""
    path = accepted(tmp_path, {}, {"data": "thermal", "images": 264})
    with pytest.raises(ConfigInvalid, match="images 264 accepted, 60 now"):
        compare(report(), path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "by kind of report"),
        ("{", "cannot be read"),
        ('{"clips": {}}', "no accepted figures of kind 'images'"),
        (
            '{"images": {"setup": {"data": "thermal", "images": 60}, "figures": {"a": {"value": 1}}}}',
            "each figure needs",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, words: str) -> None:
    """The error says what was expected of it."""
    path = tmp_path / "accepted.json"
    path.write_text(text)
    with pytest.raises(ConfigInvalid, match=words):
        compare(report(), path)


def test_renewing_takes_the_values_and_leaves_the_rules(tmp_path: Path) -> None:
    """Which figures count, which way, and how exactly is a person's choice and stays."""
    path = accepted(tmp_path, {"per_class.person.ap50": rule(0.8, "higher")})
    renew(report(ap50=0.9), path)
    assert json.loads(path.read_text())["images"]["figures"] == {"per_class.person.ap50": rule(0.9, "higher")}
    with pytest.raises(ConfigInvalid, match="has no figure"):
        renew(report(), path)


def test_a_figure_is_a_number_at_a_path() -> None:
    """Anything else at the path, or nothing, is no figure."""
    assert figure_at({"a": {"b": 1}}, "a.b") == 1.0
    assert [figure_at({"a": {"b": True}}, path) for path in ("a.b", "a", "a.b.c", "c")] == [None] * 4


def hold(measured: dict[str, Any]) -> None:
    """Assert that no figure is worse than was accepted; say which are better."""
    compared = compare(measured, ACCEPTED)
    print([item for item in compared if item.verdict == "better"])
    assert [item for item in compared if item.verdict == "worse"] == []


def test_boxes_are_as_good_as_accepted(samples: Path) -> None:
    """AP and recall of the shipped thermal model on 60 images that it never saw."""
    detector = open_detector(shipped_weights(Modality.THERMAL), min_confidence=AP_CONFIDENCE)
    hold(evaluate_images(detector, read_dataset(samples / "thermal"), limit=60, resamples=1))


@pytest.mark.slow
def test_events_and_places_are_as_good_as_accepted(tmp_path: Path) -> None:
    """Events of five simulated flights, and places and probabilities of 2,000 looks."""
    hold(evaluate_simulated(5, seed=7, cache=tmp_path, cases=2000))
