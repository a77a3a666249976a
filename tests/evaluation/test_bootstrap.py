"""Intervals hold as often as they say, and frames of one flight are drawn together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.metrics import Sample, match
from outwatch.domain.types import Box
from outwatch.evaluation.bootstrap import LEAST_BLOCKS, blocks_of, draws, interval, share_interval


def test_consecutive_frames_of_one_flight_are_one_block() -> None:
    """A jump in numbers, another flight and a name without a number begin blocks of their own."""
    names = ["1_60_30_0_00010", "1_60_30_0_00040", "1_60_30_0_00900", "1_60_40_0_00901", "gate", "gate_b"]
    assert blocks_of(names).tolist() == [0, 0, 1, 2, 3, 4]


def test_blocks_are_drawn_whole() -> None:
    """Images of one block come equally often, and as many blocks are drawn as there are."""
    blocks = np.repeat(np.arange(LEAST_BLOCKS), 3)
    for times in draws(blocks, resamples=20, seed=1):
        by_block = times.reshape(-1, 3)
        assert (by_block == by_block[:, :1]).all()
        assert by_block[:, 0].sum() == LEAST_BLOCKS


def test_few_blocks_give_no_interval() -> None:
    """From a handful of blocks nothing is said about how figures would vary."""
    assert (
        interval([value for _ in draws(np.arange(LEAST_BLOCKS - 1), resamples=9, seed=0) for value in (0.5,)])
        is None
    )


@given(st.lists(st.integers(0, 3), min_size=4, max_size=4), st.integers(0, 1000))
def test_drawing_an_image_twice_is_having_it_twice(times: list[int], seed: int) -> None:
    """Reweighted figures are those of a set in which each image occurs so often."""
    random = np.random.default_rng(seed)

    def box(confidence: float = 1.0) -> Box:
        left = float(random.choice([0.0, 3.0, 40.0]))
        return Box("person", confidence, (left, 0.0, left + 10, 10.0))

    # no two confidences are alike, as the order among equals is arbitrary
    ranks = iter(random.permutation(np.linspace(0.1, 0.9, 12)).tolist())
    samples = [Sample(str(i), [box(next(ranks)) for _ in range(3)], [box()]) for i in range(4)]
    repeated = [sample for sample, count in zip(samples, times, strict=True) for _ in range(count)]
    ap50, ap50_95, precision, recall = match(samples, "person").reweighted(np.array(times), 0.25)
    again = match(repeated, "person")
    expected = (
        again.average_precision()[0],
        again.average_precision().mean(),
        again.precision(0.25),
        again.recall(0.25),
    )
    assert (ap50, ap50_95, precision, recall) == pytest.approx(expected, nan_ok=True)


def test_only_boxes_of_the_asked_size_are_judged() -> None:
    """True boxes of another size, and found boxes that take them, count neither way."""

    def box(left: float, size: float, confidence: float = 1.0) -> Box:
        return Box("person", confidence, (left, 0.0, left + size, size))

    sample = Sample("a", [box(0, 40, 0.9), box(100, 8, 0.8), box(200, 8, 0.7)], [box(0, 40), box(100, 8)])
    small = match([sample], "person", sizes_px=(0.0, 12.0))
    large = match([sample], "person", sizes_px=(12.0, 100.0))
    assert (small.truths, small.confidences.tolist()) == (1, [0.8, 0.7])
    assert (large.truths, large.confidences.tolist()) == (1, [0.9])


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_shares_interval_holds_it_as_often_as_it_says(share: float) -> None:
    """Over many repetitions about 95 % of Wilson's intervals hold the true share."""
    hits = np.random.default_rng(3).binomial(40, share, 2000)
    intervals = np.array([share_interval(int(count), 40) for count in hits])
    assert np.mean((intervals[:, 0] <= share) & (share <= intervals[:, 1])) == pytest.approx(0.95, abs=0.025)


def test_all_hits_are_no_certainty() -> None:
    """Ten of ten do not show that the eleventh hits; of nothing nothing is said."""
    assert share_interval(10, 10) == [pytest.approx(0.7225, abs=1e-3), 1.0]
    assert share_interval(0, 0) is None
