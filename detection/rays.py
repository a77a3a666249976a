"""Rays of a camera, and how far each goes until it meets the ground.

Belongs here: the camera model and the meeting of lines with planes and terrains, on whole arrays.
Not here: what is known of a pose (``detection/poses.py``), its errors and places on the Earth
(``detection/ground.py``), and the distortion of a lens (``detection/lens.py``).

The camera is a pinhole with square pixels behind a lens, where that is known. Rays live in metres east,
north and up of a local frame. The Earth's curvature is left out: it lowers the ground by 0.7 m at 3 km, less
than any elevation model's error.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import shapely

from detection.lens import distort, undistort
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.ports import Terrain
from outwatch.domain.types import Lens

FloatArray = npt.NDArray[np.float64]

EAST, NORTH, UP, HEADING, PITCH, ROLL, HFOV, X, Y = range(9)
"""A pose as nine numbers: metres east, north and up; degrees of heading, pitch, roll and horizontal
field of view (as ``TelemetrySample`` defines them); pixels by which a box is off."""
MAX_RANGE_M = 20_000.0
"""A ray that met no ground by then never will within sight of a small drone's camera."""
_MAX_STEP_M = 500.0
"""Longest step of a ray where the ground's spacing sets none: steep rays and flat ground."""
HIT_TOLERANCE_M = 0.02
_BENT_IN = 1e-9
"""A side that a lens bends inwards by more (of unit vectors) is cut at its middle."""
_RIM_POINTS = 72
_RIM = np.array(
    [
        (math.sin(2 * math.pi * step / _RIM_POINTS), math.cos(2 * math.pi * step / _RIM_POINTS))
        for step in range(_RIM_POINTS)
    ]
)
"""A circle of radius one, clockwise from north."""
_TRIANGLE = 3


def _axes(parameters: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the camera's forward, right and down unit vectors in east, north, up, each (k, 3)."""
    heading, pitch, roll = np.radians(parameters[:, [HEADING, PITCH, ROLL]]).T[..., None]
    flat = np.concatenate([np.sin(heading), np.cos(heading)], axis=1)
    forward = np.concatenate([flat * np.cos(pitch), np.sin(pitch)], axis=1)
    level_right = np.concatenate([np.cos(heading), -np.sin(heading), np.zeros_like(heading)], axis=1)
    level_down = np.cross(forward, level_right)
    right = level_right * np.cos(roll) + level_down * np.sin(roll)
    down = level_down * np.cos(roll) - level_right * np.sin(roll)
    return forward, right, down


def ray_directions(
    parameters: FloatArray, pixels: FloatArray, *, width_px: int, height_px: int, lens: Lens | None = None
) -> FloatArray:
    """Return unit rays in east, north, up of k poses (k, 9) by n pixels (n, 2), shape (k, n, 3)."""
    forward, right, down = (axis[:, None, :] for axis in _axes(parameters))
    x_px, y_px = _centre_px(width_px, height_px, lens)
    focal_px = _focal_px(parameters, width_px)
    x = (pixels[:, 0] + parameters[:, X, None] - x_px) / focal_px
    y = (pixels[:, 1] + parameters[:, Y, None] - y_px) / focal_px
    if lens is not None:
        x, y = undistort(x, y, lens)
    rays = forward + x[..., None] * right + y[..., None] * down
    unit: FloatArray = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    return unit


def pixels_of(
    parameters: FloatArray, points_m: FloatArray, *, width_px: int, height_px: int, lens: Lens | None = None
) -> FloatArray:
    """Return where k poses (k, 9) show n points (n, 3) east, north, up: pixels, shape (k, n, 2).

    The inverse of ``ray_directions``; NaN for points that are not in front of the camera.
    """
    forward, right, down = (axis[:, None, :] for axis in _axes(parameters))
    away = points_m - parameters[:, None, : UP + 1]
    depth = (away * forward).sum(axis=-1)
    depth = np.where(depth > 0, depth, np.nan)
    x, y = (away * right).sum(axis=-1) / depth, (away * down).sum(axis=-1) / depth
    if lens is not None:
        x, y = distort(x, y, lens)
    x_px, y_px = _centre_px(width_px, height_px, lens)
    focal_px = _focal_px(parameters, width_px)
    x, y = x * focal_px + x_px - parameters[:, X, None], y * focal_px + y_px - parameters[:, Y, None]
    return np.stack([x, y], axis=-1)


def _focal_px(parameters: FloatArray, width_px: int) -> FloatArray:
    """Return the focal lengths of k poses in pixels, shape (k, 1)."""
    focal_px: FloatArray = width_px / 2 / np.tan(np.radians(parameters[:, HFOV] / 2))[:, None]
    return focal_px


def _centre_px(width_px: int, height_px: int, lens: Lens | None) -> tuple[float, float]:
    if lens is None:
        return width_px / 2, height_px / 2
    return lens.centre_x * width_px, lens.centre_y * height_px


def depressions_deg(directions: FloatArray) -> FloatArray:
    """Return the angles of unit rays, shape (..., 3), below the horizon, shape (...)."""
    return np.degrees(np.arcsin(-directions[..., 2]))


def reach_plane(origins: FloatArray, directions: FloatArray) -> FloatArray:
    """Return the lengths of rays down to height zero, shape (m,), NaN where they rise."""
    falling = directions[:, 2] < 0
    reach = np.full(len(origins), np.nan)
    reach[falling] = -origins[falling, 2] / directions[falling, 2]
    return reach


def reach_terrain(
    origins: FloatArray, directions: FloatArray, *, terrain: Terrain, frame: LocalFrame
) -> FloatArray:
    """Return the lengths of rays down to a terrain, shape (m,), NaN where they meet none.

    Rays march by steps of at most half the terrain's spacing, so that none jumps over a ridge, and
    the first step that ends below ground is halved until the hit is certain to two centimetres.
    """

    def clearance_m(rays: npt.NDArray[np.intp], reach: FloatArray) -> FloatArray:
        spots = origins[rays] + reach[:, None] * directions[rays]
        lat_deg, lon_deg = frame.to_geo(spots[:, 0], spots[:, 1])
        return np.asarray(spots[:, 2] - terrain.heights_m(lat_deg, lon_deg))

    run = np.maximum(np.hypot(directions[:, 0], directions[:, 1]), np.finfo(float).tiny)
    step = np.minimum(terrain.spacing_m / 2 / run, _MAX_STEP_M)
    far = np.full(len(origins), np.nan)
    reach = np.zeros(len(origins))
    active = np.flatnonzero(directions[:, 2] < 0)
    while len(active):
        reach[active] += step[active]
        clearance = clearance_m(active, reach[active])
        landed = active[clearance <= 0]
        far[landed] = reach[landed]
        active = active[(clearance > 0) & (reach[active] < MAX_RANGE_M)]
    hit = np.flatnonzero(np.isfinite(far))
    high, low = (far - step)[hit], far[hit]
    halvings = math.ceil(math.log2(step.max(initial=1.0) / HIT_TOLERANCE_M))
    for _ in range(halvings):
        middle = (high + low) / 2
        above = clearance_m(hit, middle) > 0
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    far[hit] = low
    return far


def border_directions(
    parameters: FloatArray,
    *,
    width_px: int,
    height_px: int,
    min_depression_deg: float,
    lens: Lens | None = None,
) -> FloatArray:
    """Return unit rays around what one pose (9,) sees below the least depression, shape (m, 3).

    On the plane one metre below the camera, rays of at least that depression fill a disc and each
    side of the frame is a straight cut: the disc is clipped by the four of them. A side that the lens
    bends is cut where it lies farthest in, so that no more is claimed than is seen.
    """
    rim = _RIM / math.tan(math.radians(min_depression_deg))
    corners = np.array([[0.0, 0.0], [width_px, 0.0], [width_px, height_px], [0.0, height_px]])
    spots = np.concatenate([corners, (corners + np.roll(corners, -1, axis=0)) / 2])
    rays = ray_directions(parameters[None], spots, width_px=width_px, height_px=height_px, lens=lens)[0]
    starts, middles = np.split(rays, 2)
    ends = np.roll(starts, -1, axis=0)
    inward = np.cross(starts, ends)
    bent_in = (inward * middles).sum(axis=1) > _BENT_IN
    inward[bent_in] = np.cross(middles, ends - starts)[bent_in]
    for normal in inward:
        rim = _clip(rim, normal)
    if len(rim) < _TRIANGLE:
        return np.empty((0, 3))
    ring = shapely.LinearRing(rim)
    dense = shapely.get_coordinates(shapely.segmentize(ring, ring.length / _RIM_POINTS))[:-1]
    border = np.column_stack([dense, -np.ones(len(dense))])
    unit: FloatArray = border / np.linalg.norm(border, axis=1, keepdims=True)
    return unit


def _clip(polygon: FloatArray, inward: FloatArray) -> FloatArray:
    """Return a convex polygon at height -1, shape (n, 2), without what lies behind a plane through 0."""
    side = polygon @ inward[:2] - inward[2]
    before, side_before = np.roll(polygon, 1, axis=0), np.roll(side, 1)
    crossing = side * side_before < 0
    with np.errstate(divide="ignore", invalid="ignore"):
        cuts = before + (polygon - before) * (side_before / (side_before - side))[:, None]
    # Each corner may be preceded by the cut through the edge that leads to it.
    both = np.stack([cuts, polygon], axis=1).reshape(-1, 2)
    kept: FloatArray = both[np.column_stack([crossing, side >= 0]).ravel()]
    return kept
