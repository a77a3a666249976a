"""Find MISB ST 0601 local sets in bytes of any quality, and read their items over all sets at once.

Belongs here: keys, lengths, checksums and where values lie. Not here: what the values mean for a camera
(``misb_klv.py``), and how an item maps to bytes (``outwatch/domain/misb.py``).

An aircraft writes the same items in the same places set after set. So sets share a layout that is worked out
once, and an item is decoded as one array. That is what makes reading fast.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

import numpy as np
import numpy.typing as npt

from outwatch.domain.misb import (
    BER_LONG_FORM,
    CHECKSUM,
    CHECKSUM_BYTES,
    ITEMS,
    MAX_BER_BYTES,
    TIME_STAMP,
    TIME_STAMP_BYTES,
    UAS_KEY,
    ber_length,
    ber_oid,
)

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""Times outside are clocks that were never set, or damage."""
MAX_SETS = 500_000
"""Four and a half hours at 30 Hz, in about 500 MB of memory; what comes after them is not read."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEY = re.compile(re.escape(UAS_KEY))
_CLOSING = CHECKSUM << 8 | 2
"""Tag and length of a set's last item, as a number."""
_WINDOW_BYTES = 8

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes, and all their stretches of eight as big-endian integers: element i starts at byte i."""

    data: bytes
    windows: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, data: bytes) -> Bytes:
        """Pad bytes, so that a window starts at each of them, and a few behind."""
        padded = data + bytes(2 * _WINDOW_BYTES)
        shape = (len(padded) - _WINDOW_BYTES + 1,)
        return cls(data, np.ndarray(shape, ">u8", buffer=padded, strides=(1,)))

    def numbers(self, at: Integers, *, size: int) -> npt.NDArray[np.uint64]:
        """Return the unsigned integers of ``size`` bytes that start at these places."""
        return self.windows[at].astype(np.uint64) >> np.uint64(8 * (_WINDOW_BYTES - size))


@dataclass(frozen=True, slots=True)
class Sets:
    """The intact local sets in bytes, in order, none within another."""

    starts: Integers
    ends: Integers
    damaged: int
    """Keys that no intact set follows."""
    wrong_sum: str | None
    """What the first set states that is whole but for its checksum, and what was found."""

    @classmethod
    def of(cls, source: Bytes) -> Sets:
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


def _ends(source: Bytes, starts: Integers) -> Integers:
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
class Layout:
    """Where the items of a set lie; sets with the same tags and lengths in the same places share one."""

    mask: int
    """Ones over all tags and lengths, with the set taken as one big number."""
    headers: int
    """Those tags and lengths."""
    places: dict[int, tuple[int, int]]
    """By tag: where the value starts, counted from the set's start, and its size in bytes."""


def layouts_of(data: bytes, sets: Sets) -> list[Layout | None]:
    """Return the layout of each set, None where items do not fill it exactly."""
    latest: dict[int, Layout | None] = {}  # by the length of the set
    layouts = []
    for start, end in zip(sets.starts.tolist(), sets.ends.tolist(), strict=True):
        layout = latest.get(end - start)
        if layout is None or int.from_bytes(data[start:end], "big") & layout.mask != layout.headers:
            layout = latest[end - start] = _walk(data[start:end])
        layouts.append(layout)
    return layouts


def _walk(packet: bytes) -> Layout | None:
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
    return Layout(number, number & int.from_bytes(packet, "big"), places)


class Table:
    """Sets as rows, and their items as columns that are decoded when asked for."""

    def __init__(self, source: Bytes, starts: Integers, layouts: Sequence[Layout]) -> None:
        numbers: dict[Layout, int] = {}
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
