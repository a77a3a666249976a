"""Fit a log to a clip: find when, on the log's time line, the clip begins.

Belongs here: the clocks that may be meant, which of them the log can cover, and how far to trust the
answer. Not here: reading logs (``telemetry/``), the clip's own clock (``register.py``), and comparing
motion (``motionfit.py``).

A container's time is meant as UTC, but many cameras write local time there; a file's time is that of
its last write, unless a copy changed it. Each of these readings puts the clip somewhere on the log.
Those where the log covers the clip are tried in the order of trust; where none does, a clock that was
off by whole half hours is thought of, and said. Where several readings remain, the motion decides, and
where it cannot, the first one holds and the uncertainty spans them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Literal
from zoneinfo import ZoneInfo

import structlog

from ingest.align import ENDS_TOGETHER_S, SAME_FLIGHT_MIN_S, ZONE_STEP_S, ZONE_WIDEST_S
from ingest.motion import MotionTrack
from ingest.motionfit import MotionMatch, match_motion
from ingest.video import EARLIEST_CREATION
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import Telemetry, TelemetryClock, TimeBase

MARGIN_S = 5.0
"""Log kept before and after the clip, so that poses at its ends lie between samples."""
CONTAINER_STEP_S, FILE_STEP_S = 1.0, 4.0
"""What clocks are cut to: whole seconds in containers; two on FAT, and what closing a file takes."""
CAMERA_DRIFT_S = 30.0
"""How far a camera's clock has run off: 20 ppm, as quartz does in the heat and cold, for two and a half
weeks since it was last set."""
LEAST_COVER, NEARLY_ALL = 0.5, 0.9
"""Share of the clip that the log must cover: where a clock says that the two belong together (a log may
start late or end early), and where nothing but the overlap does."""
EQUAL_LENGTH_SHARE = 0.02
"""A log without a clock that is as long as the clip, by this share or by 5 s, was started with it."""
PICTURE_S = 1.0
"""A photo is taken for a clip of this length, which a log can cover."""
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
"""Later times are damage: no aircraft of today wrote them."""
LONGEST_SEARCH_S = 24 * 3600.0
"""Longest log that is searched without a clock: more than a day is no one flight's."""

log = structlog.get_logger(__name__)

Window = tuple[float, float]
"""Least and greatest offset of the clip's first frame on the log's time line."""


@dataclass(frozen=True, slots=True)
class LogFit:
    """A log on a clip's time line."""

    telemetry: Telemetry
    """Offsets from the clip's first frame, some of them before it and after the end."""
    offset_s: float
    """The clip's first frame in seconds from the log's zero."""
    uncertainty_s: float
    """Half-width of what is thought to hold the true offset."""
    method: Literal["clock", "overlap", "motion"]
    """What the offset rests on: a clock as it is written, only that the log then covers the clip, or the
    picture's motion."""
    flags: tuple[str, ...]
    """Any of clock_zone_suspect, clock_ambiguous, no_shared_clock, log_covers_part."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to read a clock: the clip starts there on the log's time line."""

    offset_s: float
    uncertainty_s: float
    method: Literal["clock", "overlap"]
    flags: tuple[str, ...] = ()


def fit_log(
    telemetry: Telemetry,
    *,
    started_hint: datetime | None,
    file_time: datetime | None,
    duration_s: float,
    zone: ZoneInfo,
    motion: MotionTrack | None = None,
) -> LogFit:
    """Return a log on a clip's time line, with how far that may be off and what is doubtful.

    Args:
        telemetry: a log (``time_base`` is LOG).
        started_hint: the container's time as if it were UTC, None where it has none.
        file_time: when the file was last written, the end of the recording; None where unknown.
        duration_s: how long the recording was.
        zone: in which the clip's clocks are thought to run where they do not run in UTC.
        motion: how the clip's picture moves, None where that was not measured.

    Raises:
        TelemetryInvalid: under no reading of the clocks does the log cover the clip.
        ValueError: the telemetry is the clip's own and needs no fitting.
    """
    if telemetry.time_base is not TimeBase.LOG or not telemetry.samples:
        raise ValueError(f"expected a log with samples, found {telemetry.format} on the clip's time line")
    clip = _Clip(_if_set(started_hint), _if_set(file_time), max(duration_s, PICTURE_S), zone)
    span = _Span.of(telemetry)
    readings, windows = _by_clock(clip, span) if span.can_tell(clip) else _without_clock(clip, span)
    match = match_motion(motion, telemetry, windows=windows) if motion is not None and windows else None
    if match is None and not readings:
        raise _nothing_fits(telemetry, clip, span)
    fit = _settled(telemetry, readings, match, clip=clip, span=span)
    if not fit.telemetry.samples:
        raise _nothing_fits(telemetry, clip, span)
    log.info("log_fitted", format=telemetry.format, method=fit.method, offset_s=round(fit.offset_s, 1))
    return fit


@dataclass(frozen=True, slots=True)
class _Clip:
    """What the clip's own clocks say."""

    container_time: datetime | None
    file_time: datetime | None
    duration_s: float
    zone: ZoneInfo

    def starts(self) -> list[tuple[datetime, float]]:
        """Return when the clip may have started and how far that may be off, most trusted first."""
        starts = []
        if self.container_time is not None:
            starts.append((self.container_time, CONTAINER_STEP_S + CAMERA_DRIFT_S))
        if self.file_time is not None:
            begun = self.file_time - timedelta(seconds=self.duration_s)
            starts.append((begun, FILE_STEP_S + CAMERA_DRIFT_S))
        return [
            (reading, uncertainty_s)
            for at, uncertainty_s in starts
            for reading in (at, at.replace(tzinfo=self.zone).astimezone(UTC))
        ]


@dataclass(frozen=True, slots=True)
class _Span:
    """A log's time line: its zero as its clock says, and its first and last sample in seconds from there."""

    zero_s: float | None
    """POSIX time, which holds whatever a damaged log may say; None where it has no clock."""
    first_s: float
    last_s: float
    clock_uncertainty_s: float

    @classmethod
    def of(cls, telemetry: Telemetry) -> _Span:
        """Return a log's span; the median of its clock outlives a receiver that had no fix at first."""
        samples = telemetry.samples
        zeros_s = [sample.at.timestamp() - sample.offset_s for sample in samples if sample.at is not None]
        return cls(
            zero_s=median(zeros_s) if zeros_s else None,
            first_s=samples[0].offset_s,
            last_s=samples[-1].offset_s,
            clock_uncertainty_s=telemetry.clock_uncertainty_s or 0.0,
        )

    def can_tell(self, clip: _Clip) -> bool:
        """Return whether log and clip both have a clock."""
        return self.zero_s is not None and bool(clip.starts())

    def offset_s(self, at: datetime) -> float:
        """Return a time on the log's time line."""
        assert self.zero_s is not None  # noqa: S101 - asked only where ``can_tell``
        return at.timestamp() - self.zero_s

    def covered_s(self, offset_s: float, duration_s: float) -> float:
        """Return how much the log covers of a clip that starts at an offset."""
        return max(0.0, min(offset_s + duration_s, self.last_s) - max(offset_s, self.first_s))


def _if_set(at: datetime | None) -> datetime | None:
    """Return a time unless it is that of a clock that was never set."""
    return at if at is not None and EARLIEST_CREATION <= at <= LATEST else None


def _by_clock(clip: _Clip, span: _Span) -> tuple[list[_Reading], list[Window]]:
    """Return the readings of the clip's clocks under which the log covers it, most trusted first."""
    starts = [
        (span.offset_s(at), uncertainty_s + span.clock_uncertainty_s) for at, uncertainty_s in clip.starts()
    ]
    readings = [
        _Reading(offset_s, uncertainty_s, "clock")
        for offset_s, uncertainty_s in starts
        if span.covered_s(offset_s, clip.duration_s) >= LEAST_COVER * clip.duration_s
    ]
    if not readings:
        first_s, uncertainty_s = starts[0]
        steps = int(ZONE_WIDEST_S / ZONE_STEP_S)
        shifts_s = sorted((step * ZONE_STEP_S for step in range(-steps, steps + 1)), key=abs)
        readings = [
            _Reading(first_s + shift_s, uncertainty_s, "overlap", ("clock_zone_suspect",))
            for shift_s in shifts_s
            if span.covered_s(first_s + shift_s, clip.duration_s) >= NEARLY_ALL * clip.duration_s
        ]
    distinct: list[_Reading] = []
    for reading in readings:
        if all(abs(reading.offset_s - other.offset_s) > other.uncertainty_s for other in distinct):
            distinct.append(reading)
    windows = [
        (reading.offset_s - reading.uncertainty_s, reading.offset_s + reading.uncertainty_s)
        for reading in distinct
    ]
    return distinct, windows


def _without_clock(clip: _Clip, span: _Span) -> tuple[list[_Reading], list[Window]]:
    """Return where a log without a clock may lie: beside a clip as long as itself, or anywhere."""
    length_s = span.last_s - span.first_s
    half_s = clip.duration_s / 2
    windows = [(span.first_s - half_s, span.last_s - half_s)] if 0 < length_s <= LONGEST_SEARCH_S else []
    differ_s = abs(length_s - clip.duration_s)
    if differ_s > max(SAME_FLIGHT_MIN_S, EQUAL_LENGTH_SHARE * clip.duration_s):
        return [], windows
    reading = _Reading(span.first_s, differ_s + SAME_FLIGHT_MIN_S, "overlap", ("no_shared_clock",))
    return [reading], windows


def _settled(
    telemetry: Telemetry,
    readings: Sequence[_Reading],
    match: MotionMatch | None,
    *,
    clip: _Clip,
    span: _Span,
) -> LogFit:
    """Return the fit that the motion, or else the first reading, says."""
    if match is None:
        chosen, *others = readings
        reach_s = [abs(other.offset_s - chosen.offset_s) + other.uncertainty_s for other in others]
        offset_s, uncertainty_s = chosen.offset_s, max(chosen.uncertainty_s, *reach_s, 0.0)
        flags = chosen.flags + ("clock_ambiguous",) * bool(others)
    else:
        offset_s, uncertainty_s = match.offset_s, match.uncertainty_s
        near = min(readings, key=lambda reading: abs(reading.offset_s - offset_s), default=None)
        flags = near.flags if near else ("no_shared_clock",)
    if span.covered_s(offset_s, clip.duration_s) < clip.duration_s - ENDS_TOGETHER_S:
        flags += ("log_covers_part",)
    return LogFit(
        telemetry=_on_clip(telemetry, offset_s, uncertainty_s=uncertainty_s, duration_s=clip.duration_s),
        offset_s=offset_s,
        uncertainty_s=uncertainty_s,
        method=chosen.method if match is None else "motion",
        flags=flags,
    )


def _on_clip(telemetry: Telemetry, offset_s: float, *, uncertainty_s: float, duration_s: float) -> Telemetry:
    """Return a log cut to the clip, its times as they are and its offsets from the clip's first frame."""
    samples = tuple(
        replace(sample, offset_s=sample.offset_s - offset_s)
        for sample in telemetry.samples
        if -MARGIN_S <= sample.offset_s - offset_s <= duration_s + MARGIN_S
    )
    clocked = telemetry.clock is not TelemetryClock.NONE
    return replace(
        telemetry,
        samples=samples,
        time_base=TimeBase.CLIP,
        clock_uncertainty_s=(telemetry.clock_uncertainty_s or 0.0) + uncertainty_s if clocked else None,
    )


def _nothing_fits(telemetry: Telemetry, clip: _Clip, span: _Span) -> TelemetryInvalid:
    """Return the refusal, with both spans in words."""
    if not span.can_tell(clip):
        lacking = "log" if span.zero_s is None else "clip"
        return TelemetryInvalid(
            f"the {telemetry.format} log ({span.last_s - span.first_s:.0f} s) cannot be laid on the clip"
            f" ({clip.duration_s:.0f} s): the {lacking} has no clock, the two are not equally long, and the"
            " picture's motion does not tell: hand in a log of this clip alone, or the clip without one"
        )
    times = [sample.at for sample in telemetry.samples if sample.at is not None]
    start, _ = clip.starts()[0]
    end = start + timedelta(seconds=clip.duration_s)
    return TelemetryInvalid(
        f"the {telemetry.format} log runs from {_words(times[0])} to {_words(times[-1])} UTC, but the clip's"
        f" clock says {_words(start)} to {_words(end)}, and neither {clip.zone.key} nor any other time zone"
        " brings the clip into the log: hand the clip in with the log of its own flight, or without one"
    )


def _words(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
