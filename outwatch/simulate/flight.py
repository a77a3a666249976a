"""Flies a scenario: renders every frame and writes video, telemetry, truth and outposts.

Belongs here: the order of things. Not here: any of the things.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import structlog

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import TelemetrySample
from outwatch.simulate.actors import Actor, actors_of
from outwatch.simulate.klv import encode_packet, write_ts
from outwatch.simulate.palette import palette_of, sunlight_of
from outwatch.simulate.path import FlightPath, Reporter
from outwatch.simulate.render import Renderer
from outwatch.simulate.scenario import Scenario
from outwatch.simulate.scenery import paint_ground, solids_of
from outwatch.simulate.sensors import sensor_of
from outwatch.simulate.terrain import FlatSurface, GridSurface, Surface, invent_relief, read_dem, write_dem
from outwatch.simulate.truth import (
    TRUTH_INTERVAL_S,
    TruthEvent,
    TruthFrame,
    TruthRules,
    derive_events,
    truth_json,
)
from outwatch.simulate.view import Floats, Pose, Site, View
from outwatch.simulate.write import open_video, outposts_geojson, srt_block, write_json

_PAINTED_M = 450.0
"""Ground farther from the camera is the mirror image of nearer ground: it is a few pixels high."""
_MARGIN_M = 10.0
_LEAN_DEG = (-4.0, 2.5)
"""Pitch and roll of the airframe: a multirotor leans into the wind while its gimbal stays as it was told."""
TelemetryKind = Literal["srt", "klv"]
"""Subtitles beside an MP4 as DJI aircraft write, or MISB ST 0601 inside a transport stream."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SimulatedFlight:
    """The files of one flight and what should be found in them."""

    video: Path
    telemetry: Path
    """The subtitles; the video itself where it carries its telemetry."""
    truth: Path
    outposts: Path
    dem: Path | None
    """Heights of the ground where it is not flat."""
    frame_count: int
    events: tuple[TruthEvent, ...]


def simulate(
    scenario: Scenario,
    out_dir: Path,
    *,
    telemetry_kind: TelemetryKind = "srt",
    progress: Callable[[int, int], None] | None = None,
) -> SimulatedFlight:
    """Render a scenario to ``<name>.mp4``, ``.SRT``, ``.truth.json`` and ``outposts.geojson``.

    With KLV telemetry ``<name>.ts`` takes the place of the first two. Invented relief is written to
    ``<name>.dem.tif``, as is flat ground under a flight with KLV, which tells heights above the sea only.
    The same scenario gives the same bytes.

    Args:
        scenario: the flight.
        out_dir: folder for the files; made where missing.
        telemetry_kind: how the aircraft reports its camera's pose.
        progress: called with frames done and frames in all.

    Raises:
        ConfigInvalid: an actor, an outpost or the camera is outside the DEM or under its ground.
    """
    site, surface = ground_of(scenario)
    path, actors = FlightPath.of(scenario), actors_of(scenario)
    reporter = Reporter.of(scenario.noise, np.random.default_rng([scenario.seed, 8]))
    times_s = np.arange(scenario.frame_count) / scenario.fps
    poses = [path.at(float(time_s)) for time_s in times_s]
    _check_ground(scenario, surface=surface, poses=poses, actors=actors)
    renderer = renderer_of(scenario, surface=surface, poses=poses, actors=actors)
    out_dir.mkdir(parents=True, exist_ok=True)
    video, truth = (out_dir / f"{scenario.name}{suffix}" for suffix in (".mp4", ".truth.json"))
    every = max(1, round(TRUTH_INTERVAL_S * scenario.fps))
    told, frames = [], []
    with open_video(video, scenario=scenario) as write:
        for index, pose in enumerate(poses):
            time_s = float(times_s[index])
            image, seen = renderer.frame(view_of(scenario, pose), index=index, time_s=time_s)
            write(scenario.weather.apply(image, seed=scenario.seed, index=index))
            reported = _as_written(reporter.report(pose))
            told.append(reported)
            if index % every == 0:
                frames.append(TruthFrame(index, time_s, pose, reported, tuple(seen)))
            if progress is not None:
                progress(index + 1, len(poses))
    report = _with_klv if telemetry_kind == "klv" else _with_subtitles
    video, telemetry = report(video, told, scenario=scenario, site=site)
    events = derive_events(scenario, frames=frames, site=site, rules=TruthRules())
    write_json(truth, truth_json(scenario, frames=frames, events=events, site=site))
    outposts = out_dir / "outposts.geojson"
    write_json(outposts, outposts_geojson(scenario, site))
    dem = scenario.terrain.dem
    if dem is None and isinstance(surface, GridSurface):
        dem = out_dir / f"{scenario.name}.dem.tif"
        write_dem(dem, site=site, surface=surface)
    log.info("flight_simulated", scenario=scenario.name, frames=len(poses), events=len(events))
    return SimulatedFlight(video, telemetry, truth, outposts, dem, len(poses), events)


def view_of(scenario: Scenario, pose: Pose) -> View:
    """Return a pose seen through the scenario's camera."""
    camera = scenario.camera
    return View(pose, camera.width_px, camera.height_px, camera.hfov_deg)


def _as_written(pose: Pose) -> Pose:
    """Round angles and heights as the subtitles do, so that the truth holds what a reader gets."""
    return replace(
        pose,
        up_m=round(pose.up_m, 3),
        heading_deg=round(pose.heading_deg, 1) % 360,
        pitch_deg=round(pose.pitch_deg, 1),
        roll_deg=round(pose.roll_deg, 1),
    )


def _with_subtitles(video: Path, poses: list[Pose], *, scenario: Scenario, site: Site) -> tuple[Path, Path]:
    """Write poses beside a video; return it and its telemetry."""
    telemetry = video.with_suffix(".SRT")
    blocks = (srt_block(index, pose, scenario=scenario, site=site) for index, pose in enumerate(poses))
    telemetry.write_text("\n".join(blocks), encoding="utf-8")
    return video, telemetry


def _with_klv(video: Path, poses: list[Pose], *, scenario: Scenario, site: Site) -> tuple[Path, Path]:
    """Put a video into a transport stream with its poses; return that, which is its own telemetry."""
    packets = (
        (index / scenario.fps, _packet(pose, index / scenario.fps, scenario=scenario, site=site))
        for index, pose in enumerate(poses)
    )
    stream = video.with_suffix(".ts")
    write_ts(video, packets, out=stream)
    video.unlink()
    return stream, stream


def _packet(pose: Pose, offset_s: float, *, scenario: Scenario, site: Site) -> bytes:
    """Return a pose as KLV, with the middle of the picture where the ground is level."""
    flat = scenario.terrain.dem is None and scenario.terrain.relief_m == 0
    centre = None
    if flat and pose.pitch_deg < 0:
        away_m = pose.up_m / math.tan(math.radians(-pose.pitch_deg))
        heading = math.radians(pose.heading_deg)
        centre = site.to_geo(
            pose.east_m + away_m * math.sin(heading), pose.north_m + away_m * math.cos(heading), 0.0
        )
    sample = TelemetrySample(
        offset_s=offset_s,
        at=scenario.start_utc + timedelta(seconds=offset_s),
        point=site.to_geo(pose.east_m, pose.north_m, pose.up_m),
        height_agl_m=pose.up_m,
        heading_deg=pose.heading_deg,
        pitch_deg=pose.pitch_deg,
        roll_deg=pose.roll_deg,
        hfov_deg=scenario.camera.hfov_deg,
        airframe_heading_deg=pose.heading_deg,
        airframe_pitch_deg=_LEAN_DEG[0],
        airframe_roll_deg=_LEAN_DEG[1],
    )
    return encode_packet(sample, centre=centre)


def ground_of(scenario: Scenario) -> tuple[Site, Surface]:
    """Return the local map of a scenario and the ground in it."""
    origin, terrain = scenario.origin, scenario.terrain
    if terrain.dem is not None:
        return read_dem(terrain.dem, lat_deg=origin.lat_deg, lon_deg=origin.lon_deg)
    site = Site(origin.lat_deg, origin.lon_deg, terrain.height_m)
    if terrain.relief_m > 0:
        return site, invent_relief(
            relief_m=terrain.relief_m, scale_m=terrain.relief_scale_m, seed=scenario.seed
        )
    return site, FlatSurface()


def _check_ground(scenario: Scenario, *, surface: Surface, poses: list[Pose], actors: list[Actor]) -> None:
    """Refuse places off the known ground, and cameras in it."""
    places = {
        "camera": np.array([[pose.east_m, pose.north_m, pose.up_m] for pose in poses]),
        "people or vehicles": _haunts(scenario, actors),
        "outposts": np.array([[post.east_m, post.north_m] for post in scenario.outposts]).reshape(-1, 2),
        "scenery.compounds": np.array(
            [[place.east_m, place.north_m] for place in scenario.scenery.compounds]
        ).reshape(-1, 2),
    }
    for name, where in places.items():
        heights = surface.heights_m(where[:, 0], where[:, 1])
        if not np.isfinite(heights).all():
            east, north = where[np.argmin(np.isfinite(heights)), :2]
            raise ConfigInvalid(
                f"scenario {scenario.name}: {name} at {east:.0f} m east, {north:.0f} m north of take-off "
                "lies outside the terrain; move it or give a larger DEM"
            )
        if name == "camera" and np.any(where[:, 2] <= heights):
            raise ConfigInvalid(
                f"scenario {scenario.name}: the camera flies into the ground, {np.max(heights):.0f} m above "
                "take-off; raise height_m"
            )


def _haunts(scenario: Scenario, actors: list[Actor]) -> Floats:
    """Return where actors are at every second of the flight, (N, 2)."""
    stances = [
        actor.stance(float(time_s)) for actor in actors for time_s in np.arange(0, scenario.duration_s + 1)
    ]
    return np.array([[stance.east_m, stance.north_m] for stance in stances]).reshape(-1, 2)


def renderer_of(scenario: Scenario, *, surface: Surface, poses: list[Pose], actors: list[Actor]) -> Renderer:
    """Return what draws a scenario as seen from any of some poses."""
    bounds = _footprint_m(scenario, surface, poses[:: scenario.fps])
    return Renderer(
        surface=surface,
        ground=paint_ground(scenario, bounds_m=bounds),
        solids=solids_of(scenario, surface=surface, bounds_m=bounds, keep_clear_m=_haunts(scenario, actors)),
        actors=actors,
        sensor=sensor_of(scenario.camera, seed=scenario.seed),
        sky=palette_of(scenario.camera.modality).sky,
        sunlight=sunlight_of(scenario.camera.modality, seed=scenario.seed),
    )


def _footprint_m(
    scenario: Scenario, surface: Surface, poses: list[Pose]
) -> tuple[float, float, float, float]:
    """Return (west, south, east, north) of the ground that the camera sees, within ``_PAINTED_M``."""
    places = []
    for pose in poses:
        view = view_of(scenario, pose)
        right, bottom = view.width_px, view.height_px
        corners = np.array([(0, 0), (right, 0), (right, bottom), (0, bottom)], np.float64)
        rays = view.rays(corners)
        level = np.hypot(rays[:, 0], rays[:, 1])
        depth = np.minimum(surface.depths_m(pose.position_m, rays), _PAINTED_M / level)
        places.append((pose.position_m + rays * depth[:, None])[:, :2])
    west, south = np.min(np.concatenate(places), axis=0) - _MARGIN_M
    east, north = np.max(np.concatenate(places), axis=0) + _MARGIN_M
    return float(west), float(south), float(east), float(north)
