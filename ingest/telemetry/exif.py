"""Find EXIF and XMP in a photo, and read values of chosen tags, without decoding a pixel.

Belongs here: the JPEG, PNG and TIFF structures that hold them, and the directories of EXIF. Not here: what
the values mean (``photo.py``). Own reader, as it runs outside the confined decoder: each step moves forward
within the file, a directory is read once, and only values of a few bytes are ever copied.

Sources: EXIF 2.32 (CIPA DC-008), section 4.5.2 for JPEG; TIFF 6.0, section 2; PNG 1.5 (``eXIf``, ``iTXt``);
XMP part 3 (ISO 16684-1) for where XMP stands in each.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
TIFF_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}
MAX_ENTRIES = 512
"""Entries of one directory that are looked at; cameras write some 60."""
MAX_VALUE_BYTES = 256
MAX_XMP_BYTES = 1 << 20
"""Aircraft write 1 to 10 kB; editing programs add histories."""
EXIF_DIRECTORY, GPS_DIRECTORY, XMP_TAG = 0x8769, 0x8825, 0x02BC

Value = str | tuple[float, ...]
"""Text, or one number or more; a fraction with the denominator 0 is NaN."""
_FORMS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}
_ASCII, _FRACTIONS = 2, frozenset({5, 10})
_XMP_IN_JPEG, _EXIF_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\x00", b"Exif\x00\x00"
_XMP_IN_PNG = b"XML:com.adobe.xmp\x00\x00\x00\x00\x00"
"""Keyword, not compressed, no language, no translation: the only form that XMP part 3 allows."""
_HEADER_BYTES, _SLOT_BYTES = 8, 4
"""Of a TIFF structure; and of an entry, for a value that fits or the address of one that does not."""
MAX_BLOCKS = 100_000
"""Segments and chunks that are looked through: the largest pictures have some ten thousand."""
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


def is_photo(head: bytes) -> bool:
    """Tell by a file's first bytes whether it is a JPEG, PNG or TIFF picture."""
    return head.startswith((JPEG, PNG, *TIFF_ORDERS))


def metadata(data: bytes) -> tuple[dict[int, Value], bytes]:
    """Return EXIF values by tag, those of its sub-directories among them, and the XMP packet.

    Args:
        data: a photo; of a damaged one what can be found is returned.
    """
    if data[:4] in TIFF_ORDERS:
        return directories(data), _tiff_xmp(data)
    blocks = _jpeg_blocks(data) if data.startswith(JPEG) else _png_blocks(data)
    tags: dict[int, Value] = {}
    xmp = b""
    for kind, block in blocks:
        if kind == "exif":
            tags = tags or directories(block)
        else:
            xmp = xmp or block[:MAX_XMP_BYTES]
    return tags, xmp


def _jpeg_blocks(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what the segments before the picture hold."""
    at = 2
    for _ in range(MAX_BLOCKS):
        if at + 4 > len(data) or data[at] != 0xFF:  # noqa: PLR2004 - a marker's first byte
            return
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in {_START_OF_SCAN, _END_OF_IMAGE} or length < 2:  # noqa: PLR2004 - it counts itself
            return
        if marker == 0xE1:  # noqa: PLR2004 - APP1
            segment = data[at + 4 : at + 2 + length]
            if segment.startswith(_EXIF_IN_JPEG):
                yield "exif", segment[len(_EXIF_IN_JPEG) :]
            elif segment.startswith(_XMP_IN_JPEG):
                yield "xmp", segment[len(_XMP_IN_JPEG) :]
        at += 2 + length


def _png_blocks(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = len(PNG)
    for _ in range(MAX_BLOCKS):
        if at + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            yield "exif", data[at + 8 : at + 8 + length]
        elif kind == b"iTXt" and data.startswith(_XMP_IN_PNG, at + 8):
            yield "xmp", data[at + 8 + len(_XMP_IN_PNG) : at + 8 + length]
        at += 12 + length  # length, kind, data, checksum


def directories(data: bytes) -> dict[int, Value]:
    """Return the values of a TIFF structure's first directory and of its EXIF and GPS directories.

    One mapping holds all, as their tags differ: GPS up to 0x1F, the first 0xFE and up, EXIF 0x829A and up.
    """
    tags = _values(data, _unsigned(data, 4))
    for pointer in (EXIF_DIRECTORY, GPS_DIRECTORY):
        written = tags.get(pointer)
        if isinstance(written, tuple) and math.isfinite(written[0]):  # a fraction over 0 is none
            tags |= _values(data, int(written[0]))
    return tags


def _entries(data: bytes, at: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield tag, form, number of values and where the value or its address stands, of a directory."""
    order = TIFF_ORDERS.get(data[:4])
    if order is None or not _HEADER_BYTES <= at <= len(data) - 2:
        return
    (count,) = struct.unpack_from(f"{order}H", data, at)
    for entry in range(at + 2, at + 2 + 12 * min(count, MAX_ENTRIES), 12):
        if entry + 12 > len(data):
            return
        tag, form, number = struct.unpack_from(f"{order}HHI", data, entry)
        yield tag, form, number, entry + 8


def _values(data: bytes, at: int) -> dict[int, Value]:
    values: dict[int, Value] = {}
    for tag, form, number, slot in _entries(data, at):
        size = struct.calcsize(f"={_FORMS.get(form, '0s')}") * number
        if 0 < size <= MAX_VALUE_BYTES:
            start = slot if size <= _SLOT_BYTES else _unsigned(data, slot)
            if start + size <= len(data):
                values[tag] = _value(data[start : start + size], form, TIFF_ORDERS[data[:4]])
    return values


def _value(raw: bytes, form: int, order: str) -> Value:
    if form == _ASCII:
        return raw.partition(b"\x00")[0].decode("ascii", errors="replace").strip()
    letter = _FORMS[form][0]
    numbers = struct.unpack(f"{order}{len(raw) // struct.calcsize(f'={letter}')}{letter}", raw)
    if form not in _FRACTIONS:
        return tuple(map(float, numbers))
    halves = zip(numbers[::2], numbers[1::2], strict=True)
    return tuple(above / below if below else math.nan for above, below in halves)


def _unsigned(data: bytes, at: int) -> int:
    """Return the 32-bit number that stands at a place, 0 where the file ends before."""
    order = TIFF_ORDERS.get(data[:4], "<")
    return int(struct.unpack_from(f"{order}I", data, at)[0]) if at + 4 <= len(data) else 0


def _tiff_xmp(data: bytes) -> bytes:
    for tag, _, size, slot in _entries(data, _unsigned(data, 4)):
        if tag == XMP_TAG:
            start = _unsigned(data, slot)
            return data[start : start + min(size, MAX_XMP_BYTES)]
    return b""
