"""The ground that a frame shows: inside the frame's border, less what a ridge hides.

Belongs here: border and hidden ground as polygons, so that "not seen" and "not looked" differ. Not here:
single places (``detection/ground.py``).

Hidden ground is found along lines of sight (a viewshed): outwards from the camera, ground is hidden where its
elevation angle is below the largest so far. The lines and steps are as far apart as the terrain's heights,
finer says nothing that it knows; their numbers are bounded, so that the cost of a frame is.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from detection.poses import View
from detection.rays import UP, border_directions, reach_plane, reach_terrain
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.ports import Terrain

FloatArray = npt.NDArray[np.float64]

HIDDEN_BY_M = 1.0
"""Ground is hidden where a person standing on it (1.7 m) is so by more than half."""
_MAX_LINES, _MAX_STEPS = 64, 256
_MIN_LINES = 8
_TRIANGLE = 3
_FULL_CIRCLE = 2 * math.pi


def border_of(view: View, *, min_depression_deg: float) -> FloatArray:
    """Return unit rays around what a frame shows below the least depression, shape (m, 3), m may be 0."""
    return border_directions(
        view.parameters,
        width_px=view.width_px,
        height_px=view.height_px,
        min_depression_deg=min_depression_deg,
        lens=view.lens,
    )


def ground_inside(border: FloatArray, view: View, terrain: Terrain | None) -> BaseGeometry | None:
    """Return the ground seen inside a border of rays, metres east and north; None where they meet none.

    Args:
        border: unit rays, shape (m, 3), in order around the frame.
        view: the pose.
        terrain: the ground's height; None is the plane of the take-off point.
    """
    origins = np.broadcast_to(view.parameters[: UP + 1], border.shape)
    if terrain is None:
        reach = reach_plane(origins, border)
    else:
        reach = reach_terrain(origins, border, terrain=terrain, frame=view.frame)
    hits = reach[:, None] * border[:, :2]
    hits = hits[np.isfinite(hits).all(axis=1)]
    if len(hits) < _TRIANGLE:
        return None
    outline = _areas(shapely.Polygon(hits))
    if terrain is not None and math.isfinite(terrain.spacing_m) and not outline.is_empty:
        hidden = _hidden(outline, view, terrain)
        if hidden is not None:
            outline = _areas(shapely.difference(outline, hidden))
    return None if outline.is_empty else outline


def to_geo(geometry: BaseGeometry, frame: LocalFrame) -> BaseGeometry:
    """Return a geometry of metres east and north on WGS 84, longitude first."""

    def turn(east_north: FloatArray) -> FloatArray:
        lat_deg, lon_deg = frame.to_geo(east_north[:, 0], east_north[:, 1])
        return np.column_stack([lon_deg, lat_deg])

    return shapely.transform(geometry, turn)


def _areas(geometry: BaseGeometry) -> BaseGeometry:
    """Return a geometry's areas, valid and without the lines and points that repairs leave."""
    if geometry.is_valid and geometry.geom_type == "Polygon":
        return geometry
    parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(geometry)))
    return shapely.union_all([part for part in parts if part.geom_type == "Polygon"])


def _hidden(outline: BaseGeometry, view: View, terrain: Terrain) -> BaseGeometry | None:
    """Return the ground within the outline's bearings and reach that a nearer ridge hides; None for none."""
    first, width, reach_m = _sector(outline)
    lines = int(np.clip(math.ceil(width * reach_m / terrain.spacing_m), _MIN_LINES, _MAX_LINES))
    steps = int(np.clip(math.ceil(2 * reach_m / terrain.spacing_m), 1, _MAX_STEPS))
    bearings = first + width * (np.arange(lines) + 0.5) / lines
    step_m, half = reach_m / steps, width / lines / 2
    away_m = step_m * (np.arange(steps) + 0.5)
    east, north = np.sin(bearings)[:, None] * away_m, np.cos(bearings)[:, None] * away_m
    heights_m = terrain.heights_m(*view.frame.to_geo(east, north))
    # Unknown ground hides nothing, and nothing is said of it here: border rays end there.
    slopes = np.nan_to_num((heights_m - view.parameters[UP]) / away_m, nan=-np.inf)
    before = np.maximum.accumulate(slopes, axis=1)[:, :-1]
    hidden = np.zeros(slopes.shape, bool)
    hidden[:, 1:] = (before - slopes[:, 1:]) * away_m[1:] > HIDDEN_BY_M
    hidden &= np.isfinite(slopes)
    if not hidden.any():
        return None
    edges = np.diff(np.pad(hidden, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    line, start = np.nonzero(edges > 0)
    _, end = np.nonzero(edges < 0)
    near_m, far_m = np.asarray(start * step_m, float), np.asarray(end * step_m, float)
    return shapely.union_all(_cells(bearings[line], half, near_m, far_m))


def _sector(outline: BaseGeometry) -> tuple[float, float, float]:
    """Return the first bearing and their width in radians, and the reach in metres, of an outline."""
    east, north = shapely.get_coordinates(outline).T
    reach_m = float(np.hypot(east, north).max())
    if shapely.contains_xy(outline, 0.0, 0.0) or outline.distance(shapely.Point(0.0, 0.0)) == 0:
        return 0.0, _FULL_CIRCLE, reach_m
    middle = math.atan2(float(east.mean()), float(north.mean()))
    turned = (np.arctan2(east, north) - middle + math.pi) % _FULL_CIRCLE - math.pi
    return middle + float(turned.min()), float(np.ptp(turned)), reach_m


def _cells(
    bearings: FloatArray, half: float, near_m: FloatArray, far_m: FloatArray
) -> npt.NDArray[np.object_]:
    """Return the sectors ``half`` either side of bearings, from ``near_m`` to ``far_m``, as polygons."""
    # A hair wider, so that neighbours overlap and their union has no slits.
    left, right = bearings - half * 1.001, bearings + half * 1.001
    corners = [(left, near_m), (left, far_m), (right, far_m), (right, near_m)]
    rings = np.stack(
        [np.stack([np.sin(angle) * reach, np.cos(angle) * reach], axis=-1) for angle, reach in corners],
        axis=1,
    )
    polygons: npt.NDArray[np.object_] = shapely.polygons(rings)
    return polygons
