"""Logs with a clock of their own, laid on clips."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.align import PoseTrack, clip_start
from ingest.clockfit import LogFit, fit_log
from ingest.motion import MotionTrack
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import GeoPoint, Telemetry, TelemetryClock, TelemetrySample, TimeBase

LOG_START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
LOG_S = 1500
"""Twenty-five minutes: a battery."""
STARTS_S = 400.0
"""The clip's first frame on the log's time line."""
TRUE_START = LOG_START + timedelta(seconds=STARTS_S)
KARACHI = ZoneInfo("Asia/Karachi")
PLACE = GeoPoint(33.5, 71.4, 1200.0)


def heading_deg(time_s: float) -> float:
    """Return a heading that never turns alike twice."""
    return 40 * math.sin(time_s / 7) + 55 * math.sin(time_s / 11.3 + 1) + 30 * math.sin(time_s**2 / 9000)


def flight_log(
    *, clock: bool = True, start: datetime = LOG_START, first_s: int = 0, last_s: int = LOG_S
) -> Telemetry:
    """Return a log with two samples a second of an aircraft that turns on the spot."""
    samples = tuple(
        TelemetrySample(
            offset_s=half / 2,
            at=start + timedelta(seconds=half / 2) if clock else None,
            point=PLACE,
            height_agl_m=60.0,
            heading_deg=heading_deg(half / 2) % 360,
            pitch_deg=-45.0,
            roll_deg=0.0,
        )
        for half in range(2 * first_s, 2 * last_s + 1)
    )
    kind = TelemetryClock.GPS if clock else TelemetryClock.NONE
    return Telemetry(
        "px4", samples, time_base=TimeBase.LOG, clock=kind, clock_uncertainty_s=0.5 if clock else None
    )


def turns(*, starts_s: float = STARTS_S, lasts_s: float = 60.0) -> MotionTrack:
    """Return the motion that a clip of the flight shows, five steps a second, with some noise."""
    times_s = np.arange(0.1, lasts_s, 0.2)
    rate = [
        math.radians(heading_deg(starts_s + t + 0.1) - heading_deg(starts_s + t - 0.1)) / 0.2 for t in times_s
    ]
    noise = np.random.default_rng(2).normal(0, 1.5, (len(times_s), 2))
    shift_px_s = np.outer(rate, (-160 * math.cos(math.radians(-45)), 0)) + noise
    return MotionTrack(times_s, shift_px_s, np.array(rate) * math.sin(math.radians(-45)), len(times_s))


def fit(
    log: Telemetry,
    *,
    container: datetime | None = None,
    file_time: datetime | None = None,
    duration_s: float = 60.0,
    motion: MotionTrack | None = None,
) -> LogFit:
    """Fit a log to a minute's clip taken in Pakistan."""
    return fit_log(
        log, started_hint=container, file_time=file_time, duration_s=duration_s, zone=KARACHI, motion=motion
    )


def test_container_in_utc_is_taken_as_it_is() -> None:
    """The clip starts where its clock says, give or take what camera clocks run off."""
    fitted = fit(flight_log(), container=TRUE_START)
    assert ("clock", STARTS_S, ()) == (fitted.method, fitted.offset_s, fitted.flags)
    assert 20 < fitted.uncertainty_s < 60


def test_container_in_local_time_is_read_in_the_declared_zone() -> None:
    """Many cameras write local time as if it were UTC: where only that fits it is meant."""
    fitted = fit(flight_log(), container=TRUE_START + timedelta(hours=5))
    assert ("clock", STARTS_S, ()) == (fitted.method, fitted.offset_s, fitted.flags)


@pytest.mark.parametrize("hours", [0, 5])
def test_file_time_serves_where_the_container_has_none(hours: int) -> None:
    """A file is last written when its recording ends; some hosts take a card's local time for UTC."""
    written = TRUE_START + timedelta(seconds=60, hours=hours)
    fitted = fit(flight_log(), file_time=written)
    assert ("clock", STARTS_S) == (fitted.method, fitted.offset_s)
    assert fitted.uncertainty_s > fit(flight_log(), container=TRUE_START).uncertainty_s


def test_container_is_believed_before_the_file() -> None:
    """Both fit; the file's time says little of the recording's."""
    fitted = fit(flight_log(), container=TRUE_START, file_time=TRUE_START + timedelta(minutes=10))
    assert fitted.offset_s == STARTS_S
    assert ("clock_ambiguous",) == fitted.flags
    assert fitted.uncertainty_s > 9 * 60


def test_clocks_that_agree_are_not_ambiguous() -> None:
    """Two readings within each other's uncertainty are one."""
    fitted = fit(flight_log(), container=TRUE_START, file_time=TRUE_START + timedelta(seconds=64))
    assert (STARTS_S, ()) == (fitted.offset_s, fitted.flags)


@pytest.mark.parametrize("hours", [-9.5, -5, 3, 8])
def test_other_zone_is_thought_of_last_and_said(hours: float) -> None:
    """A camera set in another country fits by whole half hours: only the overlap speaks for it."""
    fitted = fit(flight_log(), container=TRUE_START + timedelta(hours=hours))
    assert (STARTS_S, "overlap", ("clock_zone_suspect",)) == (fitted.offset_s, fitted.method, fitted.flags)


def test_several_zones_that_fit_are_ambiguous_until_the_motion_tells() -> None:
    """In a log of an hour two half hours fit; the motion picks the right one and narrows it."""
    log = flight_log(last_s=3600)
    container = TRUE_START + timedelta(hours=3)
    blind = fit(log, container=container)
    assert {"clock_zone_suspect", "clock_ambiguous"} == set(blind.flags)
    assert abs(blind.offset_s - STARTS_S) <= blind.uncertainty_s
    seen = fit(log, container=container, motion=turns())
    assert ("motion", ("clock_zone_suspect",)) == (seen.method, seen.flags)
    assert abs(seen.offset_s - STARTS_S) <= min(0.5, seen.uncertainty_s)


@pytest.mark.parametrize("error_s", [-25.0, 3.3, 28.0])
def test_motion_corrects_a_clock_that_ran_off(error_s: float) -> None:
    """Within the clock's uncertainty the motion finds the true offset, and states a small one of its own."""
    container = TRUE_START + timedelta(seconds=error_s)
    fitted = fit(flight_log(), container=container, motion=turns())
    assert "motion" == fitted.method
    assert abs(fitted.offset_s - STARTS_S) <= min(0.5, fitted.uncertainty_s)
    assert fitted.uncertainty_s < 1.5
    assert abs(fit(flight_log(), container=container).offset_s - STARTS_S) == pytest.approx(abs(error_s))


def test_motion_that_tells_nothing_leaves_the_clock() -> None:
    """A still picture changes neither the offset nor its uncertainty."""
    still = turns()
    still = replace(still, shift_px_s=still.shift_px_s * 0, turn_rad_s=still.turn_rad_s * 0)
    assert fit(flight_log(), container=TRUE_START) == fit(flight_log(), container=TRUE_START, motion=still)


def test_log_without_a_clock_is_fitted_by_equal_length_and_said() -> None:
    """A log that ran as long as the clip was started with it."""
    fitted = fit(flight_log(clock=False, last_s=63), container=TRUE_START)
    assert ("overlap", 0.0, ("no_shared_clock",)) == (fitted.method, fitted.offset_s, fitted.flags)
    assert fitted.uncertainty_s == pytest.approx(8)
    assert fitted.telemetry.clock_uncertainty_s is None


def test_log_without_a_clock_is_found_by_motion() -> None:
    """The motion of two minutes is looked for in all of the log."""
    track = turns(lasts_s=120)
    fitted = fit(flight_log(clock=False), container=TRUE_START, duration_s=120, motion=track)
    assert ("motion", ("no_shared_clock",)) == (fitted.method, fitted.flags)
    assert abs(fitted.offset_s - STARTS_S) <= min(0.5, fitted.uncertainty_s)


def test_clip_whose_clock_was_never_set_has_none() -> None:
    """A clock that counts from 1980 says nothing, and is no reason to refuse."""
    unset = datetime(1980, 1, 1, tzinfo=UTC)
    fitted = fit(flight_log(last_s=60), container=None, file_time=unset)
    assert ("overlap", ("no_shared_clock",)) == (fitted.method, fitted.flags)


@pytest.mark.parametrize("container", [None, TRUE_START])
def test_log_that_nothing_ties_to_the_clip_is_refused(container: datetime | None) -> None:
    """Without a clock, an equal length or a motion there is no fit, and the refusal says what lacks."""
    lacking = "clip has no clock" if container is None else "log has no clock"
    with pytest.raises(TelemetryInvalid, match=lacking):
        fit(flight_log(clock=container is None), container=container)


def test_log_of_another_time_is_refused_with_both_spans() -> None:
    """No zone brings a clip of the next week into the log: the words name the two."""
    with pytest.raises(TelemetryInvalid) as refusal:
        fit(flight_log(), container=datetime(2026, 3, 21, 9, 17, 30, tzinfo=UTC))
    for words in (
        "2026-03-14 16:40:00",
        "2026-03-14 17:05:00",
        "2026-03-21 09:17:30",
        "09:18:30",
        "Asia/Karachi",
    ):
        assert words in str(refusal.value)


def test_minutes_that_no_zone_explains_are_refused() -> None:
    """Ten minutes after a log's end is another flight's, however the zones are turned."""
    with pytest.raises(TelemetryInvalid, match="brings the clip into the log"):
        fit(flight_log(last_s=600), container=LOG_START + timedelta(minutes=20))


def test_log_that_starts_late_covers_a_part_and_says_so() -> None:
    """Half of the clip with poses is better than none; less than half is no fit."""
    late = flight_log(first_s=int(STARTS_S) + 20)
    assert ("log_covers_part",) == fit(late, container=TRUE_START).flags
    later = flight_log(first_s=int(STARTS_S) + 40)
    with pytest.raises(TelemetryInvalid):
        fit(later, container=TRUE_START)


def test_fitted_log_is_on_the_clips_time_line() -> None:
    """Poses are asked for in seconds of the clip; times stay the log's; a margin lies on either side."""
    fitted = fit(flight_log(), container=TRUE_START)
    log, samples = fitted.telemetry, fitted.telemetry.samples
    assert (-5.0, 65.0) == (samples[0].offset_s, samples[-1].offset_s)
    assert (TimeBase.CLIP, TRUE_START) == (log.time_base, clip_start(log))
    pose = PoseTrack(log).at(30.25)
    assert pose is not None
    assert pose.at == TRUE_START + timedelta(seconds=30.25)
    assert log.clock_uncertainty_s == pytest.approx(fitted.uncertainty_s + 0.5)


def test_receiver_without_a_fix_at_first_does_not_move_the_log() -> None:
    """A clock that jumps once it is set counts by what most samples say."""
    log = flight_log()
    wrong = [replace(sample, at=datetime(2025, 1, 1, tzinfo=UTC)) for sample in log.samples[:50]]
    fitted = fit(replace(log, samples=(*wrong, *log.samples[50:])), container=TRUE_START)
    assert fitted.offset_s == STARTS_S


def test_photo_is_laid_on_the_log_at_its_moment() -> None:
    """A clip of one picture needs a log that runs at that moment."""
    assert STARTS_S == fit(flight_log(), container=TRUE_START, duration_s=0.0).offset_s
    with pytest.raises(TelemetryInvalid):
        fit(flight_log(), container=LOG_START + timedelta(seconds=LOG_S + 100), duration_s=0.0)


def test_hole_in_the_log_over_the_clip_is_no_fit() -> None:
    """A log that was off while the clip was taken spans it and says nothing of it."""
    log = flight_log()
    holed = replace(log, samples=(*log.samples[:100], *log.samples[-100:]))
    with pytest.raises(TelemetryInvalid):
        fit(holed, container=TRUE_START)


def test_telemetry_of_the_clip_itself_needs_no_fit() -> None:
    """Asking for it is a mistake of the program."""
    with pytest.raises(ValueError, match="expected a log"):
        fit(replace(flight_log(), time_base=TimeBase.CLIP), container=TRUE_START)


@given(
    container=st.none() | st.datetimes(timezones=st.just(UTC)),
    file_time=st.none() | st.datetimes(timezones=st.just(UTC)),
    times=st.lists(st.datetimes(timezones=st.just(UTC)), min_size=1, max_size=5),
    duration_s=st.floats(0, 1e5),
)
def test_any_clocks_give_a_fit_or_a_refusal(
    container: datetime | None, file_time: datetime | None, times: list[datetime], duration_s: float
) -> None:
    """Damaged clocks break nothing: every answer covers the clip somewhere, or it is a refusal."""
    first = min(times)
    samples = tuple(
        TelemetrySample(offset_s=(at - first).total_seconds(), at=at, point=PLACE, height_agl_m=None)
        for at in sorted(times)
    )
    log = Telemetry("gpx", samples, time_base=TimeBase.LOG, clock=TelemetryClock.UTC)
    try:
        fitted = fit(log, container=container, file_time=file_time, duration_s=duration_s)
    except TelemetryInvalid:
        return
    assert fitted.telemetry.samples
    assert fitted.uncertainty_s > 0
