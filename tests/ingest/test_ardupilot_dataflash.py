"""ArduPilot's DataFlash logs, binary and text: what they say, and what damaged ones do not do."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.telemetry.ardupilot_dataflash import ArduPilotDataFlash, _tables
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import GeoPoint, Telemetry, TelemetryClock, TimeBase

UTC_ZONE = ZoneInfo("UTC")
STRUCTS = {
    "Q": "Q",
    "B": "B",
    "I": "I",
    "H": "H",
    "c": "h",
    "L": "i",
    "e": "i",
    "f": "f",
    "n": "4s",
    "N": "16s",
    "Z": "64s",
}
GPS = ("GPS", "QBIHLLe", "TimeUS,Status,GMS,GWk,Lat,Lng,Alt")
POS = ("POS", "QLLff", "TimeUS,Lat,Lng,Alt,RelHomeAlt")
ATT = ("ATT", "Qccc", "TimeUS,Roll,Pitch,Yaw")
MNT = ("MNT", "QBffff", "TimeUS,I,Roll,Pitch,YawB,YawE")
ORGN = ("ORGN", "QBLLe", "TimeUS,Type,Lat,Lng,Alt")
WEEK, WEEK_STARTED_AT = 2410, datetime(2026, 3, 15, tzinfo=UTC) - timedelta(seconds=18)
Kind = tuple[str, str, str]


def dataflash(*tables: tuple[Kind, Sequence[Sequence[float]]]) -> bytes:
    """Write a log as ArduPilot does: FMT first, which describes itself, then each table's rows."""

    def message(number: int, layout: str, *values: object) -> bytes:
        return (
            b"\xa3\x95"
            + bytes([number])
            + struct.pack("<" + "".join(map(STRUCTS.__getitem__, layout)), *values)
        )

    def described(number: int, kind: Kind) -> bytes:
        name, layout, columns = kind
        length = 3 + struct.calcsize("<" + "".join(map(STRUCTS.__getitem__, layout)))
        return message(128, "BBnNZ", number, length, name.encode(), layout.encode(), columns.encode())

    out = [described(128, ("FMT", "BBnNZ", "Type,Length,Name,Format,Columns"))]
    out += [described(200 + i, kind) for i, (kind, _) in enumerate(tables)]
    for i, ((_, layout, _), rows) in enumerate(tables):
        out += [message(200 + i, layout, *row) for row in rows]
    return b"".join(out)


def gps_row(t_s: float, *, status: int = 3, lat: int = 335_000_000) -> tuple[int, ...]:
    """Return a fix; the aircraft started as the week did."""
    return (round(t_s * 1e6), status, round(t_s * 1e3), WEEK, lat, 714_000_000, 124_000)


def read(data: bytes) -> Telemetry:
    return ArduPilotDataFlash().read(data, zone=UTC_ZONE)


@pytest.fixture(scope="module")
def real_path(samples: Path) -> Path:
    return samples / "telemetry/ardupilot/test.BIN"


def test_a_real_log_gives_what_its_messages_hold(real_path: Path) -> None:
    """Span, places, heights, clock and attitude of the first 64 KiB of a plane's log."""
    telemetry = read(real_path.read_bytes())
    first = telemetry.samples[0]
    assert ("ardupilot_dataflash", 10, 0.934295) == (
        telemetry.format,
        len(telemetry.samples),
        telemetry.samples[-1].offset_s,
    )
    assert (-35.3626298, 149.1653055, 584.38) == pytest.approx(
        (first.point.lat_deg, first.point.lon_deg, first.point.alt_m), abs=1e-5
    )
    assert GeoPoint(-35.3626299, 149.1653109, 584.64) == first.home
    assert -0.255 == pytest.approx(first.height_agl_m, abs=1e-3)
    assert (337.1, 2.58, -7.18) == pytest.approx(
        (first.airframe_heading_deg, first.airframe_pitch_deg, first.airframe_roll_deg)
    )
    assert datetime(2017, 10, 29, 1, 47, 9, 945700, tzinfo=UTC) == first.at
    assert (TimeBase.LOG, TelemetryClock.GPS, ("gimbal",)) == (
        telemetry.time_base,
        telemetry.clock,
        telemetry.missing,
    )


def test_our_reader_agrees_with_pymavlinks(real_path: Path) -> None:
    """Every field of every message that we take has the value that ArduPilot's own reader gives it."""
    from pymavlink import DFReader

    log = DFReader.DFReader_binary(str(real_path))
    expected: dict[str, list[list[float]]] = {}
    while (message := log.recv_match(type=["GPS", "POS", "ATT", "ORGN"])) is not None:
        expected.setdefault(message.get_type(), []).append(
            [getattr(message, name) for name in message._fieldnames]
        )
    log.data_map.close()
    log.filehandle.close()
    tables, damaged = _tables(real_path.read_bytes())
    assert 0 == damaged
    assert {"GPS": 5, "POS": 23, "ATT": 24, "ORGN": 2} == {name: len(rows) for name, rows in expected.items()}
    for name, rows in expected.items():
        np.testing.assert_allclose(np.column_stack(list(tables[name].values())), rows, rtol=1e-12)


def test_a_log_is_recognised_by_its_own_description(real_path: Path) -> None:
    """The message that describes itself decides, also after some garbage; text has it too."""
    head = real_path.read_bytes()[:65536]
    source = ArduPilotDataFlash()
    assert source.recognises(head)
    assert source.recognises(bytes(100) + head)
    assert source.recognises(b"FMT, 128, 89, FMT, BBnNZ, Type,Length,Name,Format,Columns\n")
    assert not source.recognises(head[89:])
    assert not source.recognises(b"")


def test_gps_time_becomes_utc() -> None:
    """Week and milliseconds give UTC, 18 leap seconds behind GPS time."""
    telemetry = read(dataflash((GPS, [gps_row(t) for t in (100, 101, 102)])))
    assert WEEK_STARTED_AT + timedelta(seconds=100) == telemetry.samples[0].at
    assert 0.5 == telemetry.clock_uncertainty_s


def test_places_need_a_fix() -> None:
    """Estimates without a receiver's fix, and (0, 0), are no places."""
    fixes = [gps_row(0, status=1), gps_row(10), gps_row(20)]
    estimates = [
        (t * 1_000_000, 335_000_000 if t < 20 else 0, 0 if t >= 20 else 714_000_000, 1300.0, 60.0)
        for t in (0, 10, 20)
    ]
    telemetry = read(dataflash((GPS, fixes), (POS, estimates)))
    assert [None, GeoPoint(33.5, 71.4, 1300.0), None] == [sample.point for sample in telemetry.samples]


@pytest.mark.parametrize(
    ("yaw_body", "yaw_earth", "heading_deg"), [(20.0, 110.0, 110.0), (20.0, float("nan"), 100.0)]
)
def test_a_gimbals_angles_are_the_cameras(yaw_body: float, yaw_earth: float, heading_deg: float) -> None:
    """Yaw against north is taken as it is, yaw against the nose with the aircraft's heading (80)."""
    times = [t * 100_000 for t in range(5)]
    telemetry = read(
        dataflash(
            (ATT, [(t, 500, -300, 8000) for t in times]),
            (MNT, [(t, 0, 1.0, -45.0, yaw_body, yaw_earth) for t in times]),
        )
    )
    sample = telemetry.samples[0]
    assert (heading_deg, -45.0, 1.0) == pytest.approx((sample.heading_deg, sample.pitch_deg, sample.roll_deg))


def test_heights_without_their_own_field_count_from_home() -> None:
    """Older logs write altitudes and the home."""
    telemetry = read(
        dataflash((GPS, [gps_row(t) for t in range(3)]), (ORGN, [(0, 1, 335_000_000, 714_000_000, 118_000)]))
    )
    assert 60.0 == pytest.approx(telemetry.samples[0].height_agl_m)
    assert GeoPoint(33.5, 71.4, 1180.0) == telemetry.samples[0].home


def test_text_says_the_same_as_binary() -> None:
    """The text that tools make of a log gives the same samples."""
    rows = [gps_row(t) for t in range(1, 5)]
    turns = [(t * 1_000_000, 500, -300, 30_000) for t in range(1, 5)]
    text = "FMT, 128, 89, FMT, BBnNZ, Type,Length,Name,Format,Columns\n"
    text += "".join(
        f"FMT, {i}, 50, {name}, {layout}, {columns}\n" for i, (name, layout, columns) in enumerate((GPS, ATT))
    )
    for t_us, status, ms, week, lat, lon, alt in rows:
        text += f"GPS, {t_us}, {status}, {ms}, {week}, {lat / 1e7}, {lon / 1e7}, {alt / 100}\r\n"
        text += "MSG, 1, hello, there\n"
    text += "".join(f"ATT, {t}, {r / 100}, {p / 100}, {y / 100}\n" for t, r, p, y in turns)
    text += "ATT, 5000000, 1.0, nonsense, 3.0\nATT, 6000000, 1.0\n"
    from_text, from_binary = read(text.encode()), read(dataflash((GPS, rows), (ATT, turns)))
    assert from_binary.samples == from_text.samples
    assert (2, 0) == (from_text.skipped, from_binary.skipped)


def test_damage_costs_the_messages_it_lies_in() -> None:
    """A hole in the middle leaves all messages before and after it."""
    data = dataflash((ATT, [(t * 100_000, 500, -300, 8000) for t in range(1000)]))
    hole = len(data) // 2
    telemetry = read(data[:hole] + bytes(40) + data[hole + 40 :])
    assert 996 <= len(telemetry.samples) <= 998
    assert telemetry.skipped >= 1


@pytest.mark.parametrize(
    "kind",
    [
        ("ATT", "Qccc", "TimeUS,,Roll,Yaw"),
        ("ATT", "Qccc", "a,a,a,a"),
        ("ATT", "Qcc", "TimeUS"),
        ("ATT", "", ""),
    ],
)
def test_descriptions_that_make_no_sense_are_left_out(kind: Kind) -> None:
    """Fields without a name, of one name, and of another number than described are no table."""
    with pytest.raises(TelemetryInvalid, match="copy it again"):
        read(dataflash((kind, [range(len(kind[1]))] * 3)))


def test_reading_is_linear_in_hostile_bytes() -> None:
    """Eight times as many headers that lead nowhere cost some eight times the time."""
    head = dataflash((ATT, []))

    def cost_s(size: int) -> float:
        data = head + b"\xa3\x95\xc8" * (size // 3)
        started = time.process_time()
        with pytest.raises(TelemetryInvalid):
            read(data)
        return time.process_time() - started

    small_s = min(cost_s(500_000) for _ in range(3))
    assert min(cost_s(4_000_000) for _ in range(2)) < 24 * small_s + 0.2


@pytest.mark.parametrize(
    "data", [b"", dataflash(), b"\xa3\x95\x80" * 100, b"FMT, 128, 89, FMT, BBnNZ, x\nGPS, 1, 2\n"]
)
def test_what_holds_nothing_is_refused(data: bytes) -> None:
    """Empty, cut and foreign files are refused with a way out."""
    with pytest.raises(TelemetryInvalid, match="copy it again"):
        read(data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_raises_nothing_else(real_path: Path, data: st.DataObject) -> None:
    """Cuts and flipped bytes give telemetry or TelemetryInvalid."""
    damaged = bytearray(real_path.read_bytes())
    size = len(damaged)
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, size - 1), st.integers(1, 255)), max_size=30)
    ):
        damaged[place] ^= value
    try:
        telemetry = read(bytes(damaged[: data.draw(st.integers(0, size))]))
    except TelemetryInvalid:
        return
    assert telemetry.samples


ROWS = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), *[st.integers(-(2**15), 2**15 - 1)] * 3), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.binary(max_size=200))
def test_any_numbers_in_whole_messages_are_borne(rows: list[tuple[int, ...]], tail: bytes) -> None:
    """Times and angles out of all bounds give telemetry in order, or TelemetryInvalid."""
    try:
        telemetry = read(dataflash((ATT, rows)) + tail)
    except TelemetryInvalid:
        return
    offsets_s = [sample.offset_s for sample in telemetry.samples]
    assert sorted(offsets_s) == offsets_s
