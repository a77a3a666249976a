"""What a lens does to a picture, and its undoing, on whole arrays.

Belongs here: the distortion of calibrated lenses (``outwatch.domain.types.Lens``: Brown and Conrady's model
in OpenCV's words). Not here: where coefficients come from (``outwatch/domain/cameras.py``) and rays
(``detection/rays.py``). All positions are focal lengths right and down of the axis.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from outwatch.domain.types import Lens

FloatArray = npt.NDArray[np.float64]

_MAX_ITERATIONS = 60
_TOLERANCE = 1e-9
"""Focal lengths: a millionth of a pixel of any camera."""


def distort(x: FloatArray, y: FloatArray, lens: Lens) -> tuple[FloatArray, FloatArray]:
    """Return where a lens shows points of an ideal picture, each of the input's shape."""
    r2 = x * x + y * y
    radial = 1 + r2 * (lens.k1 + r2 * (lens.k2 + r2 * lens.k3))
    aside, along = _tangential(x, y, r2, lens)
    return x * radial + aside, y * radial + along


def undistort(x: FloatArray, y: FloatArray, lens: Lens) -> tuple[FloatArray, FloatArray]:
    """Return the points of the ideal picture that a lens shows at (x, y), each of the input's shape.

    By fixed-point iteration, as OpenCV does it. NaN where it does not settle: so far out the model bends back
    on itself, and no ray belongs to the place.
    """
    ideal_x, ideal_y = x.copy(), y.copy()
    for _ in range(_MAX_ITERATIONS):
        r2 = ideal_x * ideal_x + ideal_y * ideal_y
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            radial = 1 + r2 * (lens.k1 + r2 * (lens.k2 + r2 * lens.k3))
            aside, along = _tangential(ideal_x, ideal_y, r2, lens)
            next_x, next_y = (x - aside) / radial, (y - along) / radial
            off = np.hypot(next_x - ideal_x, next_y - ideal_y)
        ideal_x, ideal_y = next_x, next_y
        if not (off > _TOLERANCE).any():
            break
    lost = ~(off <= _TOLERANCE) | ~(radial > 0)
    return np.where(lost, np.nan, ideal_x), np.where(lost, np.nan, ideal_y)


def _tangential(x: FloatArray, y: FloatArray, r2: FloatArray, lens: Lens) -> tuple[FloatArray, FloatArray]:
    aside = 2 * lens.p1 * x * y + lens.p2 * (r2 + 2 * x * x)
    along = lens.p1 * (r2 + 2 * y * y) + 2 * lens.p2 * x * y
    return aside, along
