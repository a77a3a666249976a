"""Put telemetry and frames on one time line: the camera's pose at any moment of a clip.

Belongs here: interpolation, and the checks that telemetry belongs to the clip it lies beside and that
clips of one camera do not contradict each other. Not here: reading telemetry (``telemetry/``), fitting
a log with a clock of its own (``clockfit.py``) and deciding on a clip's clock (``register.py``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from ingest.segments import JOIN_TOLERANCE_S, clip_number
from ingest.telemetry.attitude import between, from_angles, to_angles
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import GeoPoint, Telemetry, TelemetrySample

SAME_FLIGHT_MIN_S, SAME_FLIGHT_SHARE = 5.0, 0.2
"""Telemetry that starts later, or outlasts the clip, by more than both (seconds, share of the clip) is
another flight's: aircraft start and end the two files together, give or take one record and a late buffer."""
STEEP_DEG = -75.0
"""Steeper than this, angles are interpolated as one attitude: 15 degrees are more than a gimbal turns
between two records."""
ENDS_TOGETHER_S = 2.0
"""Closer ends are one: the oldest firmwares write a record a second, and number it by its end."""
MAX_CLOCK_DIFFERENCE = timedelta(hours=26)
"""Local times of one moment differ by no more, from UTC-12 to UTC+14."""
ZONE_STEP_S, ZONE_TOLERANCE_S, ZONE_WIDEST_S = 1800.0, 120.0, 14 * 3600.0
"""Time zones differ by whole half hours (a few by a quarter), up to 14 h from UTC; two clocks of one
aircraft and the delay between opening the two files stay within two minutes."""


@dataclass(frozen=True, slots=True)
class ClipSpan:
    """When a clip of a camera was taken, as its clock says."""

    name: str
    """With its folder where the card has folders."""
    started_at: datetime
    ended_at: datetime


class PoseTrack:
    """A clip's telemetry, indexed to be asked for the pose at any moment."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._samples = telemetry.samples
        self._offsets_s = [sample.offset_s for sample in telemetry.samples]

    def at(self, offset_s: float, *, max_extrapolation_s: float = 1.0) -> TelemetrySample | None:
        """Return the pose at a moment, between the samples before and after it.

        Beyond the first or last sample the pose is held and its clock runs on. None where no sample
        lies within ``max_extrapolation_s``, be it past the end or in a hole.

        Args:
            offset_s: seconds from the first frame of the clip.
            max_extrapolation_s: the default bridges the records of firmwares that write one a second.
        """
        after = bisect_left(self._offsets_s, offset_s)
        near = self._samples[max(0, after - 1) : after + 1]
        if not near or min(abs(sample.offset_s - offset_s) for sample in near) > max_extrapolation_s:
            return None
        if len(near) == 1 or near[-1].offset_s == offset_s:
            return _held(near[-1], offset_s)
        return _between(near[0], near[1], offset_s)


def pose_at(
    telemetry: Telemetry, offset_s: float, *, max_extrapolation_s: float = 1.0
) -> TelemetrySample | None:
    """Return the pose at one moment; for many moments keep a ``PoseTrack``."""
    return PoseTrack(telemetry).at(offset_s, max_extrapolation_s=max_extrapolation_s)


def fit_to_clip(telemetry: Telemetry, *, duration_s: float, started_hint: datetime | None) -> tuple[str, ...]:
    """Return doubts about telemetry that is the clip's own.

    Args:
        telemetry: what was read beside the clip or from inside it.
        duration_s: how long the recording was, also where only a part of the clip can be read.
        started_hint: the container's creation time, which may be off by a time zone.

    Returns:
        Any of telemetry_starts_late, telemetry_ends_early, telemetry_longer_than_clip.

    Raises:
        TelemetryInvalid: it is another flight's: by its clock, because it outlasts the clip or starts
            well into it, or because it ends long before the clip while the clocks disagree.
    """
    _check_clock(telemetry, started_hint)
    first, last = telemetry.samples[0], telemetry.samples[-1]
    allowed_s = max(SAME_FLIGHT_MIN_S, SAME_FLIGHT_SHARE * duration_s)
    # A recorder that lost power or filled its card ends a clip's own telemetry early.
    ends_early = duration_s - last.offset_s > allowed_s
    if (
        first.offset_s > allowed_s
        or last.offset_s - duration_s > allowed_s
        or (ends_early and clock_doubt(telemetry, started_hint) == "clock_disagrees")
    ):
        raise TelemetryInvalid(
            f"telemetry runs from {first.offset_s:.1f} to {last.offset_s:.1f} s but the clip from 0 to"
            f" {duration_s:.1f} s (at most {allowed_s:.1f} s apart is expected): it belongs to another"
            " recording, hand the clip in with its own or without"
        )
    doubts = {
        "telemetry_starts_late": first.offset_s > ENDS_TOGETHER_S,
        "telemetry_ends_early": last.offset_s < duration_s - ENDS_TOGETHER_S,
        "telemetry_longer_than_clip": last.offset_s > duration_s + ENDS_TOGETHER_S,
    }
    return tuple(name for name, holds in doubts.items() if holds)


def clip_start(telemetry: Telemetry) -> datetime | None:
    """Return the telemetry's time at the first frame, None where it has no clock."""
    timed = next((sample for sample in telemetry.samples if sample.at is not None), None)
    if timed is None or timed.at is None:
        return None
    return timed.at - timedelta(seconds=timed.offset_s)


def clock_doubt(telemetry: Telemetry, container_time: datetime | None) -> str | None:
    """Return how the clocks of telemetry and container disagree, None where they agree or one is absent.

    Returns:
        ``clock_zone_suspect`` where they differ as two time zones do, as one wrote local time as UTC;
        ``clock_disagrees`` where no zone explains the difference.
    """
    started_at = clip_start(telemetry)
    if started_at is None or container_time is None:
        return None
    difference_s = abs((started_at - container_time).total_seconds())
    steps = round(difference_s / ZONE_STEP_S)
    off_step_s = abs(difference_s - steps * ZONE_STEP_S)
    if off_step_s > ZONE_TOLERANCE_S or difference_s > ZONE_WIDEST_S + ZONE_TOLERANCE_S:
        return "clock_disagrees"
    return "clock_zone_suspect" if steps else None


def neighbour_doubts(clip: ClipSpan, others: Iterable[ClipSpan]) -> tuple[str, ...]:
    """Return ``clock_contradicts_neighbour`` where a clip's time and those of its neighbours cannot all be.

    One camera takes no two clips at once, and counts upwards. Files that two lenses wrote together
    (DJI_..._0007_T, DJI_..._0007_W) contradict nothing, nor do chapters, which may all state the time
    of the first.

    Args:
        clip: the clip that is asked about.
        others: clips of the same camera and the same card, with it or without it.
    """
    return ("clock_contradicts_neighbour",) if any(_contradict(clip, other) for other in others) else ()


def _contradict(clip: ClipSpan, other: ClipSpan) -> bool:
    if clip.name == other.name:
        return False
    one, two = clip_number(clip.name), clip_number(other.name)
    of_one_counter = one is not None and two is not None and one.family == two.family
    if one is not None and two is not None and of_one_counter:
        of_two_lenses = one.lens != two.lens
        of_one_recording = one.chapter is not None and one.number == two.number
        if of_two_lenses or of_one_recording:
            return False
    tolerance = timedelta(seconds=JOIN_TOLERANCE_S)
    overlap = min(clip.ended_at, other.ended_at) - max(clip.started_at, other.started_at)
    if overlap > tolerance:
        return True
    if one is None or two is None or not of_one_counter:
        return False
    earlier, later = (clip, other) if one.number < two.number else (other, clip)
    return earlier.started_at > later.started_at + tolerance


def _check_clock(telemetry: Telemetry, started_hint: datetime | None) -> None:
    started_at = clip_start(telemetry)
    if started_at is None or started_hint is None or abs(started_at - started_hint) <= MAX_CLOCK_DIFFERENCE:
        return
    raise TelemetryInvalid(
        f"telemetry starts at {started_at:%Y-%m-%d %H:%M} UTC but the clip was created at"
        f" {started_hint:%Y-%m-%d %H:%M} UTC, further apart than any time zone explains: it belongs to"
        " another recording, hand the clip in with its own or without"
    )


def _held(sample: TelemetrySample, offset_s: float) -> TelemetrySample:
    return _between(sample, sample, offset_s)


def _between(a: TelemetrySample, b: TelemetrySample, offset_s: float) -> TelemetrySample:
    """Return the pose between two samples; what only one of them knows is taken from it."""
    span_s = b.offset_s - a.offset_s
    share = (offset_s - a.offset_s) / span_s if span_s > 0 else 0.0
    heading_deg, pitch_deg, roll_deg = _angles(a, b, share=share)
    return TelemetrySample(
        offset_s=offset_s,
        at=_time(a, b, share=share, offset_s=offset_s),
        point=_point(a.point, b.point, share=share),
        height_agl_m=_linear(a.height_agl_m, b.height_agl_m, share=share),
        heading_deg=heading_deg,
        pitch_deg=pitch_deg,
        roll_deg=roll_deg,
        hfov_deg=_linear(a.hfov_deg, b.hfov_deg, share=share),
        focal_length_mm=_linear(a.focal_length_mm, b.focal_length_mm, share=share),
        home=a.home or b.home,
    )


def _angles(
    a: TelemetrySample, b: TelemetrySample, *, share: float
) -> tuple[float | None, float | None, float | None]:
    """Return the camera's heading, pitch and roll between two samples.

    Angle by angle, except near straight down: there heading and roll trade places between two records
    that hardly differ, so that only the attitude as a whole can be interpolated.
    """
    one, two = (a.heading_deg, a.pitch_deg, a.roll_deg), (b.heading_deg, b.pitch_deg, b.roll_deg)
    if None in one or None in two or min(a.pitch_deg or 0.0, b.pitch_deg or 0.0) > STEEP_DEG:
        return (
            _circular(a.heading_deg, b.heading_deg, share=share),
            _linear(a.pitch_deg, b.pitch_deg, share=share),
            _signed(_circular(a.roll_deg, b.roll_deg, share=share)),
        )
    mixed = between(from_angles(*one), from_angles(*two), share=np.array([share]))  # type: ignore[arg-type]
    heading_deg, pitch_deg, roll_deg = to_angles(mixed)[0].tolist()
    return heading_deg % 360, pitch_deg, _signed_turn(roll_deg)


def _time(a: TelemetrySample, b: TelemetrySample, *, share: float, offset_s: float) -> datetime | None:
    if a.at is not None and b.at is not None and a is not b:
        return a.at + (b.at - a.at) * share
    known = a if a.at is not None else b
    return None if known.at is None else known.at + timedelta(seconds=offset_s - known.offset_s)


def _linear(a: float | None, b: float | None, *, share: float) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    return a + (b - a) * share


def _circular(a: float | None, b: float | None, *, share: float) -> float | None:
    """Interpolate degrees the short way round, into [0, 360)."""
    if a is None or b is None:
        return b if a is None else a
    return (a + _signed_turn(b - a) * share) % 360


def _signed(angle_deg: float | None) -> float | None:
    return None if angle_deg is None else _signed_turn(angle_deg)


def _signed_turn(angle_deg: float) -> float:
    """Return the angle in [-180, 180)."""
    return (angle_deg + 180) % 360 - 180


def _point(a: GeoPoint | None, b: GeoPoint | None, *, share: float) -> GeoPoint | None:
    """Interpolate places a few metres apart, the short way round the antimeridian."""
    if a is None or b is None:
        return b if a is None else a
    return GeoPoint(
        lat_deg=max(-90.0, min(90.0, a.lat_deg + (b.lat_deg - a.lat_deg) * share)),  # rounding at a pole
        lon_deg=_signed_turn(a.lon_deg + _signed_turn(b.lon_deg - a.lon_deg) * share),
        alt_m=_linear(a.alt_m, b.alt_m, share=share),
    )
