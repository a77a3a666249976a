"""What files of positions share: numbers, times and places as written, and the way to ``Telemetry``.

Belongs here: what GPX, KML, CSV logs and photos have in common. Not here: any one format, and fitting a log
to a clip (``ingest/align.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import (
    MAX_LAT_DEG,
    MAX_LON_DEG,
    GeoPoint,
    Telemetry,
    TelemetryClock,
    TelemetrySample,
    TimeBase,
)

EARLIEST_YEAR, LATEST_YEAR = 2000, 2100
"""Years outside are clocks that were never set, or damage. Within them no sum of a time and an offset leaves
what a datetime can hold."""
MAX_ELAPSED_S = 30 * 24 * 3600.0
"""No log runs for longer; a larger number counts something else."""
CLOCK_UNCERTAINTY_S = 2.0
"""Clocks of loggers and cameras are set from satellites and written in whole seconds, up to a second late."""
CLOCK_JUMP_S = 5.0
"""A clock that leaves the count of seconds by more than this was set in flight, or two logs were joined."""
MAX_RECORDS = 500_000
"""Fourteen hours at 10 Hz, in some 400 MB of memory and 10 s; what comes after them is not read, and the
warning ``cut_at_limit`` says so."""
MAX_NUMBER_CHARS, MAX_TIME_CHARS = 40, 40
"""More digits than any double or timestamp has: longer text is damage."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a log, before it has a place on the log's time line."""

    sample: TelemetrySample
    """``offset_s`` counts for nothing yet."""
    elapsed_s: float | None = None
    """Seconds since the log or the aircraft was switched on, where a column counts them."""

    @property
    def says_something(self) -> bool:
        """Return whether it has a time, a place, a height or a camera angle."""
        sample = self.sample
        said = (sample.at, sample.point, sample.height_agl_m, sample.heading_deg, sample.pitch_deg)
        return any(value is not None for value in said)


class WallClock:
    """Turns times as written into UTC, and remembers whether the zone had to be assumed."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.assumed_zone = False
        self._zone = zone
        self._last: datetime | None = None

    def utc(self, written: datetime | None) -> datetime | None:
        """Return a time in UTC, None for one that no clock of today shows.

        Args:
            written: a naive one is wall time of the zone. In an hour that a clock change repeats it is the
                first of the two, unless time would run back.
        """
        if written is None or not EARLIEST_YEAR <= written.year <= LATEST_YEAR:
            return None
        if written.tzinfo is not None:
            return written.astimezone(UTC)
        self.assumed_zone = True
        local = written.replace(tzinfo=self._zone)
        at = local.astimezone(UTC)
        if self._last is not None and at < self._last:
            again = local.replace(fold=1).astimezone(UTC)
            at = again if again >= self._last else at
        self._last = at
        return at


def number(text: str | None) -> float | None:
    """Return a finite number as written, None where there is none."""
    if text is None or len(text) > MAX_NUMBER_CHARS:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def iso_time(text: str | None) -> datetime | None:
    """Return an ISO 8601 date and time as written, naive where it has no zone; None where it is none."""
    text = (text or "").strip()
    if len(text) > MAX_TIME_CHARS or ":" not in text:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def place(lat_deg: float | None, lon_deg: float | None, alt_m: float | None = None) -> GeoPoint | None:
    """Return a place, None for (0, 0), which loggers write before they have a fix, and off Earth."""
    if lat_deg is None or lon_deg is None or lat_deg == lon_deg == 0:
        return None
    if abs(lat_deg) > MAX_LAT_DEG or abs(lon_deg) > MAX_LON_DEG:
        return None
    return GeoPoint(lat_deg, lon_deg, alt_m)


def missing_fields(samples: Iterable[TelemetrySample]) -> tuple[str, ...]:
    """Return which of time, position, height and gimbal no sample carries."""
    found = {"time": False, "position": False, "height": False, "gimbal": False}
    for sample in samples:
        found["time"] |= sample.at is not None
        found["position"] |= sample.point is not None
        found["height"] |= sample.height_agl_m is not None
        found["gimbal"] |= sample.pitch_deg is not None
    return tuple(name for name, present in found.items() if not present)


def change_zone(telemetry: Telemetry, zone: ZoneInfo) -> Telemetry:
    """Return telemetry of wall times with its clock read in another zone; any other is as it was."""
    if telemetry.clock is not TelemetryClock.LOCAL or telemetry.zone in {None, zone.key}:
        return telemetry
    written_in = ZoneInfo(telemetry.zone)
    samples = tuple(
        sample
        if sample.at is None
        else replace(sample, at=sample.at.astimezone(written_in).replace(tzinfo=zone).astimezone(UTC))
        for sample in telemetry.samples
    )
    return replace(telemetry, samples=samples, zone=zone.key)


def log_telemetry(
    form: str,
    records: Sequence[Record],
    *,
    clock: TelemetryClock,
    zone: ZoneInfo,
    skipped: int,
    warnings: Iterable[str] = (),
) -> Telemetry:
    """Put a log's records in order of time, offsets counted from the first.

    A count of seconds places them where it never runs back, as it is finer than most clocks; else the
    clock does. Records without what places the others are skipped. Where nothing does, all have the
    offset 0 and ``no_time_line`` says so.

    Args:
        form: name of the format.
        records: in the order of the file.
        clock: where times come from, for records that have any.
        zone: that of wall times.
        skipped: records that could not be read.
        warnings: what the format noticed.

    Raises:
        TelemetryInvalid: there is no record, or none says anything.
    """
    telling = [record for record in records if record.says_something]
    skipped += len(records) - len(telling)
    if not telling:
        raise TelemetryInvalid(
            f"{form} file has no readable record ({skipped} tried): expected positions or times of a flight;"
            " export it again, or leave it out"
        )
    seconds = _seconds(telling)
    timed = [(at_s, record.sample) for at_s, record in zip(seconds, telling, strict=True) if at_s is not None]
    ordered = sorted(timed, key=lambda pair: pair[0])
    samples = tuple(replace(sample, offset_s=at_s - ordered[0][0]) for at_s, sample in ordered)
    missing = missing_fields(samples)
    noticed = {
        "no_time_line": all(record.elapsed_s is None for record in telling) and "time" in missing,
        "records_out_of_order": ordered != timed,
        "clock_jumps": clock_jumps(samples),
    }
    kind = TelemetryClock.NONE if "time" in missing else clock
    return Telemetry(
        format=form,
        samples=samples,
        skipped=skipped + len(telling) - len(timed),
        missing=missing,
        warnings=(*warnings, *(name for name, holds in noticed.items() if holds)),
        time_base=TimeBase.LOG,
        clock=kind,
        zone=zone.key if kind is TelemetryClock.LOCAL else None,
        clock_uncertainty_s=None if kind is TelemetryClock.NONE else CLOCK_UNCERTAINTY_S,
    )


def _seconds(records: Sequence[Record]) -> list[float | None]:
    """Return where each record lies in time, from any zero; None where it has no place among the others."""
    counted = [record.elapsed_s for record in records]
    known = [elapsed_s for elapsed_s in counted if elapsed_s is not None]
    first = next((record.sample.at for record in records if record.sample.at is not None), None)
    if known and (first is None or all(a <= b for a, b in pairwise(known))):
        return counted
    if first is None:
        return [0.0] * len(records)
    times = (record.sample.at for record in records)
    return [None if at is None else (at - first).total_seconds() for at in times]


def clock_jumps(samples: Sequence[TelemetrySample]) -> bool:
    """Tell whether the clock leaves the count of seconds between two samples that follow each other."""
    timed = [(sample.offset_s, sample.at) for sample in samples if sample.at is not None]
    jump = timedelta(seconds=CLOCK_JUMP_S)
    return any(
        abs((at_b - at_a) - timedelta(seconds=offset_b - offset_a)) > jump
        for (offset_a, at_a), (offset_b, at_b) in pairwise(timed)
    )
