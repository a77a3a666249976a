"""Ground stations' tlogs, written by pymavlink's own encoder: both versions, several senders, damage."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymavlink.dialects.v20 import ardupilotmega as mavlink

from ingest.telemetry.mavlink_frames import LAYOUTS
from ingest.telemetry.mavlink_tlog import MavlinkTlog
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import GeoPoint, Telemetry, TelemetryClock, TimeBase

UTC_ZONE = ZoneInfo("UTC")
HEARD_AT = datetime(2026, 3, 14, 11, 40, tzinfo=UTC)
Said = tuple[float, mavlink.MAVLink_message]


def tlog(
    said: Iterable[Said], *, version: int = 2, system: int = 1, component: int = 1, since: datetime = HEARD_AT
) -> bytes:
    """Write messages that a ground station hears at some seconds from ``since``."""
    link = mavlink.MAVLink(None, srcSystem=system, srcComponent=component)
    start_us = (since - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return b"".join(
        struct.pack(">Q", start_us + round(t_s * 1e6)) + message.pack(link, force_mavlink1=version == 1)
        for t_s, message in said
    )


def position(t_s: float, *, lat_deg: float = 33.5) -> Said:
    ms = round(t_s * 1000)
    return t_s, mavlink.MAVLink_global_position_int_message(
        ms, round(lat_deg * 1e7), 714_000_000, 1_300_000, 60_000, 0, 0, 0, 0
    )


def attitude(t_s: float, *, heading_deg: float = 80.0) -> Said:
    yaw = math.radians((heading_deg + 180) % 360 - 180)
    return t_s, mavlink.MAVLink_attitude_message(round(t_s * 1000), 0.1, -0.05, yaw, 0, 0, 0)


def gps(t_s: float, *, fix_type: int = 3, lat: int = 335_000_000) -> Said:
    message = mavlink.MAVLink_gps_raw_int_message(
        0, fix_type, lat, 714_000_000, 1_290_000, 100, 100, 0, 0, 12, alt_ellipsoid=1_250_000
    )
    return t_s, message


def flight(seconds: int = 10) -> list[Said]:
    return [each for t in range(seconds) for each in (position(t), attitude(t), gps(t))]


def read(data: bytes) -> Telemetry:
    return MavlinkTlog().read(data, zone=UTC_ZONE)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_our_layouts_are_mavlinks(kind: int) -> None:
    """Seed, length and the place of each field are those of the official definitions."""
    official, ours = mavlink.mavlink_map[kind], LAYOUTS[kind]
    assert (official.crc_extra, official.unpacker.size) == (ours.crc_extra, ours.fields.itemsize)
    values = list(range(1, 1 + len(official.unpacker.unpack(bytes(ours.fields.itemsize)))))
    row = np.frombuffer(official.unpacker.pack(*values), dtype=ours.fields)
    assert values == [value for name in ours.fields.names for value in row[name].ravel().tolist()]


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_say_the_same(version: int) -> None:
    """Places, heights, attitude and time come through MAVLink 1 and 2."""
    data = tlog(flight(), version=version)
    telemetry = read(data)
    sample = telemetry.samples[3]
    assert MavlinkTlog().recognises(data[:65536])
    assert ("mavlink_tlog", TimeBase.LOG, 10, 0) == (
        telemetry.format,
        telemetry.time_base,
        len(telemetry.samples),
        telemetry.skipped,
    )
    assert (GeoPoint(33.5, 71.4, 1300.0), 60.0) == (sample.point, sample.height_agl_m)
    assert (80.0, math.degrees(-0.05), math.degrees(0.1)) == pytest.approx(
        (sample.airframe_heading_deg, sample.airframe_pitch_deg, sample.airframe_roll_deg), abs=1e-4
    )
    assert (3.0, HEARD_AT + timedelta(seconds=3)) == (sample.offset_s, sample.at)
    assert (TelemetryClock.UTC, 1.0, ("gimbal",)) == (
        telemetry.clock,
        telemetry.clock_uncertainty_s,
        telemetry.missing,
    )


def test_height_above_the_ellipsoid_is_kept_apart() -> None:
    """The receiver's height above the ellipsoid is never the altitude."""
    sample = read(tlog(flight())).samples[0]
    assert (1300.0, 1250.0) == (sample.point.alt_m, sample.ellipsoid_height_m)


def test_the_aircrafts_time_goes_before_the_stations() -> None:
    """With a fix, SYSTEM_TIME gives UTC whatever the station's clock says, even 1970."""
    true_us = round(HEARD_AT.timestamp() * 1e6)
    times = [(t, mavlink.MAVLink_system_time_message(true_us + t * 1_000_000, t * 1000)) for t in range(10)]
    telemetry = read(tlog([*flight(), *times], since=datetime(1970, 1, 1, 1, tzinfo=UTC)))
    assert (TelemetryClock.GPS, HEARD_AT) == (telemetry.clock, telemetry.samples[0].at)


def test_a_station_without_a_clock_gives_no_time() -> None:
    """Times of 1970 are none."""
    telemetry = read(tlog(flight(), since=datetime(1970, 1, 1, 1, tzinfo=UTC)))
    assert (TelemetryClock.NONE, None) == (telemetry.clock, telemetry.samples[0].at)
    assert "time" in telemetry.missing


def test_places_need_a_fix() -> None:
    """Estimates while the receiver has no fix are no places; without estimates the receiver's serve."""
    said = [position(0), gps(0, fix_type=1), position(20), gps(20)]
    assert [None, GeoPoint(33.5, 71.4, 1300.0)] == [s.point for s in read(tlog([*said, attitude(0)])).samples]
    assert GeoPoint(33.5, 71.4, 1290.0) == read(tlog([gps(0)])).samples[0].point
    assert None is read(tlog([gps(0, lat=0, fix_type=0), attitude(0)])).samples[0].point


def gimbal_device(t_s: float) -> Said:
    half = math.radians(-60) / 2
    q = [math.cos(half), 0.0, math.sin(half), 0.0]
    return t_s, mavlink.MAVLink_gimbal_device_attitude_status_message(0, 0, 0, 32, q, 0, 0, 0, 0)


def mount_orientation(t_s: float) -> Said:
    return t_s, mavlink.MAVLink_mount_orientation_message(0, 0.0, -60.0, 0.0)


def mount_orientation_absolute(t_s: float) -> Said:
    return t_s, mavlink.MAVLink_mount_orientation_message(0, 0.0, -60.0, 5.0, yaw_absolute=80.0)


def mount_status(t_s: float) -> Said:
    return t_s, mavlink.MAVLink_mount_status_message(0, 0, -6000, 0, 0)


@pytest.mark.parametrize(
    "report", [gimbal_device, mount_orientation, mount_orientation_absolute, mount_status]
)
def test_a_gimbals_angles_are_the_cameras(report: Callable[[float], Said]) -> None:
    """Each of the three messages gives the camera's angles against north, from the gimbal's own component."""
    data = tlog(flight()) + tlog([report(t) for t in range(10)], component=154)
    sample = read(data).samples[2]
    assert (80.0, -60.0, 0.0) == pytest.approx(
        (sample.heading_deg, sample.pitch_deg, sample.roll_deg), abs=1e-3
    )


def test_one_aircraft_counts() -> None:
    """The aircraft that reports most is taken, with a warning; nobody else has a say in its pose."""
    others = tlog([position(t, lat_deg=10.0) for t in range(3)], system=2)
    others += tlog([attitude(t, heading_deg=0.0) for t in range(9)], component=154)
    others += tlog([(t, mavlink.MAVLink_system_time_message(1, 1)) for t in range(9)], system=255)
    telemetry = read(tlog(flight()) + others)
    assert {33.5} == {sample.point.lat_deg for sample in telemetry.samples}
    assert 80.0 == pytest.approx(telemetry.samples[4].airframe_heading_deg, abs=1e-4)
    assert ("several_aircraft",) == telemetry.warnings


def test_home_is_kept() -> None:
    """HOME_POSITION is the take-off point."""
    home = mavlink.MAVLink_home_position_message(
        335_000_000, 714_000_000, 1_240_000, 0, 0, 0, [1, 0, 0, 0], 0, 0, 0
    )
    assert GeoPoint(33.5, 71.4, 1240.0) == read(tlog([*flight(), (0, home)])).samples[0].home


def test_damage_costs_the_records_it_lies_in() -> None:
    """A wrong byte loses its message, which is counted; a foreign start and a cut end lose no others."""
    data = bytearray(tlog([position(t) for t in range(100)]))
    record = len(data) // 100
    data[50 * record + 25] ^= 1
    telemetry = read(b"junk" * 5 + bytes(data[:-3]))
    assert (98, 2) == (len(telemetry.samples), telemetry.skipped)


def test_recognition_needs_whole_messages() -> None:
    """Noise, a stream without times, and other formats are no tlog."""
    stream = b"".join(message.pack(mavlink.MAVLink(None)) for _, message in flight(200))
    source = MavlinkTlog()
    assert [False] * 3 == [
        source.recognises(head) for head in (b"", stream[:65536], b"ULog\x01\x12\x35" * 1000)
    ]
    assert source.recognises(b"\x00" * 30 + tlog(flight()))


def test_reading_is_linear_in_hostile_bytes() -> None:
    """Eight times as many headers that hold no message cost some eight times the time."""
    record = tlog([position(0)])[:-2] + b"xx"

    def cost_s(count: int) -> float:
        started = time.process_time()
        with pytest.raises(TelemetryInvalid):
            read(record * count)
        return time.process_time() - started

    small_s = min(cost_s(10_000) for _ in range(3))
    assert min(cost_s(80_000) for _ in range(2)) < 24 * small_s + 0.2


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_raises_nothing_else(data: st.DataObject) -> None:
    """Cuts, flipped bytes and foreign bytes give telemetry in order, or TelemetryInvalid."""
    damaged = bytearray(tlog(flight(40), version=data.draw(st.sampled_from([1, 2]))))
    size = len(damaged)
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, size - 1), st.integers(1, 255)), max_size=30)
    ):
        damaged[place] ^= value
    try:
        telemetry = read(
            data.draw(st.binary(max_size=50)) + bytes(damaged[: data.draw(st.integers(0, size))])
        )
    except TelemetryInvalid:
        return
    offsets_s = [sample.offset_s for sample in telemetry.samples]
    assert sorted(offsets_s) == offsets_s


FLOATS = st.floats(width=32)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(FLOATS, FLOATS, FLOATS, st.integers(-(2**31), 2**31 - 1), st.floats(0, 1e6)),
        min_size=1,
        max_size=8,
    )
)
def test_any_numbers_in_whole_messages_are_borne(rows: list[tuple[float, ...]]) -> None:
    """Infinite angles, places off Earth and times out of order give telemetry or TelemetryInvalid."""
    said: list[Said] = []
    for roll, pitch, yaw, number, t_s in rows:
        said.append((t_s, mavlink.MAVLink_attitude_message(0, roll, pitch, yaw, 0, 0, 0)))
        said.append(
            (t_s, mavlink.MAVLink_global_position_int_message(0, number, number, number, number, 0, 0, 0, 0))
        )
    try:
        telemetry = read(tlog(said))
    except TelemetryInvalid:
        return
    assert all(
        sample.airframe_pitch_deg is None or abs(sample.airframe_pitch_deg) <= 90
        for sample in telemetry.samples
    )
