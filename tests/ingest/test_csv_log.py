"""CSV flight logs: the columns of each program, units, times, and damage."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.telemetry.csv_log import CsvLog
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import GeoPoint, Telemetry, TelemetryClock, TelemetrySample, TimeBase

KARACHI = ZoneInfo("Asia/Karachi")
START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
AIRDATA = (
    "time(millisecond),datetime(utc),latitude,longitude,height_above_takeoff(feet),"
    "height_above_ground_at_drone_location(feet),altitude_above_seaLevel(feet),height_sonar(feet),speed(mph),"
    "ascent(feet), compass_heading(degrees), pitch(degrees), roll(degrees),isPhoto,isVideo,"
    "gimbal_heading(degrees),gimbal_pitch(degrees),gimbal_roll(degrees),flycState,message\n"
    '1500,2026-03-14 16:40:00,33.5,71.5,100,90,1000,0,5,100,350.5,-4,2,0,1,-10,-30.5,0.5,P-GPS,"Low, slow"\n'
    "1700,2026-03-14 16:40:00,33.6,71.5,110,90,1010,0,5,110,350.5,-4,2,0,1,-10,-30.5,0.5,P-GPS,\n"
)
DJI = (
    "sep=,\n"
    "CUSTOM.date [local],CUSTOM.updateTime [local],OSD.flyTime,OSD.flyTime [s],OSD.latitude,OSD.longitude,"
    "OSD.height [ft],OSD.altitude [ft],OSD.pitch,OSD.roll,OSD.yaw,OSD.yaw [360],GIMBAL.pitch,GIMBAL.roll,"
    "GIMBAL.yaw,GIMBAL.yaw [360],HOME.latitude,HOME.longitude\n"
    "3/14/2026,9:40:00.50 PM,0m 0.1s,0.1,33.5,71.5,100,1000,-4,2,-9.5,350.5,-30.5,0.5,-10,350,33.4,71.4\n"
    "3/14/2026,9:40:00.60 PM,0m 0.2s,0.2,33.6,71.5,110,1010,-4,2,-9.5,350.5,-30.5,0.5,-10,350,33.4,71.4\n"
)
LITCHI = (
    "latitude,longitude,altitude(m),ascent(m),speed(m/s),distance(m),time(millisecond),datetime(utc),"
    "datetime(local),satellites,home_latitude,home_longitude,pitch(deg),roll(deg),yaw(deg),gimbalHeading,"
    "gimbalPitchRaw,gimbalRollRaw,gimbalYawRaw,isVideo\n"
    "33.5,71.5,30.48,30.48,1,1,100,2026-03-14 16:40:00.500,2026-03-14 21:40:00.500,15,33.4,71.4,-4,2,-9.5,"
    "-10,-305,5,-100,1\n"
    "33.6,71.5,33.528,33.5,1,1,300,2026-03-14 16:40:00.700,2026-03-14 21:40:00.700,15,33.4,71.4,-4,2,-9.5,"
    "-10,-305,5,-100,1\n"
)


def read(text: str | bytes) -> Telemetry:
    """Read a file given as text or bytes."""
    return CsvLog().read(text.encode() if isinstance(text, str) else text, zone=KARACHI)


def row(columns: str, values: str) -> TelemetrySample:
    """Return the sample of one row with a place and the given columns."""
    return read(f"latitude,longitude,{columns}\n33.5,71.5,{values}\n").samples[0]


def test_real_track_gives_what_a_person_reads_in_it(samples: Path) -> None:
    """A survey aircraft's shots: a count of seconds and places, no clock."""
    data = (samples / "telemetry/tracks/dji_phantom4rtk.csv").read_bytes()
    telemetry = read(data)
    first, last = telemetry.samples[0], telemetry.samples[-1]
    assert CsvLog().recognises(data[:65_536])
    assert (92, 0) == (len(telemetry.samples), telemetry.skipped)
    assert (0.0, GeoPoint(-44.69009395, 170.42456545)) == (first.offset_s, first.point)
    assert (pytest.approx(9.7), GeoPoint(-44.69008766, 170.4245683)) == (last.offset_s, last.point)
    assert (("time", "height", "gimbal"), ()) == (telemetry.missing, telemetry.warnings)
    assert (TimeBase.LOG, TelemetryClock.NONE) == (telemetry.time_base, telemetry.clock)


@pytest.mark.parametrize(
    ("text", "clock", "at", "alt_m", "home"),
    [
        (AIRDATA, TelemetryClock.UTC, START, 304.8, None),
        (DJI, TelemetryClock.LOCAL, START.replace(microsecond=500_000), 304.8, GeoPoint(33.4, 71.4)),
        (LITCHI, TelemetryClock.UTC, START.replace(microsecond=500_000), None, GeoPoint(33.4, 71.4)),
    ],
    ids=["airdata", "dji", "litchi"],
)
def test_each_programs_columns_give_the_same_flight(
    text: str, clock: TelemetryClock, at: datetime, alt_m: float | None, home: GeoPoint | None
) -> None:
    """Feet and metres, tenths and degrees, local time and UTC: one and the same pose in our units."""
    telemetry = read(text)
    first, second = telemetry.samples
    assert CsvLog().recognises(text.encode())
    assert (clock, at, home) == (telemetry.clock, first.at, first.home)
    assert GeoPoint(33.5, 71.5, None if alt_m is None else pytest.approx(alt_m)) == first.point
    assert (pytest.approx(30.48), pytest.approx(33.528)) == (first.height_agl_m, second.height_agl_m)
    assert (350.0, -30.5, 0.5) == (first.heading_deg, first.pitch_deg, first.roll_deg)
    assert (350.5, -4.0, 2.0) == (
        first.airframe_heading_deg,
        first.airframe_pitch_deg,
        first.airframe_roll_deg,
    )
    assert ((), (), 0) == (telemetry.missing, telemetry.warnings, telemetry.skipped)
    assert pytest.approx(0.2 if text is not DJI else 0.1) == second.offset_s


@pytest.mark.parametrize(
    ("columns", "values", "alt_m", "height_m"),
    [
        ("altitude", "100", 100.0, None),
        ("Altitude (ft)", "100", 30.48, None),
        ("ALTITUDE[Meters]", "100", 100.0, None),
        ("altitude(feet),ascent(feet)", "100,90", None, 30.48),
        ("rel_alt,abs_alt", "5.5,105.5", 105.5, 5.5),
        ("height_above_takeoff(feet),altitude(m)", "100,7", 7.0, 30.48),
        ("altitude", "n/a", None, None),
    ],
)
def test_heights_are_metres_from_where_they_count(
    columns: str, values: str, alt_m: float | None, height_m: float | None
) -> None:
    """The unit is in the name; a bare altitude is above the sea, but above take-off where Litchi wrote it."""
    sample = row(columns, values)
    assert sample.point is not None
    assert (alt_m and pytest.approx(alt_m), height_m and pytest.approx(height_m)) == (
        sample.point.alt_m,
        sample.height_agl_m,
    )


def test_height_in_a_unit_we_do_not_know_is_left_out_and_said() -> None:
    """Furlongs are never taken for metres."""
    telemetry = read("latitude,longitude,altitude(furlong)\n33.5,71.5,3\n")
    assert (GeoPoint(33.5, 71.5), ("unit_unknown", "no_time_line")) == (
        telemetry.samples[0].point,
        telemetry.warnings,
    )


@pytest.mark.parametrize(
    ("columns", "values", "at"),
    [
        ("datetime(utc)", "2026-03-14 16:40:00", START),
        ("datetime(local)", "2026-03-14 21:40:00", START),
        ("datetime(local),datetime(utc)", "1999-01-01 00:00:00,2026-03-14 16:40:00", START),
        ("CUSTOM.updateTime", "2026/03/14 21:40:00.250", START.replace(microsecond=250_000)),
        ("gps_time", "2026-03-14T16:40:00Z", START),
        ("timestamp", "1773506400", START),
        ("timestamp", "1773506400000", START),
        ("timestamp", "1773506400000000", START),
        ("date,time", "14.3.2026,21:40:00", START),
        ("date,time", "2026-03-14,9:40 pm", START),
        ("datetime(local)", "3/14/2026 9:40:00 PM", START),
        ("datetime(local)", "14/3/2026 21:40:00", START),
        ("datetime(utc)", "12/31/1979 23:59:59", None),
        ("datetime(utc)", "2026-13-45 99:99:99", None),
        ("time", "21:40:00", None),
    ],
)
def test_time_is_read_as_programs_write_it(columns: str, values: str, at: datetime | None) -> None:
    """Every way to write a time is read; one without a date, unset or impossible is none."""
    assert at == row(columns, values).at


@pytest.mark.parametrize(
    ("day", "at", "warnings"),
    [
        ("3/4/2026", datetime(2026, 3, 4, 12, tzinfo=UTC), ("date_order_assumed",)),
        ("3/3/2026", datetime(2026, 3, 3, 12, tzinfo=UTC), ()),
        ("25/4/2026", datetime(2026, 4, 25, 12, tzinfo=UTC), ()),
    ],
)
def test_date_that_could_be_two_says_so(day: str, at: datetime, warnings: tuple[str, ...]) -> None:
    """Aircraft programs put the month first; where the day could be it, a person is told."""
    telemetry = read(f"lat,lon,datetime(utc)\n33.5,71.5,{day} 12:00:00\n")
    assert (at, warnings) == (telemetry.samples[0].at, telemetry.warnings)


def test_repeated_hour_of_a_clock_change_runs_on() -> None:
    """Where clocks go back an hour, time still runs forward by a second."""
    data = b"lat,lon,datetime(local)\n1,1,2025-10-26 02:59:59\n1,1,2025-10-26 02:00:00\n"
    telemetry = CsvLog().read(data, zone=ZoneInfo("Europe/Berlin"))
    assert ([0.0, 1.0], ()) == ([sample.offset_s for sample in telemetry.samples], telemetry.warnings)


@pytest.mark.parametrize(
    "data",
    [
        b'"Latitude";"Longitude";"Altitude(m)"\r\n"33,5";"71,5";"60,25"\r\n',
        b"latitude\tlongitude\taltitude\n33.5\t71.5\t60.25\n",
        "sep=;\nlatitude;longitude;altitude\n33,5;71,5;60,25".encode("utf-16"),
        "latitude,longitude,altitude\n33.5,71.5,60.25".encode("utf-16-le"),
        "latitude,longitude,altitude\n33.5,71.5,60.25".encode("utf-8-sig"),
        "Flug über dem Posten\n\nlatitude(°),longitude(°),altitude\n33.5,71.5,60.25".encode("latin-1"),
    ],
    ids=["semicolon", "tab", "utf-16", "utf-16 unmarked", "utf-8 marked", "latin-1 with title"],
)
def test_way_of_writing_does_not_matter(data: bytes) -> None:
    """Delimiter, decimal sign, quotes, encoding, line ends and a title above change nothing."""
    assert CsvLog().recognises(data)
    assert [GeoPoint(33.5, 71.5, 60.25)] == [sample.point for sample in read(data).samples]


@pytest.mark.parametrize("bad", ["", "1", '"', "x,y,z", ",,2026-03-14 16:40:07,,,", "\x00"])
def test_bad_row_spoils_no_other(bad: str) -> None:
    """Short, quoted and foreign rows leave those behind them as they are."""
    good = [f"33.5,71.5,2026-03-14 16:40:0{second}" for second in range(3)]
    telemetry = read("\n".join(("lat,lon,datetime(utc)", good[0], bad, *good[1:])))
    times = [sample.at for sample in telemetry.samples if sample.point]
    assert [START.replace(second=second) for second in range(3)] == times
    assert len(telemetry.samples) + telemetry.skipped == 3 + bool(bad.strip())


def test_no_fix_is_no_place_but_its_time_stays() -> None:
    """Rows before the first fix have no position."""
    telemetry = read("lat,lon,datetime(utc)\n0,0,2026-03-14 16:40:00\n33.5,71.5,2026-03-14 16:40:01\n")
    assert [None, GeoPoint(33.5, 71.5)] == [sample.point for sample in telemetry.samples]


def test_count_that_starts_again_gives_way_to_the_clock() -> None:
    """Two flights in one file lie apart as their clock says, not on top of each other."""
    telemetry = read(
        "time(ms),datetime(utc),lat,lon\n"
        + "".join(f"{s}000,2026-03-14 16:{m}:0{s},33.5,71.5\n" for m in (40, 50) for s in range(2))
    )
    assert [0.0, 1.0, 600.0, 601.0] == [sample.offset_s for sample in telemetry.samples]


def test_clock_that_leaves_the_count_is_said() -> None:
    """A clock that was set in flight is a warning."""
    telemetry = read("time(s),datetime(utc),lat,lon\n0,2026-03-14 16:40:00,1,1\n1,2026-03-14 17:40:00,1,1\n")
    assert ([0.0, 1.0], ("clock_jumps",)) == (
        [sample.offset_s for sample in telemetry.samples],
        telemetry.warnings,
    )


def test_table_without_times_keeps_its_places_and_says_so() -> None:
    """Positions alone can be looked at but lie on no time line."""
    telemetry = read("lat,lon\n33.5,71.5\n33.6,71.5\n")
    assert ([0.0, 0.0], ("no_time_line",)) == (
        [sample.offset_s for sample in telemetry.samples],
        telemetry.warnings,
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no header that names latitude and longitude"),
        (b"a,b,c\n1,2,3\n", "no header"),
        (b"\n" * 30 + b"lat,lon\n1,1\n", "within its first 20 lines"),
        (b"lat,lon\n", "no readable record"),
        (b"lat,lon\n0,0\n91,0\nx,y\n", r"no readable record \(3 tried\)"),
        (bytes(range(256)) * 9, "no header"),
    ],
)
def test_table_without_a_flight_is_refused(data: bytes, reason: str) -> None:
    """No header and no readable row have a reason."""
    with pytest.raises(TelemetryInvalid, match=reason):
        read(data)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"1\n00:00:00,000 --> 00:00:01,000\n[latitude: 1.5] [longitude: 2.5]\n",
        b'<gpx><trkpt lat="1" lon="1"/></gpx>',
        b'{"latitude": 1, "longitude": 2}',
        b"sensor_id,at,value\n",
    ],
)
def test_other_files_are_not_taken_for_a_flight(head: bytes) -> None:
    """Subtitles, XML, JSON and sensor tables are not recognised."""
    assert not CsvLog().recognises(head)


@pytest.mark.parametrize("unit", ['"', ",", "1,1,\n", "\n", "\r", "9", "1,1,12:12:12 ", "sep=,"])
def test_reading_is_linear_in_hostile_text(unit: str) -> None:
    """Eight times the text costs some eight times the processor time."""

    def cost_s(size: int) -> float:
        data = b"lat,lon,datetime\n1,1,\n" + unit.encode() * (size // len(unit))
        started = time.process_time()
        read(data)
        return time.process_time() - started

    small_s = min(cost_s(20_000) for _ in range(3))
    assert min(cost_s(160_000) for _ in range(2)) < 24 * small_s + 0.2


WORDS = st.sampled_from(
    [
        *("lat,lon", "latitude;longitude", "\n", ",", ";", '"', "33.5,71.5", "0,0", "1e999", "nan", "-181"),
        *("datetime(utc)", "2026-03-14 16:40:00", "time(millisecond)", "9" * 40, "0001-01-01 00:00:00"),
        *("9999-12-31 23:59:59", "99/99/9999 99:99:99", "1773506400", "٣", "altitude(feet)", "sep=;", "\x00"),
    ]
)


@given(
    st.binary(max_size=300)
    | st.lists(WORDS, max_size=40).map(lambda words: "".join(words).encode())
    | st.lists(WORDS, max_size=40).map(
        lambda words: ("lat,lon,datetime,date,time(s),altitude\n" + ",".join(words)).encode()
    )
    | st.integers(0, len(AIRDATA)).map(lambda end: AIRDATA[:end].encode())
    | st.tuples(st.integers(0, len(DJI) - 1), st.integers(1, 255)).map(
        lambda flip: (
            DJI.encode()[: flip[0]] + bytes([DJI.encode()[flip[0]] ^ flip[1]]) + DJI.encode()[flip[0] + 1 :]
        )
    )
)
def test_any_bytes_give_a_flight_or_its_error(data: bytes) -> None:
    """No input escapes as another error, and what is read is in order."""
    CsvLog().recognises(data)
    try:
        telemetry = read(data)
    except TelemetryInvalid:
        return
    offsets_s = [sample.offset_s for sample in telemetry.samples]
    assert offsets_s == sorted(offsets_s)
    assert offsets_s[0] == 0.0
