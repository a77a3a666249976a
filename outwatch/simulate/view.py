"""The camera as a pinhole: poses, and where points of the ground fall in a frame.

Belongs here: the projection and the map between WGS 84 and local metres, exact and independent of the
locator that it is used to measure. Not here: reported poses (``path.py``) and terrain (``terrain.py``).

Local metres are (east, north, up) of the take-off point on its ground. Pixels are continuous, (0, 0)
at the outer corner of the top left pixel, so the axis falls on (width / 2, height / 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from outwatch.domain.types import GeoPoint

Floats = npt.NDArray[np.float64]

_SEMI_MAJOR_M = 6378137.0
_ECCENTRICITY2 = 6.69437999014e-3
"""WGS 84 (NGA.STND.0036)."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a camera is and where it looks; angles as in ``TelemetrySample``."""

    east_m: float
    north_m: float
    up_m: float
    heading_deg: float
    pitch_deg: float
    roll_deg: float = 0.0

    @property
    def position_m(self) -> Floats:
        """Return (east, north, up)."""
        return np.array([self.east_m, self.north_m, self.up_m])


@dataclass(frozen=True, slots=True)
class Site:
    """A flat map of metres around the take-off point, by the ellipsoid's radii there.

    Within 1 km this is a tangent plane to 0.2 m at 35 degrees of latitude: the convergence of the
    meridians and the curvature of the earth are left out, on the way there and back alike.
    """

    lat_deg: float
    lon_deg: float
    alt_m: float

    @property
    def metres_per_degree(self) -> tuple[float, float]:
        """Return metres per degree of longitude and of latitude."""
        lat = math.radians(self.lat_deg)
        root = math.sqrt(1 - _ECCENTRICITY2 * math.sin(lat) ** 2)
        north_radius = _SEMI_MAJOR_M * (1 - _ECCENTRICITY2) / root**3
        return math.radians(_SEMI_MAJOR_M / root * math.cos(lat)), math.radians(north_radius)

    def to_geo(self, east_m: float, north_m: float, up_m: float) -> GeoPoint:
        """Return a local point on WGS 84."""
        per_lon, per_lat = self.metres_per_degree
        return GeoPoint(self.lat_deg + north_m / per_lat, self.lon_deg + east_m / per_lon, self.alt_m + up_m)

    def to_local(self, lat_deg: float, lon_deg: float) -> tuple[float, float]:
        """Return metres east and north of the take-off point."""
        per_lon, per_lat = self.metres_per_degree
        return (lon_deg - self.lon_deg) * per_lon, (lat_deg - self.lat_deg) * per_lat


@dataclass(frozen=True, slots=True)
class View:
    """A pose seen through a lens."""

    pose: Pose
    width_px: int
    height_px: int
    hfov_deg: float

    @property
    def focal_px(self) -> float:
        """Return the focal length in pixels."""
        return self.width_px / 2 / math.tan(math.radians(self.hfov_deg) / 2)

    @property
    def axes(self) -> Floats:
        """Return the image's right, down and forward as rows of local unit vectors, (3, 3)."""
        heading, pitch, roll = (
            math.radians(angle) for angle in (self.pose.heading_deg, self.pose.pitch_deg, self.pose.roll_deg)
        )
        forward = np.array(
            [
                math.sin(heading) * math.cos(pitch),
                math.cos(heading) * math.cos(pitch),
                math.sin(pitch),
            ]
        )
        right = np.array([math.cos(heading), -math.sin(heading), 0.0])
        down = np.cross(forward, right)
        cosine, sine = math.cos(roll), math.sin(roll)
        return np.stack([cosine * right + sine * down, cosine * down - sine * right, forward])

    def project(self, points_m: Floats) -> tuple[Floats, Floats]:
        """Return pixels (N, 2) and depths in metres along the axis (N,) of local points (N, 3).

        Pixels of points with a depth of zero or less mean nothing.
        """
        camera = (points_m - self.pose.position_m) @ self.axes.T
        depth = camera[:, 2]
        safe = np.where(depth == 0, np.inf, depth)
        centre = np.array([self.width_px / 2, self.height_px / 2])
        return centre + self.focal_px * camera[:, :2] / safe[:, None], depth

    def rays(self, pixels: Floats) -> Floats:
        """Return the local directions (N, 3) of pixels (N, 2), one metre of depth long."""
        offset = (pixels - np.array([self.width_px / 2, self.height_px / 2])) / self.focal_px
        return np.column_stack([offset, np.ones(len(pixels))]) @ self.axes
