"""A flight whose compass and barometer err, from hand-in through two clicked points to its event's place."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from outwatch.domain.geometry import LocalFrame
from outwatch.domain.types import Clip, Event, EventKind, GeoPoint, TelemetrySample
from outwatch.pipeline import landing, queries, runner, wiring
from outwatch.pipeline.corrections import KnownPoint, correct_flight, pose_source
from outwatch.settings import Settings, load_settings
from outwatch.simulate import SimulatedFlight
from outwatch.simulate.view import Pose, Site, View

HEADING_DEG, HEIGHT_M = 40.0, 30.0
CLICKED_S = 5.0


def with_errors(flight: SimulatedFlight, folder: Path) -> Path:
    """Return a copy of a flight whose subtitles state another heading and height."""
    text = flight.telemetry.read_text()
    text = re.sub(r"gb_yaw: (\S+)", lambda yaw: f"gb_yaw: {float(yaw[1]) + HEADING_DEG:.1f}", text)
    text = re.sub(r"rel_alt: (\S+)", lambda up: f"rel_alt: {float(up[1]) + HEIGHT_M:.3f}", text)
    (folder / flight.telemetry.name).write_text(text)
    return Path(shutil.copy(flight.video, folder))


def known_points(clip: Clip, said: TelemetrySample) -> list[KnownPoint]:
    """Return two points as the true camera shows them, which is turned and lower than telemetry says."""
    assert said.point is not None
    assert clip.camera is not None
    heading_deg, pitch_deg, up_m = (
        value or 0.0 for value in (said.heading_deg, said.pitch_deg, said.height_agl_m)
    )
    pose = Pose(0.0, 0.0, up_m - HEIGHT_M, heading_deg - HEADING_DEG, pitch_deg)
    site = Site(said.point.lat_deg, said.point.lon_deg, 0.0)
    view = View(pose, clip.width_px, clip.height_px, said.hfov_deg or clip.camera.hfov_deg)
    points = []
    for x, y in ((60.0, 480.0), (590.0, 40.0)):
        ray = view.rays(np.array([[x, y]]))[0]
        place = site.to_geo(*(float(value) for value in pose.position_m - ray * (pose.up_m / ray[2])))
        points.append(KnownPoint(clip.id, CLICKED_S, x, y, place.lat_deg, place.lon_deg))
    return points


def away_m(events: list[Event], truth: GeoPoint) -> list[float]:
    """Return how far from a place the gatherings are put."""
    return [
        float(np.hypot(*LocalFrame.at(truth).to_local(event.fix.point.lat_deg, event.fix.point.lon_deg)))
        for event in events
        if event.kind is EventKind.GATHERING_NEAR_OUTPOST and event.fix.point is not None
    ]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Return settings for aircraft that know where they are: else steep views tell no heading."""
    return load_settings(home=settings.home, outposts=settings.outposts, ground={"position_sigma_m": 0.3})


def test_a_corrected_flight_s_event_moves_to_its_place(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight, tmp_path: Path
) -> None:
    """A gathering that was put tens of metres away, or was none, is found within ten metres of the truth."""
    landing.land(pipeline, [with_errors(gathering_flight, tmp_path)], declared={})
    runner.run_open_work(pipeline)
    (clip,) = pipeline.ledger.clips()
    (truth,) = (
        GeoPoint(event["lat_deg"], event["lon_deg"])
        for event in json.loads(gathering_flight.truth.read_text())["events"]
        if event["kind"] == "gathering_near_outpost"
    )
    before_m = away_m(queries.events(pipeline), truth)
    said = pose_source(pipeline, clip)[0](CLICKED_S)
    assert said is not None

    correct_flight(pipeline, clip.id, known_points(clip, said), who="A. Khan")
    report = runner.run_open_work(pipeline)

    assert report.failures == []
    assert all(error_m > 12 for error_m in before_m)
    (after_m,) = away_m(queries.events(pipeline), truth)
    assert after_m < 10
