"""How a picture moves, and where in a log it moves like that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo

import cv2
import numpy as np
import pytest

from ingest.motion import MotionTrack, measure_motion, read_motion
from ingest.motionfit import match_motion
from ingest.sandbox import Limits
from ingest.telemetry.dji_srt import parse_srt
from ingest.video import read_frames
from outwatch.domain.types import Frame, Telemetry
from outwatch.simulate import parse_scenario, simulate

LIMITS = Limits(max_pixels=50_000_000, memory_mb=2048, cpu_s=60, silence_s=30)
STARTS_S = 12.4
"""Where the clip is cut out of the flight."""
LASTS_S = 45.0
# time, east, north, height, heading, pitch: hovers, straight legs, turns and tilts.
TURNING = (
    (0, 0, 0, 60, 20, -50), (12, 0, 0, 60, 20, -50), (18, 15, 30, 60, 20, -50), (26, 15, 30, 60, 95, -50),
    (33, 45, 28, 62, 95, -65), (40, 45, 28, 62, 95, -65), (46, 40, 0, 62, 200, -65),
    (60, 30, -40, 60, 170, -45), (70, 30, -40, 60, 170, -45),
)  # fmt: skip
DOWNWARD = (
    (0, 0, 0, 60, 20, -90), (14, 0, 0, 60, 20, -90), (20, 0, 0, 60, 95, -90), (27, 20, 10, 60, 95, -90),
    (34, 20, 10, 60, 20, -90), (41, 0, 30, 60, 20, -90), (48, 0, 30, 60, -70, -90),
    (60, 10, 30, 60, -70, -90),
)  # fmt: skip
HOVERING = ((0, 0, 0, 60, 20, -50),)


@dataclass(frozen=True)
class Flight:
    """A clip cut out of a longer flight, and the whole flight's log."""

    track: MotionTrack
    log: Telemetry


def fly(name: str, waypoints: Iterable[tuple[float, ...]], folder: Path) -> Flight:
    """Simulate a flight and measure the picture's motion in the middle of it."""
    names = ("time_s", "east_m", "north_m", "height_m", "heading_deg", "pitch_deg")
    scenario = {
        "name": name, "seed": 5, "start": "2026-03-14T21:40:00", "fps": 5,
        "duration_s": STARTS_S + LASTS_S + 8,
        "origin": {"lat_deg": 33.5, "lon_deg": 71.4}, "camera": {"width_px": 320, "height_px": 256},
        "waypoints": [dict(zip(names, values, strict=True)) for values in waypoints],
    }  # fmt: skip
    flight = simulate(parse_scenario(scenario, source=name), folder)
    picked = range(round(STARTS_S * 5), round((STARTS_S + LASTS_S) * 5))
    frames = read_frames(flight.video, limits=LIMITS, indices=picked)
    track = measure_motion(replace(frame, offset_s=frame.offset_s - STARTS_S) for frame in frames)
    return Flight(track, parse_srt(flight.telemetry.read_bytes(), zone=ZoneInfo("Asia/Karachi")))


@pytest.fixture(scope="module")
def turning(tmp_path_factory: pytest.TempPathFactory) -> Flight:
    """Return an oblique flight with legs and turns."""
    return fly("turning", TURNING, tmp_path_factory.mktemp("turning"))


@pytest.fixture(scope="module")
def hovering(tmp_path_factory: pytest.TempPathFactory) -> Flight:
    """Return a flight that stands still but for its sway."""
    return fly("hovering", HOVERING, tmp_path_factory.mktemp("hovering"))


@pytest.fixture(scope="module")
def downward(tmp_path_factory: pytest.TempPathFactory) -> Flight:
    """Return a flight that looks straight down, in which a turn only turns the picture."""
    return fly("downward", DOWNWARD, tmp_path_factory.mktemp("downward"))


def without_camera(log: Telemetry) -> Telemetry:
    """Return a log of the airframe alone, as an autopilot writes it."""
    return replace(
        log,
        samples=tuple(
            replace(
                sample,
                heading_deg=None,
                pitch_deg=None,
                roll_deg=None,
                airframe_heading_deg=sample.heading_deg,
            )
            for sample in log.samples
        ),
    )


def at_1_hz(log: Telemetry) -> Telemetry:
    """Return one sample in five."""
    return replace(log, samples=log.samples[::5])


ANYWHERE = ((-30.0, 60.0),)


@pytest.mark.parametrize("change", [lambda log: log, without_camera, at_1_hz])
def test_clip_is_found_in_its_flight(turning: Flight, change: Callable[[Telemetry], Telemetry]) -> None:
    """With and without the camera's angles, at five samples a second and at one, within what is said."""
    match = match_motion(turning.track, change(turning.log), windows=ANYWHERE)
    assert match is not None
    assert abs(match.offset_s - STARTS_S) <= 0.5
    assert abs(match.offset_s - STARTS_S) <= match.uncertainty_s <= 1.5
    assert match.explained > 0.85


def test_turn_of_a_camera_that_looks_down_is_seen(downward: Flight) -> None:
    """Where the centre stands still the picture's turn still tells."""
    match = match_motion(downward.track, downward.log, windows=ANYWHERE)
    assert match is not None
    assert abs(match.offset_s - STARTS_S) <= min(0.5, match.uncertainty_s)


def test_hover_tells_nothing(hovering: Flight, turning: Flight) -> None:
    """A picture that only sways fits no log, be it its own; and a log that stands fits no moving picture."""
    for change in (lambda log: log, without_camera):
        assert match_motion(hovering.track, change(hovering.log), windows=ANYWHERE) is None
        assert match_motion(hovering.track, change(turning.log), windows=ANYWHERE) is None
        assert match_motion(turning.track, change(hovering.log), windows=ANYWHERE) is None


def test_log_of_another_flight_is_not_taken(turning: Flight, downward: Flight) -> None:
    """Neither flight is found in the other's log, however it is read."""
    for change in (lambda log: log, without_camera):
        assert match_motion(turning.track, change(downward.log), windows=ANYWHERE) is None
        assert match_motion(downward.track, change(turning.log), windows=ANYWHERE) is None


def test_round_flown_twice_is_ambiguous(turning: Flight) -> None:
    """Two equally good places are no answer; a window that holds one of them is."""
    again = [replace(sample, offset_s=sample.offset_s + 200) for sample in turning.log.samples]
    twice = replace(turning.log, samples=(*turning.log.samples, *again))
    assert match_motion(turning.track, twice, windows=[(-10, 300)]) is None
    match = match_motion(turning.track, twice, windows=[(190, 230)])
    assert match is not None
    assert match.offset_s == pytest.approx(200 + STARTS_S, abs=0.5)


def test_true_offset_outside_the_window_is_no_match_at_its_edge(turning: Flight) -> None:
    """A likelihood that still rises at the edge says that the answer lies beyond."""
    assert match_motion(turning.track, turning.log, windows=[(STARTS_S + 0.7, STARTS_S + 10)]) is None
    assert match_motion(turning.track, turning.log, windows=[(5000, 5060)]) is None


def test_windows_that_overlap_are_searched_as_one(turning: Flight) -> None:
    """The edge of a window within another one is no edge."""
    parts = [(STARTS_S, 30.0), (0.0, STARTS_S)]
    match = match_motion(turning.track, turning.log, windows=parts)
    assert match == match_motion(turning.track, turning.log, windows=[(0.0, 30.0)])
    assert match is not None


def texture() -> np.ndarray:
    """Return a picture with structure at every scale, larger than a frame, float32."""
    random = np.random.default_rng(3)
    layers = [
        cv2.resize(
            random.uniform(0, 60, (size, size)).astype(np.float32), (700, 700), interpolation=cv2.INTER_CUBIC
        )
        for size in (9, 30, 100)
    ]
    return sum(layers)  # type: ignore[return-value]


def moved(steps: int, *, right_px: float = 0, down_px: float = 0, turn_deg: float = 0) -> Iterator[Frame]:
    """Yield frames of 320 x 240 pixels, five a second, whose content moves by so much each time."""
    whole = texture()
    for number in range(steps):
        matrix = cv2.getRotationMatrix2D((350, 350), -turn_deg * number, 1)  # OpenCV turns counter-clockwise
        matrix[:, 2] += (right_px * number - 190, down_px * number - 230)
        grey = cv2.warpAffine(whole, matrix, (320, 240)).clip(0, 255).astype(np.uint8)
        yield Frame(number, number / 5, np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    ("motion", "shift_px_s", "turn_rad_s"),
    [
        ({"right_px": 8}, (20, 0), 0),
        ({"down_px": -3}, (0, -7.5), 0),
        ({"turn_deg": 2}, (0, 0), 0.1745),
        ({"right_px": -5, "down_px": 2, "turn_deg": -1}, (-12.5, 5), -0.0873),
        ({}, (0, 0), 0),
    ],
)
def test_shift_and_turn_of_a_picture_are_measured(
    motion: dict[str, float], shift_px_s: tuple[float, float], turn_rad_s: float
) -> None:
    """In pixels of a picture 160 wide and in radians, a second: right, down and clockwise are positive."""
    track = measure_motion(moved(6, **motion))
    assert track.offsets_s == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert np.median(track.shift_px_s, axis=0) == pytest.approx(shift_px_s, abs=0.8)
    assert np.median(track.turn_rad_s) == pytest.approx(turn_rad_s, abs=0.012)


def test_pictures_that_have_nothing_in_common_are_counted_and_left_out() -> None:
    """Cuts, flat pictures, damaged frames and holes give no motion."""
    random = np.random.default_rng(1)
    noise = [random.integers(0, 255, (240, 320, 3), dtype=np.uint8) for _ in range(5)]
    flat = [np.full((240, 320, 3), level, np.uint8) for level in (0, 90, 90)]
    track = measure_motion(Frame(number, number / 5, image) for number, image in enumerate([*noise, *flat]))
    assert (0, 7) == (len(track.offsets_s), track.compared)
    apart = [replace(frame, offset_s=frame.offset_s * 10) for frame in moved(4)]
    damaged = [replace(frame, is_corrupt=True) for frame in moved(4)]
    assert 0 == measure_motion(apart).compared == measure_motion(damaged).compared


def test_too_little_to_compare_is_no_match(turning: Flight) -> None:
    """No steps, a few seconds, or a log without a place give no answer and no error."""
    bare = replace(turning.log, samples=tuple(replace(one, point=None) for one in turning.log.samples))
    none = measure_motion([])
    short = replace(turning.track, offsets_s=turning.track.offsets_s / 10)
    assert match_motion(none, turning.log, windows=ANYWHERE) is None
    assert match_motion(short, turning.log, windows=ANYWHERE) is None
    assert match_motion(turning.track, bare, windows=ANYWHERE) is None
    assert match_motion(turning.track, turning.log, windows=[]) is None


def test_day_long_log_is_searched_in_seconds(turning: Flight) -> None:
    """The cost grows with the window and not with its square."""
    long = replace(
        turning.log, samples=(*turning.log.samples, replace(turning.log.samples[-1], offset_s=86_000))
    )
    started = time.monotonic()
    match = match_motion(turning.track, long, windows=[(0, 86_000)])
    assert time.monotonic() - started < 30
    assert match is not None
    assert match.offset_s == pytest.approx(STARTS_S, abs=0.5)


def test_motion_is_read_from_a_file(clip: Callable[..., Path], limits: Limits) -> None:
    """The decoder's frames are measured as they come: 30 and 60 px a second at 160 px of width."""
    track = read_motion(clip(frames=60, grey=True), limits=limits)
    assert track.compared == 9
    assert np.median(track.shift_px_s, axis=0) == pytest.approx((30, 60), abs=2)


def test_real_footage_that_stands_still_is_not_fitted(samples: Path, limits: Limits) -> None:
    """The real camera's drift is not in its invented log, and no offset is claimed."""
    track = read_motion(samples / "footage" / "night_vehicles.mp4", limits=limits)
    data = (samples / "footage" / "night_vehicles.SRT").read_bytes()
    telemetry = parse_srt(data, zone=ZoneInfo("Asia/Karachi"))
    assert track.compared > 50
    assert match_motion(track, telemetry, windows=[(-10, 10)]) is None
