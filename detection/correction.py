"""A flight's heading and height, corrected by known points that a person clicked in its pictures.

Belongs here: solving for the two offsets, refusing what does not determine them, and applying them. Not
here: where corrections are kept (``storage/corrections.py``) and which clips they concern
(``outwatch/pipeline/corrections.py``).

A compass is off by some degrees and a barometer drifts by some metres, both much the same for a whole flight,
and both move everything at the far end of a long view. A known point says where the camera should have
shown it. The two offsets follow by generalised least squares: what else is not known (position, gimbal,
field of view, the click, the point itself, the ground's height) is the covariance of the pixels' residuals,
so that points which agree only by chance of those errors are not trusted beyond them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import block_diag
from scipy.optimize import least_squares
from scipy.special import chdtrc

from detection.ground import GroundLocator
from detection.poses import ErrorBudget, NotLocated, View
from detection.rays import EAST, HEADING, HFOV, NORTH, PITCH, ROLL, UP, pixels_of
from outwatch.domain.errors import CorrectionRefused
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.types import Camera, GeoPoint, TelemetrySample

FloatArray = npt.NDArray[np.float64]

CLICK_SIGMA_PX = 2.0
"""How well a person hits a corner of a wall in a compressed picture."""
POINT_SIGMA_M = 1.0
"""How well a place is read off a map or an orthophoto, each axis."""
MIN_POINTS = 2
MIN_APART_M = 10.0
"""Closer points are one point: their errors are shared, and nothing checks them against each other."""
MAX_HEADING_DEG = 45.0
MAX_HEIGHT_M = 150.0
"""No compass or barometer is off by more: the points belong to another place, or latitude and longitude
are exchanged."""
MAX_HEADING_SIGMA_DEG = 3.0
"""A correction known no better than this is no better than the compass it corrects."""
MAX_HEIGHT_SIGMA_M = 8.0
"""... and this is what satellites alone know of a height."""
DISAGREE_SHARE = 0.001
"""Chance alone leaves as much between clicks and points once in a thousand flights: one of them is wrong."""
_SHARED = (EAST, NORTH, PITCH, ROLL, HFOV)
"""What is as wrong in one picture of a flight as in the next, and not solved for."""
_FAR_PX = 1e4
_STEP = 1e-3
"""Metres, degrees: of numerical derivatives."""


@dataclass(frozen=True, slots=True)
class Click:
    """A known point seen in a frame: where it was clicked, where it is, and the pose as telemetry has it."""

    offset_s: float
    """Seconds from the first frame of the clip."""
    pixel: tuple[float, float]
    point: GeoPoint
    """With ``alt_m`` (above mean sea level) where it does not stand on the ground that is known."""
    pose: TelemetrySample | None
    camera: Camera | None
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class FlightCorrection:
    """What to add to a flight's reported heading and height, and how well that is known."""

    heading_offset_deg: float
    height_offset_m: float
    heading_sigma_deg: float
    height_sigma_m: float
    residual_px: float
    """Root mean square of what is left between clicks and corrected points."""
    points: int

    def pose(self, pose: TelemetrySample | None) -> TelemetrySample | None:
        """Return a pose with the offsets added, wherever it states a heading or a height."""
        if pose is None:
            return None
        up_m = self.height_offset_m
        point = pose.point
        if point is not None and point.alt_m is not None:
            point = replace(point, alt_m=point.alt_m + up_m)
        return replace(
            pose,
            point=point,
            heading_deg=_plus(pose.heading_deg, self.heading_offset_deg, turn=True),
            height_agl_m=_plus(pose.height_agl_m, up_m),
            ellipsoid_height_m=_plus(pose.ellipsoid_height_m, up_m),
        )

    def budget(self, budget: ErrorBudget) -> ErrorBudget:
        """Return an error budget with what is now known of heading and height."""
        return replace(
            budget,
            heading_sigma_deg=self.heading_sigma_deg,
            height_sigma_m=self.height_sigma_m,
            altitude_sigma_m=self.height_sigma_m,
        )


def solve_correction(
    clicks: Sequence[Click],
    *,
    locator: GroundLocator,
    click_sigma_px: float = CLICK_SIGMA_PX,
    point_sigma_m: float = POINT_SIGMA_M,
) -> FlightCorrection:
    """Return the offsets of heading and height by which the known points fall where they were clicked.

    Args:
        clicks: two or more, in one frame or several of one flight.
        locator: with the ground and the error budget of an uncorrected flight.
        click_sigma_px: standard deviation of a click, each axis.
        point_sigma_m: standard deviation of a known point, each horizontal axis.

    Raises:
        CorrectionRefused: the points are too few or too close, lie behind the camera, contradict each other,
            or do not determine the offsets; the message says which and what to do.
    """
    _check_apart(clicks)
    spots = [_Spot.of(click, locator) for click in clicks]
    wanted = np.array([click.pixel for click in clicks], float).ravel()

    def residuals(offsets: FloatArray) -> FloatArray:
        shown = np.concatenate([spot.pixel(heading_deg=offsets[0], up_m=offsets[1]) for spot in spots])
        # What has turned behind the camera is as wrong as can be, and the search turns back.
        return np.asarray(np.nan_to_num(shown - wanted, nan=_FAR_PX))

    covariance = _residual_covariance(spots, click_sigma_px=click_sigma_px, point_sigma_m=point_sigma_m)
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    found = least_squares(
        lambda offsets: whiten @ residuals(offsets),
        x0=np.zeros(2),
        bounds=([-2 * MAX_HEADING_DEG, -2 * MAX_HEIGHT_M], [2 * MAX_HEADING_DEG, 2 * MAX_HEIGHT_M]),
        x_scale=(1.0, 1.0),
    )
    left_px = residuals(found.x).reshape(-1, 2)
    correction = FlightCorrection(
        heading_offset_deg=float(found.x[0]),
        height_offset_m=float(found.x[1]),
        **_sigmas(found.jac),
        residual_px=float(np.sqrt((left_px**2).sum(axis=1).mean())),
        points=len(clicks),
    )
    _check(correction, misfit=2 * float(found.cost), free=len(wanted) - 2, left_px=left_px)
    return correction


@dataclass(frozen=True, slots=True)
class _Spot:
    """A known point in the local frame of the camera that shows it."""

    view: View
    place_m: FloatArray
    """East, north and up, shape (3,)."""
    ground_sigma_m: float

    @classmethod
    def of(cls, click: Click, locator: GroundLocator) -> _Spot:
        """Return a click's point as the camera of its moment has it before it."""
        where = f"the point at {click.point.lat_deg:.6f}, {click.point.lon_deg:.6f}"
        try:
            view = locator.view(click.pose, click.camera, width_px=click.width_px, height_px=click.height_px)
        except NotLocated as why:
            raise CorrectionRefused(f"{where}, {click.offset_s:g} s into the clip: {why}") from why
        east_m, north_m = view.frame.to_local(click.point.lat_deg, click.point.lon_deg)
        up_m = _up_m(click.point, view, locator)
        if not math.isfinite(up_m):
            raise CorrectionRefused(
                f"{where} is outside the elevation model: give its height, or take another"
            )
        place_m = np.array([float(east_m), float(north_m), up_m])
        spot = cls(view, place_m, float(locator.ground_sigmas_m(place_m[None, :2], view)[0]))
        if not np.isfinite(spot.pixel()).all():
            raise CorrectionRefused(
                f"{where} lies behind the camera, {click.offset_s:g} s into the clip: check the point, the"
                " clip and its time (latitude comes first)"
            )
        return spot

    def pixel(
        self,
        *,
        heading_deg: float = 0.0,
        up_m: float = 0.0,
        parameter: int | None = None,
        by_m: FloatArray | None = None,
    ) -> FloatArray:
        """Return where the point shows with offsets to the pose and to the point, shape (2,)."""
        pose = self.view.parameters.copy()
        pose[HEADING] += heading_deg
        pose[UP] += up_m
        if parameter is not None:
            pose[parameter] += _STEP
        place_m = self.place_m if by_m is None else self.place_m + by_m
        view = self.view
        shown = pixels_of(
            pose[None], place_m[None], width_px=view.width_px, height_px=view.height_px, lens=view.lens
        )
        pixel: FloatArray = shown[0, 0]
        return pixel


def _up_m(point: GeoPoint, view: View, locator: GroundLocator) -> float:
    """Return a point's height above the view's zero of heights."""
    if locator.terrain is not None:
        if point.alt_m is not None:
            return point.alt_m
        return float(locator.terrain.heights_m([point.lat_deg], [point.lon_deg])[0])
    if point.alt_m is not None and view.ground_alt_m is not None:
        return point.alt_m - view.ground_alt_m
    return 0.0


def _residual_covariance(
    spots: Sequence[_Spot], *, click_sigma_px: float, point_sigma_m: float
) -> FloatArray:
    """Return the covariance of all clicks' residuals in square pixels, shape (2n, 2n)."""
    here = [spot.pixel() for spot in spots]
    shared = np.stack(
        [
            np.concatenate(
                [
                    (spot.pixel(parameter=parameter) - at) / _STEP * spot.view.sigmas[parameter]
                    for spot, at in zip(spots, here, strict=True)
                ]
            )
            for parameter in _SHARED
        ],
        axis=1,
    )
    own = []
    for spot, at in zip(spots, here, strict=True):
        sigmas_m = (point_sigma_m, point_sigma_m, spot.ground_sigma_m)
        slopes = [
            (spot.pixel(by_m=_STEP * axis) - at) / _STEP * sigma_m
            for axis, sigma_m in zip(np.eye(3), sigmas_m, strict=True)
        ]
        moved = np.stack(slopes, axis=1)
        own.append(moved @ moved.T + click_sigma_px**2 * np.eye(2))
    covariance: FloatArray = shared @ shared.T + block_diag(*own)
    return covariance


def _sigmas(jacobian: FloatArray) -> dict[str, float]:
    """Return the offsets' standard deviations from the whitened Jacobian, shape (2n, 2)."""
    information = jacobian.T @ jacobian
    if np.linalg.cond(information) > 1 / np.finfo(float).eps:
        return {"heading_sigma_deg": math.inf, "height_sigma_m": math.inf}
    heading, height = np.sqrt(np.diag(np.linalg.inv(information)))
    return {"heading_sigma_deg": float(heading), "height_sigma_m": float(height)}


def _check_apart(clicks: Sequence[Click]) -> None:
    if len(clicks) < MIN_POINTS:
        raise CorrectionRefused(f"expected two known points or more, found {len(clicks)}")
    apart_m = 0.0
    for one, other in itertools.combinations(clicks, 2):
        east_m, north_m = LocalFrame.at(one.point).to_local(other.point.lat_deg, other.point.lon_deg)
        apart_m = max(apart_m, float(np.hypot(east_m, north_m)))
    if apart_m < MIN_APART_M:
        raise CorrectionRefused(
            f"the known points lie within {apart_m:.1f} m of each other, at least {MIN_APART_M:g} m are"
            " needed: take one at either side of the picture"
        )


def _check(correction: FlightCorrection, *, misfit: float, free: int, left_px: FloatArray) -> None:
    """Raise where the solution is none, or says nothing."""
    if chdtrc(free, misfit) < DISAGREE_SHARE:
        worst = int(np.hypot(*left_px.T).argmax())
        raise CorrectionRefused(
            f"the points contradict each other: {correction.residual_px:.0f} pixels are left between clicks"
            f" and points, most at point {worst + 1} of {correction.points}; check its pixel and its place"
        )
    if abs(correction.heading_offset_deg) > MAX_HEADING_DEG or abs(correction.height_offset_m) > MAX_HEIGHT_M:
        raise CorrectionRefused(
            f"the points ask for {correction.heading_offset_deg:+.0f} degrees of heading and"
            f" {correction.height_offset_m:+.0f} m of height, more than any instrument is off"
            f" ({MAX_HEADING_DEG:g} degrees, {MAX_HEIGHT_M:g} m): check that they belong to this flight"
        )
    if correction.heading_sigma_deg > MAX_HEADING_SIGMA_DEG or correction.height_sigma_m > MAX_HEIGHT_SIGMA_M:
        raise CorrectionRefused(
            f"the points leave the heading uncertain by {correction.heading_sigma_deg:.1f} degrees and the"
            f" height by {correction.height_sigma_m:.1f} m (at most {MAX_HEADING_SIGMA_DEG:g} and"
            f" {MAX_HEIGHT_SIGMA_M:g}): take points farther apart, or more of them"
        )


def _plus(value: float | None, offset: float, *, turn: bool = False) -> float | None:
    if value is None:
        return None
    return (value + offset) % 360 if turn else value + offset
