"""Read MISB ST 0601 metadata: raw KLV files, and the packets of a data stream beside the pictures.

Belongs here: the way of local sets into ``Telemetry``. Not here: finding them in bytes (``klv_sets.py``),
their items (``outwatch/domain/misb.py``) and taking packets out of a video (``ingest/container.py``).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from ingest.telemetry.klv_sets import (
    EARLIEST,
    LATEST,
    MAX_SETS,
    Bytes,
    Floats,
    Integers,
    Sets,
    Table,
    layouts_of,
)
from outwatch.domain.attitude import angles_of, rotation
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.misb import FULL_CORNERS, OFFSET_CORNERS, UAS_KEY
from outwatch.domain.types import (
    MAX_LAT_DEG,
    MAX_LON_DEG,
    GeoPoint,
    Telemetry,
    TelemetryClock,
    TelemetrySample,
    TimeBase,
)

FORMAT = "misb_klv"
CLOCK_UNCERTAINTY_S = 1.0
"""The time stamp is a disciplined clock's (MISB ST 0603), but encoders that stamp a set when it leaves the
video chain are up to a second late."""
MAX_BEFORE_CLIP_S = 1.0
"""Sets further before the first frame belong to pictures that the file does not hold."""
MAX_WITHIN_PACKET_S = 10.0
"""Sets of one packet lie as far apart as their time stamps say, but never further than this."""
CLOCK_JUMP_S = 5.0
"""A clock that leaves the pictures' time by more than this between two sets was set, or two files joined."""


class MisbKlv:
    """Raw KLV: local sets one after another, as a demultiplexer or a recorder leaves them."""

    @property
    def format(self) -> str:
        """Return the format's name."""
        return FORMAT

    def recognises(self, head: bytes) -> bool:
        """Tell whether the bytes begin with a local set, or hold two intact ones in a row.

        A video's stream holds sets too, but with headers between them.
        """
        sets = Sets.of(Bytes.of(head))
        return head.startswith(UAS_KEY) or bool((sets.starts[1:] == sets.ends[:-1]).any())

    def read(self, data: bytes, *, zone: ZoneInfo) -> Telemetry:  # noqa: ARG002 - time stamps are in UTC
        """Return the telemetry of a raw file, timed from its earliest set; sets without a time are skipped.

        Raises:
            TelemetryInvalid: no set in it is intact and says when it was.
        """
        return _telemetry(data, arrivals=None)


def read_packets(packets: Sequence[tuple[float, bytes]]) -> Telemetry:
    """Return the telemetry of a clip's data stream.

    A packet may hold several sets, and a set may be spread over packets that follow each other.

    Args:
        packets: seconds from the clip's first frame, and the bytes, in the stream's order.

    Raises:
        TelemetryInvalid: no set in them is intact and belongs to the clip.
    """
    ends = np.cumsum([len(data) for _, data in packets], dtype=np.int64)
    offsets_s = np.array([offset_s for offset_s, _ in packets], np.float64)
    return _telemetry(b"".join(data for _, data in packets), arrivals=(ends, offsets_s))


def _telemetry(data: bytes, *, arrivals: tuple[Integers, Floats] | None) -> Telemetry:
    """Return the telemetry in bytes; ``arrivals`` are the ends of the packets in them, and their offsets."""
    source = Bytes.of(data)
    sets = Sets.of(source)
    layouts = layouts_of(data, sets)
    known = [layout for layout in layouts if layout is not None]
    if not known:
        raise TelemetryInvalid(_none_intact(sets, size=len(data)))
    starts = sets.starts[[layout is not None for layout in layouts]]
    table = Table(source, starts, known)
    times_us = table.times_us()
    offsets_s = _since_first(times_us) if arrivals is None else _in_clip(starts, times_us, *arrivals)
    rows = np.flatnonzero(np.isfinite(offsets_s))
    if not len(rows):
        raise TelemetryInvalid(
            f"none of {len(known)} KLV sets has a place in time: expected a time stamp between"
            f" {EARLIEST.year} and {LATEST.year} in a raw file, or a packet within the clip; check the"
            " aircraft's clock, or hand the clip in without this telemetry"
        )
    ordered = rows[np.argsort(offsets_s[rows], kind="stable")]
    table.keep(ordered)
    times_us, offsets_s = times_us[ordered], offsets_s[ordered]
    with _collector_paused():
        samples = _samples(table, times_us=times_us, offsets_s=offsets_s)
    warnings = {
        "records_out_of_order": bool((ordered != rows).any()),
        "clock_jumps": _clock_jumps(times_us, offsets_s),
        "cut_at_limit": len(layouts) + sets.damaged >= MAX_SETS,
    }
    timed = bool((times_us >= 0).any())
    return Telemetry(
        format=FORMAT,
        samples=samples,
        skipped=sets.damaged + len(layouts) - len(samples),
        missing=_missing(samples),
        warnings=tuple(name for name, holds in warnings.items() if holds),
        time_base=TimeBase.LOG if arrivals is None else TimeBase.CLIP,
        clock=TelemetryClock.GPS if timed else TelemetryClock.NONE,
        clock_uncertainty_s=CLOCK_UNCERTAINTY_S if timed else None,
    )


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the collector of cycles from walking, again and again, over samples that can have none.

    It takes a third of the time of reading otherwise.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _none_intact(sets: Sets, *, size: int) -> str:
    if sets.wrong_sum is not None:
        return (
            f"not one of {sets.damaged} KLV sets has the right checksum (the first {sets.wrong_sum}):"
            " ST 0601 forbids to use them; copy the recording again, or ask the maker of its encoder"
        )
    return (
        f"no intact KLV set in {size} bytes ({sets.damaged} broken off or damaged): expected local sets of"
        " MISB ST 0601; copy the recording again or leave the telemetry out"
    )


def _since_first(times_us: Integers) -> Floats:
    """Return seconds from the earliest time stamp, NaN where there is none."""
    timed = times_us >= 0
    first_us = times_us[timed].min(initial=np.iinfo(np.int64).max)
    return np.where(timed, (times_us - first_us) / 1e6, np.nan)


def _in_clip(starts: Integers, times_us: Integers, ends: Integers, packet_offsets_s: Floats) -> Floats:
    """Return seconds from the clip's first frame, NaN where a set lies before it.

    The packet in which a set starts has the time of its first set; the others follow by their stamps.
    """
    packets = np.searchsorted(ends, starts, side="right")
    first = np.searchsorted(packets, packets)
    later_s = (times_us - times_us[first]) / 1e6
    known = (times_us >= 0) & (times_us[first] >= 0) & (later_s >= 0) & (later_s <= MAX_WITHIN_PACKET_S)
    offsets_s = packet_offsets_s[packets] + np.where(known, later_s, 0.0)
    return np.where(offsets_s >= -MAX_BEFORE_CLIP_S, offsets_s, np.nan)


def _clock_jumps(times_us: Integers, offsets_s: Floats) -> bool:
    timed = times_us >= 0
    drift_s = np.diff(times_us[timed]) / 1e6 - np.diff(offsets_s[timed])
    return bool((np.abs(drift_s) > CLOCK_JUMP_S).any())


def _samples(table: Table, *, times_us: Integers, offsets_s: Floats) -> tuple[TelemetrySample, ...]:
    """Return the sets as samples, without those that say nothing of time, place or camera."""
    heading, pitch, roll = _airframe(table)
    looks = _camera(table, heading, pitch, roll)
    height = _either(table.column(104), table.column(75))
    # Both above the sea: how far the camera is above the ground it looks at.
    above_ground = table.column(15) - table.column(25)
    above_ground[~(above_ground > 0)] = np.nan
    hfov = table.column(16)
    hfov[hfov <= 0] = np.nan
    ats = [datetime.fromtimestamp(at_s, UTC) if at_s >= 0 else None for at_s in (times_us / 1e6).tolist()]
    points = _points(table.column(13), table.column(14), _plain(table.column(15)))
    angles = map(_plain, (*looks, hfov, heading, pitch, roll, height, above_ground))
    rows = zip(offsets_s.tolist(), ats, points, *angles, _corners(table), strict=True)
    return tuple(
        TelemetrySample(
            offset_s=offset_s,
            at=at,
            point=point,
            height_agl_m=agl_m,
            heading_deg=look_to,
            pitch_deg=look_up,
            roll_deg=lean,
            hfov_deg=fov,
            airframe_heading_deg=fly_to,
            airframe_pitch_deg=nose_up,
            airframe_roll_deg=bank,
            ellipsoid_height_m=up_m,
            corners=four,
        )
        for offset_s, at, point, look_to, look_up, lean, fov, fly_to, nose_up, bank, up_m, agl_m, four in rows
        if at is not None or point is not None or look_up is not None
    )


def _airframe(table: Table) -> tuple[Floats, Floats, Floats]:
    """Return heading, pitch and roll in degrees; the full items lead, as the others end at 20 and 50."""
    return (
        table.column(5) % 360,
        _either(table.column(90), table.column(6)),
        _either(table.column(91), table.column(7)),
    )


def _camera(table: Table, heading: Floats, pitch: Floats, roll: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the camera's heading, pitch and roll: the airframe's attitude with the sensor's in it.

    Without a relative roll, which turns about the camera's own axis, the other two still hold.
    """
    azimuth, elevation, turn = map(table.column, (18, 19, 20))
    level = np.where(np.isnan(turn), 0.0, turn)
    look_to, look_up, lean = angles_of(rotation(heading, pitch, roll) @ rotation(azimuth, elevation, level))
    return look_to, look_up, np.where(np.isnan(turn), np.nan, lean)


def _corners(table: Table) -> list[tuple[GeoPoint, ...] | None]:
    """Return the picture's corners: the full items where all are there, else those from the centre."""
    centre = np.stack([table.column(23), table.column(24)])
    full, from_centre = (
        np.stack([[table.column(lat), table.column(lon)] for lat, lon in corners])
        for corners in (FULL_CORNERS, OFFSET_CORNERS)
    )  # (corner, latitude or longitude, set)
    whole = np.isfinite(full).all(axis=(0, 1))
    lat_deg, lon_deg = np.moveaxis(np.where(whole, full, centre + from_centre), 1, 0)
    lon_deg = np.where(np.abs(lon_deg) > MAX_LON_DEG, (lon_deg + 180) % 360 - 180, lon_deg)
    corners: list[tuple[GeoPoint, ...] | None] = [None] * lat_deg.shape[1]
    rows = np.flatnonzero((_on_earth(lat_deg, lon_deg)).all(axis=0))
    points = (
        map(GeoPoint, lat.tolist(), lon.tolist())
        for lat, lon in zip(lat_deg[:, rows], lon_deg[:, rows], strict=True)
    )
    for row, four in zip(rows.tolist(), zip(*points, strict=True), strict=True):
        corners[row] = four
    return corners


def _points(lat_deg: Floats, lon_deg: Floats, alt_m: Sequence[float | None]) -> list[GeoPoint | None]:
    return [
        GeoPoint(lat, lon, alt) if known else None
        for known, lat, lon, alt in zip(
            _on_earth(lat_deg, lon_deg).tolist(), lat_deg.tolist(), lon_deg.tolist(), alt_m, strict=True
        )
    ]


def _on_earth(lat_deg: Floats, lon_deg: Floats) -> npt.NDArray[np.bool_]:
    """Tell which are places: not those that are unknown, nor (0, 0), which encoders write without a fix."""
    there = (np.abs(lat_deg) <= MAX_LAT_DEG) & np.isfinite(lon_deg) & ((lat_deg != 0) | (lon_deg != 0))
    return np.asarray(there)


def _either(first: Floats, second: Floats) -> Floats:
    return np.where(np.isnan(first), second, first)


def _plain(values: Floats) -> list[float | None]:
    """Return plain numbers with None for NaN."""
    numbers: list[float | None] = values.tolist()
    for row in np.flatnonzero(np.isnan(values)).tolist():
        numbers[row] = None
    return numbers


def _missing(samples: Sequence[TelemetrySample]) -> tuple[str, ...]:
    found = {
        "time": any(sample.at for sample in samples),
        "position": any(sample.point for sample in samples),
        "height": False,  # no item is measured from the take-off point
        "gimbal": any(sample.pitch_deg is not None for sample in samples),
    }
    return tuple(name for name, present in found.items() if not present)
