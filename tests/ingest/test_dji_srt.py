"""DJI subtitle telemetry: every layout, real and broken."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.align import PoseTrack, clip_start, fit_to_clip
from ingest.telemetry.dji_srt import parse_srt
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import GeoPoint, Telemetry

KARACHI = ZoneInfo("Asia/Karachi")

# name: (records, span in s, first time, first place, first height, first focal length, missing)
GOLDEN = {
    "dji_srt/MAVIC3.srt": (
        (12318, 246.34, "2021-12-25T07:27:52.373", (3.41531, -3.3744, 0.401), -2.4, 24.0, ("gimbal",))
    ),
    "dji_srt/air2s.srt": (
        (
            17,
            0.533,
            "2022-08-07T08:40:40.774808",
            (41.424724, 2.234156, 117.0),
            None,
            24.0,
            ("height", "gimbal"),
        )
    ),
    "dji_srt/broken_incomplete.SRT": (
        (20, 19.0, "2017-07-03T05:15:03", (-34.7383, -58.4563, None), 20.1, None, ("gimbal",))
    ),
    "dji_srt/broken_incomplete2.SRT": (
        (
            6,
            0.2,
            "2020-08-12T03:55:21.745078",
            (-34.86995, -57.823395, 74.725998),
            None,
            28.0,
            ("height", "gimbal"),
        )
    ),
    "dji_srt/m2zoom.SRT": (
        *(7113, 118.651, "2020-04-02T10:19:58.720764", (31.452012, 74.398751, 213.983002)),
        *(None, 24.0, ("height", "gimbal")),
    ),
    "dji_srt/mavic_2_style.SRT": (
        (
            468,
            468.0,
            "2017-08-05T09:11:51.393525",
            (-20.2533, 149.0251, None),
            None,
            None,
            ("height", "gimbal"),
        )
    ),
    "dji_srt/mavic_2pro_new.SRT": (
        *(8952, 369.84, "2019-09-27T05:28:08.438904", (-35.080155, -60.286702, None)),
        *(None, 28.0, ("height", "gimbal")),
    ),
    "dji_srt/mavic_air.SRT": (
        (2, 0.039, "2018-02-19T03:04:51.265847", None, None, None, ("position", "height", "gimbal"))
    ),
    "dji_srt/mavic_mini.SRT": (117, 116.0, None, (48.0771, -121.7458, None), 200.7, None, ("time", "gimbal")),
    "dji_srt/mavic_pro.SRT": (
        (468, 467.0, "2017-08-05T09:11:51", (-20.2533, 149.0251, None), 1.9, None, ("gimbal",))
    ),
    "dji_srt/mavic_pro_buggy.SRT": (
        (546, 545.0, "2018-08-19T03:00:36", (42.4668, -1.2218, None), 0.0, None, ("gimbal",))
    ),
    "dji_srt/mix_p4rtk_mavic2pro.srt": (12, 5.338, None, (-34.6502, -59.409424, None), 17.39, None, ()),
    "dji_srt/newer/Avata360/clip.SRT": (
        (5, 0.166, "2026-05-27T08:10:00.015", (53.36508, 6.460739, -124.744), 5.4, 28.0, ())
    ),
    "dji_srt/newer/Mini5PRO/clip.SRT": (
        (5, 0.16, "2026-05-27T08:14:22.911", (53.365108, 6.460719, -122.769), 6.0, 24.0, ("gimbal",))
    ),
    "dji_srt/newer/air3/clip.SRT": (
        (2, 0.033, "2024-01-01T07:00:00", (59.1111, 18.2222, 105.0), 5.0, None, ("gimbal",))
    ),
    "dji_srt/newer/avata2/clip.SRT": (
        (2, 0.033, None, (39.906217, 116.391305, 69.8), 91.2, None, ("time", "gimbal"))
    ),
    "dji_srt/newer/mini4pro/clip.SRT": (2, 0.033, None, (59.0, 18.0, 100.0), 1.0, None, ("time", "gimbal")),
    "dji_srt/old_format.SRT": (
        (468, 467.0, "2017-08-05T09:11:51", (-20.2533, 149.0251, None), 1.9, None, ("gimbal",))
    ),
    "dji_srt/p4p_sample.SRT": (5, 4.0, None, (47.4692, 8.209, None), 45.6, None, ("time", "gimbal")),
    "../footage/night_gathering.SRT": (
        (1170, 38.967, "2026-03-14T16:40:00", (33.5866, 71.4441, 1240.0), 60.0, 25.0, ())
    ),
    "../footage/night_vehicles.SRT": (
        (435, 14.467, "2026-03-14T20:10:00", (33.5905, 71.44, 1310.0), 130.0, 25.0, ())
    ),
    "../footage/night_walkers.SRT": (
        (2250, 74.967, "2026-03-14T16:43:00", (33.5868, 71.4425, 1240.0), 60.0, 25.0, ())
    ),
}


def parse(text: str, *, zone: ZoneInfo = KARACHI) -> Telemetry:
    """Read telemetry given as text."""
    return parse_srt(text.encode(), zone=zone)


def record(*lines: str, number: int = 1) -> str:
    """Return a record that starts at ``number`` - 1 seconds."""
    return f"{number}\n00:00:{number - 1:02},000 --> 00:00:{number:02},000\n" + "\n".join(lines) + "\n\n"


@pytest.mark.parametrize("name", GOLDEN)
def test_real_files_give_what_a_person_reads_in_them(samples: Path, name: str) -> None:
    """Count, span, first record and missing fields of each sample are as read by eye."""
    count, span_s, at, place, height_agl_m, focal_length_mm, missing = GOLDEN[name]
    telemetry = parse_srt((samples / "telemetry" / name).read_bytes(), zone=KARACHI)
    first, last = telemetry.samples[0], telemetry.samples[-1]
    assert (count, 0) == (len(telemetry.samples), telemetry.skipped)
    assert span_s == pytest.approx(last.offset_s - first.offset_s, abs=1e-6)
    assert (datetime.fromisoformat(at).replace(tzinfo=UTC) if at else None) == first.at
    assert (GeoPoint(*place) if place else None) == first.point
    assert (height_agl_m, focal_length_mm) == (first.height_agl_m, first.focal_length_mm)
    assert missing == telemetry.missing


@pytest.mark.parametrize("name", ["broken_empty.SRT", "broken_empty2.SRT"])
def test_real_empty_files_are_refused(samples: Path, name: str) -> None:
    """A file without a record is refused with a way out."""
    with pytest.raises(TelemetryInvalid, match="copy it again"):
        parse_srt((samples / "telemetry/dji_srt" / name).read_bytes(), zone=KARACHI)


@pytest.mark.parametrize(
    "unit", ["[latitude : ", "a" * 50, "1\n", "GPS(", "12:", " ", "[[[", "G.PRY (", "\x00"]
)
def test_reading_is_linear_in_hostile_text(unit: str) -> None:
    """Eight times the text costs some eight times the processor time; quadratic reading costs 64 times."""

    def cost_s(size: int) -> float:
        data = b"1\n00:00:00,000 --> 00:00:01,000\n" + (unit * (size // len(unit))).encode()
        started = time.process_time()
        with pytest.raises(TelemetryInvalid):
            parse_srt(data, zone=KARACHI)
        return time.process_time() - started

    small_s = min(cost_s(100_000) for _ in range(3))
    assert min(cost_s(800_000) for _ in range(2)) < 24 * small_s + 0.2


def test_gimbal_angles_are_the_cameras() -> None:
    """gb_* and G.PRY give heading, pitch and roll; the airframe's F.PRY is not used."""
    new = parse(record("[gb_yaw: -162.8 gb_pitch: -30.5 gb_roll: 0.5]")).samples[0]
    assert (pytest.approx(new.heading_deg), new.pitch_deg, new.roll_deg) == (197.2, -30.5, 0.5)
    rtk = parse(record("F.PRY (1.0°, 2.0°, 3.0°), G.PRY (-27.3°, 0.0°, -76.0°)")).samples[0]
    assert (rtk.heading_deg, rtk.pitch_deg, rtk.roll_deg) == (284.0, -27.3, 0.0)
    assert parse(record("2026-01-01 00:00:00", "H 1.0m, GPS (1.5, 2.5, 9), F.PRY (1, 2, 3)")).missing == (
        "gimbal",
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("GPS(149.0251,-20.2533,16) BAROMETER:1.9", GeoPoint(-20.2533, 149.0251)),
        ("GPS (8.2090, 47.4692, 18), D 1m, H 45.60m", GeoPoint(47.4692, 8.2090)),
        (
            "GPS(39.906217,116.391305,69.800) BAROMETER(91.2) HOME(39.9,116.3)",
            GeoPoint(39.906217, 116.391305, 69.8),
        ),
        ("GPS(31.5,74.25,90.5) BAROMETER(91.2)", GeoPoint(31.5, 74.25, 90.5)),
        ("GPS(31.5,174.25,16) BAROMETER:1.9", GeoPoint(31.5, 174.25)),  # only one order is on Earth
        ("[latitude : 31.5] [longtitude : 74.25] [altitude: 213.5]", GeoPoint(31.5, 74.25, 213.5)),
        ("[latitude: 31.5] [longitude: 74.25] [rel_alt: 1.5 abs_alt: 218.5]", GeoPoint(31.5, 74.25, 218.5)),
        ("[latitude: 0.000000] [longitude: 0.000000]", None),
        ("GPS(0.0000,0.0000,0) BAROMETER:1.9", None),
        ("GPS(N/A,N/A,0) BAROMETER:1.9", None),
        ("[latitude: 95.0] [longitude: 74.25]", None),
        ("[latitude: 31.5]", None),
        ("[latitude: 31.5] [longitude: 74.2", None),  # cut: the number may lack digits
    ],
)
def test_position_by_layout(line: str, expected: GeoPoint | None) -> None:
    """Each layout's order of longitude and latitude is kept; no fix is no position."""
    assert expected == parse(record("2026-01-01 00:00:00", line).rstrip()).samples[0].point


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[rel_alt: -2.400 abs_alt: 0.401]", -2.4),
        ("BAROMETER:20.1", 20.1),
        ("BAROMETER(91.2)", 91.2),
        ("Hb:1.9 Hs:7.7", 1.9),
        ("D 49.21m, H 45.60m, H.S 0.00m/s", 45.6),
        ("[altitude: 213.98]", None),
    ],
)
def test_height_by_layout(line: str, expected: float | None) -> None:
    """Height above take-off comes from its own field, never from an altitude."""
    assert expected == parse(record("2026-01-01 00:00:00", line)).samples[0].height_agl_m


@pytest.mark.parametrize(
    ("written", "expected"),
    [("280", 28.0), ("240", 24.0), ("24.00", 24.0), ("166.00", 166.0), ("24", 24.0), ("0", None)],
)
def test_focal_length_is_unscaled(written: str, expected: float | None) -> None:
    """Whole numbers from 100 on are tenths of a millimetre, all others are millimetres."""
    telemetry = parse(record("2026-01-01 00:00:00", f"[focal_len : {written}]"))
    assert expected == telemetry.samples[0].focal_length_mm


@pytest.mark.parametrize(
    ("written", "micros"),
    [
        ("2026-03-14 21:40:00", 0),
        ("2026-03-14 21:40:00.5", 500_000),
        ("2026-03-14 21:40:00.033", 33_000),
        ("2026-03-14 21:40:00,438,904", 438_904),
        ("2026.3.14 21:40:00,438", 438_000),
        ("2026.03.14 21:40:00,393,525,393,525", 393_525),
    ],
)
def test_clock_by_layout_is_local_time_of_the_zone(written: str, micros: int) -> None:
    """Every way to write a time is read, and is local to the zone."""
    at = parse(record(written)).samples[0].at
    assert datetime(2026, 3, 14, 16, 40, 0, micros, tzinfo=UTC) == at


def test_impossible_time_is_no_time() -> None:
    """A date that does not exist leaves the record its position."""
    sample = parse(record("2026-13-40 25:61:00", "[latitude: 1.5] [longitude: 2.5]")).samples[0]
    assert (None, GeoPoint(1.5, 2.5)) == (sample.at, sample.point)


@pytest.mark.parametrize(
    ("year", "known"), [(1, False), (1999, False), (2000, True), (2100, True), (2101, False), (9999, False)]
)
def test_year_that_no_aircraft_wrote_is_no_time(year: int, known: bool) -> None:
    """A clock that was never set gives no time, and no start beyond the calendar."""
    telemetry = parse(
        "1\n00:00:09,000 --> 00:00:10,000\n" + f"{year:04}-12-31 23:59:59\n[latitude: 1.5] [longitude: 2.5]\n"
    )
    assert (telemetry.samples[0].at is not None) is known
    assert (clip_start(telemetry) is not None) is known


@pytest.mark.parametrize(
    ("first", "second", "warnings"),
    [
        ("[focal_len : 240]", "[focal_len : 240]", ()),
        ("[focal_len : 240]", "[focal_len : 244]", ()),
        ("[focal_len : 240]", "[focal_len : 250]", ("zoom_changes",)),
        ("[dzoom_ratio: 1.00],", "[dzoom_ratio: 1.00],", ()),
        ("[dzoom_ratio: 10000, delta:0]", "[dzoom_ratio: 10000, delta:0]", ()),
        ("[dzoom_ratio: 1.00]", "[dzoom_ratio: 2.00],", ("zoom_changes",)),
        ("[dzoom_ratio: 2.00]", "[dzoom_ratio: 2.00]", ("zoom_changes",)),
    ],
)
def test_zoom_is_said(first: str, second: str, warnings: tuple[str, ...]) -> None:
    """Another focal length, or any digital zoom, makes the field of view unsure."""
    clock = "2026-01-01 00:00:0"
    telemetry = parse(record(f"{clock}0", first) + record(f"{clock}1", second, number=2))
    assert telemetry.warnings == warnings


def test_real_zoom_is_said(samples: Path) -> None:
    """A real flight that zooms from 24 to 48 mm says so; one that does not, does not."""
    folder = samples / "telemetry/dji_srt"
    zoomed = parse_srt((folder / "m2zoom.SRT").read_bytes(), zone=KARACHI)
    steady = parse_srt((folder / "newer/Avata360/clip.SRT").read_bytes(), zone=KARACHI)
    assert ("zoom_changes" in zoomed.warnings, "zoom_changes" in steady.warnings) == (True, False)


def test_repeated_hour_of_a_clock_change_runs_on() -> None:
    """Where clocks go back an hour, time still runs forward by a second."""
    telemetry = parse(
        record("2025-10-26 02:59:59", number=1) + record("2025-10-26 02:00:00", number=2),
        zone=ZoneInfo("Europe/Berlin"),
    )
    first, second = (sample.at for sample in telemetry.samples)
    assert first is not None
    assert second is not None
    assert ((second - first).total_seconds(), telemetry.warnings) == (1.0, ())


def test_records_without_cues_are_timed_by_their_clock() -> None:
    """The layout without cues counts seconds from its first record."""
    telemetry = parse("1\n2017.08.05 14:11:51,393\n[iso : 1]\n\n2\n2017.08.05 14:11:53,893\n[iso : 1]\n")
    assert [sample.offset_s for sample in telemetry.samples] == [0.0, 2.5]


def test_unreadable_records_are_skipped_and_counted() -> None:
    """A record that says nothing is left out of the samples and counted."""
    telemetry = parse(record("[latitude: 1.5] [longitude: 2.5]") + record("lens cap on", number=2))
    assert (len(telemetry.samples), telemetry.skipped) == (1, 1)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_do_not_matter(end: str, mark: str) -> None:
    """Windows line ends and a leading mark change nothing."""
    text = record("2026-01-01 00:00:00", "GPS(74.25,31.5,16) BAROMETER:1.5") * 2
    assert parse(text) == parse_srt((mark + text).replace("\n", end).encode(), zone=KARACHI)


def test_records_out_of_order_are_ordered_and_said() -> None:
    """Samples come in order of time, with a warning."""
    telemetry = parse(record("[rel_alt: 2.0 ]", number=2) + record("[rel_alt: 1.0 ]", number=1))
    assert (
        [sample.height_agl_m for sample in telemetry.samples],
        telemetry.warnings,
    ) == ([1.0, 2.0], ("records_out_of_order",))


def test_clock_that_leaves_the_cues_is_said() -> None:
    """A clock set in flight, or two files joined, is a warning."""
    telemetry = parse(record("2026-01-01 00:00:00") + record("2026-01-01 00:40:00", number=2))
    assert telemetry.warnings == ("clock_jumps",)


@pytest.mark.parametrize(
    "data", [b"", b"\xef\xbb\xbf", b"\x00" * 500, bytes(range(256)) * 20, b"PK\x03\x04", b"1\n" * 9]
)
def test_no_telemetry_is_refused(data: bytes) -> None:
    """Empty files and junk are refused."""
    with pytest.raises(TelemetryInvalid):
        parse_srt(data, zone=KARACHI)


WORDS = st.sampled_from(
    [
        *("1", "\n", "\n\n", "00:00:01,000 --> 00:00:02,000\n", "[latitude: 91.5]", "[longtitude : -181]"),
        *("GPS(1.5,2.5,3)", "HOME(", "BAROMETER:", "H 1.5m", "G.PRY (1°, 2°, 3°)", "[focal_len: 240]"),
        *("2000-01-01 00:00:00", "2100-12-31 23:59:59", "999:59:59,999 --> 0", "[dzoom_ratio: 2.00]"),
        *("2026-01-01 00:00:00,1", "0001-01-01 00:00:00", "9999-12-31 23:59:59", "9" * 40, "-", "٣", "N/A"),
    ]
)


@given(
    st.one_of(
        st.binary(max_size=400), st.lists(WORDS, max_size=40).map(lambda words: "".join(words).encode())
    )
)
def test_any_bytes_give_telemetry_or_its_error(data: bytes) -> None:
    """No input escapes as another error, and what is read is in order and on Earth."""
    try:
        telemetry = parse_srt(data, zone=KARACHI)
    except TelemetryInvalid:
        return
    offsets_s = [sample.offset_s for sample in telemetry.samples]
    assert offsets_s == sorted(offsets_s)
    assert telemetry.samples
    track = PoseTrack(telemetry)
    assert all(track.at(offset_s + 0.3) is not None for offset_s in offsets_s)
    started_at = clip_start(telemetry)
    assert started_at is None or started_at.tzinfo is UTC
    try:
        doubts = fit_to_clip(
            telemetry, duration_s=offsets_s[-1], started_hint=datetime(2026, 1, 1, tzinfo=UTC)
        )
    except TelemetryInvalid:
        return
    assert set(doubts) <= {"telemetry_starts_late"}
