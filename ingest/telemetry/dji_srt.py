"""Read the subtitle telemetry that DJI aircraft write beside a video, or as a track inside it.

Belongs here: every layout of that text, and its way into ``Telemetry``. Not here: fitting it to a
clip (``align.py``), and writing it (the simulator).

A file is a list of records. A record starts at a line that is a bare number; its cue
(``00:00:01,000 --> ...``) says where in the clip it belongs, else its own clock does. The rest are
values in one of three styles, which may change within one file:

    bracketed   [latitude : 31.45] [longtitude : 74.39] [rel_alt: 1.5 abs_alt: 218.0] [gb_yaw: 12.0 ...]
    counted     F/2.8, SS 30, GPS (-121.7458, 48.0771, 17), D 221.2m, H 200.7m, G.PRY (-27.3°, 0.0°, -76.0°)
    home        HOME(149.0251,-20.2532) 2017.8.5 14:11:51 / GPS(149.0251,-20.2533,16) BAROMETER:1.9

``GPS(...)`` names no order. Longitude comes first, as in every layout up to the Mavic 2, unless the
height follows as ``BAROMETER(...)`` in round brackets, which only the FPV aircraft write and these
put latitude first. Where that order gives no place on Earth and the other one does, the other one holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

from ingest.telemetry.track import MAX_RECORDS, WallClock, clock_jumps, missing_fields
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import GeoPoint, Telemetry, TelemetryClock, TelemetrySample

FORMAT = "dji_srt"
SCALED_FOCAL_FROM = 100
"""Whole focal lengths from here on are tenths of a millimetre: firmwares that scale write 240 for
24 mm, those that do not write 24.00."""
NO_DIGITAL_ZOOM = frozenset({0.0, 1.0, 10_000.0})
"""How firmwares write that the picture is whole: as 1.00, in ten-thousandths, or as 0 where the mode has
no digital zoom."""
ZOOM_TOLERANCE = 0.02
"""Share by which focal lengths may differ within a file; more is a zoom, less is rounding."""
MAX_RECORD_LINES = 100
"""Firmwares write up to a dozen; the rest is damage."""
CLOCK_UNCERTAINTY_S = 2.0
"""The aircraft's clock is set from satellites; it is written once a record, and numbered by its end."""

# Every pattern is anchored at a word and bounded in length, so that reading is linear in the input.
_NUMBER = r"[-+]?\d{1,9}(?:\.\d{1,9})?"
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
_CUE = re.compile(r"\s{0,9}(\d{1,3}):(\d\d):(\d\d)[,.](\d{1,3})\s{0,9}-->", re.ASCII)
_INDEX = re.compile(r"\s{0,9}\d{1,9}\s{0,9}", re.ASCII)
_CLOCK = re.compile(
    r"\b(\d{4})[-.](\d{1,2})[-.](\d{1,2}) (\d{1,2}):(\d\d):(\d\d)(?:\.(\d{1,6})|,(\d{1,3})(?:,(\d{1,3}))?)?",
    re.ASCII,
)
_PAIR = re.compile(rf"\b([A-Za-z][\w.]{{0,23}})\s{{0,3}}:\s{{0,3}}({_NUMBER})(?=[\s\],])", re.ASCII)
_GROUP = re.compile(r"\b(GPS|HOME|BAROMETER|G\.PRY)\s{0,3}\(([^()\n]{1,80})\)", re.ASCII)
_HEIGHT = re.compile(rf"\bH\s{{1,3}}({_NUMBER})m", re.ASCII)
_GROUP_NUMBER = re.compile(rf"\s{{0,3}}({_NUMBER})(?:m|°)?\s{{0,3}}", re.ASCII)


@dataclass(slots=True)
class _Record:
    """One record's lines, and its place in the clip where a cue gives it."""

    cue_s: float | None = None
    lines: list[str] = field(default_factory=list)


class DjiSrt:
    """The format, as a ``TelemetrySource``."""

    format = FORMAT

    def recognises(self, head: bytes) -> bool:
        """Tell by its text: a cue, or a place or clock of the aircraft, below a record's number."""
        text = head.decode("utf-8-sig", errors="replace")
        lines = text.splitlines()
        first = next((line for line in lines if line.strip()), "")
        if not _INDEX.fullmatch(first) and not _CUE.match(first):
            return False
        return any(_CUE.match(line) or _GROUP.search(line) or _CLOCK.search(line) for line in lines)

    def read(self, data: bytes, *, zone: ZoneInfo) -> Telemetry:
        """Return the telemetry in a file; see ``parse_srt``."""
        return parse_srt(data, zone=zone)


def parse_srt(data: bytes, *, zone: ZoneInfo) -> Telemetry:
    """Return the telemetry in a DJI subtitle file of any known layout.

    Args:
        data: the file as it is; damaged parts are skipped and counted.
        zone: the zone of its clock, which the file does not name.

    Raises:
        TelemetryInvalid: nothing in it can be read as telemetry.
    """
    if not data.strip():
        raise TelemetryInvalid("telemetry file is empty: copy it again from the aircraft's card")
    samples: list[TelemetrySample] = []
    skipped = 0
    reader = _Reader(zone)
    records = _records(data.decode("utf-8-sig", errors="replace"))
    for record in islice(records, MAX_RECORDS):
        sample = reader.sample(record)
        if sample is None:
            skipped += 1
        else:
            samples.append(sample)
    if not samples:
        raise TelemetryInvalid(
            f"telemetry has no readable record ({len(data)} bytes, {skipped} records tried): expected DJI"
            " subtitle text with a position, height, clock or gimbal angles; copy it again or leave it out"
        )
    ordered = sorted(samples, key=lambda sample: sample.offset_s)
    warnings = {
        "records_out_of_order": ordered != samples,
        "clock_jumps": clock_jumps(ordered),
        "cut_at_limit": next(records, None) is not None,
        "zoom_changes": reader.digital_zoom or _lens_changes(ordered),
    }
    missing = missing_fields(ordered)
    return Telemetry(
        format=FORMAT,
        samples=tuple(ordered),
        skipped=skipped,
        missing=missing,
        warnings=tuple(name for name, holds in warnings.items() if holds),
        clock=TelemetryClock.NONE if "time" in missing else TelemetryClock.LOCAL,
        zone=None if "time" in missing else zone.key,
        clock_uncertainty_s=None if "time" in missing else CLOCK_UNCERTAINTY_S,
    )


def _records(text: str) -> Iterator[_Record]:
    """Yield the records of a file; text before the first one belongs to none."""
    record: _Record | None = None
    for line in (found[0] for found in _LINE.finditer(text)):
        cue = _CUE.match(line)
        if _INDEX.fullmatch(line) or (cue and (record is None or record.cue_s is not None or record.lines)):
            if record is not None:
                yield record
            record = _Record()
        if record is None:
            continue
        if cue:
            hours, minutes, seconds, fraction = cue.groups()
            record.cue_s = (
                int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000
            )
        elif line.strip() and not _INDEX.fullmatch(line) and len(record.lines) < MAX_RECORD_LINES:
            record.lines.append(line)
    if record is not None:
        yield record


class _Reader:
    """Turns records into samples; remembers the clock, for cue-less files and for clock changes.

    ``digital_zoom`` tells whether any record so far shows a part of the picture only.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        self.digital_zoom = False
        self._wall = WallClock(zone)
        self._first: datetime | None = None

    def sample(self, record: _Record) -> TelemetrySample | None:
        """Return the sample of a record, None where it holds nothing or has no place in the clip."""
        text = "".join(record.lines)
        at = self._clock(text)
        offset_s = record.cue_s
        if offset_s is None and at is not None and self._first is not None:
            offset_s = (at - self._first).total_seconds()
        if offset_s is None or offset_s < 0:
            return None
        values = {name.lower(): number for name, number in _PAIR.findall(text)}
        self.digital_zoom |= _zooms_digitally(values)
        groups = {name: _numbers(inside) for name, inside in _GROUP.findall(text)}
        gimbal = _gimbal(values, groups)
        point, home = _places(values, groups)
        height_agl_m = _height_agl_m(text, values, groups)
        focal_length_mm = _focal_length_mm(values)
        if at is None and point is None and home is None and height_agl_m is None and gimbal == (None,) * 3:
            return None
        heading_deg, pitch_deg, roll_deg = gimbal
        return TelemetrySample(
            offset_s=offset_s,
            at=at,
            point=point,
            height_agl_m=height_agl_m,
            heading_deg=heading_deg,
            pitch_deg=pitch_deg,
            roll_deg=roll_deg,
            focal_length_mm=focal_length_mm,
            home=home,
        )

    def _clock(self, text: str) -> datetime | None:
        """Return the record's time in UTC, None where there is none or it is no date."""
        found = _CLOCK.search(text)
        if found is None:
            return None
        *whole, decimals, millis, micros = found.groups()
        micro = int(decimals.ljust(6, "0")) if decimals else int(millis or 0) * 1000 + int(micros or 0)
        try:
            written = datetime(*map(int, whole), microsecond=micro)  # type: ignore[misc, arg-type]  # noqa: DTZ001
            at = self._wall.utc(written)
        except ValueError:
            return None
        self._first = self._first or at
        return at


def _numbers(inside: str) -> tuple[str, ...] | None:
    """Return the numbers of a bracketed group as written, None where a part is no number."""
    parts = [_GROUP_NUMBER.fullmatch(part) for part in inside.split(",")]
    return tuple(part[1] for part in parts if part) if all(parts) else None


def _places(
    values: dict[str, str], groups: dict[str, tuple[str, ...] | None]
) -> tuple[GeoPoint | None, GeoPoint | None]:
    """Return where the aircraft is and where it took off."""
    if "latitude" in values:
        longitude = values.get("longitude", values.get("longtitude"))
        altitude = values.get("abs_alt", values.get("altitude"))
        return (_point(values["latitude"], longitude, altitude) if longitude else None), None
    lat_first = "BAROMETER" in groups
    gps, home = groups.get("GPS"), groups.get("HOME")
    # The third value of GPS(...) is a height where latitude leads or it has decimals, else satellites.
    return (
        _pair_point(gps, lat_first=lat_first, third_is_height=lat_first or bool(gps and "." in gps[-1])),
        _pair_point(home, lat_first=lat_first, third_is_height=True),
    )


def _pair_point(
    numbers: tuple[str, ...] | None, *, lat_first: bool, third_is_height: bool
) -> GeoPoint | None:
    if numbers is None or len(numbers) < 2:  # noqa: PLR2004 - a pair
        return None
    first, second = numbers[:2]
    altitude = numbers[2] if len(numbers) > 2 and third_is_height else None  # noqa: PLR2004
    by_rule, swapped = ((first, second), (second, first)) if lat_first else ((second, first), (first, second))
    return _point(*by_rule, altitude) or _point(*swapped, altitude)


def _point(lat: str, lon: str, alt: str | None) -> GeoPoint | None:
    """Return a place, None for (0, 0), which aircraft write before they have a fix, and off Earth."""
    lat_deg, lon_deg = float(lat), float(lon)
    if lat_deg == lon_deg == 0 or abs(lat_deg) > 90 or abs(lon_deg) > 180:  # noqa: PLR2004 - degrees
        return None
    return GeoPoint(lat_deg, lon_deg, None if alt is None else float(alt))


def _height_agl_m(
    text: str, values: dict[str, str], groups: dict[str, tuple[str, ...] | None]
) -> float | None:
    """Return the height above take-off: rel_alt, H, or the barometer's (never the ultrasonic Hs)."""
    for name in ("rel_alt", "barometer", "hb"):
        if name in values:
            return float(values[name])
    if found := _HEIGHT.search(text):
        return float(found[1])
    barometer = groups.get("BAROMETER")
    return float(barometer[0]) if barometer else None


def _gimbal(
    values: dict[str, str], groups: dict[str, tuple[str, ...] | None]
) -> tuple[float | None, float | None, float | None]:
    """Return the camera's heading, pitch and roll in degrees; F.PRY is the airframe's and not used."""
    written = groups.get("G.PRY")
    if written and len(written) == 3:  # noqa: PLR2004 - pitch, roll, yaw
        pitch, roll, yaw = map(float, written)
        return yaw % 360, pitch, roll
    yaw_text, pitch_text, roll_text = (values.get(f"gb_{axis}") for axis in ("yaw", "pitch", "roll"))
    return (
        None if yaw_text is None else float(yaw_text) % 360,
        None if pitch_text is None else float(pitch_text),
        None if roll_text is None else float(roll_text),
    )


def _focal_length_mm(values: dict[str, str]) -> float | None:
    written = values.get("focal_len")
    if written is None or float(written) <= 0:
        return None
    scaled = "." not in written and int(written) >= SCALED_FOCAL_FROM
    return float(written) / 10 if scaled else float(written)


def _zooms_digitally(values: dict[str, str]) -> bool:
    return float(values.get("dzoom_ratio", 1)) not in NO_DIGITAL_ZOOM


def _lens_changes(samples: list[TelemetrySample]) -> bool:
    lengths_mm = [sample.focal_length_mm for sample in samples if sample.focal_length_mm is not None]
    return bool(lengths_mm) and max(lengths_mm) > (1 + ZOOM_TOLERANCE) * min(lengths_mm)
