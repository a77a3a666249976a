"""What a simulated flight is: place, camera, path, actors and outposts, read from a small TOML file.

Belongs here: the scenario's values and their checks. Not here: how actors move and look
(``actors.py``), how the ground does (``scenery.py``), and what comes out of it (``flight.py``).

All positions are metres east and north of the take-off point, all heights metres above its ground.
"""

from __future__ import annotations

import itertools
import tomllib
from dataclasses import field
from datetime import UTC, datetime
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from outwatch.domain.cameras import camera_named
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import Modality, OutpostKind
from outwatch.simulate.weather import Weather

_THERMAL_NAME = "DJI XT2 25 mm"
_CHECKED = ConfigDict(extra="forbid", arbitrary_types_allowed=False)

Metres = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Sigma = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Ground = tuple[Metres, Metres]
"""A place as (east_m, north_m) of the take-off point."""


def _no_standstill(path: tuple[Ground, ...]) -> tuple[Ground, ...]:
    for here, after in itertools.pairwise(path):
        if here == after:
            raise ValueError(f"two points in a row are the same: {here}")
    return path


Line = Annotated[tuple[Ground, ...], AfterValidator(_no_standstill)]


@dataclass(frozen=True, slots=True, config=_CHECKED)
class CameraModel:
    """A camera without distortion, with square pixels and the axis in the middle of the frame."""

    name: str = _THERMAL_NAME
    hfov_deg: Annotated[float, Field(gt=1, lt=120)] = camera_named(_THERMAL_NAME).hfov_deg
    """Across the width; unless given it is the table's, as for a real flight."""
    width_px: Annotated[int, Field(ge=64, le=3840, multiple_of=2)] = 640
    height_px: Annotated[int, Field(ge=64, le=2160, multiple_of=2)] = 512
    focal_length_mm: Positive = 25.0
    """As the telemetry has it: of RGB cameras the 35 mm equivalent, as aircraft write it."""
    modality: Modality = Modality.THERMAL
    """Thermal at night, or RGB by day."""

    @model_validator(mode="after")
    def _own_lens(self) -> Self:
        if self.modality is Modality.RGB and self.name == _THERMAL_NAME:
            raise ValueError("an RGB camera needs its own name, hfov_deg and focal_length_mm")
        return self


@dataclass(frozen=True, slots=True, config=_CHECKED)
class TerrainModel:
    """The ground: flat, invented relief (written beside the flight as a GeoTIFF), or a given DEM."""

    height_m: Metres = 0.0
    """Height of the take-off point above mean sea level; a DEM's own height replaces it."""
    relief_m: Annotated[float, Field(ge=0, le=2000)] = 0.0
    """Height between the valleys and the ridges of invented relief; 0 is flat ground."""
    relief_scale_m: Annotated[float, Field(ge=50, le=5000)] = 400.0
    """Distance from ridge to ridge."""
    dem: Path | None = None
    """GeoTIFF of heights in metres above mean sea level."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.dem is not None and self.relief_m > 0:
            raise ValueError("dem and relief_m exclude each other")
        return self


@dataclass(frozen=True, slots=True, config=_CHECKED)
class Origin:
    """Where the aircraft took off, WGS 84."""

    lat_deg: Annotated[float, Field(ge=-85, le=85)]
    lon_deg: Annotated[float, Field(ge=-180, le=180)]


@dataclass(frozen=True, slots=True, config=_CHECKED)
class Waypoint:
    """A camera pose at a time; the flight goes straight from one to the next."""

    time_s: Annotated[float, Field(ge=0)]
    east_m: Metres
    north_m: Metres
    height_m: Positive
    heading_deg: Metres
    pitch_deg: Annotated[float, Field(ge=-90, le=-15)]


@dataclass(frozen=True, slots=True, config=_CHECKED)
class Orbit:
    """A circle flown clockwise around a place at which the camera looks."""

    east_m: Metres
    north_m: Metres
    radius_m: Positive
    height_m: Positive
    speed_m_s: Positive = 4.0
    start_bearing_deg: Metres = 180.0
    """Bearing from the centre to the aircraft at the start."""


@dataclass(frozen=True, slots=True, config=_CHECKED)
class PoseNoise:
    """How far reported poses lie from true ones: one standard deviation of a bias constant over a flight.

    The defaults are the error budget that the locator assumes (GNSS, barometer, compass, gimbal).
    Each frame adds jitter of ``jitter`` times the same sigmas.
    """

    position_sigma_m: Sigma = 2.5
    """Horizontal, each axis."""
    height_sigma_m: Sigma = 2.0
    heading_sigma_deg: Sigma = 2.5
    tilt_sigma_deg: Sigma = 0.7
    """Pitch and roll."""
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.05


@dataclass(frozen=True, slots=True, config=_CHECKED)
class People:
    """A group of people; a single walker is a group of one.

    ``stand`` and ``mill`` keep to the centre, ``walk`` follows ``path``, ``arrive`` comes in from
    ``range_m`` around by ``at_s``, ``disperse`` leaves from ``at_s`` on until ``range_m`` away.
    """

    count: Annotated[int, Field(ge=1, le=500)]
    motion: Literal["stand", "mill", "walk", "arrive", "disperse"] = "stand"
    east_m: Metres = 0.0
    north_m: Metres = 0.0
    spread_m: Positive = 3.0
    """Radius of the circle within which the group stands."""
    path: Line = ()
    speed_m_s: Annotated[float, Field(gt=0, le=8)] = 1.3
    at_s: Sigma = 0.0
    range_m: Positive = 40.0

    @model_validator(mode="after")
    def _walk_has_path(self) -> Self:
        if (self.motion == "walk") != (len(self.path) > 1):
            raise ValueError("path with at least two points belongs to motion 'walk', and only there")
        return self


@dataclass(frozen=True, slots=True, config=_CHECKED)
class Vehicle:
    """A car: parked where ``path`` is one point, else driving along it from ``start_s`` on."""

    path: Annotated[Line, Field(min_length=1)]
    heading_deg: Metres = 0.0
    """Of a parked car; a driving one heads along its path."""
    speed_m_s: Annotated[float, Field(gt=0, le=40)] = 7.0
    start_s: Sigma = 0.0
    length_m: Annotated[float, Field(ge=2, le=14)] = 4.5
    width_m: Annotated[float, Field(ge=1, le=3.5)] = 1.8
    height_m: Annotated[float, Field(ge=1, le=4)] = 1.5
    warm: bool = False
    """Whether the engine of a parked car is still warm; a driving one's always is."""


@dataclass(frozen=True, slots=True, config=_CHECKED)
class Road:
    """A road along a line."""

    path: Annotated[Line, Field(min_length=2)]
    width_m: Positive = 6.0


@dataclass(frozen=True, slots=True, config=_CHECKED)
class Compound:
    """A building in one corner of a walled yard with a gate in its south wall."""

    east_m: Metres
    north_m: Metres
    size_m: Annotated[float, Field(ge=10, le=120)] = 28.0
    heading_deg: Metres = 0.0


@dataclass(frozen=True, slots=True, config=_CHECKED)
class Scenery:
    """What stands around; everything else on the ground follows from the seed."""

    roads: tuple[Road, ...] = ()
    compounds: tuple[Compound, ...] = ()
    trees_per_hectare: Annotated[float, Field(ge=0, le=200)] = 6.0


@dataclass(frozen=True, slots=True, config=_CHECKED)
class OutpostSite:
    """A watched place near the flight."""

    id: Annotated[str, Field(min_length=1)]
    name: str
    name_ur: str
    kind: OutpostKind
    east_m: Metres
    north_m: Metres
    control_room: str
    watch_radius_m: Positive = 150.0


@dataclass(frozen=True, slots=True, config=_CHECKED)
class Scenario:
    """One flight, whole: the same scenario renders the same bytes on one machine."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,60}$")]
    seed: Annotated[int, Field(ge=0)]
    start: datetime
    """With an offset, or local time in ``time_zone``."""
    duration_s: Annotated[float, Field(gt=0, le=3600)]
    origin: Origin
    fps: Annotated[int, Field(ge=1, le=60)] = 10
    time_zone: str = "Asia/Karachi"
    camera: CameraModel = CameraModel()
    terrain: TerrainModel = TerrainModel()
    waypoints: tuple[Waypoint, ...] = ()
    """One waypoint is a hover."""
    orbit: Orbit | None = None
    sway_m: Sigma = 0.3
    """How far wind moves the aircraft off its path, and in tenths of a degree the gimbal."""
    noise: PoseNoise = PoseNoise()
    weather: Weather = Weather()
    people: tuple[People, ...] = ()
    vehicles: tuple[Vehicle, ...] = ()
    outposts: tuple[OutpostSite, ...] = ()
    scenery: Scenery = field(default_factory=Scenery)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.waypoints) == (self.orbit is not None):
            raise ValueError("give either waypoints or an orbit")
        times_s = [waypoint.time_s for waypoint in self.waypoints]
        if any(later <= earlier for earlier, later in itertools.pairwise(times_s)):
            raise ValueError(f"waypoints: time_s must rise, found {times_s}")
        ids = [outpost.id for outpost in self.outposts]
        if len(set(ids)) < len(ids):
            raise ValueError(f"outposts: id must be unique, found {ids}")
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"time_zone {self.time_zone!r} is not an IANA time zone") from error
        return self

    @property
    def start_utc(self) -> datetime:
        """Return the time of the first frame."""
        aware = self.start if self.start.tzinfo else self.start.replace(tzinfo=ZoneInfo(self.time_zone))
        return aware.astimezone(UTC)

    @property
    def frame_count(self) -> int:
        """Return the number of frames, at least one."""
        return max(1, round(self.duration_s * self.fps))


def parse_scenario(values: dict[str, Any], *, source: str) -> Scenario:
    """Return the scenario that ``values`` describe.

    Raises:
        ConfigInvalid: a field is missing, unknown or out of range; the message names each one.
    """
    try:
        return TypeAdapter(Scenario).validate_python(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'scenario'}: {item['msg']} (found {item['input']!r:.80})"
            for item in error.errors(include_url=False)
        )
        raise ConfigInvalid(f"scenario {source}: {problems}") from error


def load_scenario(name_or_path: str | Path) -> Scenario:
    """Read a scenario from a TOML file, or a shipped one by its name.

    A relative ``terrain.dem`` is looked up beside the file.

    Raises:
        ConfigInvalid: there is no such scenario, it is not TOML, or a field of it is wrong.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if str(name_or_path) not in shipped_scenarios():
            known = ", ".join(shipped_scenarios())
            raise ConfigInvalid(f"scenario {str(name_or_path)!r} is neither a .toml file nor one of {known}")
        path = Path(str(_shipped_folder() / f"{name_or_path}.toml"))
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"scenario {path} cannot be read: {error}") from error
    terrain = values.get("terrain")
    if isinstance(terrain, dict) and isinstance(terrain.get("dem"), str):
        terrain["dem"] = path.parent / terrain["dem"]
    return parse_scenario(values, source=str(path))


def shipped_scenarios() -> tuple[str, ...]:
    """Return the names of the scenarios that come with Outwatch."""
    names = (entry.name for entry in _shipped_folder().iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def _shipped_folder() -> Traversable:
    return files("outwatch.simulate") / "scenarios"
