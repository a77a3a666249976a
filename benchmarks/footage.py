"""Footage to measure speed on: simulated flights at the size and bit rate of real cameras, made once.

Belongs here: which flights, and how their pictures become long H.264 clips in minutes instead of hours.
Not here: pictures, truth and telemetry (``outwatch.simulate``) and the measurement (``speed.py``).

The simulator draws two pictures a second; each is held for half a second, and every frame gets fresh
sensor noise, so that a codec has as much to write as from a camera. The aircraft hovers and turns from
view to view. Where nothing happens a view's first few seconds are coded once and repeated, packet by packet:
each second is a closed group of pictures, and a decoder does the same work for it every time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from outwatch.domain.types import OutpostKind
from outwatch.simulate.actors import actors_of
from outwatch.simulate.flight import ground_of, renderer_of, view_of
from outwatch.simulate.path import FlightPath, Reporter
from outwatch.simulate.render import Seen
from outwatch.simulate.scenario import (
    CameraModel,
    Compound,
    Origin,
    OutpostSite,
    People,
    Road,
    Scenario,
    Scenery,
    Vehicle,
    Waypoint,
)
from outwatch.simulate.truth import TruthFrame, TruthRules, derive_events, truth_json
from outwatch.simulate.view import Pose, Site
from outwatch.simulate.write import outposts_geojson, srt_block, write_json

RECIPE = 1
"""To be raised with what else changes the clips: those in a cache are then made anew."""
FPS = 30
LOOKS_A_SECOND = 2
VARIANTS = 4
"""Different seconds of an empty view: its noise comes back after so many."""
NOISE_TILES, NOISE_REACH_PX = 8, 128
"""Pictures of noise, and how far they are shifted at random: noise must not repeat from frame to frame."""
TURN_S = 2
HEIGHT_M, PITCH_DEG = 60.0, -45.0
CAMERA = "DJI Mavic 3 wide"
"""What is declared of the clips, for want of a thermal camera of such a size."""
_START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Work:
    """What one clip holds: a view after the other, in seconds."""

    name: str
    width_px: int
    height_px: int
    hfov_deg: float
    mbit_s: int
    noise: float
    """Standard deviation in grey levels of the noise that each frame has of its own."""
    views: tuple[tuple[float, int], ...]
    """Heading in degrees and the second from which the camera looks there."""
    duration_s: int
    passes_at_s: int | None
    """When a vehicle drives through the northern view; None where none does."""


LONG = Work(
    name="hd_10min",
    width_px=1920,
    height_px=1080,
    hfov_deg=24.6,
    mbit_s=12,
    noise=3.0,
    views=((0, 0), (90, 150), (180, 187), (270, 300), (0, 337)),
    duration_s=600,
    passes_at_s=460,
)
"""Ten minutes of 1080p: two gatherings of 35 s and a vehicle that drives by."""
LARGE = Work(
    name="uhd_2min",
    width_px=3840,
    height_px=2160,
    hfov_deg=46.0,
    mbit_s=40,
    noise=3.0,
    views=((0, 0), (90, 30), (180, 62)),
    duration_s=120,
    passes_at_s=16,
)
"""Two minutes of 4K: a vehicle, then a gathering of 30 s."""
QUICK = Work(
    name="quick_1min",
    width_px=1280,
    height_px=720,
    hfov_deg=24.6,
    mbit_s=6,
    noise=3.0,
    views=((0, 0), (90, 12), (180, 36)),
    duration_s=60,
    passes_at_s=None,
)
"""One minute at 720p with one gathering, for tests."""
WORKS = {work.name: work for work in (LONG, LARGE, QUICK)}


@dataclass(frozen=True, slots=True)
class Footage:
    """A clip's files."""

    work: Work
    video: Path
    telemetry: Path
    truth: Path
    outposts: Path
    calibrations: Path
    """The field of view of ``CAMERA``, as a setting takes it: no thermal camera is so large."""


def footage(work: Work, *, cache: Path) -> Footage:
    """Return a clip's files, made unless the cache holds them."""
    scenario = scenario_of(work)
    recipe = TypeAdapter(Scenario).dump_json(scenario) + f"{work} {RECIPE}".encode()
    folder = cache / f"{work.name}-{hashlib.sha256(recipe).hexdigest()[:12]}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="making-", dir=cache) as scratch:
            made = Path(scratch) / "clip"
            made.mkdir()
            _make(work, scenario, made)
            shutil.move(made, folder)  # whole or not at all
    return Footage(
        work,
        folder / f"{work.name}.mp4",
        folder / f"{work.name}.SRT",
        folder / f"{work.name}.truth.json",
        folder / "outposts.geojson",
        folder / "calibrations.toml",
    )


def scenario_of(work: Work) -> Scenario:
    """Return the flight: an outpost below, gatherings east and west of it, a road north, nothing south."""
    starts_s = [from_s + (TURN_S if from_s else 0) for _, from_s in work.views]
    ends_s = [*(from_s for _, from_s in work.views[1:]), work.duration_s]
    waypoints = [
        Waypoint(float(time_s), 0.0, 0.0, HEIGHT_M, heading_deg, PITCH_DEG)
        for (heading_deg, _), *times_s in zip(work.views, starts_s, ends_s, strict=True)
        for time_s in times_s
    ]
    return Scenario(
        name=work.name,
        seed=7,
        start=_START,
        duration_s=float(work.duration_s),
        origin=Origin(33.4431, 71.3127),
        fps=FPS,
        camera=CameraModel(hfov_deg=work.hfov_deg, width_px=work.width_px, height_px=work.height_px),
        waypoints=tuple(waypoints),
        sway_m=0.0,
        people=(
            People(14, "mill", HEIGHT_M, 0.0, spread_m=4.5),
            People(11, "mill", -HEIGHT_M, 0.0, spread_m=4.0),
        ),
        vehicles=() if work.passes_at_s is None else (_passing(work.passes_at_s),),
        outposts=(
            OutpostSite(
                "bench-post", "Bench Post", "بنچ پوسٹ", OutpostKind.POLICE_OUTPOST, 0.0, 20.0, "kohat"
            ),
        ),
        scenery=Scenery(
            roads=(Road(((-400.0, HEIGHT_M), (400.0, HEIGHT_M)), 6.0),),
            compounds=(Compound(0.0, 20.0, 28.0),),
            trees_per_hectare=8.0,
        ),
    )


def _passing(at_s: int, *, speed_m_s: float = 8.0, from_m: float = 120.0) -> Vehicle:
    """Return a car that waits out of sight and is in the middle of the northern view at a time."""
    start_s = at_s - from_m / speed_m_s
    return Vehicle(((-from_m, HEIGHT_M), (from_m, HEIGHT_M)), speed_m_s=speed_m_s, start_s=max(0.0, start_s))


def _make(work: Work, scenario: Scenario, folder: Path) -> None:
    """Write video, telemetry, truth and outposts of a clip into a folder."""
    site, _ = ground_of(scenario)
    path = FlightPath.of(scenario)
    seconds = [_second(scenario, path, number) for number in range(work.duration_s)]
    seen = _encode(work, scenario, seconds, folder / f"{work.name}.mp4")
    reporter = Reporter.of(scenario.noise, np.random.default_rng([scenario.seed, 8]))
    told = [reporter.report(path.at(index / FPS)) for index in range(scenario.frame_count)]
    frames = [
        TruthFrame(index, index / FPS, path.at(index / FPS), told[index], tuple(seen[number][half]))
        for number in range(work.duration_s)
        for half in range(LOOKS_A_SECOND)
        for index in [number * FPS + half * FPS // LOOKS_A_SECOND]
    ]
    _write_words(work, scenario, site, told, frames, folder)


def _write_words(
    work: Work,
    scenario: Scenario,
    site: Site,
    told: Sequence[Pose],
    frames: list[TruthFrame],
    folder: Path,
) -> None:
    blocks = (srt_block(index, pose, scenario=scenario, site=site) for index, pose in enumerate(told))
    (folder / f"{work.name}.SRT").write_text("\n".join(blocks), encoding="utf-8")
    events = derive_events(scenario, frames=frames, site=site, rules=TruthRules())
    write_json(
        folder / f"{work.name}.truth.json", truth_json(scenario, frames=frames, events=events, site=site)
    )
    write_json(folder / "outposts.geojson", outposts_geojson(scenario, site))
    focal = 0.5 / math.tan(math.radians(work.hfov_deg / 2))
    (folder / "calibrations.toml").write_text(
        f'["{CAMERA}"]\nfocal = {focal:.6f}\nsource = "the simulator, exactly"\nhfov_sigma_deg = 0.0\n',
        encoding="utf-8",
    )


@dataclass(frozen=True, slots=True)
class _Second:
    """A second of a clip; those with the same key look the same and are coded once."""

    key: tuple[int, int, int]
    times_s: tuple[float, ...]
    """When its pictures are taken."""


def _second(scenario: Scenario, path: FlightPath, number: int) -> _Second:
    times_s = tuple(number + half / LOOKS_A_SECOND for half in range(LOOKS_A_SECOND))
    pose = path.at(float(number))
    quiet = path.at(number + 1.0) == pose and not _busy(scenario, pose, number)
    if quiet:
        return _Second((round(pose.heading_deg), number % VARIANTS, -1), times_s)
    return _Second((0, 0, number), times_s)


def _busy(scenario: Scenario, pose: Pose, number: int) -> bool:
    """Return whether people or a vehicle may be in view; what is too close to call is."""
    ground_m = HEIGHT_M / math.tan(math.radians(-PITCH_DEG))
    heading = math.radians(pose.heading_deg)
    middle = np.array([ground_m * math.sin(heading), ground_m * math.cos(heading)])
    places = [
        (stance.east_m, stance.north_m)
        for actor in actors_of(scenario)
        for stance in (actor.stance(float(number)), actor.stance(number + 1.0))
    ]
    return bool((np.hypot(*(np.array(places) - middle).T) < ground_m).any())


def _encode(
    work: Work, scenario: Scenario, seconds: Sequence[_Second], video: Path
) -> list[list[list[Seen]]]:
    """Write the video and return what each picture of each second shows."""
    _, surface = ground_of(scenario)
    path = FlightPath.of(scenario)
    renderer = renderer_of(
        scenario,
        surface=surface,
        poses=[path.at(index / FPS) for index in range(scenario.frame_count)],
        actors=actors_of(scenario),
    )
    unique = list({second.key: second for second in seconds}.values())
    seen: dict[tuple[int, int, int], list[list[Seen]]] = {}

    def pictures() -> Iterator[Grey]:
        noise = _Noise(work)
        for second in unique:
            shown = []
            for time_s in second.times_s:
                pose = path.at(time_s)
                image, actors = renderer.frame(
                    view_of(scenario, pose), index=round(time_s * FPS), time_s=time_s
                )
                shown.append(actors)
                for _ in range(FPS // LOOKS_A_SECOND):
                    yield noise.added(image[..., 0])
            seen[second.key] = shown

    coded = dict(zip((second.key for second in unique), _groups(work, pictures()), strict=True))
    raw = video.with_suffix(".h264")
    with raw.open("wb") as file:
        for second in seconds:
            file.write(coded[second.key])
    _mux(raw, video, scenario)
    raw.unlink()
    return [seen[second.key] for second in seconds]


class _Noise:
    """Fresh noise for each frame, cut from a few large pictures of it."""

    def __init__(self, work: Work) -> None:
        self._random = np.random.default_rng(11)
        shape = (work.height_px + NOISE_REACH_PX, work.width_px + NOISE_REACH_PX)
        self._tiles = [
            np.round(work.noise * self._random.standard_normal(shape, np.float32)).astype(np.int8)
            for _ in range(NOISE_TILES)
        ]

    def added(self, image: Grey) -> Grey:
        """Return a grey picture (height, width) with noise of its own."""
        height_px, width_px = image.shape
        down, right = self._random.integers(0, NOISE_REACH_PX, 2).tolist()
        tile = self._tiles[self._random.integers(NOISE_TILES)]
        cut = tile[down : down + height_px, right : right + width_px]
        return np.asarray(cv2.add(image, cut, dtype=cv2.CV_8U), np.uint8)


def _groups(work: Work, pictures: Iterator[Grey]) -> list[bytes]:
    """Return each second as a closed group of coded pictures that can stand anywhere.

    No picture is coded from a later one, as in the low-delay streams of aircraft.
    """
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = work.width_px, work.height_px, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(FPS), Fraction(1, FPS)
    encoder.bit_rate, encoder.gop_size = work.mbit_s * 1_000_000, FPS
    encoder.options = {
        "preset": "superfast",
        "profile": "high",
        "x264-params": f"bframes=0:keyint={FPS}:min-keyint={FPS}:scenecut=0:repeat-headers=1",
    }
    grey = np.full((work.height_px // 2, work.width_px), 128, np.uint8)
    packets: list[bytes] = []
    for index, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(np.concatenate([picture, grey]), format="yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, FPS)
        packets += map(bytes, encoder.encode(frame))
    packets += map(bytes, encoder.encode(None))
    return [b"".join(packets[start : start + FPS]) for start in range(0, len(packets), FPS)]


def _mux(raw: Path, video: Path, scenario: Scenario) -> None:
    """Put a bare H.264 stream into an MP4 with a frame each 1 / ``FPS`` seconds."""
    with (
        av.open(str(raw), format="h264", options={"framerate": str(FPS)}) as source,
        av.open(str(video), "w", format="mp4", options={"movflags": "+faststart"}) as out,
    ):
        out.metadata["creation_time"] = scenario.start_utc.isoformat()
        stream = out.add_stream_from_template(source.streams.video[0])
        stream.time_base = Fraction(1, FPS)
        for index, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.stream, packet.time_base = stream, Fraction(1, FPS)
            packet.pts, packet.dts, packet.duration = index, index, 1
            out.mux(packet)


def described(made: Footage) -> dict[str, Any]:
    """Return what a clip is, in numbers, for the record of a measurement."""
    truth = json.loads(made.truth.read_text(encoding="utf-8"))
    return {
        "width_px": made.work.width_px,
        "height_px": made.work.height_px,
        "fps": FPS,
        "duration_s": made.work.duration_s,
        "mbit_s": round(made.video.stat().st_size * 8 / made.work.duration_s / 1e6, 1),
        "true_events": len(truth["events"]),
    }


def main() -> None:
    """Make one clip or all of them."""
    parser = argparse.ArgumentParser(description="Make the footage on which speed is measured.")
    parser.add_argument("--work", type=Path, required=True, help="folder of the cache")
    parser.add_argument("names", nargs="*", default=list(WORKS), help=f"of {', '.join(WORKS)}")
    arguments = parser.parse_args()
    for name in arguments.names:
        made = footage(WORKS[name], cache=arguments.work)
        print(made.video, json.dumps(described(made)))


if __name__ == "__main__":
    main()
