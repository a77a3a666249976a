"""Find MAVLink messages of both versions in a ground station's log.

Belongs here: the framing, the checksum, and how the messages that we want lie on the wire. Not here: what
they say (``mavlink_tlog.py``).

A record is eight bytes of time (microseconds since 1970, big-endian) and a message. Every place is looked at
where the bytes may be a message that we want, and its checksum tells whether it is one: nothing depends on
the records before it, so damage costs no more than the records it lies in. Our own reader, as pymavlink's
takes several times as long (docs/adr/2026-11-22-own-readers-for-flight-logs.md).

Source: mavlink.io, "Packet Serialization", and common.xml with ardupilotmega.xml for the messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ingest.telemetry.attitude import FloatArray


@dataclass(frozen=True, slots=True)
class Layout:
    """How a message lies on the wire: its checksum's seed, its fields, and its length in MAVLink 1."""

    crc_extra: int
    fields: np.dtype[np.void]
    base_bytes: int


def _layout(crc_extra: int, base_bytes: int, fields: str) -> Layout:
    """Return a layout, given its fields as pairs of type and name."""
    pairs = [field.split() for field in fields.split(",")]
    return Layout(crc_extra, np.dtype([(name, np.dtype(f"<{kind}")) for kind, name in pairs]), base_bytes)


HEARTBEAT, SYSTEM_TIME, GPS_RAW_INT, ATTITUDE, GLOBAL_POSITION_INT = 0, 2, 24, 30, 33
MOUNT_STATUS, HOME_POSITION, MOUNT_ORIENTATION, GIMBAL_DEVICE_ATTITUDE_STATUS = 158, 242, 265, 285
LAYOUTS: Mapping[int, Layout] = {
    HEARTBEAT: _layout(
        50, 9, "u4 custom_mode, u1 type, u1 autopilot, u1 base_mode, u1 system_status, u1 version"
    ),
    SYSTEM_TIME: _layout(137, 12, "u8 time_unix_usec, u4 time_boot_ms"),
    GPS_RAW_INT: _layout(
        24,
        30,
        "u8 time_usec, i4 lat, i4 lon, i4 alt, u2 eph, u2 epv, u2 vel, u2 cog, u1 fix_type, u1 satellites,"
        "i4 alt_ellipsoid, u4 h_acc, u4 v_acc, u4 vel_acc, u4 hdg_acc, u2 yaw",
    ),
    ATTITUDE: _layout(39, 28, "u4 time_boot_ms, f4 roll, f4 pitch, f4 yaw, 3f4 speeds"),
    GLOBAL_POSITION_INT: _layout(
        104, 28, "u4 time_boot_ms, i4 lat, i4 lon, i4 alt, i4 relative_alt, 3i2 velocity, u2 hdg"
    ),
    MOUNT_STATUS: _layout(134, 14, "i4 pitch, i4 roll, i4 yaw, 2u1 target, u1 mount_mode"),
    HOME_POSITION: _layout(104, 52, "i4 lat, i4 lon, i4 alt, 3f4 xyz, 4f4 q, 3f4 approach, u8 time_usec"),
    MOUNT_ORIENTATION: _layout(26, 16, "u4 time_boot_ms, f4 roll, f4 pitch, f4 yaw, f4 yaw_absolute"),
    GIMBAL_DEVICE_ATTITUDE_STATUS: _layout(
        137,
        40,
        "u4 time_boot_ms, 4f4 q, 3f4 speeds, u4 failure_flags, u2 flags, 2u1 target, f4 delta_yaw,"
        "f4 delta_yaw_velocity, u1 gimbal_device_id",
    ),
}
"""The messages that are looked for, in the order of their fields on the wire, extensions last."""
_MAGIC_1, _MAGIC_2 = 0xFE, 0xFD
_TIME_BYTES, _HEADER_1_BYTES, _HEADER_2_BYTES, _CRC_BYTES = 8, 6, 10, 2
_LATEST_TIME_BYTES = (0x00, 0x0E)
"""The two highest bytes of the last time taken for one (2103); a station without a clock is in 1970."""
_CHUNK_BYTES = 4 << 20
"""Bytes that are searched at once; it bounds the memory that a search takes."""
_LONGEST_BYTES = _TIME_BYTES + _HEADER_2_BYTES + 255 + _CRC_BYTES + 1


def _crc_table() -> npt.NDArray[np.uint16]:
    """Return the table of the checksum (CRC-16/MCRF4XX: polynomial 0x1021, reflected)."""
    table = np.arange(256, dtype=np.uint16)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ 0x8408, table >> 1).astype(np.uint16)
    return table


_CRC_TABLE = _crc_table()


@dataclass(frozen=True, slots=True)
class Found:
    """Messages of one kind, each array of shape (n,)."""

    kind: int
    at: npt.NDArray[np.int64]
    """Where in the file each begins."""
    t_s: FloatArray
    """When it was received, in seconds since 1970."""
    sender: npt.NDArray[np.int64]
    """Who sent it: 256 times the aircraft's number plus that of the part of it (autopilot, gimbal, ...)."""
    fields: npt.NDArray[np.void]
    damaged: int
    """How many more there seem to be, with a wrong checksum or cut short."""


def messages(data: bytes) -> Iterator[Found]:
    """Yield all wanted messages, in parts and in no order."""
    raw = np.frombuffer(data, dtype=np.uint8)
    for first in range(0, len(raw), _CHUNK_BYTES):
        part = raw[first : first + _CHUNK_BYTES + _LONGEST_BYTES]
        starts = _candidates(part, until=_CHUNK_BYTES)
        version_2 = part[starts] == _MAGIC_2
        for version, own in ((1, starts[~version_2]), (2, starts[version_2])):
            yield from _of_version(part, own, version=version, first=first)


def _candidates(part: npt.NDArray[np.uint8], *, until: int) -> npt.NDArray[np.int64]:
    """Return where a magic byte stands after what may be a time, which begins before ``until``."""
    end = min(until, len(part) - _TIME_BYTES - _HEADER_2_BYTES)
    if end <= 0:
        return np.empty(0, np.int64)
    magic = part[_TIME_BYTES : _TIME_BYTES + end]
    plausible = (part[:end] == _LATEST_TIME_BYTES[0]) & (part[1 : 1 + end] <= _LATEST_TIME_BYTES[1])
    return np.flatnonzero(plausible & ((magic == _MAGIC_1) | (magic == _MAGIC_2))) + _TIME_BYTES


def _of_version(
    part: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], *, version: int, first: int
) -> Iterator[Found]:
    """Yield the messages of one version of MAVLink that begin at some places."""
    length = part[starts + 1]
    if version == 1:
        header_bytes, sender_at, kind_bytes = _HEADER_1_BYTES, starts + 3, 1
    else:
        header_bytes, sender_at, kind_bytes = _HEADER_2_BYTES, starts + 5, 3
    sender = part[sender_at].astype(np.int64) << 8 | part[sender_at + 1]
    kind = sum(part[sender_at + 2 + byte].astype(np.int64) << 8 * byte for byte in range(kind_bytes))
    for number, layout in LAYOUTS.items():
        of_kind = kind == number
        if version == 1:  # MAVLink 2 leaves zeros at the end out
            of_kind &= (length == layout.base_bytes) | (length == layout.fields.itemsize)
        for size in np.unique(length[of_kind]).tolist():
            own = of_kind & (length == size)
            yield _read(
                part,
                starts[own],
                sender[own],
                kind=number,
                header_bytes=header_bytes,
                payload_bytes=size,
                first=first,
            )


def _read(
    part: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    sender: npt.NDArray[np.int64],
    *,
    kind: int,
    header_bytes: int,
    payload_bytes: int,
    first: int,
) -> Found:
    """Return the messages of one kind and length whose checksum is right."""
    layout = LAYOUTS[kind]
    total = len(starts)
    whole = starts + header_bytes + payload_bytes + _CRC_BYTES <= len(part)
    starts, sender = starts[whole], sender[whole]
    crc = np.full(len(starts), 0xFFFF, dtype=np.uint16)
    payload = np.zeros((len(starts), max(payload_bytes, layout.fields.itemsize)), dtype=np.uint8)
    for byte in range(1, header_bytes + payload_bytes):
        column = part[starts + byte]
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ column) & 0xFF]
        if byte >= header_bytes:
            payload[:, byte - header_bytes] = column
    crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ layout.crc_extra) & 0xFF]
    end = starts + header_bytes + payload_bytes
    right = crc == part[end] + 256 * part[end + 1].astype(np.uint16)
    # The next record's time begins with zero. Where a message begins instead, it is a stream without times.
    after = part[np.minimum(end + _CRC_BYTES, len(part) - 1)]
    right &= (end + _CRC_BYTES == len(part)) | ((after != _MAGIC_1) & (after != _MAGIC_2))
    starts = starts[right]
    stamps = part[starts[:, None] + np.arange(-_TIME_BYTES, 0)].reshape(-1).view(">u8")
    packed = np.ascontiguousarray(payload[right, : layout.fields.itemsize]).reshape(-1)
    return Found(
        kind=kind,
        at=starts + first,
        t_s=stamps / 1e6,
        sender=sender[right],
        fields=packed.view(layout.fields),
        damaged=total - len(starts),
    )
