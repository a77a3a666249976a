"""Read the telemetry logs of ground stations (tlog): MAVLink messages, each after the time of its receipt.

Belongs here: the framing of MAVLink 1 and 2, and which messages say what. Not here: making samples of it
(``flight_log.py``).

A record is eight bytes of time (microseconds since 1970, big-endian) and a message. Every place is looked at
where the bytes may be a message that we want, and its checksum tells whether it is one: nothing depends on
the records before it, so damage costs no more than the records it lies in. Our own reader, as pymavlink's
takes several times as long (docs/adr/2026-11-22-own-readers-for-flight-logs.md).

Source: mavlink.io, "Packet Serialization", and common.xml with ardupilotmega.xml for the messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from ingest.telemetry import flight_log
from ingest.telemetry.attitude import FloatArray
from ingest.telemetry.flight_log import NOTHING, Clock, FlightLog, Series
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import Telemetry, TelemetryClock

FORMAT = "mavlink_tlog"
LINK_UNCERTAINTY_S = 1.0
"""Messages reach a ground station up to about a second late, over links that lose and repeat."""
RECOGNISED_FROM = 2
"""Messages with a right checksum after a plausible time, by which a file is of this format."""


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
_FROM_AUTOPILOT = (GLOBAL_POSITION_INT, GPS_RAW_INT, ATTITUDE, SYSTEM_TIME, HOME_POSITION)
"""Messages that count only from the autopilot; the first three show which sender that is. Gimbals have an
attitude of their own, and ground stations a time."""
_MAGIC_1, _MAGIC_2 = 0xFE, 0xFD
_TIME_BYTES, _HEADER_1_BYTES, _HEADER_2_BYTES, _CRC_BYTES = 8, 6, 10, 2
_LATEST_TIME_BYTES = (0x00, 0x0E)
"""The two highest bytes of the last time taken for one (2103); a station without a clock is in 1970."""
_AXES = ("yaw", "pitch", "roll")
_CHUNK_BYTES = 4 << 20
"""Bytes that are searched at once; it bounds the memory that a search takes."""
_LONGEST_BYTES = _TIME_BYTES + _HEADER_2_BYTES + 255 + _CRC_BYTES


def _crc_table() -> npt.NDArray[np.uint16]:
    """Return the table of the checksum (CRC-16/MCRF4XX: polynomial 0x1021, reflected)."""
    table = np.arange(256, dtype=np.uint16)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ 0x8408, table >> 1).astype(np.uint16)
    return table


_CRC_TABLE = _crc_table()


class MavlinkTlog:
    """Telemetry of MAVLink aircraft, as a ground station heard it."""

    format = FORMAT

    def recognises(self, head: bytes) -> bool:
        """Tell by messages with a right checksum, each after a plausible time."""
        return sum(len(found.t_s) for found in _messages(head)) >= RECOGNISED_FROM

    def read(self, data: bytes, *, zone: ZoneInfo) -> Telemetry:  # noqa: ARG002 - its times are UTC
        """Return the telemetry in a log; see ``TelemetrySource.read``.

        Raises:
            TelemetryInvalid: it is no such log, or nothing in it can be read.
        """
        return flight_log.to_telemetry(_flight_log(data))


@dataclass(frozen=True, slots=True)
class _Found:
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


def _messages(data: bytes) -> Iterator[_Found]:
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
) -> Iterator[_Found]:
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
) -> _Found:
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
    starts = starts[right]
    stamps = part[starts[:, None] + np.arange(-_TIME_BYTES, 0)].reshape(-1).view(">u8")
    packed = np.ascontiguousarray(payload[right, : layout.fields.itemsize]).reshape(-1)
    return _Found(
        kind=kind,
        at=starts + first,
        t_s=stamps / 1e6,
        sender=sender[right],
        fields=packed.view(layout.fields),
        damaged=total - len(starts),
    )


def _flight_log(data: bytes) -> FlightLog:
    parts: dict[int, list[_Found]] = {kind: [] for kind in LAYOUTS}
    for found in _messages(data):
        parts[found.kind].append(found)
    reports = [part.sender for kind in _FROM_AUTOPILOT[:3] for part in parts[kind]]
    senders, counts = np.unique(np.concatenate([np.empty(0, np.int64), *reports]), return_counts=True)
    if not len(senders):
        raise TelemetryInvalid(
            "tlog has no position or attitude of an aircraft that can be read: export it again from the"
            " ground station, or leave it out"
        )
    autopilot = int(senders[counts.argmax()])
    log = {kind: _sent_by(autopilot, found) for kind, found in parts.items() if found}
    airframe = _airframe(log)
    places, alt_m = _position(log)
    position, gps = log.get(GLOBAL_POSITION_INT), log.get(GPS_RAW_INT)
    return FlightLog(
        format=FORMAT,
        places=places,
        alt_m=alt_m,
        ellipsoid_height_m=_ellipsoid_height(gps),
        height_agl_m=_metres(position, "relative_alt"),
        airframe=airframe,
        gimbal=_gimbal(log, airframe),
        fixes=flight_log.series(gps.t_s, gps.fields["fix_type"]) if gps else NOTHING,
        home=_home(log.get(HOME_POSITION)),
        clock=_clock(log),
        skipped=sum(part.damaged for found in parts.values() for part in found),
        warnings=("several_aircraft",) if len(np.unique(senders >> 8)) > 1 else (),
    )


def _sent_by(autopilot: int, parts: list[_Found]) -> _Found:
    """Return messages of one kind in the order of the file: an autopilot's, or its aircraft's gimbals'."""
    at = np.concatenate([part.at for part in parts])
    sender = np.concatenate([part.sender for part in parts])
    order = np.argsort(at)
    of_aircraft = sender[order] >> 8 == autopilot >> 8
    order = order[sender[order] == autopilot if parts[0].kind in _FROM_AUTOPILOT else of_aircraft]
    return _Found(
        kind=parts[0].kind,
        at=at[order],
        t_s=np.concatenate([part.t_s for part in parts])[order],
        sender=sender[order],
        fields=np.concatenate([part.fields for part in parts])[order],
        damaged=0,
    )


def _airframe(log: Mapping[int, _Found]) -> Series:
    if (told := log.get(ATTITUDE)) is None:
        return NOTHING
    return flight_log.angles(told.t_s, *(np.degrees(told.fields[name].astype(float)) for name in _AXES))


def _position(log: Mapping[int, _Found]) -> tuple[Series, Series]:
    """Return places and altitudes as the autopilot estimates them, else as its receiver does."""
    for kind in (GLOBAL_POSITION_INT, GPS_RAW_INT):
        if (told := log.get(kind)) is not None:
            places = flight_log.places(told.t_s, told.fields["lat"] / 1e7, told.fields["lon"] / 1e7)
            if len(places):
                return places, _metres(told, "alt")
    return NOTHING, NOTHING


def _metres(told: _Found | None, name: str) -> Series:
    return NOTHING if told is None else flight_log.heights(told.t_s, told.fields[name] / 1e3)


def _ellipsoid_height(gps: _Found | None) -> Series:
    """Return heights above the ellipsoid, which only MAVLink 2 carries: exactly 0 is one left out."""
    written = _metres(gps, "alt_ellipsoid")
    return written.where(written.values[:, 0] != 0) if len(written) else NOTHING


def _gimbal(log: Mapping[int, _Found], airframe: Series) -> Series:
    """Return what the gimbal reports, in the newest of the three messages that it does so in."""
    if told := log.get(GIMBAL_DEVICE_ATTITUDE_STATUS):
        found = flight_log.gimbal_device(
            told.t_s, told.fields["flags"], list(told.fields["q"].T), airframe=airframe
        )
        if len(found):
            return found
    if told := log.get(MOUNT_ORIENTATION):
        yaw, pitch, roll = (told.fields[name] for name in _AXES)
        absolute = told.fields["yaw_absolute"]
        if absolute.any():  # an extension: MAVLink 1 leaves it out, which reads as north for ever
            return flight_log.angles(told.t_s, absolute, pitch, roll)
        return flight_log.turned(flight_log.angles(told.t_s, yaw, pitch, roll), airframe)
    if told := log.get(MOUNT_STATUS):
        angles = flight_log.angles(told.t_s, *(told.fields[name] / 100 for name in _AXES))
        return flight_log.turned(angles, airframe)
    return NOTHING


def _home(told: _Found | None) -> Series:
    if told is None:
        return NOTHING
    lat_deg, lon_deg = (told.fields[name] / 1e7 for name in ("lat", "lon"))
    return flight_log.places(told.t_s, lat_deg, lon_deg, told.fields["alt"] / 1e3)


def _clock(log: Mapping[int, _Found]) -> Clock:
    """Return the aircraft's own time where satellites gave it one, else that of the ground station.

    The samples stay on the times of receipt: aircraft restart, and some messages carry no time of their own.
    """
    gps, told = log.get(GPS_RAW_INT), log.get(SYSTEM_TIME)
    if gps and told and (gps.fields["fix_type"] >= flight_log.HAS_FIX).any():
        utc_s = told.fields["time_unix_usec"] / 1e6
        known = flight_log.clock(told.t_s, utc_s, source=TelemetryClock.GPS, uncertainty_s=LINK_UNCERTAINTY_S)
        if known:
            return known
    heard = np.concatenate([np.empty(0), *(found.t_s for found in log.values())])
    own = flight_log.clock(heard, heard, source=TelemetryClock.UTC, uncertainty_s=LINK_UNCERTAINTY_S)
    return own or Clock()
