"""Many flights drawn from one seed, over altitude, angle, terrain, weather, clock error and pose error.

Belongs here: what is drawn and within which bounds. Not here: rendering (``flight.py``) and judging what
the pipeline says of them (``outwatch/evaluation``).

Altitude and angle follow an additive recurrence on the plastic number (M. Roberts 2018, "The Unreasonable
Effectiveness of Quasirandom Sequences"), so that few flights already cover them evenly; the rest is drawn
anew for each flight. The first flights of a longer suite are those of a shorter one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np
import rasterio
from rasterio.warp import transform_bounds

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import OutpostKind
from outwatch.simulate.flight import ground_of
from outwatch.simulate.scenario import (
    Compound,
    Ground,
    Orbit,
    Origin,
    OutpostSite,
    People,
    PoseNoise,
    Road,
    Scenario,
    Scenery,
    TerrainModel,
    Vehicle,
    Waypoint,
)
from outwatch.simulate.terrain import Surface
from outwatch.simulate.weather import WEATHERS

T = TypeVar("T")

ALTITUDES_M = (40.0, 130.0)
ANGLES_DEG = (30.0, 90.0)
"""Depression of the camera."""
DURATION_S, FPS = 30.0, 2
"""A gathering must last 15 s and people may take 8 s to come; the pipeline looks twice a second."""
CLOCK_SIGMA_S = 0.7
"""A satellite receiver's time, written by a program that is busy."""
TERRAINS = (("flat", 0.6), ("relief", 0.25), ("dem", 0.15))
"""What the ground is and how often; where no DEM is given, relief stands in for it."""
WEATHER_SHARES = (("clear", 0.4), ("soft", 0.15), ("flat", 0.15), ("hazy", 0.15), ("grainy", 0.15))
POSES = (("half", 0.15), ("stated", 0.7), ("worse", 0.15))
POSE_SCALES = {"half": 0.5, "stated": 1.0, "worse": 1.5}
"""Pose error as a multiple of the budget that the locator assumes."""
WATCH_RADIUS_M = 150.0
_NEAR, _FAR = (0.1, 0.8), (1.4, 2.0)
"""Distance of the outpost in watch radii, where something is to be an event and where it is not."""
_TRIES = 60
_MAX_SLOPE = 0.36
"""People stand and cars park on ground up to 20 degrees steep."""
_SEES = 0.98
"""The ray to the place meets no ground before this share of its length."""
_ORBIT_MAX_DEG = 65.0
"""Steeper circles are so small that the aircraft would spin."""
_PASSING_FROM_M = 90.0
"""From this far away the view is wide enough to follow a car that does not stop."""
_PLASTIC = 1.324717957244746
"""The root of x**3 = x + 1."""
_STEPS = np.array([1 / _PLASTIC, 1 / _PLASTIC**2])
_KOHAT = (33.5869, 71.4429)


@dataclass(frozen=True, slots=True)
class SuiteFlight:
    """One flight of a suite: what to render, what it is about, and what it was drawn under."""

    scenario: Scenario
    story: str
    conditions: Mapping[str, str]
    """Altitude, angle, terrain, weather and pose, as words to group by."""
    true_start: datetime
    """Of the first frame; the scenario's own start is what the aircraft's clock said."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """What a story needs to know: the place (east, north), how far away the camera is, chance."""

    place: Ground
    range_m: float
    random: np.random.Generator

    def around(self, away_m: float, bearing_rad: float) -> Ground:
        """Return the place so far off."""
        east, north = self.place
        return east + away_m * math.sin(bearing_rad), north + away_m * math.cos(bearing_rad)

    def between(self, low: float, high: float) -> float:
        """Draw a number."""
        return float(self.random.uniform(low, high))

    def bearing_rad(self) -> float:
        """Draw a direction."""
        return self.between(0, 2 * math.pi)


def flights(count: int, *, seed: int, dem: Path | None = None) -> list[SuiteFlight]:
    """Draw a suite of thermal flights; a flight depends on the seed and its number only.

    Args:
        count: how many.
        seed: of everything.
        dem: a GeoTIFF over which some of them fly; None leaves such flights to invented relief.

    Raises:
        ConfigInvalid: the DEM cannot be read, or hardly any place in it can be seen from the air.
    """
    offset = np.random.default_rng([seed, 20]).uniform(size=len(_STEPS))
    return [
        _flight(index, seed=seed, shares=(offset + (index + 1) * _STEPS) % 1, dem=dem)
        for index in range(count)
    ]


def _flight(index: int, *, seed: int, shares: np.ndarray, dem: Path | None) -> SuiteFlight:
    random = np.random.default_rng([seed, 21, index])
    altitude_m, angle_deg = (
        low + (high - low) * float(share)
        for (low, high), share in zip((ALTITUDES_M, ANGLES_DEG), shares, strict=True)
    )
    terrain, weather, pose = (
        _pick(options, float(random.random())) for options in (TERRAINS, WEATHER_SHARES, POSES)
    )
    if dem is None and terrain == "dem":
        terrain = "relief"
    story = list(STORIES)[index % len(STORIES)]
    true_start = datetime(2026, 3, 1, 14, tzinfo=UTC) + timedelta(
        days=index, hours=float(random.uniform(0, 9))
    )
    clock_error = timedelta(seconds=round(float(random.normal(0, CLOCK_SIGMA_S)), 3))
    scale = POSE_SCALES[pose]
    noise = PoseNoise()
    base = Scenario(
        name=f"suite_{seed}_{index:03d}",
        seed=seed * 1000 + index,
        start=true_start + clock_error,
        duration_s=DURATION_S,
        fps=FPS,
        origin=Origin(*_KOHAT),
        waypoints=(Waypoint(0, 0, 0, altitude_m, 0, -angle_deg),),
        weather=WEATHERS[weather],
        noise=PoseNoise(
            noise.position_sigma_m * scale,
            noise.height_sigma_m * scale,
            noise.heading_sigma_deg * scale,
            noise.tilt_sigma_deg * scale,
        ),
    )
    scenario = _placed(base, story=story, terrain=terrain, dem=dem, random=random)
    conditions = {
        "altitude": _band(altitude_m, (70, 100), unit="m"),
        "angle": _band(angle_deg, (45, 60, 75), unit="deg"),
        "terrain": terrain,
        "weather": weather,
        "pose": pose,
    }
    return SuiteFlight(scenario, story, conditions, true_start)


def _placed(
    base: Scenario, *, story: str, terrain: str, dem: Path | None, random: np.random.Generator
) -> Scenario:
    """Give a flight its ground, a place that the camera sees, and the story that happens there."""
    camera = base.waypoints[0]
    back_m = camera.height_m / math.tan(math.radians(-camera.pitch_deg))
    for _ in range(_TRIES):
        grounded = _grounded(base, terrain, dem, random)
        _, surface = ground_of(grounded)
        east, north, heading_deg = (float(x) for x in random.uniform((-40, -40, 0), (40, 40, 360)))
        place_m = np.array([east, north, _height_m(surface, east, north)])
        heading = math.radians(heading_deg)
        back = np.array([-back_m * math.sin(heading), -back_m * math.cos(heading), camera.height_m])
        if not _in_sight(surface, place_m, back):
            continue
        scene = _Scene((east, north), math.hypot(back_m, camera.height_m), random)
        outpost, reach_m = _outposts(scene, far=story.startswith("far")), 3 * WATCH_RADIUS_M
        edges = [scene.around(reach_m, angle) for angle in np.linspace(0, 2 * math.pi, 8)]
        if not all(math.isfinite(_height_m(surface, *edge)) for edge in edges):
            continue
        people, vehicles = STORIES[story](scene)
        waypoints, orbit = _path(grounded, place_m=place_m, back_m=back, heading_deg=heading_deg, scene=scene)
        return replace(
            grounded,
            waypoints=waypoints,
            orbit=orbit,
            people=people,
            vehicles=vehicles,
            outposts=outpost,
            scenery=_scenery(scene),
        )
    raise ConfigInvalid(
        f"terrain {dem}: no gentle ground in sight from the air at {_TRIES} places; give another"
    )


def _grounded(base: Scenario, terrain: str, dem: Path | None, random: np.random.Generator) -> Scenario:
    height_m = round(float(random.uniform(200, 1500)), 1)
    if terrain == "dem" and dem is not None:
        return replace(base, terrain=TerrainModel(dem=dem), origin=_somewhere_in(dem, random))
    if terrain == "relief":
        relief_m, scale_m = (round(float(x)) for x in random.uniform((15, 300), (60, 600)))
        return replace(base, terrain=TerrainModel(height_m, relief_m=relief_m, relief_scale_m=scale_m))
    return replace(base, terrain=TerrainModel(height_m))


def _somewhere_in(dem: Path, random: np.random.Generator) -> Origin:
    try:
        with rasterio.open(dem) as file:
            west, south, east, north = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    except rasterio.RasterioIOError as error:
        raise ConfigInvalid(f"DEM {dem} cannot be read: {error}") from error
    lat, lon = random.uniform(0.1, 0.9, 2)
    return Origin(south + (north - south) * float(lat), west + (east - west) * float(lon))


def _height_m(surface: Surface, east_m: float, north_m: float) -> float:
    return float(surface.heights_m(np.array([east_m]), np.array([north_m]))[0])


def _in_sight(surface: Surface, place_m: np.ndarray, back_m: np.ndarray) -> bool:
    """Return whether the ground at a place is gentle and seen from ``back_m`` off, (east, north, up)."""
    east, north, _ = place_m
    sides = [_height_m(surface, east + x, north + y) for x, y in ((-20, 0), (20, 0), (0, -20), (0, 20))]
    steep = max(abs(sides[1] - sides[0]), abs(sides[3] - sides[2])) / 40
    if not (np.isfinite(place_m).all() and steep <= _MAX_SLOPE):
        return False
    return bool(surface.depths_m(place_m + back_m, -back_m[None])[0] >= _SEES)


def _path(
    base: Scenario, *, place_m: np.ndarray, back_m: np.ndarray, heading_deg: float, scene: _Scene
) -> tuple[tuple[Waypoint, ...], Orbit | None]:
    """Return a slow drift past the place or, over level ground and not too steep, a circle around it."""
    angle_deg = -base.waypoints[0].pitch_deg
    level = base.terrain.dem is None and base.terrain.relief_m == 0
    if level and angle_deg <= _ORBIT_MAX_DEG and scene.random.random() < 1 / 3:
        orbit = Orbit(
            *scene.place,
            radius_m=float(math.hypot(*back_m[:2])),
            height_m=float(back_m[2]),
            speed_m_s=scene.between(2, 4),
            start_bearing_deg=heading_deg + 180,
        )
        return (), orbit
    drift_m = 0.015 * scene.range_m * np.array([math.sin(b := scene.bearing_rad()), math.cos(b), 0])
    turn_deg = scene.between(-2, 2)
    camera_m = place_m + back_m
    ends = (camera_m - drift_m, camera_m + drift_m)
    waypoints = tuple(
        Waypoint(time_s, float(east), float(north), float(up), heading_deg + sign * turn_deg, -angle_deg)
        for time_s, (east, north, up), sign in zip((0.0, base.duration_s), ends, (-1, 1), strict=True)
    )
    return waypoints, None


def _outposts(scene: _Scene, *, far: bool) -> tuple[OutpostSite, ...]:
    """Return one outpost at a distance that leaves no doubt, and one that is never near."""
    first = scene.bearing_rad()
    places = (
        scene.around(WATCH_RADIUS_M * scene.between(*(_FAR if far else _NEAR)), first),
        scene.around(WATCH_RADIUS_M * scene.between(2.2, 2.9), first + math.pi),
    )
    return tuple(
        OutpostSite(
            id=f"suite-{name}",
            name=f"Suite {name}",
            name_ur=name_ur,
            kind=OutpostKind.POLICE_OUTPOST,
            east_m=place[0],
            north_m=place[1],
            control_room="suite",
            watch_radius_m=WATCH_RADIUS_M,
        )
        for name, name_ur, place in zip(("near", "away"), ("قریب", "دور"), places, strict=True)
    )


def _scenery(scene: _Scene) -> Scenery:
    along = scene.bearing_rad()
    across = along + math.pi / 2
    aside_m = scene.between(8, 14)
    middle = _Scene(scene.around(aside_m, across), scene.range_m, scene.random)
    road = Road((middle.around(-120, along), middle.around(120, along)), width_m=scene.between(4, 6))
    house = middle.around(scene.between(35, 60), across)
    compounds = (Compound(*house, size_m=26, heading_deg=math.degrees(along)),)
    return Scenery(
        roads=(road,),
        compounds=compounds if scene.random.random() < 1 / 2 else (),
        trees_per_hectare=scene.between(0, 25),
    )


Cast = tuple[tuple[People, ...], tuple[Vehicle, ...]]


def _group(scene: _Scene, *, count: int, arriving: bool = False) -> People:
    """Return people who stand at arm's length or talk across a circle: one in 1.8 to 3.8 square metres."""
    east, north = scene.place
    spread_m = scene.between(0.75, 1.1) * math.sqrt(count)
    if arriving:
        return People(
            count, "arrive", east, north, spread_m, range_m=scene.between(10, 14), at_s=scene.between(6, 8)
        )
    return People(count, "stand" if scene.random.random() < 1 / 2 else "mill", east, north, spread_m)


def _passers(scene: _Scene, count: int) -> tuple[People, ...]:
    """Return single people who cross the place far from each other."""
    walkers = []
    for number in range(count):
        along = scene.bearing_rad()
        aside = _Scene(scene.around(9.0 * (number + 1), along + math.pi / 2), 0.0, scene.random)
        path = (aside.around(-20, along), aside.around(25, along))
        walkers.append(People(1, "walk", path=path, speed_m_s=scene.between(0.9, 1.5)))
    return tuple(walkers)


def _gathering(scene: _Scene) -> Cast:
    return (_group(scene, count=int(scene.random.integers(12, 23))), *_passers(scene, 2)), ()


def _arriving(scene: _Scene) -> Cast:
    return (_group(scene, count=int(scene.random.integers(14, 23)), arriving=True),), ()


def _parked(scene: _Scene) -> Cast:
    along = scene.bearing_rad()
    count = int(scene.random.integers(1, 5))
    cars = tuple(
        Vehicle(
            (scene.around(3.2 * (number - (count - 1) / 2), along + math.pi / 2),),
            heading_deg=math.degrees(along) + scene.between(-8, 8),
            warm=bool(scene.random.random() < 1 / 2),
        )
        for number in range(count)
    )
    return _passers(scene, 1), cars


def _driving(scene: _Scene) -> Cast:
    """Return a car that comes and stops or, where the view is wide enough, goes on."""
    along = scene.bearing_rad()
    beyond_m = 80.0 if scene.range_m >= _PASSING_FROM_M and scene.random.random() < 1 / 2 else 2.0
    path = (scene.around(-40, along), scene.around(beyond_m, along))
    return (), (Vehicle(path, speed_m_s=scene.between(4, 7)),)


def _both(scene: _Scene) -> Cast:
    people, _ = _gathering(scene)
    beside = _Scene(scene.around(9, scene.bearing_rad()), scene.range_m, scene.random)
    return people[:1], _parked(beside)[1][:2]


def _walkers(scene: _Scene) -> Cast:
    return _passers(scene, int(scene.random.integers(3, 6))), ()


def _small_group(scene: _Scene) -> Cast:
    return (_group(scene, count=int(scene.random.integers(3, 6))), *_passers(scene, 1)), ()


def _nothing(scene: _Scene) -> Cast:  # noqa: ARG001 an empty scene asks nothing of its place
    return (), ()


STORIES: Mapping[str, Callable[[_Scene], Cast]] = {
    "gathering": _gathering,
    "walkers": _walkers,
    "parked": _parked,
    "far_gathering": _gathering,
    "driving": _driving,
    "empty": _nothing,
    "both": _both,
    "small_group": _small_group,
    "arriving": _arriving,
    "far_parked": _parked,
}
"""What happens, in turn: half of the stories hold an event, half none."""


def _pick(options: Sequence[tuple[T, float]], share: float) -> T:
    """Return the option into whose part of [0, 1) a number falls."""
    for option, weight in options:
        if share < weight:
            return option
        share -= weight
    return options[-1][0]


def _band(value: float, edges: Sequence[float], *, unit: str) -> str:
    """Return between which edges a value lies, as words that sort."""
    below = [edge for edge in edges if edge <= value]
    above = [edge for edge in edges if edge > value]
    if not below:
        return f"under {above[0]:g} {unit}"
    return f"{below[-1]:g} {unit} and more" if not above else f"{below[-1]:g} to {above[0]:g} {unit}"
