"""Read GPX 1.0 and 1.1 tracks, as phones, handheld receivers and ground stations export them.

Belongs here: the format and its way into ``Telemetry``. Not here: safe XML (``markup.py``) and time lines
(``track.py``). Own walk instead of ``gpxpy``, which gives nothing at all for a file that breaks off or has
one bad number in it; the tests read back what ``gpxpy`` writes.

Source: GPX 1.1 Schema Documentation (topografix.com/GPX/1/1): ``lat`` and ``lon`` in WGS 84 degrees, ``ele``
in metres, ``time`` in UTC. Course and speed are the track's, not the camera's, and are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from ingest.telemetry.markup import looks_like, walk
from ingest.telemetry.track import MAX_RECORDS, Record, WallClock, iso_time, log_telemetry, number, place
from outwatch.domain.types import Telemetry, TelemetryClock, TelemetrySample

FORMAT = "gpx"
POINTS = ("trkpt", "rtept", "wpt")
"""Kinds of points, most telling first: a track is a path that was flown, a route one that was planned,
waypoints are places. Only the first kind that a file has is read."""


class Gpx:
    """The format, as a ``TelemetrySource``."""

    format = FORMAT

    def recognises(self, head: bytes) -> bool:
        """Tell by the root element."""
        return looks_like(head, root="gpx")

    def read(self, data: bytes, *, zone: ZoneInfo) -> Telemetry:
        """Return a file's track, all segments in one.

        Times are those of satellites; where they lack the Z that the format demands, a program wrote wall
        times there.

        Raises:
            TelemetryInvalid: there is no point in it, or it is no XML that may be read.
        """
        points = _Points(zone)
        whole = walk(data, points)
        kind = next((kind for kind in POINTS if points.records[kind]), POINTS[0])
        return log_telemetry(
            FORMAT,
            points.records[kind],
            clock=TelemetryClock.LOCAL if points.clock.assumed_zone else TelemetryClock.GPS,
            zone=zone,
            skipped=points.skipped,
            warnings=("file_cut_short",) * (not whole) + ("cut_at_limit",) * points.cut,
        )


class _Points:
    """Collects points by kind; a ``Visitor``."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.clock = WallClock(zone)
        self.records: dict[str, list[Record]] = {kind: [] for kind in POINTS}
        self.skipped = 0
        self.cut = False
        self._values: dict[str, str | None] = {}

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name in POINTS:
            self._values = {"lat": attributes.get("lat"), "lon": attributes.get("lon")}

    def end(self, name: str, text: str) -> None:
        if name in {"ele", "time"}:
            self._values.setdefault(name, text)  # the point's own stands before those of extensions
        elif name in POINTS:
            self._keep(name)
            self._values = {}

    def _keep(self, kind: str) -> None:
        values = self._values
        if len(self.records[kind]) + self.skipped >= MAX_RECORDS:
            self.cut = True
            return
        point = place(number(values.get("lat")), number(values.get("lon")), number(values.get("ele")))
        if point is None:
            self.skipped += 1
            return
        at = self.clock.utc(iso_time(values.get("time")))
        self.records[kind].append(Record(TelemetrySample(0.0, at, point, height_agl_m=None)))
