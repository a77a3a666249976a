"""Flights with their telemetry inside the video, as surveillance aircraft write it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from ingest.sandbox import Limits
from ingest.telemetry.misb_klv import MisbKlv, read_packets
from ingest.video import probe_video
from outwatch.cli import app
from outwatch.domain.types import GeoPoint, Telemetry, TelemetrySample, TimeBase
from outwatch.simulate import SimulatedFlight, parse_scenario, simulate
from outwatch.simulate.klv import encode_packet

FLIGHT: dict[str, Any] = {
    "name": "klv", "seed": 5, "duration_s": 3, "fps": 10,
    "start": datetime.fromisoformat("2026-03-14T21:40:00"),
    "origin": {"lat_deg": 33.5, "lon_deg": 71.4}, "terrain": {"height_m": 500.0},
    "camera": {"width_px": 128, "height_px": 96},
    "waypoints": [
        {"time_s": 0, "east_m": 0, "north_m": 0, "height_m": 60, "heading_deg": 350, "pitch_deg": -40},
        {"time_s": 3, "east_m": 20, "north_m": 10, "height_m": 70, "heading_deg": 20, "pitch_deg": -60},
    ],
    "people": [{"count": 1, "east_m": 4, "north_m": 3}],
    "scenery": {"trees_per_hectare": 0},
    "outposts": [
        {
            "id": "post", "name": "Post", "name_ur": "چوکی", "kind": "police_outpost",
            "east_m": 40, "north_m": 0, "control_room": "kohat",
        },
    ],
}  # fmt: skip
START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
LIMITS = Limits(max_pixels=50_000_000, memory_mb=2048, cpu_s=60, silence_s=30)


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> SimulatedFlight:
    """Return a short turning, climbing flight over flat ground."""
    scenario = parse_scenario(FLIGHT, source="test")
    return simulate(scenario, tmp_path_factory.mktemp("klv"), telemetry_kind="klv")


@pytest.fixture(scope="module")
def telemetry(flight: SimulatedFlight) -> Telemetry:
    """Return what comes out of that flight's video."""
    return read_packets(probe_video(flight.video, limits=LIMITS).klv)


def test_a_flight_is_one_transport_stream(flight: SimulatedFlight) -> None:
    """The stream takes the place of video and subtitles, beside truth and outposts."""
    assert {path.name for path in flight.video.parent.iterdir()} == {
        "klv.ts", "klv.truth.json", "outposts.geojson",
    }  # fmt: skip
    assert flight.telemetry == flight.video


def test_pictures_are_those_of_the_other_kind(flight: SimulatedFlight, tmp_path: Path) -> None:
    """The pictures are copied, not encoded again."""
    other = simulate(parse_scenario(FLIGHT, source="test"), tmp_path)
    assert other.dem is None

    def pictures(path: Path) -> np.ndarray[Any, Any]:
        with av.open(str(path)) as container:
            return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])

    assert np.array_equal(pictures(flight.video), pictures(other.video))


def test_every_frame_has_its_pose_back(flight: SimulatedFlight, telemetry: Telemetry) -> None:
    """Place, angles and time come back from the video as the aircraft reported them."""
    truth = json.loads(flight.truth.read_text(encoding="utf-8"))
    assert len(telemetry.samples) == flight.frame_count == 30
    assert (telemetry.time_base, telemetry.skipped, telemetry.warnings) == (TimeBase.CLIP, 0, ())
    for frame in truth["frames"]:
        told, found = frame["reported_pose"], telemetry.samples[frame["index"]]
        assert found.offset_s == pytest.approx(frame["offset_s"], abs=0.5 / 10)
        assert found.at == START + timedelta(seconds=frame["offset_s"])
        assert found.point is not None
        place = (found.point.lat_deg, found.point.lon_deg)
        assert place == pytest.approx((told["lat_deg"], told["lon_deg"]), abs=1e-7)
        assert found.point.alt_m == pytest.approx(told["alt_m"], abs=0.16)
        assert found.heading_deg is not None
        assert (found.heading_deg - told["heading_deg"] + 180) % 360 == pytest.approx(180, abs=0.01)
        angles = (found.pitch_deg, found.roll_deg)
        assert angles == pytest.approx((told["pitch_deg"], told["roll_deg"]), abs=0.01)
        assert found.hfov_deg == pytest.approx(truth["camera"]["hfov_deg"], abs=0.003)


def test_the_airframe_leans_while_the_camera_does_not(telemetry: Telemetry) -> None:
    """The sensor's angles are relative to an aircraft that is not level, as a real one's."""
    first = telemetry.samples[0]
    assert (first.airframe_pitch_deg, first.airframe_roll_deg) == pytest.approx((-4.0, 2.5), abs=0.01)


def test_height_is_told_over_the_middle_of_the_picture(flight: SimulatedFlight, telemetry: Telemetry) -> None:
    """On level ground a flight needs no elevation model: KLV tells the ground's height it looks at."""
    assert flight.dem is None
    for sample in telemetry.samples:
        assert sample.point is not None
        assert sample.point.alt_m is not None
        assert sample.height_agl_m == pytest.approx(sample.point.alt_m - 500.0, abs=0.31)


def test_a_sample_without_anything_is_a_set_without_measures() -> None:
    """What is not known is left out, not written as zero."""
    bare = encode_packet(TelemetrySample(offset_s=0.0, at=START, point=None, height_agl_m=None))
    (found,) = MisbKlv().read(bare, zone=None).samples  # type: ignore[arg-type]
    assert found == TelemetrySample(offset_s=0.0, at=START, point=None, height_agl_m=None)


def test_a_text_that_is_too_long_is_refused() -> None:
    """A mission's name has at most 127 bytes."""
    with pytest.raises(ValueError, match="text of 254 bytes, at most 127 fit"):
        encode_packet(TelemetrySample(0.0, START, GeoPoint(0.0, 1.0), None), mission="ش" * 127)


def test_the_command_writes_a_transport_stream(tmp_path: Path) -> None:
    """`outwatch simulate --telemetry klv` names the stream once."""
    scenario = tmp_path / "tiny.toml"
    scenario.write_text(
        'name = "tiny"\nseed = 1\nstart = 2026-03-14T21:40:00\nduration_s = 1\nfps = 5\n'
        "[origin]\nlat_deg = 33.5\nlon_deg = 71.4\n[camera]\nwidth_px = 64\nheight_px = 64\n"
        "[[waypoints]]\ntime_s = 0\neast_m = 0\nnorth_m = 0\nheight_m = 60\n"
        "heading_deg = 0\npitch_deg = -90\n",
        encoding="utf-8",
    )
    result = CliRunner().invoke(
        app, ["simulate", str(scenario), "--out", str(tmp_path), "--telemetry", "klv"]
    )
    assert result.exit_code == 0, result.output
    printed = result.output.replace("\n", " ")
    assert printed.count("tiny.ts") == 1
    assert not (tmp_path / "tiny.mp4").exists()
