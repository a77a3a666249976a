"""Read where and how a photo was taken from what the camera wrote into it: EXIF, and the aircraft's XMP.

Belongs here: the meaning of tags. Not here: finding them (``exif.py``), and pixels, which only the confined
decoder touches.

Sources: EXIF 2.32 and 3.0 (CIPA DC-008) for time, place and lens. The XMP names are those of DJI, which
others copy: angles in degrees as in the subtitles of its videos (yaw clockwise from north, pitch 0 at the
horizon and -90 straight down), ``RelativeAltitude`` above take-off, ``AbsoluteAltitude`` above the sea but
with ``AltitudeType="RtkAlt"`` above the ellipsoid, ``UTCAtExposure`` by the satellites. They stand there as
attributes or as elements, with or without a plus sign.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from ingest.telemetry.exif import Value, is_photo, metadata
from ingest.telemetry.track import (
    CLOCK_UNCERTAINTY_S,
    Record,
    WallClock,
    iso_time,
    missing_fields,
    number,
    place,
)
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import GeoPoint, Telemetry, TelemetryClock, TelemetrySample

FORMAT = "photo"
MAX_FOCAL_LENGTH_MM = 5000.0
DAY_S = 86_400.0
NO_DIGITAL_ZOOM = frozenset({0.0, 1.0})
"""EXIF: 0 where digital zoom was not used."""

_GPS_LAT_REF, _GPS_LAT, _GPS_LON_REF, _GPS_LON, _GPS_ALT_REF, _GPS_ALT, _GPS_TIME = range(1, 8)
_GPS_DATE = 0x1D
_TIMES = ((0x9003, 0x9291, 0x9011), (0x9004, 0x9292, 0x9012), (0x0132, 0x9290, 0x9010))
"""Date and time, fraction of a second, offset from UTC: of the shot, of its digital form, of the file."""
_FOCAL_LENGTH, _FOCAL_LENGTH_EQUIVALENT, _DIGITAL_ZOOM = 0x920A, 0xA405, 0xA404
_ABOVE_ELLIPSOID = frozenset({2.0, 3.0})
_BELOW = frozenset({1.0, 3.0})
"""Altitude references of EXIF 3.0: 0 above and 1 below the sea, 2 above and 3 below the ellipsoid."""
_XMP_VALUE = re.compile(
    rb"[:<\s](Gimbal(?:Yaw|Pitch|Roll)Degree|Flight(?:Yaw|Pitch|Roll)Degree|(?:Relative|Absolute)Altitude"
    rb"|AltitudeType|GpsLatitude|GpsLongitude|GpsLongtitude|UTCAtExposure)"
    rb"(?:\s{0,9}=\s{0,9}[\"']|>)\s{0,9}([^\"'<]{1,40})"
)


class Photo:
    """The format, as a ``TelemetrySource``."""

    format = FORMAT

    def recognises(self, head: bytes) -> bool:
        """Tell by the first bytes of a JPEG, PNG or TIFF file."""
        return is_photo(head)

    def read(self, data: bytes, *, zone: ZoneInfo) -> Telemetry:
        """Return one sample: the moment of the shot.

        Satellite time stands before the camera's own. The focal length is the 35 mm equivalent where the
        camera states it, as in telemetry of videos, else the true one, which is all a thermal camera has.

        Raises:
            TelemetryInvalid: it is no photo, or says neither when, where nor in which direction.
        """
        if not is_photo(data):
            raise TelemetryInvalid("is no JPEG, PNG or TIFF picture: hand in the original photo")
        tags, packet = metadata(data)
        xmp = {
            name.decode(): value.decode(errors="replace").strip()
            for name, value in _XMP_VALUE.findall(packet)
        }
        at, clock = _time(tags, xmp, zone)
        point, ellipsoid_height_m = _place(tags, xmp)
        yaw_deg, flight_yaw_deg = number(xmp.get("GimbalYawDegree")), number(xmp.get("FlightYawDegree"))
        sample = TelemetrySample(
            offset_s=0.0,
            at=at,
            point=point,
            height_agl_m=number(xmp.get("RelativeAltitude")),
            heading_deg=None if yaw_deg is None else yaw_deg % 360,
            pitch_deg=number(xmp.get("GimbalPitchDegree")),
            roll_deg=number(xmp.get("GimbalRollDegree")),
            focal_length_mm=_focal_length_mm(tags),
            airframe_heading_deg=None if flight_yaw_deg is None else flight_yaw_deg % 360,
            airframe_pitch_deg=number(xmp.get("FlightPitchDegree")),
            airframe_roll_deg=number(xmp.get("FlightRollDegree")),
            ellipsoid_height_m=ellipsoid_height_m,
        )
        if not Record(sample).says_something:
            raise TelemetryInvalid(
                "photo says neither when, where nor in which direction it was taken: hand in the file as the"
                " camera wrote it, as messengers and editing programs remove this"
            )
        zoomed = _one(tags, _DIGITAL_ZOOM, default=0.0) not in NO_DIGITAL_ZOOM
        return Telemetry(
            format=FORMAT,
            samples=(sample,),
            missing=missing_fields((sample,)),
            warnings=("zoom_changes",) * zoomed,
            clock=clock,
            zone=zone.key if clock is TelemetryClock.LOCAL else None,
            clock_uncertainty_s=None if at is None else CLOCK_UNCERTAINTY_S,
        )


def _time(
    tags: Mapping[int, Value], xmp: Mapping[str, str], zone: ZoneInfo
) -> tuple[datetime | None, TelemetryClock]:
    """Return when the photo was taken, and by which clock."""
    clock = WallClock(zone)
    for by_satellites in (iso_time(xmp.get("UTCAtExposure")), _satellite_time(tags)):
        if by_satellites and (at := clock.utc(by_satellites.replace(tzinfo=UTC))):
            return at, TelemetryClock.GPS
    for day_and_time, fraction, offset in _TIMES:
        if at := clock.utc(_written_time(*(_text(tags, tag) for tag in (day_and_time, fraction, offset)))):
            return at, TelemetryClock.LOCAL if clock.assumed_zone else TelemetryClock.UTC
    return None, TelemetryClock.NONE


def _satellite_time(tags: Mapping[int, Value]) -> datetime | None:
    day = iso_time(_text(tags, _GPS_DATE).replace(":", "-") + "T00:00:00")
    since_midnight = _numbers(tags, _GPS_TIME, 3)
    if day is None or since_midnight is None:
        return None
    hours, minutes, seconds = since_midnight
    seconds += 3600 * hours + 60 * minutes
    return day + timedelta(seconds=seconds) if 0 <= seconds < DAY_S else None


def _written_time(text: str, fraction: str, offset: str) -> datetime | None:
    """Return the camera's clock; EXIF writes ``2018:07:27 14:51:54``, its fraction and offset apart."""
    day, _, time = text.partition(" ")
    point = f".{fraction[:6]}" if fraction.isdecimal() else ""
    written = f"{day.replace(':', '-')} {time}{point}"
    return iso_time(written + offset) or iso_time(written)


def _place(tags: Mapping[int, Value], xmp: Mapping[str, str]) -> tuple[GeoPoint | None, float | None]:
    """Return where the camera was, and its height above the ellipsoid where that is what was written."""
    lat_deg = _degrees(tags, _GPS_LAT, _GPS_LAT_REF)
    lon_deg = _degrees(tags, _GPS_LON, _GPS_LON_REF)
    if lat_deg is None or lon_deg is None:
        lat_deg = number(xmp.get("GpsLatitude"))
        lon_deg = number(xmp.get("GpsLongitude", xmp.get("GpsLongtitude")))  # as older firmwares spell it
    reference = _one(tags, _GPS_ALT_REF, default=0.0)
    altitude_m = _one(tags, _GPS_ALT)
    if altitude_m is None:
        altitude_m = number(xmp.get("AbsoluteAltitude"))
    elif reference in _BELOW:
        altitude_m = -abs(altitude_m)
    if reference in _ABOVE_ELLIPSOID or xmp.get("AltitudeType", "").lower() == "rtkalt":
        return place(lat_deg, lon_deg), altitude_m
    return place(lat_deg, lon_deg, altitude_m), None


def _degrees(tags: Mapping[int, Value], tag: int, reference: int) -> float | None:
    """Return degrees, minutes and seconds as signed degrees."""
    parts = _numbers(tags, tag, 3)
    if parts is None:
        return None
    degrees, minutes, seconds = parts
    sign = -1 if _text(tags, reference)[:1].upper() in {"S", "W"} else 1
    return sign * (degrees + minutes / 60 + seconds / 3600)


def _focal_length_mm(tags: Mapping[int, Value]) -> float | None:
    for tag in (_FOCAL_LENGTH_EQUIVALENT, _FOCAL_LENGTH):
        length_mm = _one(tags, tag, default=0.0)
        if length_mm is not None and 0 < length_mm <= MAX_FOCAL_LENGTH_MM:
            return length_mm
    return None


def _numbers(tags: Mapping[int, Value], tag: int, count: int) -> tuple[float, ...] | None:
    value = tags.get(tag)
    if not isinstance(value, tuple) or len(value) != count or not all(map(math.isfinite, value)):
        return None
    return value


def _one(tags: Mapping[int, Value], tag: int, *, default: float | None = None) -> float | None:
    found = _numbers(tags, tag, 1)
    return found[0] if found else default


def _text(tags: Mapping[int, Value], tag: int) -> str:
    value = tags.get(tag)
    return value if isinstance(value, str) else ""
