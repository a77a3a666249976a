"""Where the sun stands, against published values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.sun import sun_elevation_deg
from outwatch.domain.types import GeoPoint


def test_the_example_of_the_solar_position_algorithm() -> None:
    """Reda and Andreas (NREL/TP-560-34302, table A5.1): Golden, Colorado, 39.872046 without refraction."""
    at = datetime(2003, 10, 17, 19, 30, 30, tzinfo=UTC)
    assert sun_elevation_deg(at, GeoPoint(39.742476, -105.1786)) == pytest.approx(39.872046, abs=0.01)


@pytest.mark.parametrize(
    ("at", "lat_deg", "expected"),
    [
        (datetime(2000, 6, 21, 12, 1, 44, tzinfo=UTC), 23.4378, 90.0),
        (datetime(2000, 12, 21, 11, 58, tzinfo=UTC), -66.5622, 46.9),
        (datetime(2026, 3, 20, 14, 46, tzinfo=UTC), 90.0, 0.0),
    ],
    ids=["overhead at the tropic", "midsummer noon on the polar circle", "equinox at the pole"],
)
def test_solstices_and_equinox(at: datetime, lat_deg: float, expected: float) -> None:
    """What the sun's greatest declination, 23.44 degrees, makes of noon, on the meridian of Greenwich."""
    assert sun_elevation_deg(at, GeoPoint(lat_deg, 0.0)) == pytest.approx(expected, abs=0.1)


@given(
    st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.floats(-90, 90),
    st.floats(-180, 180),
)
def test_the_other_side_of_the_earth_has_the_other_sign(at: datetime, lat_deg: float, lon_deg: float) -> None:
    """At the antipode the sun is as far below the horizon as it is above it here."""
    antipode = GeoPoint(-lat_deg, lon_deg - 180 if lon_deg > 0 else lon_deg + 180)
    assert sun_elevation_deg(at, GeoPoint(lat_deg, lon_deg)) == pytest.approx(
        -sun_elevation_deg(at, antipode), abs=1e-6
    )


def test_a_local_time_is_refused() -> None:
    """Five hours off would turn night into day."""
    karachi = timezone(timedelta(hours=5))
    with pytest.raises(ValueError, match="UTC"):
        sun_elevation_deg(datetime(2026, 3, 14, 12, tzinfo=karachi), GeoPoint(33.6, 71.4))
