"""PX4's ULog: what real and written logs say, and what damaged ones do not do."""

from __future__ import annotations

import io
import math
import struct
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.telemetry.px4_ulog import Px4ULog
from ingest.telemetry.ulog import read_ulog
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import GeoPoint, Telemetry, TelemetryClock, TimeBase

UTC_ZONE = ZoneInfo("UTC")
BOOTED_AT = datetime(2026, 3, 14, 11, 40, tzinfo=UTC)
LETTERS = {"uint64_t": "Q", "int32_t": "i", "float": "f", "double": "d", "uint8_t": "B", "uint16_t": "H"}
LETTERS |= {"float[4]": "4f", "float[3]": "3f", "bool": "?"}
GPS = (
    "uint64_t timestamp;uint64_t time_utc_usec;int32_t lat;int32_t lon;int32_t alt;int32_t alt_ellipsoid;"
    "uint8_t fix_type;"
)
GLOBAL = "uint64_t timestamp;double lat;double lon;float alt;float alt_ellipsoid;"
ATTITUDE = "uint64_t timestamp;float[4] q;"
HOME = "uint64_t timestamp;double lat;double lon;float alt;"
GIMBAL = "uint64_t timestamp;float[4] q;uint16_t device_flags;"
MOUNT = "uint64_t timestamp;float[3] attitude_euler_angle;"


def ulog(*topics: tuple[str, str, Sequence[Sequence[float]]]) -> bytes:
    """Write a log: each topic is its name, its fields and its rows, in which the timestamp leads."""

    def message(kind: str, body: bytes) -> bytes:
        return struct.pack("<HB", len(body), ord(kind)) + body

    out = [b"ULog\x01\x12\x35\x01" + struct.pack("<Q", 0)]
    out += [message("F", f"{name}:{fields}".encode()) for name, fields, _ in topics]
    out += [message("A", struct.pack("<BH", 0, i) + name.encode()) for i, (name, _, _) in enumerate(topics)]
    for number, (_, fields, rows) in enumerate(topics):
        layout = "<" + "".join(LETTERS[field.split()[0]] for field in fields.split(";") if field)
        out += [message("D", struct.pack("<H", number) + struct.pack(layout, *row)) for row in rows]
    return b"".join(out)


def us(seconds: float) -> int:
    return round(seconds * 1e6)


def gps_row(
    t_s: float, *, lat_deg: float = 33.5, lon_deg: float = 71.4, fix_type: int = 3, utc_s: float | None = None
):
    clock_us = us(BOOTED_AT.timestamp() + t_s) if utc_s is None else us(utc_s)
    return (us(t_s), clock_us, round(lat_deg * 1e7), round(lon_deg * 1e7), 1_240_000, 1_200_000, fix_type)


def yawed(t_s: float, heading_deg: float) -> tuple[float, ...]:
    half = math.radians(heading_deg) / 2
    return (us(t_s), math.cos(half), 0.0, 0.0, math.sin(half))


def read(data: bytes) -> Telemetry:
    return Px4ULog().read(data, zone=UTC_ZONE)


@pytest.fixture(scope="module")
def real(samples: Path) -> bytes:
    return (samples / "telemetry/px4/sample_log_small.ulg").read_bytes()


def test_a_real_log_gives_what_its_topics_hold(real: bytes) -> None:
    """Span, rate, first and last place, clock and attitude are as pyulog prints them."""
    telemetry = read(real)
    placed = [sample for sample in telemetry.samples if sample.point]
    assert ("px4_ulog", 66, 6.501041) == (
        telemetry.format,
        len(telemetry.samples),
        telemetry.samples[-1].offset_s,
    )
    assert GeoPoint(63.4170622, 10.4082151, 66.814) == placed[0].point
    assert 106.766 == pytest.approx(placed[0].ellipsoid_height_m)
    assert 63.4170457 == pytest.approx(placed[-1].point.lat_deg, abs=2e-7)
    assert datetime(2021, 4, 21, 6, 30, 58, 463498, tzinfo=UTC) == telemetry.samples[0].at
    assert (13.9, -0.1, 1.1) == pytest.approx(
        (
            telemetry.samples[0].airframe_heading_deg,
            telemetry.samples[0].airframe_pitch_deg,
            telemetry.samples[0].airframe_roll_deg,
        ),
        abs=0.05,
    )
    assert (TimeBase.LOG, TelemetryClock.GPS) == (telemetry.time_base, telemetry.clock)
    assert telemetry.clock_uncertainty_s == pytest.approx(0.5, abs=0.05)
    assert (("gimbal",), 0) == (telemetry.missing, telemetry.skipped)
    assert ("log_dropouts", "height_from_local_origin") == telemetry.warnings


def test_a_log_is_recognised_by_its_magic(real: bytes) -> None:
    """The first bytes decide."""
    assert Px4ULog().recognises(real[:65536])
    assert not Px4ULog().recognises(real[1:65536])
    assert not Px4ULog().recognises(b"")


def test_places_without_a_fix_are_none() -> None:
    """No fix, (0, 0) and coordinates off Earth give no point; a fix does."""
    rows = [gps_row(0, fix_type=2), gps_row(4), gps_row(8, lat_deg=0, lon_deg=0), gps_row(12, lat_deg=91)]
    telemetry = read(ulog(("vehicle_gps_position", GPS, rows), ("vehicle_attitude", ATTITUDE, [yawed(0, 1)])))
    assert [(0.0, None), (4.0, GeoPoint(33.5, 71.4, 1240.0))] == [
        (s.offset_s, s.point) for s in telemetry.samples
    ]


def test_the_clock_is_the_median_of_all_fixes() -> None:
    """A first fix without leap seconds, and one damaged time, do not move the clock."""
    rows = [gps_row(t) for t in range(1, 8)]
    rows[0] = gps_row(1, utc_s=BOOTED_AT.timestamp() + 1 + 18)
    rows[4] = gps_row(5, utc_s=1e9)
    telemetry = read(ulog(("vehicle_gps_position", GPS, rows)))
    assert datetime(2026, 3, 14, 11, 40, 1, tzinfo=UTC) == telemetry.samples[0].at
    assert "clock_jumps" in telemetry.warnings


def test_a_log_without_a_fix_has_no_clock() -> None:
    """Times that no satellite gave are left out."""
    rows = [gps_row(t, fix_type=0) for t in range(3)]
    telemetry = read(
        ulog(("vehicle_gps_position", GPS, rows), ("vehicle_attitude", ATTITUDE, [yawed(0, 90)]))
    )
    assert (TelemetryClock.NONE, None, None) == (
        telemetry.clock,
        telemetry.clock_uncertainty_s,
        telemetry.samples[0].at,
    )
    assert ("time", "position", "height", "gimbal") == telemetry.missing


def test_heights_count_from_home() -> None:
    """The estimated position goes before the receiver's; its height is that above the home of the time."""
    data = ulog(
        ("vehicle_gps_position", GPS, [gps_row(t) for t in range(3)]),
        ("vehicle_global_position", GLOBAL, [(us(t), 33.6, 71.5, 1300.0, 1260.0) for t in range(3)]),
        ("home_position", HOME, [(us(0), 33.59, 71.5, 1240.0)]),
    )
    sample = read(data).samples[0]
    assert (GeoPoint(33.6, 71.5, 1300.0), 60.0, 1260.0) == (
        sample.point,
        sample.height_agl_m,
        sample.ellipsoid_height_m,
    )
    assert GeoPoint(33.59, 71.5, 1240.0) == sample.home


def test_newer_logs_name_their_fields_otherwise() -> None:
    """Since PX4 1.14 a receiver writes degrees and metres."""
    fields = (
        "uint64_t timestamp;double latitude_deg;double longitude_deg;double altitude_msl_m;uint8_t fix_type;"
    )
    telemetry = read(ulog(("sensor_gps", fields, [(us(1), 33.5, 71.4, 1240.0, 3)])))
    assert GeoPoint(33.5, 71.4, 1240.0) == telemetry.samples[0].point


@pytest.mark.parametrize(("flags", "heading_deg"), [(64, 30.0), (32, 120.0), (16, 30.0), (0, 120.0)])
def test_gimbals_count_from_north_or_from_the_nose(flags: int, heading_deg: float) -> None:
    """A gimbal's yaw counts from what its flags say; the aircraft's heading (90) is added where need be."""
    half_yaw, half_pitch = math.radians(30) / 2, math.radians(-45) / 2
    q = (
        math.cos(half_yaw) * math.cos(half_pitch),
        -math.sin(half_yaw) * math.sin(half_pitch),
        math.cos(half_yaw) * math.sin(half_pitch),
        math.sin(half_yaw) * math.cos(half_pitch),
    )
    telemetry = read(
        ulog(
            ("vehicle_attitude", ATTITUDE, [yawed(t, 90) for t in range(3)]),
            ("gimbal_device_attitude_status", GIMBAL, [(us(t), *q, flags) for t in range(3)]),
        )
    )
    sample = telemetry.samples[0]
    assert (heading_deg, -45.0, 0.0) == pytest.approx(
        (sample.heading_deg, sample.pitch_deg, sample.roll_deg), abs=1e-4
    )
    assert "gimbal" not in telemetry.missing


def test_what_a_gimbal_was_told_is_said_to_be_that() -> None:
    """Angles of a mount without feedback count, with a warning."""
    angles = (0.0, math.radians(-60), math.radians(10))
    telemetry = read(
        ulog(
            ("vehicle_attitude", ATTITUDE, [yawed(t, 355) for t in range(3)]),
            ("mount_orientation", MOUNT, [(us(t), *angles) for t in range(3)]),
        )
    )
    sample = telemetry.samples[0]
    assert (5.0, -60.0) == pytest.approx((sample.heading_deg, sample.pitch_deg), abs=1e-4)
    assert ("gimbal_angles_commanded",) == telemetry.warnings


@pytest.mark.parametrize("data", [b"", b"ULog\x01\x12\x35", ulog(), b"not a log at all" * 9])
def test_what_holds_nothing_is_refused(data: bytes) -> None:
    """Empty, cut and foreign files are refused with a way out."""
    with pytest.raises(TelemetryInvalid, match="copy it again"):
        read(data)


def test_our_reader_agrees_with_pyulog(real: bytes) -> None:
    """Every column of the topics that we take has the values that PX4's own reader gives it."""
    from pyulog import ULog

    wanted = ("vehicle_gps_position", "vehicle_attitude", "vehicle_local_position")
    log = read_ulog(real, wanted)
    assert (0, 1) == (log.damaged, log.dropouts)
    for topic in ULog(io.BytesIO(real), list(wanted)).data_list:
        assert topic.data.keys() == log.topics[topic.name].keys()
        for name, column in topic.data.items():
            np.testing.assert_array_equal(column, log.topics[topic.name][name])


def test_damage_costs_the_messages_it_lies_in(real: bytes) -> None:
    """A hole leaves what was logged before and after it."""
    whole, damaged = read(real), read(real[:300_000] + bytes(3000) + real[303_000:])
    assert len(whole.samples) == len(damaged.samples)
    assert 1 <= damaged.skipped <= 3


@pytest.mark.parametrize(
    "bomb", [b"x[65535] a", b"vehicle_attitude a", b"float[65535] a;float[65535] b", b""]
)
def test_descriptions_that_explode_are_not_followed(bomb: bytes) -> None:
    """Nested, circular, huge and empty descriptions cost nothing."""
    nested = [b"x:y[65535] a;", b"y:z[65535] a;", b"z:"]
    formats = [b"vehicle_attitude:uint64_t timestamp;" + bomb + b";", *nested]
    body = b"".join(struct.pack("<HB", len(text), ord("F")) + text for text in formats)
    subscribed = struct.pack("<HBBH", 19, ord("A"), 0, 0) + b"vehicle_attitude"
    with pytest.raises(TelemetryInvalid, match="copy it again"):
        read(
            b"ULog\x01\x12\x35\x01"
            + bytes(8)
            + body
            + subscribed
            + struct.pack("<HBH", 10, ord("D"), 0)
            + bytes(8)
        )


@pytest.mark.parametrize("unit", [b"\x00", b"D", b"\x00\x00D", b"\xff\xffD", b"\x05\x00A\x00"])
def test_reading_is_linear_in_hostile_bytes(unit: bytes) -> None:
    """Eight times the bytes cost some eight times the processor time; quadratic reading costs 64 times."""

    def cost_s(size: int) -> float:
        data = ulog() + unit * (size // len(unit))
        started = time.process_time()
        with pytest.raises(TelemetryInvalid):
            read(data)
        return time.process_time() - started

    small_s = min(cost_s(100_000) for _ in range(3))
    assert min(cost_s(800_000) for _ in range(2)) < 24 * small_s + 0.2


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damage_costs_records_and_raises_nothing_else(real: bytes, data: st.DataObject) -> None:
    """Cuts and flipped bytes give telemetry or TelemetryInvalid."""
    cut = data.draw(st.integers(0, len(real)))
    flips = data.draw(st.lists(st.tuples(st.integers(0, len(real) - 1), st.integers(1, 255)), max_size=20))
    damaged = bytearray(real)
    for place, value in flips:
        damaged[place] ^= value
    try:
        telemetry = read(bytes(damaged[:cut]))
    except TelemetryInvalid:
        return
    assert telemetry.samples


def test_numbers_that_are_none_are_left_out() -> None:
    """Signalling NaN, infinities and floats whose square is one cost their row only."""
    rows = [yawed(t, 90) for t in range(6)]
    data = ulog(("vehicle_attitude", ATTITUDE, rows))
    for number, bad in enumerate((b"\x01\x00\xa0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\x7f\x7f")):
        first = data.index(struct.pack("<Q", us(number)) + struct.pack("<f", rows[number][1]))
        data = data[: first + 8] + bad + data[first + 12 :]
    telemetry = read(data)
    assert [3, 4, 5] == [round(sample.offset_s + 3) for sample in telemetry.samples]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_else(tail: bytes) -> None:
    """Whatever follows the magic bytes is telemetry or TelemetryInvalid."""
    with pytest.raises(TelemetryInvalid):
        read(b"ULog\x01\x12\x35\x01" + bytes(8) + tail)
