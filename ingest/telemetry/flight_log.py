"""Make telemetry of what an autopilot logged: many records, each with a rate of its own, become samples.

Belongs here: bringing series to common times, and the log's clock. Not here: cleaning and asking series
(``series.py``), and the formats (``px4_ulog.py``, ``ardupilot_dataflash.py``, ``mavlink_tlog.py``), which
fill a ``FlightLog``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from ingest.telemetry import attitude, series
from ingest.telemetry.attitude import FloatArray
from ingest.telemetry.series import NOTHING, Series
from ingest.telemetry.track import missing_fields
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import (
    MAX_LON_DEG,
    GeoPoint,
    Telemetry,
    TelemetryClock,
    TelemetrySample,
    TimeBase,
)

SAMPLE_EVERY_S = 0.1
"""Autopilots log attitudes up to 400 times a second; a camera is asked for its pose twice a second, and an
aircraft turns smoothly in a tenth."""
MAX_SAMPLES = 360_000
"""Ten hours at the full rate; longer logs are thinned further. It bounds what one file costs (100 MB)."""
MAX_SPAN_S = 7 * 86_400.0
"""Records further from the log's middle have damaged times: no aircraft logs for a week in one file."""
HAS_FIX = 3
"""A fix in three dimensions, from which on all count: GPS_FIX_TYPE of MAVLink, as all autopilots write it."""
FIX_HELD_S = 5.0
"""How long the receiver's last word on its fix counts."""
CLOCK_STEP_S, CLOCK_STEP_SHARE = 5.0, 0.05
"""Where more than this share of a log's times leave the others by more than so many seconds, its clock was
set, or two logs were joined; fewer are damage."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_S = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
_LATEST_S = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
"""Times outside are of clocks that were never set, or damage."""


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it was: ``zero_s`` is the UTC, in seconds since 1970, at which the log's clock read 0."""

    source: TelemetryClock = TelemetryClock.NONE
    zero_s: float | None = None
    uncertainty_s: float | None = None
    steps: bool = False
    """Whether parts of the log disagree with the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightLog:
    """What a format's reader found. Each series has its own times; all are on one clock."""

    format: str
    places: Series
    """Latitude and longitude in degrees."""
    alt_m: Series = NOTHING
    """Above mean sea level."""
    ellipsoid_height_m: Series = NOTHING
    height_agl_m: Series = NOTHING
    airframe: Series = NOTHING
    """Unit quaternions."""
    gimbal: Series = NOTHING
    """The camera's, against north: unit quaternions."""
    fixes: Series = NOTHING
    """The receiver's own word on its fix; places without one do not count."""
    home: Series = NOTHING
    """Latitude and longitude in degrees, metres above mean sea level; each holds until the next."""
    clock: Clock = field(default_factory=Clock)
    skipped: int = 0
    warnings: tuple[str, ...] = ()


def clock(
    t_s: npt.ArrayLike, utc_s: npt.ArrayLike, *, source: TelemetryClock, uncertainty_s: float
) -> Clock | None:
    """Return the clock that pairs of times tell, None where they tell none.

    Args:
        t_s: the log's own times, shape (n,).
        utc_s: UTC at those times in seconds since 1970, shape (n,).
        source: what the clock is.
        uncertainty_s: how far each pair may be off; half the spread of all pairs is added.
    """
    zero_s = np.asarray(utc_s, dtype=np.float64) - np.asarray(t_s, dtype=np.float64)
    zero_s = zero_s[(np.asarray(utc_s) > _EARLIEST_S) & (np.asarray(utc_s) < _LATEST_S) & np.isfinite(zero_s)]
    if not len(zero_s):
        return None
    # The median, as a receiver's first times may still lack the leap seconds, and damage is anywhere.
    middle_s = float(np.median(zero_s))
    off_s = np.abs(zero_s - middle_s)
    return Clock(
        source=source,
        zero_s=middle_s,
        uncertainty_s=round(uncertainty_s + float(np.median(off_s)), 3),
        steps=bool((off_s > CLOCK_STEP_S).mean() > CLOCK_STEP_SHARE),
    )


def to_telemetry(log: FlightLog) -> Telemetry:
    """Return a log as telemetry: samples at the rate of its positions and attitudes, at most ten a second.

    Raises:
        TelemetryInvalid: it holds neither a position, a height nor an attitude.
    """
    fixed = _with_fix(log.places, log.fixes)
    own = [log.airframe, fixed, log.gimbal, log.height_agl_m]
    times, strays = _timeline(np.concatenate([part.t_s for part in own]))
    if not len(times):
        raise TelemetryInvalid(
            f"{log.format} log has no position, height or attitude that can be read ({log.skipped} damaged"
            " records): copy it again from the aircraft, or leave it out"
        )
    samples = tuple(_samples(log, fixed, times))
    return Telemetry(
        format=log.format,
        samples=samples,
        skipped=log.skipped + strays,
        missing=missing_fields(samples),
        warnings=(*log.warnings, *(("clock_jumps",) if log.clock.steps else ())),
        time_base=TimeBase.LOG,
        clock=log.clock.source,
        clock_uncertainty_s=log.clock.uncertainty_s,
    )


def _with_fix(found: Series, fixes: Series) -> Series:
    """Return the places at which the receiver said that it has a fix; all where it says nothing."""
    if not len(fixes):
        return found
    latest = np.searchsorted(fixes.t_s, found.t_s, side="right") - 1
    latest = np.maximum(latest, 0)
    held = np.abs(found.t_s - fixes.t_s[latest]) <= FIX_HELD_S
    return found.where(held & (fixes.values[latest, 0] >= HAS_FIX))


def _timeline(times: FloatArray) -> tuple[FloatArray, int]:
    """Return the times of the samples, and how many times were too far off to be true."""
    if not len(times):
        return times, 0
    times = np.sort(times)
    near = np.abs(times - times[len(times) // 2]) <= MAX_SPAN_S
    times = times[near]
    every_s = max(SAMPLE_EVERY_S, float(times[-1] - times[0]) / MAX_SAMPLES)
    # A thousandth of a step keeps records at just this rate from falling two into one step by rounding.
    _, first = np.unique(np.floor((times - times[0]) / every_s + 1e-3), return_index=True)
    return times[first], int((~near).sum())


def _samples(log: FlightLog, fixed: Series, times: FloatArray) -> Iterator[TelemetrySample]:
    rows = zip(
        times.tolist(),
        _lat_lon(fixed, times),
        _scalar(log.alt_m, times),
        _scalar(log.ellipsoid_height_m, times),
        _scalar(log.height_agl_m, times),
        _angles(log.airframe, times),
        _angles(log.gimbal, times),
        _homes(log.home, times),
        strict=True,
    )
    start_s = float(times[0])
    for t_s, (lat_deg, lon_deg), alt_m, ellipsoid_m, agl_m, airframe, camera, home in rows:
        yield TelemetrySample(
            offset_s=round(t_s - start_s, 6),
            at=_utc(log.clock, t_s),
            point=None if math.isnan(lat_deg) else GeoPoint(lat_deg, lon_deg, alt_m),
            height_agl_m=agl_m,
            heading_deg=camera[0],
            pitch_deg=camera[1],
            roll_deg=camera[2],
            home=home,
            airframe_heading_deg=airframe[0],
            airframe_pitch_deg=airframe[1],
            airframe_roll_deg=airframe[2],
            ellipsoid_height_m=ellipsoid_m,
        )


def _utc(clock: Clock, t_s: float) -> datetime | None:
    if clock.zero_s is None or not _EARLIEST_S < clock.zero_s + t_s < _LATEST_S:
        return None
    return _EPOCH + timedelta(microseconds=round((clock.zero_s + t_s) * 1e6))


def _lat_lon(found: Series, times: FloatArray) -> list[tuple[float, float]]:
    """Return latitudes and longitudes, the short way round the antimeridian, NaN where there are none."""
    if not len(found):
        return [(math.nan, math.nan)] * len(times)
    lat, lon = series.linear(Series(found.t_s, np.unwrap(found.values, period=360, axis=0)), times).T
    lon = np.where(np.abs(lon) > MAX_LON_DEG, (lon + 180) % 360 - 180, lon)
    return list(zip(lat.tolist(), lon.tolist(), strict=True))


def _scalar(found: Series, times: FloatArray) -> list[float | None]:
    if not len(found):
        return [None] * len(times)
    return [None if math.isnan(value) else value for value in series.linear(found, times)[:, 0].tolist()]


def _angles(found: Series, times: FloatArray) -> list[tuple[float | None, ...]]:
    if not len(found):
        return [(None, None, None)] * len(times)
    rows = attitude.to_angles(series.attitudes(found, times)).tolist()
    return [(None, None, None) if math.isnan(row[0]) else tuple(row) for row in rows]


def _homes(home: Series, times: FloatArray) -> list[GeoPoint | None]:
    if not len(home):
        return [None] * len(times)
    points = [GeoPoint(lat_deg, lon_deg, alt_m) for lat_deg, lon_deg, alt_m in home.values.tolist()]
    latest = np.maximum(np.searchsorted(home.t_s, times, side="right") - 1, 0)
    return [points[row] for row in latest.tolist()]
