"""Attitudes as quaternions: compact where an autopilot logs millions, and even to interpolate.

Belongs here: what is done with whole series of them. Not here: the convention of angles
(``outwatch/domain/attitude.py``), and where attitudes come from (one module a format).

Quaternions are (w, x, y, z), from body (forward, right, down) to north-east-down. Source of the formulas:
Diebel, "Representing Attitude", 2006, sections 6 and 8.2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from outwatch.domain.attitude import angles_of

FloatArray = npt.NDArray[np.float64]


def from_angles(heading_deg: npt.ArrayLike, pitch_deg: npt.ArrayLike, roll_deg: npt.ArrayLike) -> FloatArray:
    """Return unit quaternions of shape (n, 4) for angles in degrees, each of shape (n,) or a scalar."""
    halves = np.broadcast_arrays(
        *(np.radians(np.atleast_1d(a)) / 2 for a in (heading_deg, pitch_deg, roll_deg))
    )
    (cos_h, cos_p, cos_r), (sin_h, sin_p, sin_r) = np.cos(halves), np.sin(halves)
    return np.column_stack([
        cos_h * cos_p * cos_r + sin_h * sin_p * sin_r,
        cos_h * cos_p * sin_r - sin_h * sin_p * cos_r,
        cos_h * sin_p * cos_r + sin_h * cos_p * sin_r,
        sin_h * cos_p * cos_r - cos_h * sin_p * sin_r,
    ])  # fmt: skip


def to_angles(quaternions: FloatArray) -> FloatArray:
    """Return heading, pitch and roll in degrees, shape (n, 3), as ``angles_of`` does.

    Args:
        quaternions: of unit length, shape (n, 4).
    """
    w, x, y, z = quaternions.T
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.column_stack(angles_of(np.moveaxis(np.array(rows), 2, 0)))


def compose(first: FloatArray, then: FloatArray) -> FloatArray:
    """Return the attitudes of what is turned by ``then`` on a body turned by ``first``, shape (n, 4)."""
    w, x, y, z = first.T
    a, b, c, d = then.T
    return np.column_stack([
        w * a - x * b - y * c - z * d,
        w * b + x * a + y * d - z * c,
        w * c - x * d + y * a + z * b,
        w * d + x * c - y * b + z * a,
    ])  # fmt: skip


def between(before: FloatArray, after: FloatArray, *, share: FloatArray) -> FloatArray:
    """Return attitudes at a share of the short way between two close ones, shape (n, 4).

    Linear and brought back to unit length: at the turns between two records of a log (a few degrees) it
    differs from an even turn by less than the sensors' noise.

    Args:
        before: unit quaternions, shape (n, 4).
        after: the same.
        share: 0 for ``before``, 1 for ``after``, shape (n,).
    """
    # A quaternion and its negative are one attitude: take the one that lies near.
    near = np.where(np.einsum("ni,ni->n", before, after) < 0, -1.0, 1.0)[:, None] * after
    mixed = before + (near - before) * share[:, None]
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True))
