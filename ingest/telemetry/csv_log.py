"""Read CSV flight logs by their column names: DJI flight records, Airdata, Litchi, and plain tracks.

Belongs here: the columns we know and how tables are written. Not here: time lines (``track.py``).

A column is known by its name in any case, and by the unit behind it in brackets:

    DJI         OSD.latitude, OSD.height [ft], GIMBAL.pitch, CUSTOM.updateTime [local]
    Airdata     time(millisecond), datetime(utc), height_above_takeoff(feet), gimbal_pitch(degrees)
    Litchi      latitude, altitude(m), gimbalHeading, gimbalPitchRaw, datetime(local)
    plain       Id, Time(seconds), Latitude, Longitude

Each line is read by itself, so that a stray quote spoils one record and not the rest.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

from ingest.telemetry.track import (
    MAX_ELAPSED_S,
    MAX_RECORDS,
    MAX_TIME_CHARS,
    Record,
    WallClock,
    iso_time,
    log_telemetry,
    number,
    place,
)
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import Telemetry, TelemetryClock, TelemetrySample

FORMAT = "csv_log"
HEADER_WITHIN_LINES = 20
"""Exports put a title, a ``sep=`` line or notes above the header."""
MAX_LINE_CHARS = 32_768
"""The widest flight record has 250 columns, some 4,000 characters."""
EPOCH_SCALES = ((1e14, 1e-6), (1e11, 1e-3), (1e8, 1.0))
"""From which number on a time counts microseconds, milliseconds and seconds since 1970: it is then of 1973
or later. A smaller one counts seconds from the start of the flight."""
EPOCH_END = 5e15
"""Microseconds since 1970, of the year 2128."""
MONTHS = 12

_METRES = {"m": 1.0, "meter": 1.0, "meters": 1.0, "metre": 1.0, "metres": 1.0} | dict.fromkeys(
    ("ft", "foot", "feet"), 0.3048
)
_DEGREES = dict.fromkeys(("deg", "degree", "degrees", "°", "360", "-180~180", "wgs84", ""), 1.0)
_SECONDS = dict.fromkeys(("s", "sec", "second", "seconds"), 1.0) | dict.fromkeys(
    ("ms", "msec", "millisecond", "milliseconds"), 0.001
)
_UTC = frozenset({"utc", "gmt", "z"})
_CLOCKS = dict.fromkeys((*sorted(_UTC), "local", ""), 1.0)
_BARE = {"": 1.0}
_TENTHS = {"": 0.1}

# What a field may be called, most telling first, and the factor by unit, most telling first. The first
# name and unit that a file has is read.
_FIELDS: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "lat_deg": dict.fromkeys(("osd.latitude", "gps.latitude", "latitude", "lat", "gps_lat"), _DEGREES),
    "lon_deg": dict.fromkeys(("osd.longitude", "gps.longitude", "longitude", "longtitude"), _DEGREES)
    | dict.fromkeys(("lon", "lng", "long", "gps_lon"), _DEGREES),
    "alt_m": dict.fromkeys(("altitude_above_sealevel", "osd.altitude", "abs_alt"), _METRES | _BARE)
    | dict.fromkeys(("altitude", "alt", "ele", "elevation"), _METRES | _BARE),
    "height_m": dict.fromkeys(("height_above_takeoff", "osd.height", "rel_alt"), _METRES | _BARE),
    "home_lat_deg": dict.fromkeys(("home.latitude", "home_latitude"), _DEGREES),
    "home_lon_deg": dict.fromkeys(("home.longitude", "home_longitude"), _DEGREES),
    # Litchi's raw columns repeat what the gimbal says, in tenths of a degree.
    "heading_deg": dict.fromkeys(("gimbal.yaw", "gimbal_heading", "gimbalheading"), _DEGREES),
    "pitch_deg": dict.fromkeys(("gimbal.pitch", "gimbal_pitch", "gimbalpitch"), _DEGREES)
    | {"gimbalpitchraw": _TENTHS},
    "roll_deg": dict.fromkeys(("gimbal.roll", "gimbal_roll", "gimbalroll"), _DEGREES)
    | {"gimbalrollraw": _TENTHS},
    "airframe_heading_deg": dict.fromkeys(("osd.yaw", "compass_heading", "heading", "yaw"), _DEGREES),
    "airframe_pitch_deg": dict.fromkeys(("osd.pitch", "pitch"), _DEGREES),
    "airframe_roll_deg": dict.fromkeys(("osd.roll", "roll"), _DEGREES),
    "elapsed_s": {"time": _SECONDS}
    | dict.fromkeys(("osd.flytime", "flytime", "elapsed", "elapsed_time", "seconds"), _SECONDS | _BARE),
    "date": dict.fromkeys(("custom.date", "date"), _CLOCKS),
    "clock": dict.fromkeys(("gps_time", "utc", "utc_time", "datetime", "date_time", "timestamp"), _CLOCKS)
    | dict.fromkeys(("custom.updatetime", "time", "local_time"), _CLOCKS),
}
_CLOCKS_OF_SATELLITES = frozenset({"gps_time"})
_CLOCKS_IN_UTC = frozenset({"gps_time", "utc", "utc_time"})
_BESIDE_HEIGHTS = frozenset({"ascent", "gimbalpitchraw"})
"""Columns of Airdata and Litchi, in whose tables a bare ``altitude`` counts from the take-off point."""

_COLUMN = re.compile(r"([^\[(]{1,80})(?:[\[(]([^\])]{0,40})[\])])?")
_DATE = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)", re.ASCII)
_DATE_YEAR_LAST = re.compile(r"(?<!\d)(\d{1,2})([-/.])(\d{1,2})[-/.](\d{4})(?!\d)", re.ASCII)
_TIME = re.compile(
    r"(?<!\d)(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:\s{0,2}([AaPp])\.?[Mm])?", re.ASCII
)


class CsvLog:
    """The format, as a ``TelemetrySource``."""

    format = FORMAT

    def recognises(self, head: bytes) -> bool:
        """Tell by a header that names latitude and longitude."""
        return _find_table(_text(head)) is not None

    def read(self, data: bytes, *, zone: ZoneInfo) -> Telemetry:
        """Return the flight in a table.

        Raises:
            TelemetryInvalid: it has no header that names latitude and longitude, or no readable row.
        """
        text = _text(data)
        table = _find_table(text)
        if table is None:
            raise TelemetryInvalid(
                "CSV log has no header that names latitude and longitude within its first"
                f" {HEADER_WITHIN_LINES} lines: export it with column names, or leave it out"
            )
        rows = _Rows(table, zone)
        lines = islice(_lines(text), table.header_line + 1, None)
        read = islice(lines, MAX_RECORDS)
        records = [rows.record(_cells(line, table.delimiter)) for line in read if line.strip()]
        return log_telemetry(
            FORMAT,
            records,
            clock=rows.clock_kind,
            zone=zone,
            skipped=0,
            warnings=("unit_unknown",) * table.unknown_unit
            + ("date_order_assumed",) * rows.date_order_assumed
            + ("cut_at_limit",) * (next(lines, None) is not None),
        )


@dataclass(frozen=True, slots=True)
class _Column:
    """Where a field stands, under what name, and what its numbers are multiplied by."""

    index: int
    name: str
    unit: str
    scale: float


@dataclass(frozen=True, slots=True)
class _Table:
    """How a file is written, and which of its columns mean what."""

    delimiter: str
    header_line: int
    columns: Mapping[str, _Column]
    unknown_unit: bool
    """A column that we know has a unit that we do not, and is left out."""


def _text(data: bytes) -> str:
    """Return the text of a file in UTF-8, UTF-16 with or without its mark, or an 8-bit encoding."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return data.decode("utf-16", errors="replace")
    if data[1:2] == b"\x00":
        return data.decode("utf-16-le", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:  # an older program's, or cut amid a character: digits are the same in all
        return data.decode("latin-1")


def _lines(text: str) -> Iterator[str]:
    """Yield lines without their ends, and no more of each than any record has."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield text[start : min(end, start + MAX_LINE_CHARS)].rstrip("\r")
        start = end + 1


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader((line,), delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # a carriage return amid the line
        return []


def _find_table(text: str) -> _Table | None:
    """Return the layout by the first line that names latitude and longitude, None where none does."""
    declared = ""
    for line_number, line in enumerate(islice(_lines(text), HEADER_WITHIN_LINES)):
        if line[:4].lower() == "sep=":
            declared = line[4:5]
            continue
        delimiter = declared or max(",;\t", key=line.count)
        columns, unknown_unit = _columns(_cells(line, delimiter))
        if {"lat_deg", "lon_deg"} <= columns.keys():
            return _Table(delimiter, line_number, columns, unknown_unit)
    return None


def _columns(header: Sequence[str]) -> tuple[dict[str, _Column], bool]:
    """Return the columns by field, and whether a known name has a unit that is not."""
    titles: dict[str, dict[str, int]] = {}
    for index, title in enumerate(header):
        if found := _COLUMN.fullmatch(title.strip()):
            name = found[1].strip().lower().replace(" ", "_")
            titles.setdefault(name, {}).setdefault((found[2] or "").strip().lower(), index)
    columns: dict[str, _Column] = {}
    unknown_unit = False
    for field, names in _FIELDS.items():
        choices = [
            _Column(titles[name][unit], name, unit, scale)
            for name, scales in names.items()
            for unit, scale in scales.items()
            if unit in titles.get(name, {})
        ]
        if choices:
            columns[field] = choices[0]
        elif field.endswith("_m"):
            unknown_unit |= any(name in titles for name in names)
    if "alt_m" in columns and columns["alt_m"].name == "altitude" and _BESIDE_HEIGHTS & titles.keys():
        height = columns.pop("alt_m")
        columns.setdefault("height_m", height)
    return columns, unknown_unit


class _Rows:
    """Turns rows into records; remembers what it had to assume of their times."""

    def __init__(self, table: _Table, zone: ZoneInfo) -> None:
        self.date_order_assumed = False
        self._columns = table.columns
        self._comma_is_point = table.delimiter != ","
        self._wall = WallClock(zone)

    @property
    def clock_kind(self) -> TelemetryClock:
        """Return where times come from, for rows that have any."""
        if self._wall.assumed_zone:
            return TelemetryClock.LOCAL
        column = self._columns.get("clock")
        by_satellites = column is not None and column.name in _CLOCKS_OF_SATELLITES
        return TelemetryClock.GPS if by_satellites else TelemetryClock.UTC

    def record(self, cells: Sequence[str]) -> Record:
        """Return what a row says; a cell that is no number says nothing."""
        known = {field: self._number(cells, column) for field, column in self._columns.items()}
        value = known.get
        elapsed_s = value("elapsed_s", value("clock"))
        headings_deg = value("heading_deg"), value("airframe_heading_deg")
        heading_deg, airframe_heading_deg = (None if deg is None else deg % 360 for deg in headings_deg)
        sample = TelemetrySample(
            offset_s=0.0,
            at=self._at(cells, since_1970=value("clock")),
            point=place(value("lat_deg"), value("lon_deg"), value("alt_m")),
            height_agl_m=value("height_m"),
            heading_deg=heading_deg,
            pitch_deg=value("pitch_deg"),
            roll_deg=value("roll_deg"),
            home=place(value("home_lat_deg"), value("home_lon_deg")),
            airframe_heading_deg=airframe_heading_deg,
            airframe_pitch_deg=value("airframe_pitch_deg"),
            airframe_roll_deg=value("airframe_roll_deg"),
        )
        counts = elapsed_s is not None and 0 <= elapsed_s < MAX_ELAPSED_S
        return Record(sample, elapsed_s if counts else None)

    def _cell(self, cells: Sequence[str], column: _Column | None) -> str:
        return cells[column.index].strip() if column is not None and column.index < len(cells) else ""

    def _number(self, cells: Sequence[str], column: _Column) -> float | None:
        text = self._cell(cells, column)
        value = number(text.replace(",", ".") if self._comma_is_point else text)
        return None if value is None else value * column.scale

    def _at(self, cells: Sequence[str], *, since_1970: float | None) -> datetime | None:
        column = self._columns.get("clock")
        if column is None:
            return None
        if since_1970 is not None:
            return self._wall.utc(_epoch_time(since_1970))
        text = self._cell(cells, column)
        written = iso_time(text) or self._written(f"{self._cell(cells, self._columns.get('date'))} {text}")
        if written is not None and (column.unit in _UTC or column.name in _CLOCKS_IN_UTC):
            written = written.replace(tzinfo=written.tzinfo or UTC)
        return self._wall.utc(written)

    def _written(self, text: str) -> datetime | None:
        """Return a date and time as people write them, naive; the last date and time in the text count."""
        if len(text) > 2 * MAX_TIME_CHARS:
            return None
        time = _TIME.search(text)
        day = self._date(text)
        if time is None or day is None:
            return None
        hour, minute, second, fraction, half = time.groups()
        hours = int(hour) if half is None else int(hour) % 12 + 12 * (half in "Pp")
        micros = int((fraction or "0").ljust(6, "0")[:6])
        try:
            return datetime(*day, hours, int(minute), int(second or 0), micros)  # noqa: DTZ001 - as written
        except ValueError:
            return None

    def _date(self, text: str) -> tuple[int, int, int] | None:
        """Return year, month and day; with slashes the month leads, as aircraft programs write it."""
        if found := _DATE.search(text):
            year, month, day = map(int, found.groups())
            return year, month, day
        if (found := _DATE_YEAR_LAST.search(text)) is None:
            return None
        first, second, year = int(found[1]), int(found[3]), int(found[4])
        if found[2] == "." or first > MONTHS:
            return year, second, first
        self.date_order_assumed |= second <= MONTHS and first != second
        return year, first, second


def _epoch_time(since_1970: float) -> datetime | None:
    """Return the time of a count since 1970 in whichever unit makes it one of today, else None."""
    scale = next((scale for start, scale in EPOCH_SCALES if start <= since_1970 < EPOCH_END), None)
    return None if scale is None else datetime.fromtimestamp(since_1970 * scale, UTC)
