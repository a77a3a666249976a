"""``outwatch correct`` and ``outwatch frame``: from a clicked point to the poses of a flight's clips."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from outwatch.cli import app
from outwatch.commands.corrections import parse_point
from outwatch.domain.errors import LeaseLost
from outwatch.domain.types import Clip, Outcome, TelemetrySample
from outwatch.pipeline import landing, steps, wiring
from outwatch.pipeline.corrections import correction_notes, pose_source
from outwatch.pipeline.registration import stored_telemetry
from outwatch.simulate import PoseNoise, load_scenario, simulate
from outwatch.simulate.view import Pose, Site, View
from storage import keys, schemas
from storage.keys import Part
from storage.lake import parquet_bytes

HEADING_DEG, HEIGHT_M = 4.0, 6.0
RUN = CliRunner()


@pytest.fixture
def flight(home: Path, tmp_path: Path) -> Iterator[tuple[wiring.Pipeline, Clip]]:
    """Register a second of flight whose telemetry is exact; its work on the clip counts as done."""
    exact = PoseNoise(0, 0, 0, 0, 0)
    scenario = load_scenario("demo_gathering")
    # Straight down, a position that is off by metres hides any heading.
    oblique = replace(scenario.waypoints[0], pitch_deg=-40.0)
    scenario = replace(scenario, duration_s=1.0, noise=exact, sway_m=0.0, waypoints=(oblique,))
    flown = simulate(scenario, tmp_path / "flight")
    with wiring.open_pipeline() as pipeline:
        (landed,) = landing.land(pipeline, [flown.video], declared={})
        assert landed.upload_id is not None
        steps.ingest_footage(pipeline, landed.upload_id)
        (clip,) = pipeline.ledger.clips()
        claim = pipeline.ledger.claim("detect_clips", clip.id)
        assert claim is not None
        pipeline.ledger.complete(claim, Outcome("detect_clips", clip.id))
        yield pipeline, clip


def points(clip: Clip, said: TelemetrySample) -> list[str]:
    """Return two points as a camera shows them that is turned and lower than telemetry says."""
    assert said.point is not None
    assert clip.camera is not None
    values = said.heading_deg, said.pitch_deg, said.height_agl_m
    heading_deg, pitch_deg, up_m = (value or 0.0 for value in values)
    pose = Pose(0.0, 0.0, up_m - HEIGHT_M, heading_deg - HEADING_DEG, pitch_deg)
    site = Site(said.point.lat_deg, said.point.lon_deg, 0.0)
    hfov_deg = said.hfov_deg or clip.camera.hfov_deg
    options = []
    for x, y in ((80.0, 440.0), (570.0, 90.0)):
        ray = View(pose, clip.width_px, clip.height_px, hfov_deg).rays(np.array([[x, y]]))[0]
        east_m, north_m, _ = pose.position_m - ray * (pose.up_m / ray[2])
        place = site.to_geo(float(east_m), float(north_m), 0.0)
        options += ["--point", f"{clip.id}@0.5:{x:g},{y:g}={place.lat_deg:.8f},{place.lon_deg:.8f}"]
    return options


def test_two_points_correct_every_pose_of_the_flight(flight: tuple[wiring.Pipeline, Clip]) -> None:
    """Poses turn and sink by what the points ask for, the clip is open again, and the revision names who."""
    pipeline, clip = flight
    before, _ = pose_source(pipeline, clip)
    said = before(0.5)
    assert said is not None

    answer = RUN.invoke(app, ["correct", clip.id, *points(clip, said), "--who", "A. Khan", "--json"])

    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert (told["flight_id"], told["revision"], told["who"]) == (clip.flight_id, 1, "A. Khan")
    assert told["reopened"] == [clip.id]
    after, locator = pose_source(pipeline, clip)
    now = after(0.5)
    assert now is not None
    assert ((now.heading_deg or 0) - (said.heading_deg or 0) + 180) % 360 - 180 == pytest.approx(
        -HEADING_DEG, abs=0.1
    )
    assert (now.height_agl_m or 0) - (said.height_agl_m or 0) == pytest.approx(-HEIGHT_M, abs=0.1)
    assert locator.budget.heading_sigma_deg == told["correction"]["heading_sigma_deg"]


def test_work_that_began_without_the_correction_is_begun_anew(flight: tuple[wiring.Pipeline, Clip]) -> None:
    """Who looks at the clip or at a part of it at that moment loses the claim."""
    pipeline, clip = flight
    said = pose_source(pipeline, clip)[0](0.5)
    assert said is not None
    part = ("detect_parts", Part(clip.id, 1, 2).subject)
    pipeline.ledger.open_work(*part)
    pipeline.ledger.reopen("detect_clips", clip.id)
    claims = [pipeline.ledger.claim(*work) for work in (("detect_clips", clip.id), part)]

    RUN.invoke(app, ["correct", clip.id, *points(clip, said)])

    for claim in claims:
        assert claim is not None
        with pytest.raises(LeaseLost):
            pipeline.ledger.complete(claim, Outcome(claim.step, claim.subject))
        assert pipeline.ledger.open_subjects(claim.step) == [claim.subject]


def test_other_telemetry_voids_the_correction_and_says_so(flight: tuple[wiring.Pipeline, Clip]) -> None:
    """The offsets belong to what the instruments said; a clock that is put right leaves them."""
    pipeline, clip = flight
    said = pose_source(pipeline, clip)[0](0.5)
    assert said is not None
    RUN.invoke(app, ["correct", clip.id, *points(clip, said)])
    telemetry = stored_telemetry(pipeline, clip)

    def poses_after(**change: Any) -> TelemetrySample | None:
        samples = tuple(replace(sample, **change) for sample in telemetry.samples)
        key = keys.footage(clip.id, dt=keys.dt_of(clip.started_at), name="telemetry.parquet")
        table = schemas.telemetry_table(replace(telemetry, samples=samples))
        pipeline.store.put(key, parquet_bytes(table, software="test", metadata={}))
        return pose_source(pipeline, clip)[0](0.5)

    late = poses_after(at=datetime(2026, 3, 1, tzinfo=UTC))
    assert late is not None
    assert late.height_agl_m == pytest.approx((said.height_agl_m or 0) - HEIGHT_M, abs=0.1)
    assert correction_notes(pipeline, clip) == ()
    other = poses_after(height_agl_m=70.0)
    assert other is not None
    assert (other.height_agl_m, other.heading_deg) == (70.0, said.heading_deg)
    assert "made of other telemetry" in correction_notes(pipeline, clip)[0]


def test_a_removed_correction_stays_on_record(flight: tuple[wiring.Pipeline, Clip]) -> None:
    """Telemetry stands as it came, and both revisions are listed."""
    pipeline, clip = flight
    said = pose_source(pipeline, clip)[0](0.5)
    assert said is not None
    RUN.invoke(app, ["correct", clip.flight_id, *points(clip, said)])

    removed = RUN.invoke(app, ["correct", clip.flight_id, "--remove"])
    shown = RUN.invoke(app, ["correct", clip.flight_id, "--show", "--json"])
    again = RUN.invoke(app, ["correct", clip.flight_id, "--remove"])

    assert removed.exit_code == 0, removed.output
    assert pose_source(pipeline, clip)[0](0.5) == said
    assert [row["correction"] is None for row in json.loads(shown.stdout)] == [False, True]
    assert again.exit_code == 1
    assert "no correction to remove" in again.stderr


def test_what_gives_no_correction_changes_nothing(flight: tuple[wiring.Pipeline, Clip]) -> None:
    """One point, a point of another clip, a pixel outside the frame: refused with the reason."""
    pipeline, clip = flight
    said = pose_source(pipeline, clip)[0](0.5)
    assert said is not None
    one = points(clip, said)[:2]
    stranger = ["--point", one[1].replace(clip.id, "f" * 16)]
    outside = ["--point", one[1].replace(":80,", ":8000,")]

    words = [
        RUN.invoke(app, ["correct", clip.id, *chosen]).stderr.replace("\n", " ")
        for chosen in (one, [*one, *stranger], [*one, *outside])
    ]

    assert "two known points or more" in words[0]
    assert "is not of flight" in words[1]
    assert "outside clip" in words[2]
    assert pipeline.corrections.revisions(clip.flight_id) == []


def test_a_frame_comes_with_rulers_and_the_words_for_a_point(
    flight: tuple[wiring.Pipeline, Clip], tmp_path: Path
) -> None:
    """The picture is the frame, enlarged, with a grid; past the end there is none."""
    _, clip = flight

    answer = RUN.invoke(app, ["frame", clip.id, "0.5", "--out", str(tmp_path / "still.png")])
    beyond = RUN.invoke(app, ["frame", clip.id, "60", "--out", str(tmp_path / "none.png")])

    assert answer.exit_code == 0, answer.output
    assert f"--point {clip.id}@0.500:X,Y=LAT,LON" in answer.stdout.replace("\n", " ")
    picture = cv2.imread(str(tmp_path / "still.png"))
    assert picture is not None
    assert picture.shape == (2 * clip.height_px, 2 * clip.width_px, 3)
    assert beyond.exit_code == 1
    assert not (tmp_path / "none.png").exists()


def test_a_point_s_words_are_read_whole_or_not_at_all() -> None:
    """Clip, seconds, pixel, place, and a height where there is one."""
    point = parse_point("0123456789abcdef@12.5:320,240.5=33.5,-71.25,512")

    assert point == {
        "clip_id": "0123456789abcdef",
        "offset_s": 12.5,
        "x_px": 320.0,
        "y_px": 240.5,
        "lat_deg": 33.5,
        "lon_deg": -71.25,
        "alt_m": 512.0,
    }
    for wrong in ("0123@1:1,1=33,71", "0123456789abcdef@1:1,1=133,71", "0123456789abcdef@1:1,1=33,71,2,3"):
        with pytest.raises(typer.BadParameter):
            parse_point(wrong)
