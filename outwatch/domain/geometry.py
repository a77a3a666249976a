"""Places and distances on the ground: local frames, bearings, error ellipses and odds of being near.

Belongs here: pure geometry on WGS 84 with no knowledge of cameras, terrain or rules. Not here:
pixel to ground (``detection/ground.py``) and what counts as near (``detection/rules``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Geod
from shapely.geometry.base import BaseGeometry

from outwatch.domain.types import ErrorEllipse, GeoPoint

FloatArray = npt.NDArray[np.float64]

CHI2_2DOF_P90 = -2.0 * math.log(0.1)
"""4.605: square of the Mahalanobis distance that holds 0.9 of a 2-D Gaussian (its closed form)."""
_MAX_SIGMA = 6.0
"""A 2-D Gaussian has 2e-8 of its mass beyond six sigma (exp(-18)): nothing is looked for there."""
_MIN_SIGMA_M = 1e-3
"""Thinner ellipses are widened to a millimetre, so that a covariance can always be inverted."""
_EDGE_SIGMA = 0.25
"""Longest boundary step of the quadrature: its error is then below 1e-4."""
_ARC_SEGMENTS = 256
"""Chords per quarter of a buffered corner: 400 m of radius are then cut by at most 2 mm."""
_GEOD = Geod(ellps="WGS84")


@dataclass(frozen=True, slots=True)
class LocalFrame:
    """A flat map of metres east and north around a point (azimuthal equidistant on WGS 84).

    Distances and bearings from the origin are exact; between other points they are within
    one part in a million as long as both lie within 10 km.
    """

    lat_deg: float
    lon_deg: float

    @classmethod
    def at(cls, point: GeoPoint) -> LocalFrame:
        """Return the frame whose origin is ``point``."""
        return cls(point.lat_deg, point.lon_deg)

    def to_local(self, lat_deg: npt.ArrayLike, lon_deg: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return (east_m, north_m) of places on WGS 84, each of the input's shape."""
        lat, lon = np.asarray(lat_deg, float), np.asarray(lon_deg, float)
        azimuth_deg, _, distance_m = _GEOD.inv(
            np.full(lon.shape, self.lon_deg), np.full(lat.shape, self.lat_deg), lon, lat
        )
        azimuth_rad = np.radians(azimuth_deg)
        return distance_m * np.sin(azimuth_rad), distance_m * np.cos(azimuth_rad)

    def to_geo(self, east_m: npt.ArrayLike, north_m: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return (lat_deg, lon_deg) of places in this frame, each of the input's shape."""
        east, north = np.asarray(east_m, float), np.asarray(north_m, float)
        lon, lat, _ = _GEOD.fwd(
            np.full(east.shape, self.lon_deg),
            np.full(east.shape, self.lat_deg),
            np.degrees(np.arctan2(east, north)),
            np.hypot(east, north),
        )
        return np.asarray(lat), np.asarray(lon)

    def project(self, geometry: BaseGeometry) -> BaseGeometry:
        """Return a WGS 84 geometry (longitude first) in this frame's metres."""
        return shapely.transform(
            geometry, lambda lon_lat: np.column_stack(self.to_local(lon_lat[:, 1], lon_lat[:, 0]))
        )


def bearing_deg(origin: GeoPoint, target: GeoPoint) -> float:
    """Return the bearing of ``target`` from ``origin``, clockwise from true north, in [0, 360)."""
    azimuth, _, _ = _GEOD.inv(origin.lon_deg, origin.lat_deg, target.lon_deg, target.lat_deg)
    return float(azimuth) % 360.0


def distance_m(point: GeoPoint, geometry: BaseGeometry) -> float:
    """Return the distance from a point to a WGS 84 point or polygon in metres; inside it is 0."""
    return float(LocalFrame.at(point).project(geometry).distance(shapely.Point(0.0, 0.0)))


def centre(geometry: BaseGeometry) -> GeoPoint:
    """Return the centroid of a WGS 84 geometry."""
    return GeoPoint(lat_deg=geometry.centroid.y, lon_deg=geometry.centroid.x)


def ellipse_from_covariance(covariance_m2: FloatArray) -> ErrorEllipse:
    """Return the ellipse that holds 0.9 of a Gaussian.

    Args:
        covariance_m2: shape (2, 2), of (east, north) in square metres.

    The half-axes are the square roots of the eigenvalues times the square root of the chi-square
    quantile of two degrees of freedom, ``CHI2_2DOF_P90``.
    """
    values, vectors = np.linalg.eigh(covariance_m2)
    minor_m, major_m = np.sqrt(CHI2_2DOF_P90 * np.maximum(values, 0.0))
    east, north = vectors[:, 1]
    orientation_deg = math.degrees(math.atan2(east, north)) % 180.0
    return ErrorEllipse(float(major_m), float(minor_m), orientation_deg)


def covariance_from_ellipse(ellipse: ErrorEllipse) -> FloatArray:
    """Return the covariance of (east, north) in square metres, shape (2, 2), of a 0.9 ellipse."""
    angle = math.radians(ellipse.orientation_deg)
    axes = np.array([[math.sin(angle), math.cos(angle)], [math.cos(angle), -math.sin(angle)]])
    variances = np.array([ellipse.semi_major_m**2, ellipse.semi_minor_m**2]) / CHI2_2DOF_P90
    covariance: FloatArray = axes.T @ np.diag(variances) @ axes
    return covariance


def p_within(
    point: GeoPoint, ellipse: ErrorEllipse | None, *, geometry: BaseGeometry, radius_m: float
) -> float:
    """Return the probability that a place lies within ``radius_m`` of a WGS 84 point or polygon.

    Args:
        point: the estimate of the place.
        ellipse: its 0.9 ellipse; None is an estimate without error.
        geometry: a point or polygon, longitude first.
        radius_m: distance from it that still counts.

    The Gaussian is made standard by a linear map, and its mass over the mapped region follows from
    Green's theorem as a smooth integral along the boundary (``_standard_mass``).
    """
    local = LocalFrame.at(point).project(geometry)
    gap_m = float(local.distance(shapely.Point(0.0, 0.0))) - radius_m
    if ellipse is None or ellipse.semi_major_m <= 0:
        return float(gap_m <= 0)
    sigma_m = ellipse.semi_major_m / math.sqrt(CHI2_2DOF_P90)
    if gap_m > _MAX_SIGMA * sigma_m:
        return 0.0
    region = local.buffer(radius_m, quad_segs=_ARC_SEGMENTS)
    reach = shapely.Point(0.0, 0.0).buffer(_MAX_SIGMA * sigma_m)
    if region.contains(reach):
        return 1.0
    covariance = covariance_from_ellipse(ellipse) + _MIN_SIGMA_M**2 * np.eye(2)
    to_standard = np.linalg.inv(np.linalg.cholesky(covariance))
    return _standard_mass(shapely.transform(region, lambda xy: xy @ to_standard.T))


def _standard_mass(region: BaseGeometry) -> float:
    """Return the mass of the standard 2-D Gaussian over a polygon in units of sigma.

    In polar form the density integrates outwards to ``1 - exp(-r**2 / 2)``, so the mass is
    ``1 / (2 pi)`` times the integral of that along the boundary over the angle, whose element is
    ``(x dy - y dx) / r**2``: a smooth integrand, taken here at the middle of short edges.
    """
    clipped = shapely.clip_by_rect(region, -_MAX_SIGMA, -_MAX_SIGMA, _MAX_SIGMA, _MAX_SIGMA)
    total = 0.0
    for part in shapely.get_parts(shapely.orient_polygons(clipped)):
        for ring in shapely.get_rings(part):
            xy = shapely.get_coordinates(shapely.segmentize(ring, _EDGE_SIGMA))
            middle, step = (xy[1:] + xy[:-1]) / 2, np.diff(xy, axis=0)
            radius2 = np.maximum((middle**2).sum(axis=1), np.finfo(float).tiny)
            weight = -np.expm1(-radius2 / 2) / radius2
            total += float((weight * (middle[:, 0] * step[:, 1] - middle[:, 1] * step[:, 0])).sum())
    return min(1.0, max(0.0, total / (2 * math.pi)))
