"""What is known of a camera's pose: nine numbers, their errors, and the errors of the ground's height.

Belongs here: the error budget, and the reading of telemetry and camera into a pose above the ground. Not
here: rays (``detection/rays.py``) and what they meet (``detection/ground.py``, ``detection/footprint.py``).

Datums. A height above the take-off point is a difference, and of no datum. Altitudes and heights of terrain
are above mean sea level (EGM96). A height above the ellipsoid is brought there by the geoid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detection.rays import ray_directions
from detection.terrain import Geoid
from outwatch.domain.calibrations import lens_at
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.ports import Terrain
from outwatch.domain.types import Camera, GeoPoint, Lens, TelemetrySample

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
_STRAIGHT_DEG = 180.0


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
    flat_ground_slope: float = 0.0
    """... and by how much it grows with every metre away from the take-off point."""
    altitude_sigma_m: float = math.hypot(GNSS_ALTITUDE_SIGMA_M, DEM_ABSOLUTE_SIGMA_M)
    """Of a camera's altitude above a terrain, where no take-off point ties the two together."""


@dataclass(frozen=True, slots=True)
class View:
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
    tied_at_m: tuple[float, float] | None
    """Where (east, north) the ground's height is known without error: the take-off point."""
    width_px: int
    height_px: int
    lens: Lens | None

    def rays(self, pixels: FloatArray, parameters: FloatArray | None = None) -> FloatArray:
        """Return unit rays of pixels (n, 2), of this pose or of k others (k, 9), shape (k, n, 3)."""
        poses = self.parameters[None] if parameters is None else parameters
        return ray_directions(poses, pixels, width_px=self.width_px, height_px=self.height_px, lens=self.lens)


class NotLocated(Exception):
    """Why a frame has no place on the ground: a reason on its way to the record, not an error."""


@dataclass(frozen=True, slots=True)
class PoseReader:
    """Reads poses above a ground; without terrain it is the plane of the take-off point."""

    terrain: Terrain | None
    budget: ErrorBudget
    geoid: Geoid | None = None

    def view(
        self, pose: TelemetrySample | None, camera: Camera | None, *, width_px: int, height_px: int
    ) -> View:
        """Return the pose as parameters with their errors.

        Raises:
            NotLocated: something is missing, or the camera is below the ground.
        """
        if pose is None:
            raise NotLocated("not georeferenced: no telemetry for this moment")
        if pose.point is None:
            raise NotLocated("not georeferenced: telemetry has no position")
        if pose.heading_deg is None or pose.pitch_deg is None:
            raise NotLocated("not georeferenced: telemetry has no gimbal angles")
        hfov_deg = hfov_of(pose, camera)
        if hfov_deg is None:
            raise NotLocated("not georeferenced: the camera's field of view is not known, name the camera")
        frame = LocalFrame.at(pose.point)
        up_m, clearance_m, up_sigma_m, tied = self._height(pose, pose.point)
        if not clearance_m > 0:
            raise NotLocated(f"not georeferenced: the camera is {-clearance_m:.0f} m below the ground")
        # Gimbals keep the horizon level: telemetry that leaves the roll out means none.
        angles = pose.heading_deg, pose.pitch_deg, pose.roll_deg or 0.0, hfov_deg
        flat_alt_m = self._altitude_m(pose, pose.point) if self.terrain is None else None
        return View(
            frame=frame,
            parameters=np.array([0.0, 0.0, up_m, *angles, 0.0, 0.0]),
            sigmas=self._sigmas(up_sigma_m, camera),
            clearance_m=clearance_m,
            ground_alt_m=None if flat_alt_m is None else flat_alt_m - clearance_m,
            tied_at_m=_local(frame, pose.home or pose.point) if tied else None,
            width_px=width_px,
            height_px=height_px,
            lens=lens_at(camera, hfov_deg),
        )

    def ground_sigmas_m(self, hits: FloatArray, view: View) -> FloatArray:
        """Return how wrong the ground's height is beside the camera's at places (n, 2), shape (n,).

        They vanish where the camera's height was taken from: the ground at the take-off point. A terrain's
        errors are those of two places of it, and neighbouring heights share theirs; a flat ground's grow with
        the distance.
        """
        if view.tied_at_m is None:
            return np.zeros(len(hits))
        away_m = np.nan_to_num(np.hypot(*(hits - view.tied_at_m).T))
        if self.terrain is None:
            slope_m: FloatArray = self.budget.flat_ground_slope * away_m
            return np.hypot(self.budget.flat_ground_sigma_m, slope_m)
        shared: FloatArray = np.exp(-((away_m / self.terrain.spacing_m) ** 2))
        return DEM_RELATIVE_SIGMA_M * np.sqrt(1 - shared)

    def _sigmas(self, up_sigma_m: float, camera: Camera | None) -> FloatArray:
        budget = self.budget
        hfov_sigma_deg = camera.hfov_sigma_deg if camera else TELEMETRY_HFOV_SIGMA_DEG
        return np.array(
            [budget.position_sigma_m] * 2
            + [up_sigma_m, budget.heading_sigma_deg, budget.tilt_sigma_deg, budget.tilt_sigma_deg]
            + [hfov_sigma_deg, BOX_SIGMA_PX, BOX_SIGMA_PX]
        )

    def _height(self, pose: TelemetrySample, point: GeoPoint) -> tuple[float, float, float, bool]:
        """Return the height above the ground's zero, above the ground, its error, and whether it is tied."""
        agl_m = pose.height_agl_m
        if self.terrain is None:
            if agl_m is None:
                raise NotLocated("not georeferenced: telemetry has no height")
            if agl_m <= 0:
                raise NotLocated(f"not georeferenced: height {agl_m:g} m is not above the take-off point")
            return agl_m, agl_m, self.budget.height_sigma_m, True
        ground_m = _height_at(self.terrain, point)
        if math.isnan(ground_m):
            raise NotLocated("not georeferenced: the aircraft is outside the elevation model")
        home_m = _height_at(self.terrain, pose.home) if pose.home and agl_m is not None else math.nan
        if agl_m is not None and not math.isnan(home_m):
            return home_m + agl_m, home_m + agl_m - ground_m, self.budget.height_sigma_m, True
        alt_m = self._altitude_m(pose, point)
        if alt_m is None:
            raise NotLocated(
                "not georeferenced: telemetry has neither take-off point nor altitude"
                if pose.ellipsoid_height_m is None
                else "not georeferenced: telemetry has a height above the ellipsoid only, and there no geoid"
                " is known"
            )
        return alt_m, alt_m - ground_m, self.budget.altitude_sigma_m, False

    def _altitude_m(self, pose: TelemetrySample, point: GeoPoint) -> float | None:
        """Return the camera's altitude above mean sea level: as written, else by the geoid."""
        if point.alt_m is not None or pose.ellipsoid_height_m is None or self.geoid is None:
            return point.alt_m
        alt_m = float(self.geoid.above_sea_m(pose.ellipsoid_height_m, point.lat_deg, point.lon_deg))
        return alt_m if math.isfinite(alt_m) else None


def hfov_of(pose: TelemetrySample, camera: Camera | None) -> float | None:
    """Return the field of view in degrees: the telemetry's, which knows the zoom, else the camera's."""
    hfov_deg = pose.hfov_deg or (camera.hfov_deg if camera else None)
    return hfov_deg if hfov_deg and 0 < hfov_deg < _STRAIGHT_DEG else None


def _local(frame: LocalFrame, point: GeoPoint) -> tuple[float, float]:
    east_m, north_m = frame.to_local(point.lat_deg, point.lon_deg)
    return float(east_m), float(north_m)


def _height_at(terrain: Terrain, point: GeoPoint) -> float:
    return float(terrain.heights_m([point.lat_deg], [point.lon_deg])[0])
