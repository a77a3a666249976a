"""Where the camera truly is at every frame, and where the aircraft says it is.

Belongs here: flight paths, sway and pose noise. Not here: writing telemetry (``write.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from outwatch.simulate.scenario import Orbit, PoseNoise, Scenario, Waypoint
from outwatch.simulate.view import Pose

_SWAY_PERIODS_S = (23.0, 17.0, 29.0, 19.0, 13.0)
"""Slow and without a common period, as a multirotor holding its place in wind."""
_SWAY_DEG_PER_M = 0.6
"""Gimbals hold a third of a metre's sway to about 0.2 degrees."""


@dataclass(frozen=True, slots=True)
class FlightPath:
    """The true poses of a scenario as a function of time."""

    scenario: Scenario
    phases: tuple[float, ...]

    @classmethod
    def of(cls, scenario: Scenario) -> FlightPath:
        """Return the path of a scenario."""
        random = np.random.default_rng([scenario.seed, 2])
        return cls(scenario, tuple(random.uniform(0, 2 * math.pi, len(_SWAY_PERIODS_S))))

    def at(self, time_s: float) -> Pose:
        """Return the camera's true pose; before the first and after the last waypoint it hovers."""
        orbit = self.scenario.orbit
        pose = _on_orbit(orbit, time_s) if orbit else _between(self.scenario.waypoints, time_s)
        east, north, up, heading, pitch = (
            self.scenario.sway_m * math.sin(2 * math.pi * time_s / period + phase)
            for period, phase in zip(_SWAY_PERIODS_S, self.phases, strict=True)
        )
        return replace(
            pose,
            east_m=pose.east_m + east,
            north_m=pose.north_m + north,
            up_m=pose.up_m + up / 2,
            heading_deg=(pose.heading_deg + heading * _SWAY_DEG_PER_M) % 360,
            pitch_deg=max(-90.0, pose.pitch_deg + pitch * _SWAY_DEG_PER_M),
        )


def _between(waypoints: tuple[Waypoint, ...], time_s: float) -> Pose:
    times_s = [waypoint.time_s for waypoint in waypoints]
    headings = np.unwrap([waypoint.heading_deg for waypoint in waypoints], period=360)
    values = (
        [waypoint.east_m for waypoint in waypoints],
        [waypoint.north_m for waypoint in waypoints],
        [waypoint.height_m for waypoint in waypoints],
        headings,
        [waypoint.pitch_deg for waypoint in waypoints],
    )
    return Pose(*(float(np.interp(time_s, times_s, value)) for value in values))


def _on_orbit(orbit: Orbit, time_s: float) -> Pose:
    bearing = math.radians(orbit.start_bearing_deg) + orbit.speed_m_s * time_s / orbit.radius_m
    return Pose(
        east_m=orbit.east_m + orbit.radius_m * math.sin(bearing),
        north_m=orbit.north_m + orbit.radius_m * math.cos(bearing),
        up_m=orbit.height_m,
        heading_deg=(math.degrees(bearing) + 180) % 360,
        pitch_deg=-math.degrees(math.atan2(orbit.height_m, orbit.radius_m)),
    )


@dataclass(slots=True)
class Reporter:
    """Reports poses with a bias that is constant over a flight, and jitter on top."""

    noise: PoseNoise
    random: np.random.Generator
    bias: np.ndarray[tuple[int], np.dtype[np.float64]]

    @classmethod
    def of(cls, noise: PoseNoise, random: np.random.Generator) -> Reporter:
        """Draw a flight's bias."""
        return cls(noise, random, random.standard_normal(6))

    def report(self, pose: Pose) -> Pose:
        """Return what the aircraft says of a true pose."""
        noise = self.noise
        sigmas = np.array(
            [
                noise.position_sigma_m, noise.position_sigma_m, noise.height_sigma_m,
                noise.heading_sigma_deg, noise.tilt_sigma_deg, noise.tilt_sigma_deg,
            ]
        )  # fmt: skip
        errors = sigmas * (self.bias + noise.jitter * self.random.standard_normal(6))
        east, north, up, heading, pitch, roll = errors.tolist()
        return Pose(
            east_m=pose.east_m + east,
            north_m=pose.north_m + north,
            up_m=pose.up_m + up,
            heading_deg=(pose.heading_deg + heading) % 360,
            pitch_deg=max(-90.0, pose.pitch_deg + pitch),  # no gimbal reports more than straight down
            roll_deg=pose.roll_deg + roll,
        )
