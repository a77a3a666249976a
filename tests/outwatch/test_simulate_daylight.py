"""Simulated daylight: colours, shadows, boxes that hold, and flights drawn from a seed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import Image, Modality
from outwatch.simulate import simulate
from outwatch.simulate.daylight import daylight_camera, daylight_flight
from outwatch.simulate.flight import SimulatedFlight
from outwatch.simulate.palette import sunlight_of
from outwatch.simulate.scenario import Origin, Scenario, Scenery, Vehicle, Waypoint, parse_scenario

SMALL = daylight_camera(width_px=640, height_px=360)


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> SimulatedFlight:
    """Return two frames of a random flight."""
    scenario = replace(daylight_flight(3, frames=2), camera=SMALL)
    return simulate(scenario, tmp_path_factory.mktemp("daylight"))


def frames_of(path: Path) -> list[Image]:
    """Return the frames of a clip."""
    with av.open(str(path)) as container:
        return [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in container.decode(video=0)]


def lone_car(*, name: str) -> Scenario:
    """Return one frame from 40 m straight above a car on bare ground."""
    return Scenario(
        name=name,
        seed=1,
        start=daylight_flight(0).start,
        duration_s=0.5,
        origin=Origin(33.5869, 71.4429),
        fps=2,
        camera=SMALL,
        waypoints=(Waypoint(0.0, 0.0, 0.0, 40.0, 0.0, -90.0),),
        vehicles=(Vehicle(path=((0.0, 0.0),), heading_deg=90.0),),
        scenery=Scenery(trees_per_hectare=0),
    )


def test_daylight_has_colours(flight: SimulatedFlight) -> None:
    """A clip is told to be RGB by its coloured pixels: there are many."""
    spread = np.ptp(frames_of(flight.video)[0].astype(int), axis=2)
    assert (spread > 24).mean() > 0.3


def test_the_same_seed_gives_the_same_bytes(flight: SimulatedFlight, tmp_path: Path) -> None:
    """Training data can be made again."""
    again = simulate(replace(daylight_flight(3, frames=2), camera=SMALL), tmp_path)
    assert flight.video.read_bytes() == again.video.read_bytes()
    assert daylight_flight(3) != daylight_flight(4)


def test_a_box_holds_its_car_and_the_shadow_is_outside(tmp_path: Path) -> None:
    """The truth boxes the body; its shadow darkens the ground away from the sun, outside the box."""
    with_car = simulate(lone_car(name="car"), tmp_path / "with")
    without = simulate(replace(lone_car(name="car"), vehicles=()), tmp_path / "without")
    one, other = (frames_of(flight.video)[0].astype(float) for flight in (with_car, without))
    (actor,) = json.loads(with_car.truth.read_text())["frames"][0]["actors"]
    left, top, right, bottom = (round(edge) for edge in actor["box_xyxy_px"])
    change = (one - other).mean(axis=2)
    inside = np.zeros(change.shape, bool)
    inside[top:bottom, left:right] = True
    assert np.abs(change[inside]).mean() > 20
    shaded = np.argwhere((change < -25) & ~inside)
    east, north, _ = sunlight_of(Modality.RGB, seed=1)  # type: ignore[misc]
    middle = np.array([(top + bottom) / 2, (left + right) / 2])
    down, across = shaded.mean(axis=0) - middle
    assert (np.sign(-north), np.sign(east)) == (np.sign(down), np.sign(across))


def test_frames_may_be_four_thousand_pixels_wide(tmp_path: Path) -> None:
    """Cameras of today record 3840 by 2160."""
    camera = daylight_camera(width_px=3840, height_px=2160)
    flight = simulate(replace(lone_car(name="wide"), camera=camera), tmp_path)
    assert (2160, 3840, 3) == frames_of(flight.video)[0].shape


def test_a_daylight_camera_needs_its_own_lens() -> None:
    """The thermal camera's name and angle are not taken for an RGB one's."""
    values = {
        "name": "x",
        "seed": 1,
        "start": "2026-04-02T07:00:00Z",
        "duration_s": 1,
        "origin": {"lat_deg": 33.0, "lon_deg": 71.0},
        "waypoints": [
            {"time_s": 0, "east_m": 0, "north_m": 0, "height_m": 40, "heading_deg": 0, "pitch_deg": -90}
        ],
        "camera": {"modality": "rgb"},
    }
    with pytest.raises(ConfigInvalid, match="needs its own name"):
        parse_scenario(values, source="test")
