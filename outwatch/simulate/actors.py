"""The people and vehicles of a scenario: where they are at a time, and what they are made of.

Belongs here: motion and bodies in metres. Not here: their tones (``palette.py``), projection and drawing
(``render.py``). People are made of capsules, vehicles of chamfered boxes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from outwatch.domain.types import Modality
from outwatch.simulate.palette import CarTones, Look, dressed_look, painted_car, warm_car, warm_look
from outwatch.simulate.scenario import People, Scenario, Vehicle
from outwatch.simulate.shapes import Part, capsule, lid_at, outline, prism
from outwatch.simulate.view import Floats

_GOLDEN_RAD = math.pi * (3 - math.sqrt(5))
_STRIDE_M = 0.75
_BRAKE_M_S2 = 2.0
_STEP_S = 0.1
"""Grid of driven paths; between its points cars run straight."""
_WHEELBASE = 0.6
"""Of a car's length."""


@dataclass(frozen=True, slots=True)
class Stance:
    """Where a body stands and how: metres, heading in radians clockwise from north, metres gone."""

    east_m: float
    north_m: float
    heading_rad: float
    gone_m: float
    moving: bool


@dataclass(frozen=True, slots=True)
class Actor:
    """A person or a car over the length of a flight."""

    label: str
    height_m: float
    stance: Callable[[float], Stance]
    body: Callable[[Stance], list[Part]]
    """Parts as (right, ahead, up) of the place on the ground, in the order in which to draw them."""


@dataclass(frozen=True, slots=True)
class _Track:
    """Straight lines between known places, with slow milling about them."""

    times_s: Floats
    places_m: Floats
    facing_rad: float
    mill_m: float = 0.0
    phase_rad: float = 0.0

    def place(self, time_s: float) -> tuple[float, float]:
        mill_east = self.mill_m * math.sin(time_s / 3.1 + self.phase_rad)
        mill_north = self.mill_m * math.sin(time_s / 4.3 + 2 * self.phase_rad)
        east = float(np.interp(time_s, self.times_s, self.places_m[:, 0])) + mill_east
        north = float(np.interp(time_s, self.times_s, self.places_m[:, 1])) + mill_north
        return east, north

    def walking(self, time_s: float) -> Stance:
        east, north = self.place(time_s)
        before_east, before_north = self.place(time_s - _STEP_S)
        moved_m = math.hypot(east - before_east, north - before_north)
        moving = moved_m > 0.3 * _STEP_S
        heading = math.atan2(east - before_east, north - before_north) if moving else self.facing_rad
        return Stance(east, north, heading, moved_m / _STEP_S * time_s, moving)


def actors_of(scenario: Scenario) -> list[Actor]:
    """Return everyone in a scenario, people first."""
    random = np.random.default_rng([scenario.seed, 3])
    modality = scenario.camera.modality
    people = [person for group in scenario.people for person in _group(group, random, modality)]
    return people + [_car(vehicle, random, modality) for vehicle in scenario.vehicles]


def _group(group: People, random: np.random.Generator, modality: Modality) -> list[Actor]:
    """Spread a group like seeds of a sunflower, so that nobody stands in another."""
    turn = random.uniform(0, 2 * math.pi)
    spacing_m = group.spread_m * math.sqrt(math.pi / group.count)
    members = []
    for number in range(group.count):
        angle = turn + number * _GOLDEN_RAD
        radius_m = group.spread_m * math.sqrt((number + 0.5) / group.count)
        offset = radius_m * np.array([math.sin(angle), math.cos(angle)])
        offset += random.uniform(-0.15, 0.15, 2) * spacing_m
        if group.count == 1:
            offset[:] = 0.0
        track = _member_track(group, offset, spacing_m, random)
        members.append(_person(track, random, modality))
    return members


def _member_track(group: People, offset: Floats, spacing_m: float, random: np.random.Generator) -> _Track:
    home = np.array([group.east_m, group.north_m]) + offset
    facing, phase, bearing = random.uniform(0, 2 * math.pi, 3)
    speed = group.speed_m_s * random.uniform(0.9, 1.1)
    mill = 0.05 if group.motion == "stand" else min(0.8, 0.3 * spacing_m)
    away = home + group.range_m * np.array([math.sin(bearing), math.cos(bearing)])
    walk_s = group.range_m / speed
    if group.motion == "walk":
        places = np.array(group.path) + offset
        legs_m = np.hypot(*np.diff(places, axis=0).T)
        times = np.concatenate([[0.0], np.cumsum(legs_m)]) / group.speed_m_s
        return _Track(times, places, facing, 0.1, phase)
    if group.motion == "arrive":
        at_s = group.at_s * random.uniform(0.7, 1.0)
        return _Track(np.array([at_s - walk_s, at_s]), np.array([away, home]), facing, mill, phase)
    if group.motion == "disperse":
        at_s = group.at_s + random.uniform(0, 3)
        return _Track(np.array([at_s, at_s + walk_s]), np.array([home, away]), facing, mill, phase)
    return _Track(np.zeros(1), home[None], facing, mill, phase)


def _person(track: _Track, random: np.random.Generator, modality: Modality) -> Actor:
    height_m = random.normal(1.70, 0.06)
    build = random.normal(1.0, 0.06)
    look = dressed_look(random) if modality is Modality.RGB else warm_look(random)

    def body(stance: Stance) -> list[Part]:
        return person_parts(stance, height_m=height_m, build=build, look=look)

    return Actor("person", height_m, track.walking, body)


def person_parts(stance: Stance, *, height_m: float, build: float, look: Look) -> list[Part]:
    """Return a person in loose clothes as capsules: legs and arms in stride, torso, shoulders, head."""
    stride = math.sin(math.pi * stance.gone_m / _STRIDE_M) if stance.moving else 0.25
    left, right = look.arms_m
    scale = height_m / 1.70
    width = build * scale
    # right, ahead, up of both ends in metres at 1.70 m; radii; tone
    capsules = (
        ((-0.09, 0, 0.85), (-0.10, 0.28 * stride, 0.07), 0.085, 0.065, look.legs),
        ((0.09, 0, 0.85), (0.10, -0.28 * stride, 0.07), 0.085, 0.065, look.legs),
        ((-0.22, 0, 1.36), (-0.31, left - 0.20 * stride, 0.92), 0.065, 0.055, look.arms),
        ((0.22, 0, 1.36), (0.31, right + 0.20 * stride, 0.92), 0.065, 0.055, look.arms),
        ((0, 0, 0.62), (0, 0.02, 1.28), 0.19, 0.18, look.torso),
        ((-0.14, 0, 1.36), (0.14, 0, 1.36), 0.115, 0.115, look.shoulders),
        ((0, 0.03, 1.56), (0, 0.03, 1.57), 0.11, 0.11, look.head),
        ((0, 0.0, 1.61), (0, 0.0, 1.62), 0.085, 0.085, look.hair),
    )
    size = np.array([width, width, scale])
    return [
        capsule(
            np.array(start) * size,
            np.array(end) * size,
            radii_m=(start_radius * width, end_radius * width),
            level=level,
        )
        for start, end, start_radius, end_radius, level in capsules
    ]


def _car(vehicle: Vehicle, random: np.random.Generator, modality: Modality) -> Actor:
    driving = len(vehicle.path) > 1
    places, times = _drive(vehicle) if driving else _parked(vehicle)
    running = driving or vehicle.warm
    tones = painted_car(random) if modality is Modality.RGB else warm_car(random, running=running)

    def stance(time_s: float) -> Stance:
        east, north, heading = (float(np.interp(time_s, times, column)) for column in places.T)
        return Stance(east, north, heading, 0.0, driving)

    size_m = (vehicle.length_m, vehicle.width_m, vehicle.height_m)
    parts = car_parts(size_m=size_m, tones=tones)

    def body(stance: Stance) -> list[Part]:  # noqa: ARG001 a car does not change its shape
        return parts

    return Actor("car", vehicle.height_m, stance, body)


def _parked(vehicle: Vehicle) -> tuple[Floats, Floats]:
    return np.array([[*vehicle.path[0], math.radians(vehicle.heading_deg)]]), np.zeros(1)


def _drive(vehicle: Vehicle) -> tuple[Floats, Floats]:
    """Return (east, north, heading) over time along the path, braking to a stop at its end."""
    path = np.array(vehicle.path)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    length_m, speed = float(along[-1]), vehicle.speed_m_s
    brake_m = min(speed**2 / (2 * _BRAKE_M_S2), length_m)
    entry_speed = math.sqrt(2 * _BRAKE_M_S2 * brake_m)
    cruise_s, brake_s = (length_m - brake_m) / speed, entry_speed / _BRAKE_M_S2
    times = np.append(np.arange(0, cruise_s + brake_s, _STEP_S), cruise_s + brake_s)
    left_s = np.clip(cruise_s + brake_s - times, 0, brake_s)
    gone = np.where(times < cruise_s, times * speed, length_m - _BRAKE_M_S2 * left_s**2 / 2)
    axle_m = vehicle.length_m * _WHEELBASE / 2
    rear, front = (_along(path, along, gone + offset) for offset in (-axle_m, axle_m))
    heading = np.unwrap(np.arctan2(front[:, 0] - rear[:, 0], front[:, 1] - rear[:, 1]))
    return np.column_stack([(rear + front) / 2, heading]), times + vehicle.start_s


def _along(path: Floats, along: Floats, gone: Floats) -> Floats:
    """Return places at distances along a path, which goes on straight beyond both ends."""
    first = (path[1] - path[0]) / (along[1] - along[0])
    last = (path[-1] - path[-2]) / (along[-1] - along[-2])
    inside = np.column_stack([np.interp(gone, along, path[:, axis]) for axis in (0, 1)])
    before = np.minimum(gone, 0)[:, None] * first
    beyond = np.maximum(gone - along[-1], 0)[:, None] * last
    return np.asarray(inside + before + beyond)


def car_parts(*, size_m: tuple[float, float, float], tones: CarTones) -> list[Part]:
    """Return a car as faces: sill with tyres, body, hood, cabin of glass under a roof."""
    length, width, height = size_m
    deck_m = 0.6 * height
    body = outline(back_m=-length / 2, front_m=length / 2, width_m=width, chamfer_m=0.35)
    bonnet = outline(back_m=0.2 * length, front_m=0.485 * length, width_m=0.86 * width, chamfer_m=0.25)
    glass = outline(back_m=-0.43 * length, front_m=0.24 * length, width_m=0.9 * width, chamfer_m=0.2)
    roof = outline(back_m=-0.34 * length, front_m=0.08 * length, width_m=0.74 * width, chamfer_m=0.2)
    return [
        *prism(body, low_m=0.08 * height, high_m=0.28 * height, sides=tones.sill, lid=tones.sill),
        *prism(body, low_m=0.28 * height, high_m=deck_m, sides=tones.sides, lid=tones.deck),
        lid_at(bonnet, height_m=deck_m, level=tones.hood),
        *prism(glass, low_m=deck_m, high_m=height, sides=tones.glass, lid=tones.roof, top=roof),
    ]
