"""KML: tracks, dated placemarks and lines, whole and damaged."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.telemetry.kml import Kml
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import GeoPoint, Telemetry, TelemetryClock, TimeBase

KARACHI = ZoneInfo("Asia/Karachi")
START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
NAMESPACES = 'xmlns="http://www.opengis.net/kml/2.2" xmlns:gx="http://www.google.com/kml/ext/2.2"'


def read(text: str | bytes) -> Telemetry:
    """Read a document given as bytes, or as what stands inside its root."""
    data = f"<kml {NAMESPACES}><Document>{text}</Document></kml>".encode() if isinstance(text, str) else text
    return Kml().read(data, zone=KARACHI)


def placemark(inside: str) -> str:
    """Return a placemark."""
    return f"<Placemark><name>x</name>{inside}</Placemark>"


def test_real_track_gives_what_a_person_reads_in_it(samples: Path) -> None:
    """A phone's history: three places in a zone of their own, on the ground."""
    data = (samples / "telemetry/tracks/Geotag.kml").read_bytes()
    telemetry = read(data)
    first, last = telemetry.samples[0], telemetry.samples[-1]
    assert Kml().recognises(data[:65_536])
    assert (3, 0) == (len(telemetry.samples), telemetry.skipped)
    assert datetime(2013, 11, 13, 9, 3, 34, 245_000, tzinfo=UTC) == first.at
    assert (GeoPoint(34.166232, -106.026069), GeoPoint(34.164765, -106.027854)) == (first.point, last.point)
    assert (121.032, ("height", "gimbal"), ()) == (last.offset_s, telemetry.missing, telemetry.warnings)
    assert (TimeBase.LOG, TelemetryClock.GPS, None) == (telemetry.time_base, telemetry.clock, telemetry.zone)


@pytest.mark.parametrize(
    "inside",
    [
        "{when0}{when1}{coord0}{coord1}{angles0}{angles1}",
        "{when0}{coord0}{angles0}{when1}{coord1}{angles1}",
        "{angles0}{angles1}{coord0}{coord1}{when0}{when1}",
    ],
    ids=["grouped", "in turn", "backwards"],
)
@pytest.mark.parametrize("prefix", ["gx:", ""])
def test_track_pairs_times_places_and_angles_by_number(inside: str, prefix: str) -> None:
    """The n-th of each belong together, in whatever order they stand; the angles are the aircraft's."""
    parts = {
        "when0": "<when>2026-03-14T16:40:00Z</when>",
        "when1": "<when>2026-03-14T16:40:02Z</when>",
        "coord0": f"<{prefix}coord>71.5 33.5 1200</{prefix}coord>",
        "coord1": f"<{prefix}coord>71.6 33.6 1210</{prefix}coord>",
        "angles0": f"<{prefix}angles>-90 5 -3</{prefix}angles>",
        "angles1": f"<{prefix}angles>10 6 4</{prefix}angles>",
    }
    mode = "<altitudeMode>absolute</altitudeMode>"
    telemetry = read(placemark(f"<{prefix}Track>{inside.format(**parts)}{mode}</{prefix}Track>"))
    found = [
        (
            sample.offset_s,
            sample.point,
            sample.airframe_heading_deg,
            sample.airframe_pitch_deg,
            sample.airframe_roll_deg,
        )
        for sample in telemetry.samples
    ]
    assert [
        (0.0, GeoPoint(33.5, 71.5, 1200.0), 270.0, 5.0, -3.0),
        (2.0, GeoPoint(33.6, 71.6, 1210.0), 10.0, 6.0, 4.0),
    ] == found
    assert ("height", "gimbal") == telemetry.missing


@pytest.mark.parametrize(
    ("mode", "alt_m", "height_agl_m"),
    [
        ("<altitudeMode>absolute</altitudeMode>", 60.0, None),
        ("<altitudeMode>relativeToGround</altitudeMode>", None, 60.0),
        ("<altitudeMode>clampToGround</altitudeMode>", None, None),
        ("<gx:altitudeMode>clampToSeaFloor</gx:altitudeMode>", None, None),
        ("", None, None),
    ],
)
def test_altitude_counts_from_what_stands_beside_it(
    mode: str, alt_m: float | None, height_agl_m: float | None
) -> None:
    """Above the sea, above the ground, or not meant: never one for the other."""
    text = placemark(f"<LineString>{mode}<coordinates>71.5,33.5,60</coordinates></LineString>")
    sample = read(text).samples[0]
    assert (GeoPoint(33.5, 71.5, alt_m), height_agl_m) == (sample.point, sample.height_agl_m)


def test_dated_placemarks_make_a_track() -> None:
    """Each point has the time of its own placemark; undated ones are places, not part of the way."""
    dated = [
        placemark(
            f"<TimeStamp><when>2026-03-14T16:40:0{n}Z</when></TimeStamp>"
            f"<Point><coordinates>71.{n},33.5</coordinates></Point>"
        )
        for n in (2, 1)
    ]
    span = placemark(
        "<Point><coordinates> 71.9,33.5 </coordinates></Point>"
        "<TimeSpan><begin>2026-03-14T16:40:09Z</begin><end>2026-03-14T17:00:00Z</end></TimeSpan>"
    )
    undated = placemark("<Point><coordinates>1,1</coordinates></Point>")
    telemetry = read("".join((*dated, undated, span)))
    assert [(0.0, 71.1), (1.0, 71.2), (8.0, 71.9)] == [
        (sample.offset_s, sample.point.lon_deg) for sample in telemetry.samples if sample.point
    ]
    assert ("records_out_of_order",) == telemetry.warnings


def test_line_has_places_but_no_time() -> None:
    """A drawn line is kept for looking at; looks and polygons beside it are not places of an aircraft."""
    telemetry = read(
        "<LookAt><longitude>1</longitude><latitude>1</latitude></LookAt>"
        + placemark(
            "<Polygon><outerBoundaryIs><LinearRing><coordinates>9,9 8,8</coordinates></LinearRing>"
            "</outerBoundaryIs></Polygon>"
        )
        + placemark("<LineString><coordinates>\n 71.5,33.5,0\n71.6,33.6,0 </coordinates></LineString>")
    )
    assert [GeoPoint(33.5, 71.5), GeoPoint(33.6, 71.6)] == [sample.point for sample in telemetry.samples]
    assert (("no_time_line",), TelemetryClock.NONE) == (telemetry.warnings, telemetry.clock)


def test_time_without_a_zone_is_local() -> None:
    """A wall time is taken in the declared zone and says so."""
    stamp = "<TimeStamp><when>2026-03-14T21:40:00</when></TimeStamp>"
    telemetry = read(placemark(f"{stamp}<Point><coordinates>71.5,33.5</coordinates></Point>"))
    assert (START, TelemetryClock.LOCAL, "Asia/Karachi") == (
        telemetry.samples[0].at,
        telemetry.clock,
        telemetry.zone,
    )


@pytest.mark.parametrize("bad", ["", "71.5", "0 0 0", "71.5 95 0", "x y", "nan 33.5"])
def test_place_that_cannot_be_is_skipped_without_shifting_the_times(bad: str) -> None:
    """A gap in the coordinates leaves the places behind it at their own times."""
    whens = "".join(f"<when>2026-03-14T16:40:0{n}Z</when>" for n in range(3))
    coords = "".join(f"<gx:coord>{text}</gx:coord>" for text in ("71.5 33.5 0", bad, "71.6 33.6 0"))
    telemetry = read(placemark(f"<gx:Track>{whens}{coords}</gx:Track>"))
    assert ([0.0, 2.0], 1) == ([sample.offset_s for sample in telemetry.samples], telemetry.skipped)


def test_track_that_breaks_off_gives_what_it_holds() -> None:
    """The places before the break count, although their track was never closed."""
    track = "".join(
        f"<when>2026-03-14T16:40:{n:02}Z</when><gx:coord>71.5 33.5 0</gx:coord>" for n in range(9)
    )
    telemetry = read(f"<kml {NAMESPACES}><Placemark><gx:Track>{track}<when>2026-03".encode())
    assert (9, ("file_cut_short",)) == (len(telemetry.samples), telemetry.warnings)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no readable record"),
        (b"<kml/>", "no readable record"),
        (b"PK\x03\x04doc.kml", "no readable record"),
        (b'<!DOCTYPE kml [<!ENTITY a "b"><!ENTITY c "&a;&a;&a;">]><kml>&c;</kml>', "document type"),
        (b"<kml>" + b"<Folder>" * 200, "nests deeper than 64"),
    ],
)
def test_no_track_and_hostile_xml_are_refused(data: bytes, reason: str) -> None:
    """Nothing to read, an archive, a document type and endless nesting have a reason."""
    with pytest.raises(TelemetryInvalid, match=reason):
        read(data)


@pytest.mark.parametrize("head", [b"", b"<gpx><name>a.kml</name></gpx>", b"PK\x03\x04doc.kml<kml >", b"kml"])
def test_other_files_are_not_taken_for_kml(head: bytes) -> None:
    """Only XML with the element is recognised."""
    assert not Kml().recognises(head)


VALID = (
    f"<kml {NAMESPACES}>"
    + placemark(
        "<gx:Track><when>2026-03-14T16:40:00Z</when><gx:coord>71.5 33.5 9</gx:coord>"
        "<gx:angles>1 2 3</gx:angles></gx:Track>"
    )
    + placemark("<Point><coordinates>71.5,33.5</coordinates></Point>")
    + "</kml>"
).encode()


@given(
    st.binary(max_size=300)
    | st.integers(0, len(VALID)).map(lambda end: VALID[:end])
    | st.tuples(st.integers(0, len(VALID) - 1), st.integers(1, 255)).map(
        lambda flip: VALID[: flip[0]] + bytes([VALID[flip[0]] ^ flip[1]]) + VALID[flip[0] + 1 :]
    )
    | st.lists(
        st.sampled_from(
            [
                *("<Placemark>", "</Placemark>", "<Point>", "</Point>", "<Track>", "</Track>", "<coord>"),
                *("</coord>", "1,2", "1 2 3", "<when>", "</when>", "2026-03-14T16:40:00Z", "<angles/>"),
                *("<coordinates>", "</coordinates>", "<LineString>", "</LineString>", "9" * 50),
            ]
        ),
        max_size=30,
    ).map(lambda words: ("<kml>" + "".join(words)).encode())
)
def test_any_bytes_give_a_track_or_its_error(data: bytes) -> None:
    """No input escapes as another error, and what is read is in order."""
    Kml().recognises(data)
    try:
        telemetry = read(data)
    except TelemetryInvalid:
        return
    offsets_s = [sample.offset_s for sample in telemetry.samples]
    assert offsets_s == sorted(offsets_s)
    assert offsets_s[0] == 0.0
