"""Where the locator puts things that stand at known places: thousands of looks without pictures.

Belongs here: error, calibration of ellipses and of probabilities by altitude, angle and terrain. Not here:
drawing the looks (``outwatch/simulate/cases.py``) and the locator itself.

Poses err by the locator's own error budget, so this shows that geometry and propagation agree with each
other; whether a real aircraft errs as its budget says is not shown here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from outwatch.domain.geometry import LocalFrame, distance_m, p_within
from outwatch.domain.types import GeoPoint, GroundFix
from outwatch.evaluation.bootstrap import share_interval
from outwatch.evaluation.events import holds, offset_m, reliability
from outwatch.pipeline.wiring import build_locator
from outwatch.settings import GroundSettings, load_settings
from outwatch.simulate import GroundCase, ground_cases

ALTITUDES_M = (50.0, 80.0, 120.0)
ANGLES_DEG = (30.0, 45.0, 60.0, 90.0)
OUTPOSTS_M = (100.0, 200.0)
"""Distances of the outposts that are drawn around each place, evenly over the area between."""
RADIUS_M = 150.0
_AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Look:
    """One look: what it was drawn under, where the thing stands, and where the locator puts it."""

    conditions: dict[str, str]
    truth: GeoPoint
    fix: GroundFix
    outpost: GeoPoint


def evaluate_locations(count: int, *, seed: int, dem: Path | None = None) -> dict[str, Any]:
    """Return location error and calibration over at least ``count`` looks at people.

    Args:
        count: looks in all, evenly over altitudes, angles and terrains.
        seed: of the looks.
        dem: a GeoTIFF over which half of them are; None is flat ground for all.

    Raises:
        ConfigInvalid: the DEM cannot be used.
    """
    looks = list(_looks(count, seed=seed, dem=dem))
    groups = {
        name: sorted({look.conditions[name] for look in looks}, key=_number) for name in looks[0].conditions
    }
    return {
        "setup": {"cases": len(looks), "seed": seed, "dem": dem.name if dem else None},
        **_figures(looks),
        "p_inside": reliability(
            [(_p(look), float(_inside(look))) for look in looks if look.fix.point is not None],
            edges=(0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0),
        ),
        "by": {
            name: {
                value: _figures([look for look in looks if look.conditions[name] == value])
                for value in values
            }
            for name, values in groups.items()
        },
    }


def _looks(count: int, *, seed: int, dem: Path | None) -> Iterator[_Look]:
    random = np.random.default_rng([seed, 30])
    terrains: tuple[Path | None, ...] = (None, dem) if dem else (None,)
    each = math.ceil(count / (len(ALTITUDES_M) * len(ANGLES_DEG) * len(terrains)))
    for terrain in terrains:
        locator = build_locator(load_settings(ground=GroundSettings(dem=terrain)))
        for altitude_m in ALTITUDES_M:
            for angle_deg in ANGLES_DEG:
                cases = ground_cases(
                    depression_deg=angle_deg,
                    count=each,
                    seed=int(random.integers(2**31)),
                    height_agl_m=altitude_m,
                    dem=terrain,
                )
                conditions = {
                    "altitude": f"{altitude_m:g} m",
                    "angle": f"{angle_deg:g} deg",
                    "terrain": "dem" if terrain else "flat",
                }
                for case in cases:
                    (located,) = locator.locate(
                        np.array([case.box_xyxy_px]),
                        at=_AT,
                        pose=case.reported,
                        camera=case.camera,
                        width_px=case.width_px,
                        height_px=case.height_px,
                    )
                    yield _Look(conditions, case.true_point, located.fix, _outpost_near(case, random))


def _outpost_near(case: GroundCase, random: np.random.Generator) -> GeoPoint:
    nearest, farthest = (distance**2 for distance in OUTPOSTS_M)
    away_m = math.sqrt(float(random.uniform(nearest, farthest)))
    bearing = float(random.uniform(0, 2 * math.pi))
    frame = LocalFrame.at(case.true_point)
    lat, lon = frame.to_geo(away_m * math.sin(bearing), away_m * math.cos(bearing))
    return GeoPoint(float(lat), float(lon))


def _figures(looks: Sequence[_Look]) -> dict[str, Any]:
    placed = [look for look in looks if look.fix.point is not None and look.fix.error_ellipse is not None]
    errors_m = [float(np.hypot(*offset_m(look.fix, look.truth))) for look in placed]
    held = sum(holds(look.fix, look.truth) for look in placed)
    return {
        "cases": len(looks),
        "no_place": len(looks) - len(placed),
        "p50_m": round(float(np.quantile(errors_m, 0.5)), 2) if errors_m else None,
        "p95_m": round(float(np.quantile(errors_m, 0.95)), 2) if errors_m else None,
        "ellipse_holds": round(held / len(placed), 4) if placed else None,
        "ellipse_holds_ci": share_interval(held, len(placed)),
    }


def _p(look: _Look) -> float:
    if look.fix.point is None:
        raise ValueError("a look without a place has no probability")
    return float(
        p_within(look.fix.point, look.fix.error_ellipse, geometry=_geometry(look.outpost), radius_m=RADIUS_M)
    )


def _inside(look: _Look) -> bool:
    return distance_m(look.truth, _geometry(look.outpost)) <= RADIUS_M


def _geometry(point: GeoPoint) -> shapely.Point:
    return shapely.Point(point.lon_deg, point.lat_deg)


def _number(words: str) -> tuple[float, str]:
    first = words.split(" ", 1)[0]
    return (float(first) if first.isdigit() else 0.0), words
