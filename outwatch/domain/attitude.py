"""Attitudes as rotations: an airframe's heading, pitch and roll, and a camera's relative to it.

Belongs here: the one convention of angles (aerospace: heading clockwise from true north, nose up and
right side down positive, applied in this order) and how two of them join. Not here: who reports them
(``ingest/telemetry``) and what the camera sees (``detection/rays.py``).

Angles do not add up: a camera that looks 90 degrees to the right of an aircraft pitched up by 5
degrees is not pitched, but rolled. They join as rotation matrices (MISB ST 0601, items 5-7 and 18-20).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_LOCK = 1e-9
"""Cosine of pitch below which heading and roll turn about one axis (straight down to 6e-8 degrees)."""


def rotation(heading_deg: npt.ArrayLike, pitch_deg: npt.ArrayLike, roll_deg: npt.ArrayLike) -> Floats:
    """Return the matrices whose columns are forward, right and down, shape (..., 3, 3).

    Their rows are north, east and down of whatever the angles are relative to: the earth, or an
    airframe's forward, right and down.

    Args:
        heading_deg: shape (...); the azimuth where relative to an airframe.
        pitch_deg: of the same shape; the elevation.
        roll_deg: of the same shape.
    """
    angles = np.radians(np.broadcast_arrays(heading_deg, pitch_deg, roll_deg))
    (sh, sp, sr), (ch, cp, cr) = np.sin(angles), np.cos(angles)
    rows = (
        (ch * cp, ch * sp * sr - sh * cr, ch * sp * cr + sh * sr),
        (sh * cp, sh * sp * sr + ch * cr, sh * sp * cr - ch * sr),
        (-sp, cp * sr, cp * cr),
    )
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def angles_of(matrices: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return heading in [0, 360), pitch in [-90, 90] and roll in [-180, 180] degrees, each of shape (...).

    Straight up and straight down, where only heading and roll together are known, the roll is 0.

    Args:
        matrices: rotations as ``rotation`` returns them, shape (..., 3, 3).
    """
    turned = np.asarray(matrices, float)
    (north, right_north), (east, right_east) = (np.moveaxis(turned[..., row, :2], -1, 0) for row in (0, 1))
    down, right_down, down_down = np.moveaxis(turned[..., 2, :], -1, 0)
    locked = np.hypot(north, east) < _LOCK
    heading = np.where(locked, np.arctan2(-right_north, right_east), np.arctan2(east, north))
    roll = np.where(locked, 0.0, np.arctan2(right_down, down_down))
    pitch = np.arctan2(-down, np.hypot(north, east))
    # The remainder of a tiny negative angle rounds to 360.
    return np.degrees(heading) % 360 % 360, np.degrees(pitch), np.degrees(roll)
