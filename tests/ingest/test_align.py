"""Telemetry on a clip's time line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.align import ClipSpan, PoseTrack, clip_start, fit_to_clip, neighbour_doubts, pose_at
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import GeoPoint, Telemetry, TelemetrySample

START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)


def sample(
    offset_s: float, *, clock: bool = True, lon_deg: float = 71.0, **fields: float | None
) -> TelemetrySample:
    """Return a sample at a height of ten metres a second."""
    values = {"height_agl_m": 10 * offset_s, **fields}
    at = START + timedelta(seconds=offset_s) if clock else None
    return TelemetrySample(offset_s=offset_s, at=at, point=GeoPoint(33.0, lon_deg, 1200.0), **values)  # type: ignore[arg-type]


def telemetry(*samples: TelemetrySample) -> Telemetry:
    """Return telemetry of these samples."""
    return Telemetry(format="dji_srt", samples=samples)


def track_of_length(end_s: float, *, start_s: float = 0.0) -> Telemetry:
    """Return telemetry with a sample a second."""
    return telemetry(*(sample(start_s + second) for second in range(int(end_s - start_s) + 1)))


def test_pose_between_samples_is_linear_in_time() -> None:
    """A quarter of the way, every value is a quarter of the way."""
    pose = pose_at(telemetry(sample(0, pitch_deg=-80.0), sample(1, lon_deg=71.4, pitch_deg=-40.0)), 0.25)
    assert pose is not None
    assert (pose.offset_s, pose.at, pose.height_agl_m) == (0.25, START + timedelta(seconds=0.25), 2.5)
    assert pose.pitch_deg == -70.0
    assert pose.point is not None
    assert pose.point.lon_deg == pytest.approx(71.1)


@pytest.mark.parametrize(
    ("first", "second", "middle"),
    [(350.0, 10.0, 0.0), (10.0, 350.0, 0.0), (90.0, 180.0, 135.0), (359.0, 359.0, 359.0)],
)
def test_heading_turns_the_short_way(first: float, second: float, middle: float) -> None:
    """Between 350 and 10 degrees lies north, not south."""
    pose = pose_at(telemetry(sample(0, heading_deg=first), sample(1, heading_deg=second)), 0.5)
    assert pose is not None
    assert pose.heading_deg == pytest.approx(middle)


def test_position_crosses_the_antimeridian_the_short_way() -> None:
    """Between 179.9 E and 179.9 W lies the antimeridian."""
    pose = pose_at(telemetry(sample(0, lon_deg=179.9), sample(1, lon_deg=-179.9)), 0.75)
    assert pose is not None
    assert pose.point is not None
    assert pose.point.lon_deg == pytest.approx(-179.95)


def test_what_one_sample_lacks_is_taken_from_its_neighbour() -> None:
    """A missing value or clock does not make a hole."""
    pose = pose_at(telemetry(sample(0, height_agl_m=None), sample(1, clock=False)), 0.5)
    assert pose is not None
    assert (pose.height_agl_m, pose.at) == (10.0, START + timedelta(seconds=0.5))


def test_telemetry_without_clock_gives_poses_without_clock() -> None:
    """No time is invented."""
    pose = pose_at(telemetry(sample(0, clock=False), sample(1, clock=False)), 0.5)
    assert pose is not None
    assert pose.at is None


@pytest.mark.parametrize(
    ("offset_s", "height_agl_m"),
    [(1.0, 20.0), (2.9, 29.0), (4.0, 30.0), (4.1, None), (0.9, None), (8.5, 85.0), (6.0, None)],
)
def test_pose_is_held_for_a_second_beyond_a_sample_and_no_longer(
    offset_s: float, height_agl_m: float | None
) -> None:
    """Before the first, after the last and in a hole, a pose is only given near a sample."""
    ends = telemetry(sample(2), sample(3))
    hole = telemetry(sample(2), sample(8), sample(9))
    pose = pose_at(hole if offset_s > 5 else ends, offset_s)
    assert (None if pose is None else pose.height_agl_m) == height_agl_m


def test_held_pose_keeps_its_clock_running() -> None:
    """The last pose, half a second on, is half a second later."""
    pose = pose_at(telemetry(sample(2)), 2.5)
    assert pose is not None
    assert pose.at == START + timedelta(seconds=2.5)


@given(
    offsets_s=st.lists(st.floats(0, 100), min_size=1, max_size=20, unique=True).map(sorted),
    at_s=st.floats(-5, 110),
)
def test_pose_lies_within_the_values_of_its_samples(offsets_s: list[float], at_s: float) -> None:
    """Interpolation never leaves the range of what was measured, and gives samples back as they are."""
    track = PoseTrack(telemetry(*(sample(offset_s) for offset_s in offsets_s)))
    pose = track.at(at_s, max_extrapolation_s=1000)
    assert pose is not None
    assert pose.height_agl_m is not None
    assert 10 * offsets_s[0] - 1e-6 <= pose.height_agl_m <= 10 * offsets_s[-1] + 1e-6
    assert all(track.at(offset_s).height_agl_m == 10 * offset_s for offset_s in offsets_s)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("end_s", "flags"),
    [
        (60, ()),
        (59, ()),
        (52, ("telemetry_ends_early",)),
        (40, ("telemetry_ends_early",)),
        (3, ("telemetry_ends_early",)),
        (68, ("telemetry_longer_than_clip",)),
    ],
)
def test_telemetry_of_the_clip_is_kept_with_its_doubts(end_s: int, flags: tuple[str, ...]) -> None:
    """Telemetry from the clip's start is its own, also where the recorder stopped; an end apart is said."""
    for hint in (None, START, START + timedelta(hours=5)):
        assert fit_to_clip(track_of_length(end_s), duration_s=60, started_hint=hint) == flags
    unclocked = telemetry(*(sample(second, clock=False) for second in range(end_s + 1)))
    assert fit_to_clip(unclocked, duration_s=60, started_hint=START) == flags


def test_late_start_is_said() -> None:
    """Telemetry that begins three seconds in leaves frames without a pose."""
    flags = fit_to_clip(track_of_length(60, start_s=3), duration_s=60, started_hint=None)
    assert flags == ("telemetry_starts_late",)


@pytest.mark.parametrize(
    ("start_s", "end_s", "duration_s"), [(20, 60, 60), (0, 80, 60), (0, 16, 10), (904, 910, 60), (0, 75, 39)]
)
def test_span_of_another_flight_is_refused(start_s: float, end_s: float, duration_s: float) -> None:
    """A start or an end beyond the clip's by more than 5 s and a fifth of the clip is another recording's."""
    with pytest.raises(TelemetryInvalid, match="another recording"):
        fit_to_clip(track_of_length(end_s, start_s=start_s), duration_s=duration_s, started_hint=None)


@pytest.mark.parametrize("end_s", [40, 3])
def test_early_end_with_a_clock_that_disagrees_is_another_flight(end_s: int) -> None:
    """Neither sign is enough alone; both together are."""
    hint = START + timedelta(minutes=17)
    assert fit_to_clip(track_of_length(60), duration_s=60, started_hint=hint) == ()
    with pytest.raises(TelemetryInvalid, match="another recording"):
        fit_to_clip(track_of_length(end_s), duration_s=60, started_hint=hint)


@pytest.mark.parametrize("hours", [-26, -5, 0, 5, 26])
def test_clock_of_another_zone_is_no_other_flight(hours: int) -> None:
    """Cameras write local time as UTC: no time zone is a reason to refuse."""
    hint = START + timedelta(hours=hours)
    assert fit_to_clip(track_of_length(60), duration_s=60, started_hint=hint) == ()


@pytest.mark.parametrize("days", [-2, 2, 300])
def test_clock_of_another_day_is_another_flight(days: int) -> None:
    """Two clocks further apart than any zones are of two recordings."""
    with pytest.raises(TelemetryInvalid, match="further apart than any time zone"):
        fit_to_clip(track_of_length(60), duration_s=60, started_hint=START + timedelta(days=days))


def test_start_is_read_back_to_the_first_frame() -> None:
    """The first timed record says when the clip began, however late it comes."""
    assert clip_start(telemetry(sample(1, clock=False), sample(3))) == START
    assert clip_start(telemetry(sample(1, clock=False))) is None


def span(name: str, start_s: float, end_s: float) -> ClipSpan:
    """Return when a clip was taken, in seconds after ``START``."""
    return ClipSpan(name, START + timedelta(seconds=start_s), START + timedelta(seconds=end_s))


@pytest.mark.parametrize(
    "neighbour",
    [
        span("DJI_0006.MP4", -100, 61),
        span("DJI_0008.MP4", 1, 30),
        span("DJI_0006.MP4", 300, 400),
        span("DJI_0008.MP4", -500, -400),
        span("holiday.mp4", 30, 90),
    ],
)
def test_clip_that_overlaps_a_neighbour_or_their_order_is_doubted(neighbour: ClipSpan) -> None:
    """One camera takes no two clips at once, and counts upwards; either clip is told."""
    clip = span("DJI_0007.MP4", 0, 60)
    assert neighbour_doubts(clip, [span("DJI_0001.MP4", -900, -800), neighbour]) == (
        "clock_contradicts_neighbour",
    )
    assert neighbour_doubts(neighbour, [clip]) == ("clock_contradicts_neighbour",)


@pytest.mark.parametrize(
    "neighbour",
    [
        span("DJI_0006.MP4", -60, 0),
        span("DJI_0008.MP4", 58.5, 100),
        span("DJI_0007_T.MP4", 0, 60),
        span("B/DJI_0001.MP4", 300, 400),
        span("DJI_0007.MP4", 0, 60),
        span("holiday.mp4", -90, -30),
    ],
)
def test_neighbours_in_turn_and_lenses_of_one_moment_agree(neighbour: ClipSpan) -> None:
    """Nothing is doubted that a camera can have done, give or take its clock's steps."""
    clip = span("DJI_0007.MP4", 0, 60)
    assert neighbour_doubts(clip, [neighbour]) == neighbour_doubts(neighbour, [clip]) == ()


def test_chapters_of_one_recording_do_not_contradict_each_other() -> None:
    """They may all state the time at which the recording started."""
    assert neighbour_doubts(span("GH010042.MP4", 0, 300), [span("GH020042.MP4", 0, 200)]) == ()


def test_straight_down_heading_and_roll_may_trade_places() -> None:
    """Two records of one camera that looks down, written the two ways there are, leave it upright between."""
    north = TelemetrySample(0.0, None, None, None, heading_deg=10.0, pitch_deg=-89.9, roll_deg=0.0)
    south = TelemetrySample(1.0, None, None, None, heading_deg=190.0, pitch_deg=-89.9, roll_deg=180.0)
    pose = pose_at(Telemetry("x", (north, south)), 0.5)
    assert pose is not None
    assert pose.heading_deg is not None
    assert pose.pitch_deg is not None
    assert pose.roll_deg is not None
    # Which way the picture's upper edge points, whichever of the two ways it is written.
    assert (pose.heading_deg - pose.roll_deg) % 360 == pytest.approx(10.0, abs=0.5)
    assert pose.pitch_deg == pytest.approx(-90.0, abs=0.2)
