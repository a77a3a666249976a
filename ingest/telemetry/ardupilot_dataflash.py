"""Read the logs of ArduPilot autopilots (DataFlash), as they are on the card or as their text.

Belongs here: the format, and which of its messages say what, in ArduPilot since 3.3. Not here: making samples
of it (``flight_log.py``).

A log describes itself: a message is two magic bytes, its type and its fields, and messages of type FMT name
the fields of each other type. There are no checksums, so a message counts only if the next one begins where
it ends. Our own reader, as pymavlink's needs a file by name, recurses in damaged ones, writes about each
damaged byte, and takes several times as long (docs/adr/2026-11-22-own-readers-for-flight-logs.md).

Sources: ardupilot.org, "Diagnosing problems using Logs" and its reference of log messages;
libraries/AP_Logger/README.md and LogStructure.h for the types of fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from ingest.telemetry import flight_log, series
from ingest.telemetry.attitude import FloatArray
from ingest.telemetry.flight_log import Clock, FlightLog
from ingest.telemetry.series import NOTHING, Series
from outwatch.domain.types import Telemetry, TelemetryClock

FORMAT = "ardupilot_dataflash"
GPS_UNCERTAINTY_S = 0.5
"""A receiver's message is logged 0.1-0.3 s after the moment that it tells; a camera's and an autopilot's idea
of "now" differ by as much again."""
LEAP_SECONDS = (
    (datetime(2017, 1, 1, tzinfo=UTC), 18),
    (datetime(2015, 7, 1, tzinfo=UTC), 17),
    (datetime(2012, 7, 1, tzinfo=UTC), 16),
    (datetime(2009, 1, 1, tzinfo=UTC), 15),
)
"""How far GPS time is ahead of UTC, latest first, since before the first such log. Source: IERS Bulletin C
(UTC-TAI, of which GPS lacks 19 s); none has been added since, nor announced up to the end of 2026."""
_GPS_EPOCH_S = datetime(1980, 1, 6, tzinfo=UTC).timestamp()
_WEEK_S = 7 * 86_400.0
_WANTED = ("GPS", "POS", "ATT", "ORGN", "MNT")
_HOME = 1
"""ORGN's type for the home; 0 is where the estimator started."""
_MAGIC, _HEADER_BYTES = b"\xa3\x95", 3
_FMT_TYPE, _FMT_BYTES = 128, 89
_FMT_START = _MAGIC + bytes([_FMT_TYPE, _FMT_TYPE, _FMT_BYTES]) + b"FMT\x00"
"""How FMT describes itself, which is what every log begins with."""
_FMT = np.dtype([("type", "u1"), ("length", "u1"), ("name", "S4"), ("format", "S16"), ("columns", "S64")])
_FIELDS: Mapping[str, tuple[str, float]] = {
    letter: (kind, per_unit)
    for per_unit, kinds in (
        (1, "b:i1 B:u1 M:u1 h:<i2 H:<u2 i:<i4 I:<u4 q:<i8 Q:<u8 g:<f2 f:<f4 d:<f8"),
        (100, "c:<i2 C:<u2 e:<i4 E:<u4"),
        (1e7, "L:<i4"),
        (0, "n:S4 N:S16 Z:S64 a:S64"),
    )
    for letter, kind in (pair.split(":") for pair in kinds.split())
}
"""By letter: how a field lies in the file, and by what its number is divided; 0 for text."""
_TEXT_START = re.compile(rb"^FMT, ?128, ?89, ?FMT, ?BBnNZ", re.MULTILINE)
_TEXT_LINE = re.compile(rb"^(FMT|GPS|POS|ATT|ORGN|MNT), ?([^\r\n]{1,400})\r?$", re.MULTILINE)
_TEXT_FMT_FIELDS = 5
_CHUNK_BYTES = 16 << 20
"""Bytes that are searched at once; it bounds the memory that a search takes."""

Table = Mapping[str, FloatArray]


class ArduPilotDataFlash:
    """Telemetry of ArduPilot autopilots."""

    format = FORMAT

    def recognises(self, head: bytes) -> bool:
        """Tell by the message that describes itself."""
        return _FMT_START in head or _TEXT_START.search(head) is not None

    def read(self, data: bytes, *, zone: ZoneInfo) -> Telemetry:  # noqa: ARG002 - its times are GPS's
        """Return the telemetry in a log; see ``TelemetrySource.read``.

        Raises:
            TelemetryInvalid: it is no such log, or nothing in it can be read.
        """
        with np.errstate(all="ignore"):  # damaged numbers are left out once they are seen
            tables, skipped = _tables(data) if _FMT_START in data else _text_tables(data)
            return flight_log.to_telemetry(_flight_log(tables, skipped=skipped))


def _tables(data: bytes) -> tuple[Mapping[str, Table], int]:
    """Return the wanted messages' columns by name, and how many messages are damaged."""
    raw = np.frombuffer(data, dtype=np.uint8)
    kinds: dict[int, tuple[str, np.dtype[np.void], Mapping[str, float]]] = {}
    starts, _ = _messages(raw, {_FMT_TYPE: _FMT_BYTES})
    for told in _rows(raw, starts[_FMT_TYPE], _FMT):
        if described := _described(told):
            kinds[int(told["type"])] = described
    starts, skipped = _messages(raw, {kind: _HEADER_BYTES + kinds[kind][1].itemsize for kind in kinds})
    tables: dict[str, Table] = {}
    for kind, (name, layout, per_unit) in kinds.items():
        rows = _rows(raw, starts[kind], layout)
        tables[name] = {column: rows[column].astype(np.float64) / by for column, by in per_unit.items()}
    return tables, skipped


def _described(told: np.void) -> tuple[str, np.dtype[np.void], Mapping[str, float]] | None:
    """Return a wanted type's name, layout and divisors of its numbers, None for others and damaged ones."""
    name, letters, columns = (
        bytes(told[part]).split(b"\0")[0].decode("ascii", errors="replace")
        for part in ("name", "format", "columns")
    )
    names = columns.split(",")
    if name not in _WANTED or not set(letters) <= _FIELDS.keys():
        return None
    if not all(names) or not len(set(names)) == len(names) == len(letters):
        return None
    layout = np.dtype([(column, _FIELDS[letter][0]) for column, letter in zip(names, letters, strict=True)])
    if layout.itemsize + _HEADER_BYTES != told["length"]:
        return None
    per_unit = {column: _FIELDS[letter][1] for column, letter in zip(names, letters, strict=True)}
    return name, layout, {column: by for column, by in per_unit.items() if by}


def _messages(
    raw: npt.NDArray[np.uint8], lengths: Mapping[int, int]
) -> tuple[Mapping[int, npt.NDArray[np.int64]], int]:
    """Return where the messages of some types start, and how many more seem to start but are not whole.

    Args:
        raw: the file, shape (n,).
        lengths: the types that are looked for, each with its messages' length in bytes.
    """
    length_of = np.zeros(256, dtype=np.int64)
    length_of[list(lengths)] = list(lengths.values())
    found: dict[int, list[npt.NDArray[np.int64]]] = {kind: [np.empty(0, np.int64)] for kind in lengths}
    damaged = 0
    for first in range(0, len(raw), _CHUNK_BYTES):
        part = raw[first : first + _CHUNK_BYTES + _HEADER_BYTES - 1]
        heads = (part[:-2] == _MAGIC[0]) & (part[1:-1] == _MAGIC[1]) & (length_of[part[2:]] > 0)
        starts = np.flatnonzero(heads) + first
        kinds = raw[starts + 2]
        ends = starts + length_of[kinds]
        whole = (ends == len(raw)) | (_at(raw, ends, _MAGIC[0]) & _at(raw, ends + 1, _MAGIC[1]))
        damaged += int((~whole).sum())
        for kind, places in found.items():
            places.append(starts[whole & (kinds == kind)])
    return {kind: np.concatenate(places) for kind, places in found.items()}, damaged


def _at(raw: npt.NDArray[np.uint8], places: npt.NDArray[np.int64], value: int) -> npt.NDArray[np.bool_]:
    """Return where a byte stands; beyond the end none does."""
    return np.asarray((places < len(raw)) & (raw[np.minimum(places, len(raw) - 1)] == value))


def _rows(
    raw: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], layout: np.dtype[np.void]
) -> npt.NDArray[np.void]:
    """Return the fields of messages as a structured array, shape (n,)."""
    packed = np.empty((len(starts), layout.itemsize), dtype=np.uint8)
    for column in range(layout.itemsize):  # a gather of all bytes at once would need 8 times the memory
        packed[:, column] = raw[starts + _HEADER_BYTES + column]
    return packed.reshape(-1).view(layout)


def _text_tables(data: bytes) -> tuple[Mapping[str, Table], int]:
    """Return the same of a log's text, whose numbers are in their units already."""
    names: dict[bytes, list[str]] = {}
    rows: dict[bytes, list[list[float]]] = {}
    skipped = 0
    for line in _TEXT_LINE.finditer(data):
        name, rest = line.groups()
        parts = [part.strip() for part in rest.split(b",")]
        if name == b"FMT":
            if len(parts) >= _TEXT_FMT_FIELDS:
                names[parts[2]] = [part.decode("ascii", errors="replace") for part in parts[4:]]
            continue
        try:
            row = list(map(float, parts))
        except ValueError:
            skipped += 1
            continue
        if len(row) == len(names.get(name, ())):
            rows.setdefault(name, []).append(row)
        else:
            skipped += 1
    tables = {
        name.decode(): dict(zip(names[name], np.array(found).T, strict=True))
        for name, found in rows.items()
        if len(set(map(len, found))) == 1 and len(found[0]) == len(names[name])
    }
    return tables, skipped


def _flight_log(tables: Mapping[str, Table], *, skipped: int) -> FlightLog:
    gps = _in_use(tables.get("GPS", {}))
    position = tables.get("POS", {})
    written = position if len(_places(position)) else gps
    airframe = _angles(tables.get("ATT", {}), "Yaw", "Pitch", "Roll")
    home = _home(tables.get("ORGN", {}))
    alt_m = _heights(written, "Alt")
    relative_m = _heights(written, "RelHomeAlt")
    return FlightLog(
        format=FORMAT,
        places=_places(written),
        alt_m=alt_m,
        height_agl_m=relative_m if len(relative_m) else series.above(alt_m, home),
        airframe=airframe,
        gimbal=_gimbal(tables.get("MNT", {}), airframe),
        fixes=series.of(_times(gps), gps["Status"]) if {"Status"} <= gps.keys() else NOTHING,
        home=home,
        clock=_clock(gps),
        skipped=skipped,
    )


def _times(table: Table) -> FloatArray:
    """Return the autopilot's time since its start in seconds; older messages write milliseconds."""
    for column, per_second in (("TimeUS", 1e6), ("T", 1e3), ("TimeMS", 1e3)):
        if column in table:
            return table[column] / per_second
    return np.full(len(next(iter(table.values()), ())), np.nan)


def _in_use(gps: Table) -> Table:
    """Return the rows of the receiver that the autopilot used, of the first one where it does not say."""
    if gps.get("U", np.zeros(1)).any():
        used = gps["U"] == 1
    elif "I" in gps and len(gps["I"]):
        used = gps["I"] == gps["I"].min()
    else:
        return gps
    return {column: values[used] for column, values in gps.items()}


def _places(table: Table) -> Series:
    if not {"Lat", "Lng"} <= table.keys():
        return NOTHING
    return series.places(_times(table), table["Lat"], table["Lng"])


def _heights(table: Table, column: str) -> Series:
    return series.heights(_times(table), table[column]) if column in table else NOTHING


def _angles(table: Table, *columns: str) -> Series:
    if not set(columns) <= table.keys():
        return NOTHING
    return series.angles(_times(table), *(table[column] for column in columns))


def _home(origin: Table) -> Series:
    if not {"Type", "Lat", "Lng", "Alt"} <= origin.keys():
        return NOTHING
    home = origin["Type"] == _HOME
    return series.places(_times(origin)[home], *(origin[name][home] for name in ("Lat", "Lng", "Alt")))


def _gimbal(mount: Table, airframe: Series) -> Series:
    """Return what the first gimbal reports: its yaw against north, or else against the aircraft's heading."""
    if "I" in mount and len(mount["I"]):
        first = mount["I"] == mount["I"].min()
        mount = {column: values[first] for column, values in mount.items()}
    own = _angles(mount, "YawE", "Pitch", "Roll")
    return own if len(own) else series.turned(_angles(mount, "YawB", "Pitch", "Roll"), airframe)


def _clock(gps: Table) -> Clock:
    week, milliseconds = ("GWk", "GMS") if "GWk" in gps else ("Week", "TimeMS")
    if not {week, milliseconds, "Status"} <= gps.keys():
        return Clock()
    fixed = gps["Status"] >= flight_log.HAS_FIX
    gps_s = _GPS_EPOCH_S + gps[week][fixed] * _WEEK_S + gps[milliseconds][fixed] / 1e3
    told = flight_log.clock(
        _times(gps)[fixed], _utc(gps_s), source=TelemetryClock.GPS, uncertainty_s=GPS_UNCERTAINTY_S
    )
    return told or Clock()


def _utc(gps_s: FloatArray) -> FloatArray:
    """Return GPS time, in seconds since 1970 as if it had no leap seconds, as UTC."""
    since = [since.timestamp() + ahead_s for since, ahead_s in LEAP_SECONDS]
    ahead_s = np.select([gps_s >= start for start in since], [ahead for _, ahead in LEAP_SECONDS], 14)
    return np.asarray(gps_s - ahead_s)
