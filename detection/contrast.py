"""The contrast of thermal frames: how flat a frame is, and lifting one that is too flat for a model.

A thermal camera sets gain and level by what it sees: one hot thing in view flattens all the rest, and
a model that learnt from steeper frames misses it. Belongs here: that one correction. Not here: which
model wants it (``model_card.py``).
"""

from __future__ import annotations

import cv2
import numpy as np

from outwatch.domain.types import Image

LEAST_CONTRAST = 33.0
"""Median over the thermal training frames of the standard deviation of grey levels."""
GREATEST_GAIN = 1.5
"""Beyond it sensor noise looks like things: at 2, a detector loses a tenth of the people in a flight
whose frames have a deviation of 14."""


def lift_contrast(image: Image, *, least: float) -> Image:
    """Return a frame whose grey levels have a standard deviation of at least ``least``, as far as may be.

    The frame is stretched around its mean by at most ``GREATEST_GAIN``; a steeper one is returned as it is.

    Args:
        image: (height, width, 3), BGR, uint8; grey, so that one channel speaks for all.
        least: standard deviation in grey levels.
    """
    mean, deviation = cv2.meanStdDev(image[..., 0])
    gain = min(least / max(float(deviation[0, 0]), 1.0), GREATEST_GAIN)
    if gain <= 1.0:
        return image
    levels = np.arange(256, dtype=np.float32)
    centre = float(mean[0, 0])
    table: Image = np.clip((levels - centre) * gain + centre, 0, 255).astype(np.uint8)
    return table[image]
