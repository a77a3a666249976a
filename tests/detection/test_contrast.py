"""Lifting flat thermal frames."""

from __future__ import annotations

import numpy as np
import pytest

from detection.contrast import GREATEST_GAIN, lift_contrast


def frame(deviation: float) -> np.ndarray:
    grey = np.random.default_rng(1).normal(120, deviation, (64, 80)).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize(("deviation", "expected"), [(25.0, 33.0), (10.0, 10.0 * GREATEST_GAIN)])
def test_flat_frame_is_lifted_as_far_as_may_be(deviation: float, expected: float) -> None:
    """A flat frame gets the least contrast, or what the greatest gain gives; its mean and shape stay."""
    image = frame(deviation)
    lifted = lift_contrast(image, least=33.0)
    assert lifted[..., 0].std() == pytest.approx(expected, rel=0.03)
    assert lifted.mean() == pytest.approx(image.mean(), abs=1.0)
    assert (lifted.shape, lifted.dtype) == (image.shape, image.dtype)


def test_steep_and_uniform_frames_are_left() -> None:
    """A frame with contrast enough is not touched, and a uniform one does not become noise."""
    steep = frame(45.0)
    assert lift_contrast(steep, least=33.0) is steep
    black = np.zeros((64, 80, 3), np.uint8)
    assert (lift_contrast(black, least=33.0) == 0).all()
