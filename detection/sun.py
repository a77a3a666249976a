"""Where the sun stands, to tell night from day.

Belongs here: solar elevation by the equations of NOAA's solar calculator
(https://gml.noaa.gov/grad/solcalc/solareqns.PDF and its spreadsheet), which are those of Meeus,
"Astronomical Algorithms", 2nd edition, chapter 25, cut to 0.01 degrees for 1900 to 2100. Not here: what night
means to a rule.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from outwatch.domain.types import GeoPoint, require_utc

_J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)
_DAYS_PER_CENTURY = 36525.0
_MINUTES_PER_DEGREE = 4.0
CIVIL_TWILIGHT_DEG = -6.0
"""Below this, people cannot be told from the ground without lamps (US Naval Observatory, "Rise, Set, and
Twilight Definitions")."""


def sun_elevation_deg(at: datetime, point: GeoPoint) -> float:
    """Return the elevation of the sun's middle above the horizon in degrees, negative below it.

    It is the geometric one: refraction lifts the sun by half a degree at the horizon, and by nothing that
    matters where night begins.

    Raises:
        ValueError: the time is not UTC-aware.
    """
    days = (require_utc(at, name="at") - _J2000).total_seconds() / 86400.0
    century = days / _DAYS_PER_CENTURY
    declination_rad, equation_min = _declination_and_equation(century)
    minutes_utc = at.hour * 60 + at.minute + at.second / 60
    solar_min = minutes_utc + equation_min + _MINUTES_PER_DEGREE * point.lon_deg
    hour_angle_rad = math.radians(solar_min / _MINUTES_PER_DEGREE - 180.0)
    lat_rad = math.radians(point.lat_deg)
    sine = math.sin(lat_rad) * math.sin(declination_rad)
    sine += math.cos(lat_rad) * math.cos(declination_rad) * math.cos(hour_angle_rad)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))


def _declination_and_equation(century: float) -> tuple[float, float]:
    """Return the sun's declination in radians and the equation of time in minutes.

    The terms are, in order: mean longitude and anomaly, orbital eccentricity, equation of the centre,
    apparent longitude (nutation and aberration), corrected obliquity.
    """
    longitude = math.radians((280.46646 + century * (36000.76983 + century * 0.0003032)) % 360.0)
    anomaly = math.radians(357.52911 + century * (35999.05029 - century * 0.0001537))
    eccentricity = 0.016708634 - century * (0.000042037 + century * 0.0000001267)
    centre_deg = (
        math.sin(anomaly) * (1.914602 - century * (0.004817 + century * 0.000014))
        + math.sin(2 * anomaly) * (0.019993 - century * 0.000101)
        + math.sin(3 * anomaly) * 0.000289
    )
    node = math.radians(125.04 - 1934.136 * century)
    apparent = longitude + math.radians(centre_deg - 0.00569 - 0.00478 * math.sin(node))
    seconds = 21.448 - century * (46.815 + century * (0.00059 - century * 0.001813))
    obliquity = math.radians(23.0 + (26.0 + seconds / 60.0) / 60.0 + 0.00256 * math.cos(node))
    declination = math.asin(math.sin(obliquity) * math.sin(apparent))
    tangent2 = math.tan(obliquity / 2.0) ** 2
    equation_rad = (
        tangent2 * math.sin(2 * longitude)
        - 2 * eccentricity * math.sin(anomaly)
        + 4 * eccentricity * tangent2 * math.sin(anomaly) * math.cos(2 * longitude)
        - 0.5 * tangent2**2 * math.sin(4 * longitude)
        - 1.25 * eccentricity**2 * math.sin(2 * anomaly)
    )
    return declination, _MINUTES_PER_DEGREE * math.degrees(equation_rad)
