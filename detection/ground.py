"""From pixels to places: where the things in a frame stand on the ground, and how wrong that may be.

Belongs here: how a pose's errors reach the ground, and what a frame shows of it. Not here: what is known
of a pose (``detection/poses.py``), the camera model (``detection/rays.py``), the height of the ground
(``detection/terrain.py``), the shape of what is seen (``detection/footprint.py``), distances on it
(``outwatch/domain/geometry.py``) and what it means (``detection/rules``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt
from shapely.geometry.base import BaseGeometry

from detection.footprint import border_of, ground_inside, to_geo
from detection.poses import (
    GNSS_ALTITUDE_SIGMA_M,
    ErrorBudget,
    NotLocated,
    PoseReader,
    View,
    hfov_of,
)
from detection.rays import (
    HIT_TOLERANCE_M,
    MAX_RANGE_M,
    UP,
    depressions_deg,
    reach_plane,
    reach_terrain,
)
from detection.terrain import Geoid
from outwatch.domain.calibrations import calibrated
from outwatch.domain.geometry import CHI2_2DOF_P90, LocalFrame, ellipse_from_covariance
from outwatch.domain.ports import Terrain
from outwatch.domain.types import Camera, GeoPoint, GroundFix, TelemetrySample

__all__ = ["GNSS_ALTITUDE_SIGMA_M", "ErrorBudget", "GroundLocator", "LocatedBox", "hfov_of"]

FloatArray = npt.NDArray[np.float64]

WIDTH_TO_HEIGHT = 0.5
"""Of a thing on the ground, between a person (0.3) and a car (about 1, seen from any side)."""
_STEP_SIGMA = 1.5
"""Half-width of the central differences: wide enough to meet a ridge that one pose in ten meets."""
_BENT_SHARE = 0.25
"""Bend of the error, as a share of its radius, past which poses are drawn instead."""
_DRAWS = np.random.default_rng(0).standard_normal((96, 10))
"""Standard normal deviates of the nine parameters and the ground's height: fixed, so that the same frame
gives the same fix."""
_MAX_MISSES = 0.05
"""Share of drawn poses that may meet no ground, half of what a 0.9 radius may leave out."""
_PATCH_DRAWS = 2
"""So many of the drawn poses that see other ground than the rest make it possible ground."""
_PATCH_GAP_M = 20.0
"""Ground that nothing drawn lands on, between two patches: more than drawn hits on one slope are apart."""
_OVER_A_RIDGE = "with the errors of this pose the ray may pass over the ground it seems to meet"
_NO_GROUND = (
    f"the ray meets no ground within {MAX_RANGE_M / 1000:.0f} km or leaves the elevation model before"
)


@dataclass(frozen=True, slots=True)
class LocatedBox:
    """A box's place, and the same in metres east and north of the camera's ground point."""

    fix: GroundFix
    east_m: float | None
    north_m: float | None


class GroundLocator:
    """Puts boxes and frames on the ground, given a terrain and an error budget."""

    def __init__(
        self,
        terrain: Terrain | None,
        budget: ErrorBudget,
        *,
        geoid: Geoid | None = None,
        calibrations: Mapping[str, Camera] | None = None,
    ) -> None:
        """Take the ground and the budget.

        Args:
            terrain: without it the ground is the plane of the take-off point.
            budget: what is not known of a pose.
            geoid: for poses that have no height but above the ellipsoid; without it they have none.
            calibrations: by name, what stands for cameras that were calibrated.
        """
        self._terrain = terrain
        self._budget = budget
        self._reader = PoseReader(terrain, budget, geoid)
        self._geoid = geoid
        self._calibrations = calibrations or {}
        self._last_look: tuple[object, tuple[BaseGeometry | None, str | None]] | None = None

    @property
    def budget(self) -> ErrorBudget:
        """Return what is not known of a pose."""
        return self._budget

    @property
    def terrain(self) -> Terrain | None:
        """Return the ground's height, None for the plane of the take-off point."""
        return self._terrain

    def with_budget(self, budget: ErrorBudget) -> GroundLocator:
        """Return a locator on the same ground with another budget."""
        return GroundLocator(self._terrain, budget, geoid=self._geoid, calibrations=self._calibrations)

    def known(self, camera: Camera | None) -> Camera | None:
        """Return a camera as it was calibrated, or as it is where it was not."""
        return calibrated(camera, self._calibrations)

    def view(
        self, pose: TelemetrySample | None, camera: Camera | None, *, width_px: int, height_px: int
    ) -> View:
        """Return a pose as parameters above the ground, with the camera as it was calibrated.

        Raises:
            NotLocated: something is missing, or the camera is below the ground.
        """
        return self._reader.view(pose, self.known(camera), width_px=width_px, height_px=height_px)

    def ground_sigmas_m(self, places_m: FloatArray, view: View) -> FloatArray:
        """Return how wrong the ground's height is beside the camera's at places (n, 2), shape (n,)."""
        return self._reader.ground_sigmas_m(places_m, view)

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
            view = self.view(pose, camera, width_px=width_px, height_px=height_px)
        except NotLocated as why:
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
    ) -> tuple[BaseGeometry | None, str | None]:
        """Return the ground a frame shows, polygons on WGS 84 longitude first, or None and the reason.

        Rays flatter than the budget's least depression are cut off. With a terrain the border is
        true, and ground that a ridge hides inside it is left out. A camera that stands still is asked once.
        """
        key = (pose and _place_of(pose), camera, width_px, height_px)
        if self._last_look is None or self._last_look[0] != key:
            seen = self._footprint(pose, camera, width_px=width_px, height_px=height_px)
            self._last_look = key, seen
        return self._last_look[1]

    def _footprint(
        self, pose: TelemetrySample | None, camera: Camera | None, *, width_px: int, height_px: int
    ) -> tuple[BaseGeometry | None, str | None]:
        try:
            view = self.view(pose, camera, width_px=width_px, height_px=height_px)
        except NotLocated as why:
            return None, str(why)
        border = border_of(view, min_depression_deg=self._budget.min_depression_deg)
        if len(border) == 0:
            return None, self._too_flat(-math.inf)
        seen = ground_inside(border, view, self._terrain)
        return (None, _NO_GROUND) if seen is None else (to_geo(seen, view.frame), None)

    def _fix(self, pixels: FloatArray, view: View, at: datetime) -> list[LocatedBox]:
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

    def _covariances(self, hits: FloatArray, pixels: FloatArray, view: View) -> FloatArray:
        """Return the covariance of each hit, shape (n, 2, 2), NaN where it cannot be bounded.

        First order by central differences over the nine parameters and the ground's height; where those
        show that the ground bends or breaks (a ridge), from drawn poses.
        """
        ground_sigmas_m = self._reader.ground_sigmas_m(hits, view)
        widest_m = math.hypot(view.sigmas[UP], ground_sigmas_m.max(initial=0.0))
        steps = _STEP_SIGMA * view.sigmas
        steps[UP] = min(_STEP_SIGMA * max(widest_m, HIT_TOLERANCE_M), view.clearance_m / 2)
        offsets = np.diag(steps)
        after = self._trace(view.parameters + offsets, pixels, view)
        before = self._trace(view.parameters - offsets, pixels, view)
        with np.errstate(invalid="ignore", divide="ignore"):
            slopes = np.where(steps[:, None, None] > 0, (after - before) / (2 * steps[:, None, None]), 0.0)
            sigmas = np.repeat(view.sigmas[:, None], len(hits), axis=1)
            # Ground that is lower by a metre is a camera that is higher by one.
            sigmas[UP] = np.hypot(sigmas[UP], ground_sigmas_m)
            scaled = slopes * sigmas[..., None]
            covariances: FloatArray = np.einsum("kni,knj->nij", scaled, scaled)
            bend_m = np.hypot(*np.moveaxis(after + before - 2 * hits, 2, 0)).max(axis=0)
            radius_m = np.sqrt(CHI2_2DOF_P90 * np.trace(covariances, axis1=1, axis2=2))
            # Written so that NaN, a ray that met nothing, counts as bent.
            bent = ~(bend_m <= _BENT_SHARE * radius_m) & np.isfinite(hits).all(axis=1)
        if bent.any():
            covariances[bent] = self._drawn_covariances(
                hits[bent], pixels[bent], view, ground_sigmas_m=ground_sigmas_m[bent]
            )
        return covariances

    def _drawn_covariances(
        self, hits: FloatArray, pixels: FloatArray, view: View, *, ground_sigmas_m: FloatArray
    ) -> FloatArray:
        """Return covariances whose 0.9 ellipse holds 0.9 of the hits of drawn poses.

        Where a ridge parts the hits it holds 0.9 of those before the ridge and 0.9 of those behind.
        """
        poses = view.parameters + _DRAWS[:, :-1] * view.sigmas
        lift_m = _DRAWS[:, -1:] * ground_sigmas_m + (poses[:, UP, None] - view.parameters[UP])
        poses[:, UP] = view.parameters[UP]
        drawn = self._trace(poses, pixels, view, lift_m=np.maximum(lift_m, -0.9 * view.clearance_m)) - hits
        covariances = np.full((len(hits), 2, 2), np.nan)
        for index in range(len(hits)):
            away = drawn[np.isfinite(drawn[:, index]).all(axis=1), index]
            if len(away) < (1 - _MAX_MISSES) * len(drawn):
                continue
            covariance = away.T @ away / len(away) + np.eye(2) * HIT_TOLERANCE_M**2
            mahalanobis2 = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away)
            scale = np.quantile(mahalanobis2, 0.9 * len(drawn) / len(away))
            far = _behind_a_ridge(np.hypot(*(hits[index] + away).T))
            if far.any():
                scale = max(scale, *(np.quantile(mahalanobis2[patch], 0.9) for patch in (far, ~far)))
            covariances[index] = covariance * scale / CHI2_2DOF_P90
        return covariances

    def _trace(
        self, parameters: FloatArray, pixels: FloatArray, view: View, *, lift_m: FloatArray | float = 0.0
    ) -> FloatArray:
        """Return the ground hits (east_m, north_m) of k poses by n pixels, shape (k, n, 2).

        ``lift_m`` (k, n) raises the camera of each.
        """
        directions = view.rays(pixels, parameters)
        origins = np.broadcast_to(parameters[:, None, : UP + 1], directions.shape).copy()
        origins[..., UP] += lift_m
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


def _behind_a_ridge(ranges_m: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which of the ranges of drawn hits, shape (n,), lie beyond a gap among them; none without one."""
    inner = np.sort(ranges_m)[_PATCH_DRAWS - 1 : len(ranges_m) - _PATCH_DRAWS + 1]
    gaps_m = np.diff(inner)
    widest = int(gaps_m.argmax())
    if gaps_m[widest] <= _PATCH_GAP_M:
        return np.zeros(len(ranges_m), bool)
    beyond: npt.NDArray[np.bool_] = ranges_m > inner[widest]
    return beyond


def _place_of(pose: TelemetrySample) -> TelemetrySample:
    """Return a pose without its moment."""
    return replace(pose, offset_s=0.0, at=None)


def _nowhere(at: datetime, reason: str) -> LocatedBox:
    return LocatedBox(GroundFix(at, None, None, None, "none", reason), None, None)


def _standing_points(boxes: FloatArray, view: View) -> FloatArray:
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
