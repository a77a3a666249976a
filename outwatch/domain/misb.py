"""MISB ST 0601, the metadata that surveillance aircraft write beside their video, item by item.

Belongs here: what both the reader and the simulator's writer must agree on: the local set's key, its
lengths and checksum, and how each item maps a value to bytes. Not here: finding sets in a stream and
making telemetry of them (``ingest/telemetry/misb_klv.py``), and writing it (``outwatch/simulate/klv.py``).

Sources: MISB ST 0601 "UAS Datalink Local Set" (items, checksum), SMPTE ST 336 (key, length, value),
MISB ST 1201 "Floating Point to Integer Mapping" (IMAPB).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

UAS_KEY = bytes.fromhex("060e2b34020b01010e01030101000000")
"""Universal key of the UAS Datalink Local Set; each set of items starts with it."""
CHECKSUM, TIME_STAMP, MISSION_ID, DESIGNATION, SENSOR, VERSION = 1, 2, 3, 10, 11, 65
"""Items that are no measure: 16-bit sum, microseconds since 1970 UTC, texts, the standard's revision."""
CHECKSUM_BYTES = 4
"""The item that closes each set: tag 1, length 2, sum."""
TIME_STAMP_BYTES = 8
MAX_TEXT_BYTES = 127
BER_LONG_FORM = 0x80
"""From here on a first byte of length counts the bytes that hold it."""
MAX_BER_BYTES = 4
"""More bytes of length would be a set of over 4 GB."""


@dataclass(frozen=True)
class Item:
    """One measure of the set and its way to bytes.

    ``uint`` spreads [low, high] over all unsigned integers of its size. ``int`` spreads it over the
    signed ones but for the smallest, which says that there is no value: out of range, or off the earth.
    ``imapb`` is ST 1201 and has the size that its writer chose.
    """

    tag: int
    name: str
    unit: Literal["deg", "m"]
    form: Literal["uint", "int", "imapb"]
    low: float
    high: float
    size: int
    """Bytes; of ``imapb`` those that we write."""

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Return the sizes in bytes that may be read."""
        return tuple(range(1, 9)) if self.form == "imapb" else (self.size,)

    def resolution(self, size: int | None = None) -> float:
        """Return the distance between neighbouring values, in the item's unit."""
        bits = 8 * (size or self.size)
        if self.form == "imapb":
            return math.ldexp(1.0, _imapb_shift(self.low, self.high, bits))
        return (self.high - self.low) / ((1 << bits) - (1 if self.form == "uint" else 2))

    def encode(self, value: float, *, size: int | None = None) -> bytes:
        """Return the bytes of a value.

        An ``int`` item out of range becomes the standard's own mark for that.

        Raises:
            ValueError: the value is out of range and the item has no mark for it.
        """
        size = size or self.size
        inside = self.low <= value <= self.high
        if not inside and self.form != "int":
            raise ValueError(
                f"{self.name} (item {self.tag}) must be {self.low:g} to {self.high:g} {self.unit},"
                f" found {value:g}"
            )
        if self.form == "imapb":
            return encode_imapb(value, low=self.low, high=self.high, size=size)
        if self.form == "uint":
            return round((value - self.low) / self.resolution(size)).to_bytes(size, "big")
        raw = round(value / self.resolution(size)) if inside else -(1 << (8 * size - 1))
        return raw.to_bytes(size, "big", signed=True)

    def decode(self, raw: npt.ArrayLike, *, size: int | None = None) -> Floats:
        """Return the values of bytes read as unsigned integers, NaN where they say that there is none.

        Args:
            raw: integers of any shape, unsigned, as they stand in ``size`` bytes, big end first.
            size: the item's own unless given.
        """
        size = size or self.size
        if self.form == "imapb":
            return decode_imapb(raw, low=self.low, high=self.high, size=size)
        number = np.asarray(raw).astype(np.float64)
        if self.form == "uint":
            return self.low + number * self.resolution(size)
        none = 2.0 ** (8 * size - 1)
        signed = np.where(number >= none, number - 2 * none, number)
        return np.where(signed == -none, np.nan, signed * self.resolution(size))


def _imapb_shift(low: float, high: float, bits: int) -> int:
    """Return the power of two of one step (ST 1201: the negative of dPow - bPow)."""
    return math.ceil(math.log2(high - low)) - (bits - 1)


def _imapb_zero(low: float, high: float, scale: float) -> float:
    """Return the shift that maps zero to itself, where the range has a zero within (ST 1201: Zoffset)."""
    return scale * low - math.floor(scale * low) if low < 0 < high else 0.0


def encode_imapb(value: float, *, low: float, high: float, size: int) -> bytes:
    """Return a value in [low, high] as ``size`` bytes (ST 1201, IMAPB forward mapping)."""
    scale = math.ldexp(1.0, -_imapb_shift(low, high, 8 * size))
    return math.trunc(scale * (value - low) + _imapb_zero(low, high, scale)).to_bytes(size, "big")


def decode_imapb(raw: npt.ArrayLike, *, low: float, high: float, size: int) -> Floats:
    """Return the values of IMAPB integers, NaN for the special ones (ST 1201, reverse mapping).

    The highest bit marks infinities and all kinds of NaN; alone it is the range's upper end.
    """
    scale = math.ldexp(1.0, -_imapb_shift(low, high, 8 * size))
    number = np.asarray(raw)
    value = (number.astype(np.float64) - _imapb_zero(low, high, scale)) / scale + low
    # Half a step, as 52 bits cannot hold every integer of 8 bytes.
    return np.where((number > 1 << (8 * size - 1)) | (value > high + 0.5 / scale), np.nan, value)


_TURN, _LAT, _LON, _ALT = (0.0, 360.0), (-90.0, 90.0), (-180.0, 180.0), (-900.0, 19_000.0)
_OFFSET, _HIGH_ALT = (-0.075, 0.075), (-900.0, 40_000.0)

ITEMS: dict[int, Item] = {
    item.tag: item
    for item in (
        Item(5, "platform heading", "deg", "uint", *_TURN, 2),
        Item(6, "platform pitch", "deg", "int", -20.0, 20.0, 2),
        Item(7, "platform roll", "deg", "int", -50.0, 50.0, 2),
        Item(13, "sensor latitude", "deg", "int", *_LAT, 4),
        Item(14, "sensor longitude", "deg", "int", *_LON, 4),
        Item(15, "sensor true altitude", "m", "uint", *_ALT, 2),
        Item(16, "sensor horizontal field of view", "deg", "uint", 0.0, 180.0, 2),
        Item(17, "sensor vertical field of view", "deg", "uint", 0.0, 180.0, 2),
        Item(18, "sensor relative azimuth", "deg", "uint", *_TURN, 4),
        Item(19, "sensor relative elevation", "deg", "int", -180.0, 180.0, 4),
        Item(20, "sensor relative roll", "deg", "uint", *_TURN, 4),
        Item(21, "slant range", "m", "uint", 0.0, 5_000_000.0, 4),
        Item(22, "target width", "m", "uint", 0.0, 10_000.0, 2),
        Item(23, "frame centre latitude", "deg", "int", *_LAT, 4),
        Item(24, "frame centre longitude", "deg", "int", *_LON, 4),
        Item(25, "frame centre elevation", "m", "uint", *_ALT, 2),
        Item(26, "upper left corner's latitude from the centre", "deg", "int", *_OFFSET, 2),
        Item(27, "upper left corner's longitude from the centre", "deg", "int", *_OFFSET, 2),
        Item(28, "upper right corner's latitude from the centre", "deg", "int", *_OFFSET, 2),
        Item(29, "upper right corner's longitude from the centre", "deg", "int", *_OFFSET, 2),
        Item(30, "lower right corner's latitude from the centre", "deg", "int", *_OFFSET, 2),
        Item(31, "lower right corner's longitude from the centre", "deg", "int", *_OFFSET, 2),
        Item(32, "lower left corner's latitude from the centre", "deg", "int", *_OFFSET, 2),
        Item(33, "lower left corner's longitude from the centre", "deg", "int", *_OFFSET, 2),
        Item(75, "sensor ellipsoid height", "m", "uint", *_ALT, 2),
        Item(78, "frame centre height above the ellipsoid", "m", "uint", *_ALT, 2),
        Item(82, "upper left corner's latitude", "deg", "int", *_LAT, 4),
        Item(83, "upper left corner's longitude", "deg", "int", *_LON, 4),
        Item(84, "upper right corner's latitude", "deg", "int", *_LAT, 4),
        Item(85, "upper right corner's longitude", "deg", "int", *_LON, 4),
        Item(86, "lower right corner's latitude", "deg", "int", *_LAT, 4),
        Item(87, "lower right corner's longitude", "deg", "int", *_LON, 4),
        Item(88, "lower left corner's latitude", "deg", "int", *_LAT, 4),
        Item(89, "lower left corner's longitude", "deg", "int", *_LON, 4),
        Item(90, "platform pitch, full", "deg", "int", *_LAT, 4),
        Item(91, "platform roll, full", "deg", "int", *_LAT, 4),
        Item(96, "target width, extended", "m", "imapb", 0.0, 1_500_000.0, 3),
        Item(103, "density altitude, extended", "m", "imapb", *_HIGH_ALT, 3),
        Item(104, "sensor ellipsoid height, extended", "m", "imapb", *_HIGH_ALT, 3),
        Item(105, "alternate platform ellipsoid height, extended", "m", "imapb", *_HIGH_ALT, 3),
    )
}
"""Measures by tag: what places the camera and its picture. All other items are passed over."""
OFFSET_CORNERS = ((26, 27), (28, 29), (30, 31), (32, 33))
FULL_CORNERS = ((82, 83), (84, 85), (86, 87), (88, 89))
"""Items of latitude and longitude, from the upper left corner clockwise as one looks at the picture."""


def ber_length(data: bytes, at: int) -> tuple[int, int]:
    """Return a length in BER form (SMPTE ST 336) and where what it measures begins.

    Raises:
        ValueError: the data ends within it, or it is of no kind that the standard allows.
    """
    if at >= len(data):
        raise ValueError("the data ends before a length")
    first = data[at]
    if first < BER_LONG_FORM:
        return first, at + 1
    size = first - BER_LONG_FORM
    begin = at + 1 + size
    if not 1 <= size <= MAX_BER_BYTES or begin > len(data):
        raise ValueError(f"a length of {size} bytes, of which {len(data) - at - 1} are there")
    return int.from_bytes(data[at + 1 : begin], "big"), begin


def ber_oid(data: bytes, at: int) -> tuple[int, int]:
    """Return a tag in BER-OID form (SMPTE ST 336) and where its length begins.

    Raises:
        ValueError: the data ends within it, or it is longer than any tag.
    """
    tag = 0
    for byte in data[at : at + MAX_BER_BYTES]:
        tag, at = tag << 7 | byte & 0x7F, at + 1
        if byte < BER_LONG_FORM:
            return tag, at
    raise ValueError("a tag without an end")


def encode_length(length: int) -> bytes:
    """Return a length in BER form, the short one where it fits."""
    if length < BER_LONG_FORM:
        return bytes([length])
    size = (length.bit_length() + 7) // 8
    return bytes([BER_LONG_FORM + size]) + length.to_bytes(size, "big")


def encode_oid(tag: int) -> bytes:
    """Return a tag in BER-OID form."""
    parts = [tag & 0x7F]
    while tag := tag >> 7:
        parts.append(tag & 0x7F | BER_LONG_FORM)
    return bytes(reversed(parts))


def checksum(data: bytes) -> int:
    """Return the running 16-bit sum of a set, from its key to the length of its checksum (item 1).

    Bytes at even places from the set's start count 256-fold.
    """
    return (sum(data[::2]) * 256 + sum(data[1::2])) & 0xFFFF


def local_set(items: Iterable[tuple[int, bytes]]) -> bytes:
    """Return a local set of (tag, value) in the order given, closed by its checksum."""
    body = b"".join(encode_oid(tag) + encode_length(len(value)) + value for tag, value in items)
    head = UAS_KEY + encode_length(len(body) + CHECKSUM_BYTES) + body + bytes([CHECKSUM, 2])
    return head + checksum(head).to_bytes(2, "big")
