"""GPX tracks: what the sample says, what gpxpy writes, and what damage and malice do."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import gpxpy.gpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.telemetry.gpx import Gpx
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import GeoPoint, Telemetry, TelemetryClock, TimeBase

KARACHI = ZoneInfo("Asia/Karachi")
START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)


def read(data: str | bytes) -> Telemetry:
    """Read a file given as text or bytes."""
    return Gpx().read(data.encode() if isinstance(data, str) else data, zone=KARACHI)


def written(points: list[tuple[float, float, float | None, datetime | None]], *, version: str = "1.1") -> str:
    """Return a track as gpxpy writes it."""
    document = gpxpy.gpx.GPX()
    document.tracks.append(gpxpy.gpx.GPXTrack())
    document.tracks[0].segments.append(gpxpy.gpx.GPXTrackSegment())
    document.tracks[0].segments[0].points += [
        gpxpy.gpx.GPXTrackPoint(lat, lon, elevation=alt, time=at) for lat, lon, alt, at in points
    ]
    return str(document.to_xml(version=version))


def track(*points: str, namespace: str = "", root: str = "gpx") -> str:
    """Return a document of points as given."""
    return f"<{root} {namespace}><trk><trkseg>{''.join(points)}</trkseg></trk></{root}>"


def point(at: str | None = "2026-03-14T16:40:00Z", *, lat: object = 33.5, lon: object = 71.5) -> str:
    """Return one track point."""
    return f'<trkpt lat="{lat}" lon="{lon}">' + (f"<time>{at}</time>" if at else "") + "</trkpt>"


def test_real_track_gives_what_a_person_reads_in_it(samples: Path) -> None:
    """GPX 1.0 in ISO 8859-1, written backwards in time, is put in order."""
    data = (samples / "telemetry/tracks/Geotag.gpx").read_bytes()
    telemetry = read(data)
    first, last = telemetry.samples[0], telemetry.samples[-1]
    assert Gpx().recognises(data[:65_536])
    assert (9, 0) == (len(telemetry.samples), telemetry.skipped)
    assert datetime(2003, 5, 24, 17, 9, 4, tzinfo=UTC) == first.at
    assert GeoPoint(43.642824, -116.061502, 1507.003906) == first.point
    assert (61.0, GeoPoint(43.641, -116.062231, 1472.396484)) == (last.offset_s, last.point)
    assert (("height", "gimbal"), ("records_out_of_order",)) == (telemetry.missing, telemetry.warnings)
    assert (TimeBase.LOG, TelemetryClock.GPS, None) == (telemetry.time_base, telemetry.clock, telemetry.zone)


@given(
    st.lists(
        st.tuples(
            st.integers(-90_000_000, 90_000_000).filter(bool).map(lambda micros: micros / 1e6),
            st.integers(-180_000_000, 180_000_000).map(lambda micros: micros / 1e6),
            st.none() | st.integers(-400, 9000).map(float),
            st.integers(0, 10**6),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["1.0", "1.1"]),
)
def test_what_gpxpy_writes_is_read_back(
    rows: list[tuple[float, float, float | None, int]], version: str
) -> None:
    """Places, altitudes and times come back as they were written, in order of time."""
    rows = sorted(rows, key=lambda row: row[3])
    points = [(lat, lon, alt, START + timedelta(milliseconds=ms)) for lat, lon, alt, ms in rows]
    found = read(written(points, version=version)).samples
    assert [at for *_, at in points] == [sample.at for sample in found]
    for (lat, lon, alt, at), sample in zip(points, found, strict=True):
        assert GeoPoint(lat, lon, alt) == sample.point
        assert pytest.approx((at - points[0][3]).total_seconds()) == sample.offset_s


@pytest.mark.parametrize(
    "data",
    [
        track(point()).encode("utf-8-sig"),
        track(point()).encode("utf-16"),
        ('<?xml version="1.0" encoding="windows-1251"?>' + track(point(), "<name>Пост</name>")).encode(
            "cp1251"
        ),
        b"\r\n  " + track(point()).encode(),
        track(point(), namespace='xmlns="http://www.topografix.com/GPX/1/1"').encode(),
        track(point(), namespace='xmlns="http://example.org/other"').encode(),
        track(point(), root="g:gpx", namespace='xmlns:g="http://www.topografix.com/GPX/1/1"').encode(),
        track(point(), "<never:declared>1</never:declared>").encode(),
    ],
    ids=["mark", "utf-16", "cp1251", "blank", "default", "other", "prefixed", "undeclared"],
)
def test_encoding_and_namespace_do_not_matter(data: bytes) -> None:
    """The same point is read, and the file is known for what it is."""
    telemetry = read(data)
    assert Gpx().recognises(data)
    assert ([GeoPoint(33.5, 71.5)], START) == (
        [sample.point for sample in telemetry.samples],
        telemetry.samples[0].at,
    )


def test_track_stands_before_route_and_waypoints() -> None:
    """What was flown is read, not what was planned or marked beside it."""
    waypoint, route = '<wpt lat="1" lon="1"/>', '<rte><rtept lat="2" lon="2"/></rte>'
    both = read(f"<gpx>{waypoint}{route}</gpx>")
    all_three = read(f"<gpx>{waypoint}{route}<trk><trkseg>{point()}</trkseg></trk></gpx>")
    assert ([GeoPoint(2, 2)], [GeoPoint(33.5, 71.5)]) == (
        [sample.point for sample in both.samples],
        [sample.point for sample in all_three.samples],
    )


@pytest.mark.parametrize(
    ("text", "at", "clock", "zone"),
    [
        ("2026-03-14T16:40:00Z", START, TelemetryClock.GPS, None),
        ("2026-03-14T21:40:00.000+05:00", START, TelemetryClock.GPS, None),
        ("2026-03-14T21:40:00", START, TelemetryClock.LOCAL, "Asia/Karachi"),
        ("1980-01-06T00:00:00Z", None, TelemetryClock.NONE, None),
        ("yesterday at 10:00", None, TelemetryClock.NONE, None),
    ],
)
def test_time_is_utc_or_said_to_be_local(
    text: str, at: datetime | None, clock: TelemetryClock, zone: str | None
) -> None:
    """A time without a zone is taken in the declared one and says so; an unset clock is no time."""
    telemetry = read(track(point(text)))
    assert (at, clock, zone) == (telemetry.samples[0].at, telemetry.clock, telemetry.zone)


def test_track_without_times_keeps_its_places_and_says_so() -> None:
    """A path that was drawn, not flown, can be looked at but lies on no time line."""
    telemetry = read(track(point(None), point(None, lat=34)))
    assert ([0.0, 0.0], ("no_time_line",)) == (
        [sample.offset_s for sample in telemetry.samples],
        telemetry.warnings,
    )
    assert ("time", "height", "gimbal") == telemetry.missing


@pytest.mark.parametrize(
    "bad",
    [
        point(lat=0, lon=0),
        point(lat=91),
        point(lon="-181"),
        point(lat="nan"),
        point(lat="x"),
        '<trkpt lon="1"/>',
        point(None),
    ],
)
def test_point_that_cannot_be_is_skipped_and_counted(bad: str) -> None:
    """No fix, no place on Earth, and no time among points with one: left out of the track."""
    telemetry = read(track(point(), bad, point("2026-03-14T16:40:01Z")))
    assert (2, 1) == (len(telemetry.samples), telemetry.skipped)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_track_that_breaks_off_gives_what_it_holds(share: float) -> None:
    """A logger that lost power leaves a file without its end; the points before count."""
    text = written([(33.5, 71.5 + n / 1000, 1200.0, START + timedelta(seconds=n)) for n in range(1, 60)])
    telemetry = read(text[: int(len(text) * share)])
    assert share * 59 - 5 < len(telemetry.samples) < share * 59 + 2
    assert ("file_cut_short",) == telemetry.warnings


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "no readable record"),
        ("<gpx/>", "no readable record"),
        ("\x00" * 99, "no readable record"),
        ('<?xml version="1.0" encoding="klingon"?><gpx/>', "no readable record"),
        (f'<!DOCTYPE gpx [<!ENTITY a "1">]>{track(point())}', "document type"),
        (f'<!DOCTYPE gpx SYSTEM "file:///etc/passwd">{track(point())}', "document type"),
        (f"<!DOCTYPE gpx [<!ATTLIST trkpt x CDATA '{'x' * 999}'>]>{track(point())}", "document type"),
        ("<gpx>" + "<a>" * 5000 + point(), "nests deeper than 64"),
    ],
)
def test_no_track_and_hostile_xml_are_refused(data: str, reason: str) -> None:
    """Nothing to read, a document type with all that it can declare, and endless nesting have a reason."""
    with pytest.raises(TelemetryInvalid, match=reason):
        read(data)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"<kml><!-- not a gpx --></kml>",
        b"lat,lon\n1,2\n",
        b"gpx <gpx>",
        b"<html>gpx</html>",
        b"\x00\x00\x00\x18ftypmp42<gpx >",
    ],
)
def test_other_files_are_not_taken_for_gpx(head: bytes) -> None:
    """Only XML with the element is recognised."""
    assert not Gpx().recognises(head)


@pytest.mark.parametrize(
    "unit", ["<!--", "<a>", "<trkpt lat='1' lon='1'>x</trkpt>", "<gpx a", "&amp;", "<a b='"]
)
def test_reading_is_linear_in_hostile_text(unit: str) -> None:
    """Eight times the text costs some eight times the processor time."""

    def cost_s(size: int) -> float:
        data = b"<gpx>" + unit.encode() * (size // len(unit))
        started = time.process_time()
        with suppress(TelemetryInvalid):  # refused or read, both must be quick
            read(data)
        return time.process_time() - started

    small_s = min(cost_s(100_000) for _ in range(3))
    assert min(cost_s(800_000) for _ in range(2)) < 24 * small_s + 0.2


VALID = written([(33.5, 71.5, 1200.0, START), (33.6, 71.6, None, START + timedelta(seconds=1))]).encode()


@given(
    st.binary(max_size=300)
    | st.integers(0, len(VALID)).map(lambda end: VALID[:end])
    | st.tuples(st.integers(0, len(VALID) - 1), st.integers(1, 255)).map(
        lambda flip: VALID[: flip[0]] + bytes([VALID[flip[0]] ^ flip[1]]) + VALID[flip[0] + 1 :]
    )
)
def test_any_bytes_give_a_track_or_its_error(data: bytes) -> None:
    """No input escapes as another error, and what is read is in order."""
    Gpx().recognises(data)
    try:
        telemetry = read(data)
    except TelemetryInvalid:
        return
    offsets_s = [sample.offset_s for sample in telemetry.samples]
    assert offsets_s == sorted(offsets_s)
    assert offsets_s[0] == 0.0


def test_times_of_another_zone_are_turned_to_utc() -> None:
    """An offset in the file is followed, whatever zone is declared."""
    at = START.astimezone(timezone(timedelta(hours=-8)))
    assert START == read(track(point(at.isoformat()))).samples[0].at
