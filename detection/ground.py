"""From pixels to places: where the things in a frame stand on the ground, and how wrong that may be.

Belongs here: what of a pose is known, how its errors reach the ground, and the ground a frame
covers. Not here: the camera model (``detection/rays.py``), the height of the ground
(``detection/terrain.py``), distances on it (``outwatch/domain/geometry.py``) and what it means
(``detection/rules.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import shapely

from detection.rays import (
    HIT_TOLERANCE_M,
    MAX_RANGE_M,
    UP,
    border_directions,
    depressions_deg,
    ray_directions,
    reach_plane,
    reach_terrain,
)
from outwatch.domain.geometry import CHI2_2DOF_P90, LocalFrame, ellipse_from_covariance
from outwatch.domain.ports import Terrain
from outwatch.domain.types import Camera, GeoPoint, GroundFix, TelemetrySample

FloatArray = npt.NDArray[np.float64]

DEM_RELATIVE_SIGMA_M = 6.1
"""Height difference of two places in SRTM: specified 10 m at 90 % within 225 km (Farr et al. 2007,
The Shuttle Radar Topography Mission, Rev. Geophys. 45), over 1.645."""
DEM_ABSOLUTE_SIGMA_M = 9.7
"""Height of a place in SRTM: specified 16 m at 90 % (same source), over 1.645."""
GNSS_ALTITUDE_SIGMA_M = 7.7
"""Altitude from satellites: 15 m at 95 % globally (GPS SPS Performance Standard 2020), over 1.96."""
TELEMETRY_HFOV_SIGMA_DEG = 1.0
"""Of a field of view that telemetry states for a camera nobody named: 4 % of a common 25 degrees."""
BOX_SIGMA_PX = 2.0
"""Where a detector puts the edge of a small box: a tenth of a person of 20 pixels."""
WIDTH_TO_HEIGHT = 0.5
"""Of a thing on the ground, between a person (0.3) and a car (about 1, seen from any side)."""
_STEP_SIGMA = 1.5
"""Half-width of the central differences: wide enough to meet a ridge that one pose in ten meets."""
_BENT_SHARE = 0.25
"""Bend of the error, as a share of its radius, past which poses are drawn instead."""
_DRAWS = np.random.default_rng(0).standard_normal((96, 9))
"""Standard normal deviates of the nine parameters: fixed, so that the same frame gives the same fix."""
_MAX_MISSES = 0.05
"""Share of drawn poses that may meet no ground, half of what a 0.9 radius may leave out."""
_TRIANGLE = 3
_STRAIGHT_DEG = 180.0
_OVER_A_RIDGE = "with the errors of this pose the ray may pass over the ground it seems to meet"
_NO_GROUND = (
    f"the ray meets no ground within {MAX_RANGE_M / 1000:.0f} km or leaves the elevation model before"
)


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """What is not known of a pose, one standard deviation each, and the flattest ray to trust."""

    position_sigma_m: float
    height_sigma_m: float
    heading_sigma_deg: float
    tilt_sigma_deg: float
    min_depression_deg: float
    flat_ground_sigma_m: float
    """Of the ground's height about the take-off point's, where there is no terrain."""


@dataclass(frozen=True, slots=True)
class LocatedBox:
    """A box's place, and the same in metres east and north of the camera's ground point."""

    fix: GroundFix
    east_m: float | None
    north_m: float | None


@dataclass(frozen=True, slots=True)
class _View:
    """A pose that is known well enough: nine parameters and their standard deviations.

    The parameters are metres east, north and up, degrees of heading, pitch, roll and horizontal
    field of view, and pixels of box error. ``up`` is above the ground's own zero: the take-off
    height without a terrain, mean sea level with one.
    """

    frame: LocalFrame
    parameters: FloatArray
    sigmas: FloatArray
    clearance_m: float
    """Height above the ground below the camera."""
    ground_alt_m: float | None
    """Height of flat ground above mean sea level, where the telemetry tells it."""
    width_px: int
    height_px: int

    def rays(self, pixels: FloatArray, parameters: FloatArray | None = None) -> FloatArray:
        """Return unit rays of pixels (n, 2), of this pose or of k others (k, 9), shape (k, n, 3)."""
        poses = self.parameters[None] if parameters is None else parameters
        return ray_directions(poses, pixels, width_px=self.width_px, height_px=self.height_px)


class _NotLocated(Exception):
    """Why a frame has no place on the ground: a reason on its way to the record, not an error."""


class GroundLocator:
    """Puts boxes and frames on the ground, given a terrain and an error budget."""

    def __init__(self, terrain: Terrain | None, budget: ErrorBudget) -> None:
        """Take the ground and the budget; without terrain it is the plane of the take-off point."""
        self._terrain = terrain
        self._budget = budget

    def locate(
        self,
        boxes_xyxy_px: npt.ArrayLike,
        *,
        at: datetime,
        pose: TelemetrySample | None,
        camera: Camera | None,
        width_px: int,
        height_px: int,
    ) -> list[LocatedBox]:
        """Return where each box stands on the ground, or why that cannot be said.

        Args:
            boxes_xyxy_px: shape (n, 4), left, top, right, bottom in pixels of the frame.
            at: the frame's time, for the fixes.
            pose: the camera's pose at that time.
            camera: the camera; its field of view serves where the pose has none.
            width_px: width of the frame.
            height_px: height of the frame.
        """
        boxes = np.asarray(boxes_xyxy_px, float).reshape(-1, 4)
        try:
            view = self._view(pose, camera, width_px=width_px, height_px=height_px)
        except _NotLocated as why:
            return [_nowhere(at, str(why))] * len(boxes)
        pixels = _standing_points(boxes, view)
        depression_deg = depressions_deg(view.rays(pixels)[0])
        steep = depression_deg >= self._budget.min_depression_deg
        located = [_nowhere(at, self._too_flat(angle)) for angle in depression_deg]
        for index, box in zip(np.flatnonzero(steep), self._fix(pixels[steep], view, at), strict=True):
            located[index] = box
        return located

    def footprint(
        self, pose: TelemetrySample | None, camera: Camera | None, *, width_px: int, height_px: int
    ) -> tuple[shapely.Polygon | None, str | None]:
        """Return the ground a frame covers as a WGS 84 polygon, or None and the reason.

        Rays flatter than the budget's least depression are cut off. With a terrain the border is
        true; ground that a ridge hides inside it still counts as covered.
        """
        try:
            view = self._view(pose, camera, width_px=width_px, height_px=height_px)
        except _NotLocated as why:
            return None, str(why)
        border = border_directions(
            view.parameters,
            width_px=width_px,
            height_px=height_px,
            min_depression_deg=self._budget.min_depression_deg,
        )
        if len(border) == 0:
            return None, self._too_flat(-math.inf)
        origins = np.broadcast_to(view.parameters[: UP + 1], border.shape)
        hits = self._meet(origins, border, view.frame)
        hits = hits[np.isfinite(hits).all(axis=1)]
        if len(hits) < _TRIANGLE:
            return None, _NO_GROUND
        lat_deg, lon_deg = view.frame.to_geo(hits[:, 0], hits[:, 1])
        valid = shapely.make_valid(shapely.Polygon(np.column_stack([lon_deg, lat_deg])))
        polygons = [part for part in shapely.get_parts(valid) if isinstance(part, shapely.Polygon)]
        return max(polygons, key=shapely.area, default=None), None if polygons else _NO_GROUND

    def _view(
        self, pose: TelemetrySample | None, camera: Camera | None, *, width_px: int, height_px: int
    ) -> _View:
        """Return the pose as parameters with their errors."""
        if pose is None:
            raise _NotLocated("not georeferenced: no telemetry for this moment")
        if pose.point is None:
            raise _NotLocated("not georeferenced: telemetry has no position")
        if pose.heading_deg is None or pose.pitch_deg is None:
            raise _NotLocated("not georeferenced: telemetry has no gimbal angles")
        hfov_deg = hfov_of(pose, camera)
        if hfov_deg is None:
            raise _NotLocated("not georeferenced: the camera's field of view is not known, name the camera")
        up_m, clearance_m, up_sigma_m = self._height(pose, pose.point)
        if not clearance_m > 0:
            raise _NotLocated(f"not georeferenced: the camera is {-clearance_m:.0f} m below the ground")
        budget = self._budget
        hfov_sigma_deg = camera.hfov_sigma_deg if camera else TELEMETRY_HFOV_SIGMA_DEG
        # Gimbals keep the horizon level: telemetry that leaves the roll out means none.
        angles = pose.heading_deg, pose.pitch_deg, pose.roll_deg or 0.0, hfov_deg
        sigmas = (
            [budget.position_sigma_m] * 2
            + [up_sigma_m, budget.heading_sigma_deg, budget.tilt_sigma_deg, budget.tilt_sigma_deg]
            + [hfov_sigma_deg, BOX_SIGMA_PX, BOX_SIGMA_PX]
        )
        known = self._terrain is None and pose.point.alt_m is not None
        return _View(
            frame=LocalFrame.at(pose.point),
            parameters=np.array([0.0, 0.0, up_m, *angles, 0.0, 0.0]),
            sigmas=np.array(sigmas),
            clearance_m=clearance_m,
            ground_alt_m=pose.point.alt_m - clearance_m if known and pose.point.alt_m is not None else None,
            width_px=width_px,
            height_px=height_px,
        )

    def _height(self, pose: TelemetrySample, point: GeoPoint) -> tuple[float, float, float]:
        """Return the camera's height above the ground's zero, above the ground, and its error."""
        agl_m = pose.height_agl_m
        if self._terrain is None:
            if agl_m is None:
                raise _NotLocated("not georeferenced: telemetry has no height")
            if agl_m <= 0:
                raise _NotLocated(f"not georeferenced: height {agl_m:g} m is not above the take-off point")
            return agl_m, agl_m, math.hypot(self._budget.height_sigma_m, self._budget.flat_ground_sigma_m)
        ground_m = _height_at(self._terrain, point)
        if math.isnan(ground_m):
            raise _NotLocated("not georeferenced: the aircraft is outside the elevation model")
        home_m = _height_at(self._terrain, pose.home) if pose.home and agl_m is not None else math.nan
        if agl_m is not None and not math.isnan(home_m):
            sigma_m = math.hypot(self._budget.height_sigma_m, DEM_RELATIVE_SIGMA_M)
            return home_m + agl_m, home_m + agl_m - ground_m, sigma_m
        if point.alt_m is None:
            raise _NotLocated("not georeferenced: telemetry has neither take-off point nor altitude")
        return point.alt_m, point.alt_m - ground_m, math.hypot(GNSS_ALTITUDE_SIGMA_M, DEM_ABSOLUTE_SIGMA_M)

    def _fix(self, pixels: FloatArray, view: _View, at: datetime) -> list[LocatedBox]:
        """Return the places of pixels, shape (n, 2), whose rays are steep enough."""
        if len(pixels) == 0:
            return []
        hits = self._trace(view.parameters[None], pixels, view)[0]
        covariances = self._covariances(hits, pixels, view)
        lat_deg, lon_deg = view.frame.to_geo(hits[:, 0], hits[:, 1])
        alt_m = None if self._terrain is None else self._terrain.heights_m(lat_deg, lon_deg)
        heights = [view.ground_alt_m] * len(hits) if alt_m is None else alt_m.tolist()
        points = [
            GeoPoint(*place) if math.isfinite(place[0]) else None
            for place in zip(lat_deg.tolist(), lon_deg.tolist(), heights, strict=True)
        ]
        return list(map(self._located, [at] * len(hits), points, hits, covariances))

    def _located(
        self, at: datetime, point: GeoPoint | None, hit: FloatArray, covariance: FloatArray
    ) -> LocatedBox:
        """Return a hit as a fix, or why it is none."""
        if point is None:
            return _nowhere(at, _NO_GROUND)
        if not np.isfinite(covariance).all():
            return _nowhere(at, _OVER_A_RIDGE)
        ellipse = ellipse_from_covariance(covariance)
        fix = GroundFix(
            at=at,
            point=point,
            error_ellipse=ellipse,
            # The circle around the ellipse holds all of it, so at least 0.9.
            error_radius_m=ellipse.semi_major_m,
            method="flat_ground" if self._terrain is None else self._terrain.method,
        )
        return LocatedBox(fix, float(hit[0]), float(hit[1]))

    def _covariances(self, hits: FloatArray, pixels: FloatArray, view: _View) -> FloatArray:
        """Return the covariance of each hit, shape (n, 2, 2), NaN where it cannot be bounded.

        First order by central differences over the nine parameters; where those show that the
        ground bends or breaks (a ridge), from drawn poses.
        """
        steps = _STEP_SIGMA * view.sigmas
        steps[UP] = min(steps[UP], view.clearance_m / 2)
        offsets = np.diag(steps)
        after = self._trace(view.parameters + offsets, pixels, view)
        before = self._trace(view.parameters - offsets, pixels, view)
        with np.errstate(invalid="ignore", divide="ignore"):
            slopes = np.where(steps[:, None, None] > 0, (after - before) / (2 * steps[:, None, None]), 0.0)
            scaled = slopes * view.sigmas[:, None, None]
            covariances: FloatArray = np.einsum("kni,knj->nij", scaled, scaled)
            bend_m = np.hypot(*np.moveaxis(after + before - 2 * hits, 2, 0)).max(axis=0)
            radius_m = np.sqrt(CHI2_2DOF_P90 * np.trace(covariances, axis1=1, axis2=2))
            # Written so that NaN, a ray that met nothing, counts as bent.
            bent = ~(bend_m <= _BENT_SHARE * radius_m) & np.isfinite(hits).all(axis=1)
        if bent.any():
            covariances[bent] = self._drawn_covariances(hits[bent], pixels[bent], view)
        return covariances

    def _drawn_covariances(self, hits: FloatArray, pixels: FloatArray, view: _View) -> FloatArray:
        """Return covariances whose 0.9 ellipse holds 0.9 of the hits of drawn poses."""
        poses = view.parameters + _DRAWS * view.sigmas
        poses[:, UP] = np.maximum(poses[:, UP], view.parameters[UP] - 0.9 * view.clearance_m)
        drawn = self._trace(poses, pixels, view) - hits
        covariances = np.full((len(hits), 2, 2), np.nan)
        for index in range(len(hits)):
            away = drawn[np.isfinite(drawn[:, index]).all(axis=1), index]
            if len(away) < (1 - _MAX_MISSES) * len(drawn):
                continue
            covariance = away.T @ away / len(away) + np.eye(2) * HIT_TOLERANCE_M**2
            mahalanobis2 = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away)
            share = 0.9 * len(drawn) / len(away)
            covariances[index] = covariance * np.quantile(mahalanobis2, share) / CHI2_2DOF_P90
        return covariances

    def _trace(self, parameters: FloatArray, pixels: FloatArray, view: _View) -> FloatArray:
        """Return the ground hits (east_m, north_m) of k poses by n pixels, shape (k, n, 2)."""
        directions = view.rays(pixels, parameters)
        origins = np.broadcast_to(parameters[:, None, : UP + 1], directions.shape)
        hits = self._meet(origins.reshape(-1, 3), directions.reshape(-1, 3), view.frame)
        return hits.reshape(*directions.shape[:2], 2)

    def _meet(self, origins: FloatArray, directions: FloatArray, frame: LocalFrame) -> FloatArray:
        """Return where rays, shape (m, 3) each, first meet the ground, shape (m, 2), NaN for never."""
        if self._terrain is None:
            reach = reach_plane(origins, directions)
        else:
            reach = reach_terrain(origins, directions, terrain=self._terrain, frame=frame)
        hits: FloatArray = origins[:, :2] + reach[:, None] * directions[:, :2]
        return hits

    def _too_flat(self, depression_deg: float) -> str:
        """Return why a ray of this depression gives no point."""
        least = self._budget.min_depression_deg
        if depression_deg <= 0:
            return f"the ray does not point below the horizon (at least {least:g} degrees needed)"
        return f"the ray is {depression_deg:.1f} degrees below the horizon, at least {least:g} needed"


def hfov_of(pose: TelemetrySample, camera: Camera | None) -> float | None:
    """Return the field of view in degrees: the telemetry's, which knows the zoom, else the camera's."""
    hfov_deg = pose.hfov_deg or (camera.hfov_deg if camera else None)
    return hfov_deg if hfov_deg and 0 < hfov_deg < _STRAIGHT_DEG else None


def _nowhere(at: datetime, reason: str) -> LocatedBox:
    return LocatedBox(GroundFix(at, None, None, None, "none", reason), None, None)


def _height_at(terrain: Terrain, point: GeoPoint) -> float:
    return float(terrain.heights_m([point.lat_deg], [point.lon_deg])[0])


def _standing_points(boxes: FloatArray, view: _View) -> FloatArray:
    """Return the pixel (x, y) of each box that shows where the thing touches the ground, shape (n, 2).

    An upright cylinder of width w and height h, seen d degrees below the horizon, is
    h cos d + w sin d high in the image, and the middle of its foot lies w/2 sin d above the bottom:
    the bottom edge for a flat view, the centre from straight above.
    """
    centres = np.column_stack([boxes[:, [0, 2]].mean(axis=1), boxes[:, [1, 3]].mean(axis=1)])
    down = np.radians(depressions_deg(view.rays(centres)[0]).clip(0, 90))
    width_seen = WIDTH_TO_HEIGHT * np.sin(down)
    share = width_seen / 2 / (np.cos(down) + width_seen)
    bottom = boxes[:, 3] - share * (boxes[:, 3] - boxes[:, 1])
    return np.column_stack([centres[:, 0], bottom])
