"""Read KML: tracks with times, dated placemarks, and bare lines.

Belongs here: the format and its way into ``Telemetry``. Not here: safe XML (``markup.py``) and time lines
(``track.py``). KMZ is left out: it is an archive, whose size says nothing of what it unpacks to, and every
program that writes it also writes KML.

Source: OGC 12-007r2, KML 2.3, with Google's ``gx`` extensions: coordinates are longitude, latitude, altitude;
what the altitude counts from stands beside them, and without a word is not meant at all. ``gx:angles`` are
heading, tilt (nose up) and roll (right side down) of the thing that moves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import Any
from zoneinfo import ZoneInfo

from ingest.telemetry.markup import looks_like, walk
from ingest.telemetry.track import MAX_RECORDS, Record, WallClock, iso_time, log_telemetry, number, place
from outwatch.domain.types import Telemetry, TelemetryClock, TelemetrySample

FORMAT = "kml"
GEOMETRIES = ("Track", "dated", "LineString", "Point")
"""Kinds of places, most telling first; "dated" are points whose placemark has a time. Only the first kind
that a file has is read."""


class Kml:
    """The format, as a ``TelemetrySource``."""

    format = FORMAT

    def recognises(self, head: bytes) -> bool:
        """Tell by the root element."""
        return looks_like(head, root="kml")

    def read(self, data: bytes, *, zone: ZoneInfo) -> Telemetry:
        """Return a file's way through time, or its lines where nothing has a time.

        Raises:
            TelemetryInvalid: there is no position in it, or it is no XML that may be read.
        """
        places = _Places(zone)
        whole = walk(data, places)
        places.finish()
        kind = next((kind for kind in GEOMETRIES if places.records[kind]), GEOMETRIES[0])
        return log_telemetry(
            FORMAT,
            places.records[kind],
            clock=TelemetryClock.LOCAL if places.clock.assumed_zone else TelemetryClock.GPS,
            zone=zone,
            skipped=places.skipped,
            warnings=("file_cut_short",) * (not whole) + ("cut_at_limit",) * places.cut,
        )


@dataclass(slots=True)
class _Geometry:
    """What stands inside one geometry element."""

    kind: str
    altitude_mode: str = "clampToGround"
    whens: list[str] = field(default_factory=list)
    places: list[list[str]] = field(default_factory=list)
    """Longitude, latitude and altitude as written, fewer where some are absent."""
    angles: list[list[str]] = field(default_factory=list)


class _Places:
    """Collects places by kind of geometry; a ``Visitor``."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.clock = WallClock(zone)
        self.records: dict[str, list[Record]] = {kind: [] for kind in GEOMETRIES}
        self.skipped = 0
        self.cut = False
        self._closed = 0
        self._geometry: _Geometry | None = None
        self._placemark_at: datetime | None = None
        self._placemark_points: list[Record] = []

    def start(self, name: str, _attributes: Mapping[str, str]) -> None:
        if name == "Placemark":
            self._placemark_at, self._placemark_points = None, []
        elif name in GEOMETRIES:
            self._geometry = _Geometry(name)

    def end(self, name: str, text: str) -> None:
        geometry = self._geometry
        if name == "Placemark":
            self._close_placemark()
        elif geometry is None:
            if name in {"when", "begin"}:  # of TimeStamp, or the start of TimeSpan
                self._placemark_at = self.clock.utc(iso_time(text))
        elif name == geometry.kind:
            self._close_geometry(geometry)
        elif name == "coordinates":
            self._collect(geometry.places, (found[0].split(",") for found in re.finditer(r"\S+", text)))
        elif name == "coord":
            self._collect(geometry.places, [text.split(maxsplit=3)])
        elif name == "when":
            self._collect(geometry.whens, [text])
        elif name == "angles":
            self._collect(geometry.angles, [text.split(maxsplit=3)])
        elif name == "altitudeMode":
            geometry.altitude_mode = text.strip()

    def _collect(self, into: list[Any], more: Iterable[Any]) -> None:
        """Take more of a geometry, as far as the file may have it."""
        for each in more:
            if len(into) + self._closed >= MAX_RECORDS:
                self.cut = True
                return
            into.append(each)

    def finish(self) -> None:
        """Close what a file that breaks off left open."""
        if self._geometry is not None:
            self._close_geometry(self._geometry)
        self._close_placemark()

    def _close_geometry(self, geometry: _Geometry) -> None:
        """Pair the n-th place with the n-th time and angles, in whatever order they stand."""
        self._geometry = None
        rows = zip_longest(geometry.places, geometry.whens, geometry.angles)
        records = [
            _record(where, self.clock.utc(iso_time(when)), angles or [], mode=geometry.altitude_mode)
            for where, when, angles in rows
            if where is not None
        ]
        kept = [record for record in records if record.sample.point is not None]
        self.skipped += len(records) - len(kept)
        self._closed += len(records)
        if geometry.kind == "Point":
            self._placemark_points += kept
        else:
            self.records[geometry.kind] += kept

    def _close_placemark(self) -> None:
        at = self._placemark_at
        for record in self._placemark_points:
            sample = record.sample
            stamped = TelemetrySample(0.0, at, sample.point, sample.height_agl_m)
            self.records["Point" if at is None else "dated"].append(Record(stamped))
        self._placemark_points = []


def _record(where: list[str], at: datetime | None, angles: list[str], *, mode: str) -> Record:
    lon_deg, lat_deg, altitude_m, *_ = (*map(number, where), None, None, None)
    heading_deg, pitch_deg, roll_deg, *_ = (*map(number, angles), None, None, None)
    return Record(
        TelemetrySample(
            offset_s=0.0,
            at=at,
            point=place(lat_deg, lon_deg, altitude_m if mode == "absolute" else None),
            height_agl_m=altitude_m if mode == "relativeToGround" else None,
            airframe_heading_deg=None if heading_deg is None else heading_deg % 360,
            airframe_pitch_deg=pitch_deg,
            airframe_roll_deg=roll_deg,
        )
    )
