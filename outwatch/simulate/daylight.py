"""Short random daylight flights, to train and try RGB models on: ``python -m outwatch.simulate.daylight``.

Belongs here: what such flights are made of. Not here: rendering them (``flight.py``) and making a data set
of them (``detection/rgb_data.py``).
"""

from __future__ import annotations

import argparse
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from outwatch.domain.types import Modality
from outwatch.simulate.flight import simulate
from outwatch.simulate.scenario import (
    CameraModel,
    Compound,
    Origin,
    People,
    Road,
    Scenario,
    Scenery,
    Vehicle,
    Waypoint,
)

WIDE_HFOV_DEG = 73.7
"""Of the 24 mm equivalent lens that most small aircraft carry, across the 36 mm of a full frame."""
_NOON = datetime(2026, 4, 2, 7, 0, tzinfo=UTC)
_HEIGHTS_M = (25.0, 110.0)
_PITCHES_DEG = (-90.0, -30.0)
_TRAVEL_M = 60.0
"""Flown in a clip, so that its frames show different things."""


def daylight_camera(*, width_px: int = 1280, height_px: int = 720) -> CameraModel:
    """Return the wide RGB camera of a small aircraft."""
    return CameraModel(
        name="RGB 24 mm equivalent",
        hfov_deg=WIDE_HFOV_DEG,
        width_px=width_px,
        height_px=height_px,
        focal_length_mm=24.0,
        modality=Modality.RGB,
    )


def daylight_flight(seed: int, *, frames: int = 8) -> Scenario:
    """Return a random flight of two frames a second over a road with cars, people and a compound."""
    random = np.random.default_rng([seed, 20])
    height_m, pitch_deg = random.uniform(*_HEIGHTS_M), random.uniform(*_PITCHES_DEG)
    heading_deg = random.uniform(0, 360)
    ahead_m = min(height_m / math.tan(math.radians(-pitch_deg)), 3 * height_m)
    heading = math.radians(heading_deg)
    middle = ahead_m * np.array([math.sin(heading), math.cos(heading)])
    course = random.uniform(0, math.pi)
    along = np.array([math.sin(course), math.cos(course)])
    start, end = -along * _TRAVEL_M / 2, along * _TRAVEL_M / 2
    duration_s = frames / 2
    waypoints = tuple(
        Waypoint(time_s, float(place[0]), float(place[1]), height_m, heading_deg + turn_deg, pitch_deg)
        for time_s, place, turn_deg in ((0.0, start, 0.0), (duration_s, end, random.uniform(-40, 40)))
    )
    road = Road(((middle - 300 * along).tolist(), (middle + 300 * along).tolist()), random.uniform(6, 14))
    return Scenario(
        name=f"daylight_{seed}",
        seed=seed,
        start=_NOON,
        duration_s=duration_s,
        origin=Origin(33.5869, 71.4429),
        fps=2,
        camera=daylight_camera(),
        waypoints=waypoints,
        people=tuple(_people(middle, random) for _ in range(random.integers(4, 9))),
        vehicles=tuple(_cars(middle, along, road, random)),
        scenery=Scenery(
            roads=(road,),
            compounds=(Compound(*_near(middle, 90, random), 32.0, math.degrees(course)),),
            trees_per_hectare=random.uniform(4, 30),
        ),
    )


def _near(middle: np.ndarray, within_m: float, random: np.random.Generator) -> tuple[float, float]:
    east, north = (middle + random.uniform(-within_m, within_m, 2)).tolist()
    return east, north


def _people(middle: np.ndarray, random: np.random.Generator) -> People:
    east, north = _near(middle, 45, random)
    count = int(random.integers(1, 9))
    return People(count, "mill", east, north, spread_m=0.8 * math.sqrt(count) + random.uniform(0.5, 4))


def _cars(middle: np.ndarray, along: np.ndarray, road: Road, random: np.random.Generator) -> list[Vehicle]:
    """Return cars that drive in two lanes, stand in rows along the road, and one or two off it."""
    aside = np.array([along[1], -along[0]])
    heading_deg = math.degrees(math.atan2(along[0], along[1]))
    cars = []
    for side in (-1, 1):
        kerb = side * (road.width_m / 2 + 1.2)
        for metres in np.arange(-70, 70, 6.5):
            if random.random() < 0.45:  # noqa: PLR2004 about half the places are taken
                place = middle + metres * along + kerb * aside
                cars.append(_car(place, heading_deg + random.normal(0, 3) + 180 * (side < 0), random))
        for metres in np.arange(-70, 70, 14.0):
            if random.random() < 0.6:  # noqa: PLR2004 and the road is busy
                place = middle + (metres + random.uniform(-3, 3)) * along + side * road.width_m / 4 * aside
                cars.append(_car(place, heading_deg + 180 * (side < 0), random))
    off = [_car(np.array(_near(middle, 50, random)), random.uniform(0, 360), random) for _ in range(3)]
    return cars + off


def _car(place: np.ndarray, heading_deg: float, random: np.random.Generator) -> Vehicle:
    return Vehicle(
        path=((float(place[0]), float(place[1])),),
        heading_deg=float(heading_deg),
        length_m=random.uniform(3.6, 5.2),
        width_m=random.uniform(1.6, 1.95),
        height_m=random.uniform(1.4, 2.0),
    )


def main() -> None:
    """Render flights with seeds from 0 on into a folder."""
    parser = argparse.ArgumentParser(description="Render short random daylight flights with their truth.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=11)
    arguments = parser.parse_args()
    for seed in range(arguments.count):
        print(simulate(daylight_flight(seed), arguments.out / f"{seed:03d}").video)


if __name__ == "__main__":
    main()
