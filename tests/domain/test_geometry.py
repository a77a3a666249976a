"""Places, distances and odds on the ground."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from outwatch.domain.geometry import (
    CHI2_2DOF_P90,
    LocalFrame,
    bearing_deg,
    covariance_from_ellipse,
    distance_m,
    ellipse_from_covariance,
    p_within,
)
from outwatch.domain.types import ErrorEllipse, GeoPoint

HERE = GeoPoint(33.5862, 71.445)
METRES = st.floats(-5000, 5000)


def shifted(east_m: float, north_m: float) -> GeoPoint:
    lat, lon = LocalFrame.at(HERE).to_geo(east_m, north_m)
    return GeoPoint(float(lat), float(lon))


def square(half_m: float) -> shapely.Polygon:
    """Return a WGS 84 square around HERE."""
    corners = [shifted(e * half_m, n * half_m) for e, n in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return shapely.Polygon([(corner.lon_deg, corner.lat_deg) for corner in corners])


@given(east_m=METRES, north_m=METRES, lat_deg=st.floats(-80, 80))
def test_local_frame_round_trips(east_m: float, north_m: float, lat_deg: float) -> None:
    """Metres to degrees and back give the same metres to a tenth of a millimetre."""
    frame = LocalFrame(lat_deg, 71.0)

    assert (east_m, north_m) == pytest.approx(frame.to_local(*frame.to_geo(east_m, north_m)), abs=1e-4)


@pytest.mark.parametrize(
    ("east_m", "north_m", "expected_deg"), [(0, 9, 0), (9, 0, 90), (0, -9, 180), (-9, 0, 270), (-9, 9, 315)]
)
def test_bearing_is_clockwise_from_north(east_m: float, north_m: float, expected_deg: float) -> None:
    """North is 0, east 90, and no bearing is negative."""
    assert bearing_deg(HERE, shifted(east_m, north_m)) == pytest.approx(expected_deg, abs=1e-4)


def test_distance_to_polygon_is_to_its_edge_and_zero_inside() -> None:
    """A place inside an outpost's boundary is at 0 m; outside, the nearest edge counts."""
    assert distance_m(shifted(10, -20), square(50)) == 0
    assert distance_m(shifted(80, 0), square(50)) == pytest.approx(30, abs=0.01)
    assert distance_m(shifted(30, 40), shapely.Point(HERE.lon_deg, HERE.lat_deg)) == pytest.approx(
        50, abs=1e-3
    )


@given(major=st.floats(0.5, 200), share=st.floats(0.05, 0.95), orientation=st.floats(0, 179.9))
def test_ellipse_and_covariance_round_trip(major: float, share: float, orientation: float) -> None:
    """An ellipse survives the way through its covariance, axis for axis."""
    ellipse = ErrorEllipse(major, major * share, orientation)

    found = ellipse_from_covariance(covariance_from_ellipse(ellipse))

    assert (major, major * share) == pytest.approx((found.semi_major_m, found.semi_minor_m), rel=1e-6)
    turned = abs(found.orientation_deg - orientation)
    assert min(turned, 180 - turned) < 1e-3


def test_ellipse_holds_nine_tenths_of_the_draws() -> None:
    """The 0.9 ellipse holds 0.9 of a Gaussian, and its major axis lies along the spread."""
    covariance = np.array([[40.0, 15.0], [15.0, 10.0]])
    draws = np.random.default_rng(0).multivariate_normal([0, 0], covariance, 40_000)
    inside = np.einsum("ni,ij,nj->n", draws, np.linalg.inv(covariance), draws) <= CHI2_2DOF_P90

    assert inside.mean() == pytest.approx(0.9, abs=0.005)
    ellipse = ellipse_from_covariance(np.diag([1.0, 9.0]))
    assert ellipse.orientation_deg % 180 == pytest.approx(0, abs=1e-9)
    assert (ellipse.semi_major_m, ellipse.semi_minor_m) == pytest.approx((3 * 2.1460, 2.1460), abs=1e-3)


def test_p_within_a_disc_around_the_estimate_is_the_rayleigh_distribution() -> None:
    """For a round error at the disc's centre the closed form is 1 - exp(-r^2 / 2 sigma^2)."""
    sigma_m, radius_m = 12.0, 20.0
    axis_m = sigma_m * math.sqrt(CHI2_2DOF_P90)

    found = p_within(
        HERE,
        ErrorEllipse(axis_m, axis_m, 0.0),
        geometry=shapely.Point(HERE.lon_deg, HERE.lat_deg),
        radius_m=radius_m,
    )

    assert found == pytest.approx(1 - math.exp(-(radius_m**2) / (2 * sigma_m**2)), abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    east_m=st.floats(-150, 150),
    north_m=st.floats(-150, 150),
    major=st.floats(1, 80),
    share=st.floats(0.02, 1),
    orientation=st.floats(0, 179),
    radius_m=st.floats(5, 120),
    polygon=st.booleans(),
)
def test_p_within_agrees_with_monte_carlo(
    *,
    east_m: float,
    north_m: float,
    major: float,
    share: float,
    orientation: float,
    radius_m: float,
    polygon: bool,
) -> None:
    """The quadrature agrees with 20,000 draws, for points and polygons, thin and round errors."""
    geometry = square(40) if polygon else shapely.Point(HERE.lon_deg, HERE.lat_deg)
    ellipse = ErrorEllipse(major, major * share, orientation)
    draws = np.random.default_rng(1).multivariate_normal(
        [east_m, north_m], covariance_from_ellipse(ellipse), 20_000
    )
    local = LocalFrame.at(HERE).project(geometry)
    expected = (shapely.distance(shapely.points(draws), local) <= radius_m).mean()

    found = p_within(shifted(east_m, north_m), ellipse, geometry=geometry, radius_m=radius_m)

    assert found == pytest.approx(expected, abs=0.016)  # four and a half standard errors of the draws


def test_p_within_without_error_is_certain() -> None:
    """An estimate without an ellipse is either in or out."""
    point = shapely.Point(HERE.lon_deg, HERE.lat_deg)

    assert p_within(shifted(99, 0), None, geometry=point, radius_m=100) == 1.0
    assert p_within(shifted(101, 0), None, geometry=point, radius_m=100) == 0.0


def test_p_within_respects_holes() -> None:
    """A courtyard that is not part of an outpost does not count as inside of it."""
    ring = shapely.Polygon(square(200).exterior, [square(150).exterior])

    found = p_within(HERE, ErrorEllipse(20, 20, 0), geometry=ring, radius_m=10)

    assert found == pytest.approx(0.0, abs=1e-6)
