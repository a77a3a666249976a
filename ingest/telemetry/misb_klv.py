"""Read MISB ST 0601 metadata: raw KLV files, and the packets of a data stream beside the pictures.

Belongs here: finding local sets in bytes of any quality, and their way into ``Telemetry``. Not here: the
items themselves (``outwatch/domain/misb.py``) and taking packets out of a video (``ingest/container.py``).

Sets are found one after another; their values are then decoded item by item over all sets at once, as an
aircraft writes the same items in the same places set after set. That is what makes reading fast.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from outwatch.domain.attitude import angles_of, rotation
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.misb import (
    BER_LONG_FORM,
    CHECKSUM,
    CHECKSUM_BYTES,
    FULL_CORNERS,
    ITEMS,
    MAX_BER_BYTES,
    OFFSET_CORNERS,
    TIME_STAMP,
    TIME_STAMP_BYTES,
    UAS_KEY,
    ber_length,
    ber_oid,
)
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
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""Times outside are clocks that were never set, or damage."""
MAX_SETS = 500_000
"""Four and a half hours at 30 Hz, in about 500 MB of memory; what comes after them is not read."""
MAX_BEFORE_CLIP_S = 1.0
"""Sets further before the first frame belong to pictures that the file does not hold."""
MAX_WITHIN_PACKET_S = 10.0
"""Sets of one packet lie as far apart as their time stamps say, but never further than this."""
CLOCK_JUMP_S = 5.0
"""A clock that leaves the pictures' time by more than this between two sets was set, or two files joined."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEY = re.compile(re.escape(UAS_KEY))
_CLOSING = CHECKSUM << 8 | 2
"""Tag and length of a set's last item, as a number."""
_WINDOW_BYTES = 8

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


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
        sets = _Sets.of(_Bytes.of(head))
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


@dataclass(frozen=True, slots=True)
class _Bytes:
    """Bytes, and all their stretches of eight as big-endian integers: element i starts at byte i."""

    data: bytes
    windows: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, data: bytes) -> _Bytes:
        """Pad bytes, so that a window starts at each of them, and a few behind."""
        padded = data + bytes(2 * _WINDOW_BYTES)
        shape = (len(padded) - _WINDOW_BYTES + 1,)
        return cls(data, np.ndarray(shape, ">u8", buffer=padded, strides=(1,)))

    def numbers(self, at: Integers, *, size: int) -> npt.NDArray[np.uint64]:
        """Return the unsigned integers of ``size`` bytes that start at these places."""
        return self.windows[at].astype(np.uint64) >> np.uint64(8 * (_WINDOW_BYTES - size))


@dataclass(frozen=True, slots=True)
class _Sets:
    """The intact local sets in bytes, in order, none within another."""

    starts: Integers
    ends: Integers
    damaged: int
    """Keys that no intact set follows."""
    wrong_sum: str | None
    """What the first set states that is whole but for its checksum, and what was found."""

    @classmethod
    def of(cls, source: _Bytes) -> _Sets:
        """Find the sets, in time linear in the bytes; after damage the next key counts."""
        keys = islice(_KEY.finditer(source.data), MAX_SETS)
        starts = np.array([key.start() for key in keys], np.int64)
        ends = _ends(source, starts)
        whole = np.flatnonzero(ends)
        whole = whole[source.numbers(ends[whole] - CHECKSUM_BYTES, size=2) == _CLOSING]
        stated = source.numbers(ends[whole] - 2, size=2)
        found = _checksums(source.data, starts[whole], ends[whole] - 2)
        intact = np.zeros(len(starts), bool)
        intact[whole[stated == found]] = True
        reach = np.maximum.accumulate(np.append(0, np.where(intact, ends, 0)))[:-1]
        outside = starts >= reach
        wrong = np.flatnonzero(stated != found)[:1].tolist()
        return cls(
            starts=starts[intact & outside],
            ends=ends[intact & outside],
            damaged=int((outside & ~intact).sum()),
            wrong_sum=f"states {stated[wrong[0]]:#06x} but sums to {found[wrong[0]]:#06x}" if wrong else None,
        )


def _ends(source: _Bytes, starts: Integers) -> Integers:
    """Return where sets end by their length in BER form (SMPTE ST 336), 0 where none is possible there."""
    at = starts + len(UAS_KEY)
    first = source.numbers(at, size=1).astype(np.int64)
    length, begin = first.copy(), at + 1
    for size in range(1, MAX_BER_BYTES + 1):
        rows = first == BER_LONG_FORM + size
        length[rows] = source.numbers(begin[rows], size=size)
        begin[rows] += size
    ends = begin + length
    known = (first != BER_LONG_FORM) & (first <= BER_LONG_FORM + MAX_BER_BYTES)
    return np.where(known & (length >= CHECKSUM_BYTES) & (ends <= len(source.data)), ends, 0)


def _checksums(data: bytes, starts: Integers, ends: Integers) -> Integers:
    """Return what ``outwatch.domain.misb.checksum`` gives for each stretch, from running sums over all bytes.

    It is a sum of 16-bit words from the stretch's first byte on, modulo 65536: at even places for stretches
    that start at one, and at odd places for the others.
    """
    sums = np.zeros(len(starts), np.int64)
    for odd in np.unique(starts & 1).tolist():
        words = np.frombuffer(data, ">u2", (len(data) - odd) // 2, odd).astype(np.uint16)
        run = np.append(np.uint16(0), np.cumsum(words, dtype=np.uint16))
        rows = np.flatnonzero(starts & 1 == odd)
        first, count = starts[rows] >> 1, (ends[rows] - starts[rows]) >> 1
        sums[rows] = run[first + count] - run[first]
        uneven = rows[(ends[rows] - starts[rows]) & 1 == 1]
        sums[uneven] += np.frombuffer(data, np.uint8)[ends[uneven] - 1].astype(np.int64) << 8
    return sums & 0xFFFF


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Where the items of a set lie; sets with the same tags and lengths in the same places share one."""

    mask: int
    """Ones over all tags and lengths, with the set taken as one big number."""
    headers: int
    """Those tags and lengths."""
    places: dict[int, tuple[int, int]]
    """By tag: where the value starts, counted from the set's start, and its size in bytes."""


def _layouts(data: bytes, sets: _Sets) -> list[_Layout | None]:
    """Return the layout of each set, None where items do not fill it exactly."""
    latest: dict[int, _Layout | None] = {}  # by the length of the set
    layouts = []
    for start, end in zip(sets.starts.tolist(), sets.ends.tolist(), strict=True):
        layout = latest.get(end - start)
        if layout is None or int.from_bytes(data[start:end], "big") & layout.mask != layout.headers:
            layout = latest[end - start] = _walk(data[start:end])
        layouts.append(layout)
    return layouts


def _walk(packet: bytes) -> _Layout | None:
    mask, places = bytearray(len(packet)), {}
    try:
        _, at = ber_length(packet, len(UAS_KEY))
        mask[:at] = b"\xff" * at
        while at < len(packet):
            tag, length_at = ber_oid(packet, at)
            size, begin = ber_length(packet, length_at)
            mask[at:begin] = b"\xff" * (begin - at)
            places[tag] = begin, size
            at = begin + size
    except ValueError:
        return None
    if at != len(packet):
        return None
    number = int.from_bytes(mask, "big")
    return _Layout(number, number & int.from_bytes(packet, "big"), places)


class _Table:
    """Sets as rows, and their items as columns that are decoded when asked for."""

    def __init__(self, source: _Bytes, starts: Integers, layouts: Sequence[_Layout]) -> None:
        numbers: dict[_Layout, int] = {}
        self._source = source
        self._starts = starts
        self._kinds = np.array([numbers.setdefault(layout, len(numbers)) for layout in layouts], np.int64)
        self._layouts = list(numbers)

    def keep(self, rows: Integers) -> None:
        """Keep these rows, in this order."""
        self._starts, self._kinds = self._starts[rows], self._kinds[rows]

    def column(self, tag: int) -> Floats:
        """Return a measure of every set in the item's unit, NaN where it has none."""
        item = ITEMS[tag]
        values = np.full(len(self._starts), np.nan)
        written = {layout.places[tag][1] for layout in self._layouts if tag in layout.places}
        for size in written.intersection(item.sizes):
            rows, raw = self._raw(tag, size=size)
            values[rows] = item.decode(raw, size=size)
        return values

    def times_us(self) -> Integers:
        """Return every set's time stamp in microseconds since 1970 UTC, -1 where it has none to believe."""
        earliest, latest = ((limit - _EPOCH) // timedelta(microseconds=1) for limit in (EARLIEST, LATEST))
        rows, raw = self._raw(TIME_STAMP, size=TIME_STAMP_BYTES)
        times_us = np.full(len(self._starts), -1, np.int64)
        times_us[rows] = np.where((raw >= earliest) & (raw < latest), raw.view(np.int64), -1)
        return times_us

    def _raw(self, tag: int, *, size: int) -> tuple[Integers, npt.NDArray[np.uint64]]:
        """Return the rows that have an item in that size, and its bytes there as unsigned integers."""
        places = np.array([layout.places.get(tag, (0, 0)) for layout in self._layouts], np.int64)
        rows = np.flatnonzero((places[:, 1] == size)[self._kinds])
        return rows, self._source.numbers(self._starts[rows] + places[self._kinds[rows], 0], size=size)


def _telemetry(data: bytes, *, arrivals: tuple[Integers, Floats] | None) -> Telemetry:
    """Return the telemetry in bytes; ``arrivals`` are the ends of the packets in them, and their offsets."""
    source = _Bytes.of(data)
    sets = _Sets.of(source)
    layouts = _layouts(data, sets)
    known = [layout for layout in layouts if layout is not None]
    if not known:
        raise TelemetryInvalid(_none_intact(sets, size=len(data)))
    starts = sets.starts[[layout is not None for layout in layouts]]
    table = _Table(source, starts, known)
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


def _none_intact(sets: _Sets, *, size: int) -> str:
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


def _samples(table: _Table, *, times_us: Integers, offsets_s: Floats) -> tuple[TelemetrySample, ...]:
    """Return the sets as samples, without those that say nothing of time, place or camera."""
    heading, pitch, roll = _airframe(table)
    looks = _camera(table, heading, pitch, roll)
    height = _either(table.column(104), table.column(75))
    hfov = table.column(16)
    hfov[hfov <= 0] = np.nan
    ats = [datetime.fromtimestamp(at_s, UTC) if at_s >= 0 else None for at_s in (times_us / 1e6).tolist()]
    points = _points(table.column(13), table.column(14), _plain(table.column(15)))
    angles = map(_plain, (*looks, hfov, heading, pitch, roll, height))
    return tuple(
        TelemetrySample(
            offset_s=offset_s,
            at=at,
            point=point,
            height_agl_m=None,
            heading_deg=look_to,
            pitch_deg=look_up,
            roll_deg=lean,
            hfov_deg=hfov_deg,
            airframe_heading_deg=fly_to,
            airframe_pitch_deg=nose_up,
            airframe_roll_deg=bank,
            ellipsoid_height_m=up_m,
            corners=four,
        )
        for offset_s, at, point, look_to, look_up, lean, hfov_deg, fly_to, nose_up, bank, up_m, four in zip(
            offsets_s.tolist(), ats, points, *angles, _corners(table), strict=True
        )
        if at is not None or point is not None or look_up is not None
    )


def _airframe(table: _Table) -> tuple[Floats, Floats, Floats]:
    """Return heading, pitch and roll in degrees; the full items lead, as the others end at 20 and 50."""
    return (
        table.column(5) % 360,
        _either(table.column(90), table.column(6)),
        _either(table.column(91), table.column(7)),
    )


def _camera(table: _Table, heading: Floats, pitch: Floats, roll: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the camera's heading, pitch and roll: the airframe's attitude with the sensor's in it.

    Without a relative roll, which turns about the camera's own axis, the other two still hold.
    """
    azimuth, elevation, turn = map(table.column, (18, 19, 20))
    level = np.where(np.isnan(turn), 0.0, turn)
    look_to, look_up, lean = angles_of(rotation(heading, pitch, roll) @ rotation(azimuth, elevation, level))
    return look_to, look_up, np.where(np.isnan(turn), np.nan, lean)


def _corners(table: _Table) -> list[tuple[GeoPoint, ...] | None]:
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
