"""MISB ST 0601 metadata, raw and beside pictures: real, hostile and damaged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.sandbox import Limits
from ingest.telemetry.misb_klv import MisbKlv, read_packets
from ingest.video import probe_video
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.misb import ITEMS, TIME_STAMP, UAS_KEY, checksum, local_set
from outwatch.domain.types import GeoPoint, Telemetry, TelemetryClock, TelemetrySample, TimeBase
from outwatch.simulate.klv import encode_packet, write_ts

ZONE = ZoneInfo("Asia/Karachi")
START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
CORNERS = (
    GeoPoint(33.501, 71.399), GeoPoint(33.501, 71.401), GeoPoint(33.499, 71.401), GeoPoint(33.499, 71.399),
)  # fmt: skip
SAMPLE = TelemetrySample(
    offset_s=0.0,
    at=START,
    point=GeoPoint(33.5, 71.4, 1200.0),
    height_agl_m=None,
    heading_deg=40.0,
    pitch_deg=-35.0,
    roll_deg=1.5,
    hfov_deg=24.6,
    airframe_heading_deg=350.0,
    airframe_pitch_deg=-4.0,
    airframe_roll_deg=12.0,
    corners=CORNERS,
)


def packet(index: int = 0, **changes: object) -> bytes:
    """Return the set of a sample, a second after the one before."""
    at = START + timedelta(seconds=index)
    return encode_packet(replace(SAMPLE, **{"at": at, **changes}))  # type: ignore[arg-type]


def items(*tags_and_values: tuple[int, float]) -> bytes:
    """Return a timed set of these measures."""
    stamp = (TIME_STAMP, round(START.timestamp() * 1e6).to_bytes(8, "big"))
    return local_set([stamp, *((tag, ITEMS[tag].encode(value)) for tag, value in tags_and_values)])


def read(data: bytes) -> Telemetry:
    """Return the telemetry in a raw file."""
    return MisbKlv().read(data, zone=ZONE)


def real_packet(samples: Path, *, mended: bool) -> bytes:
    """Return the real packet, whose checksum is wrong, as it is or with the right one."""
    (path,) = (samples / "telemetry" / "klv").glob("*.bin")
    data = path.read_bytes()
    return data[:-2] + checksum(data[:-2]).to_bytes(2, "big") if mended else data


# --- values


def test_a_sample_comes_back() -> None:
    """Pose, field of view, corners and time are what was written, within the items' resolution."""
    (found,) = read(packet()).samples
    assert found.at == START
    assert found.point is not None
    assert found.corners is not None
    assert (found.point.lat_deg, found.point.lon_deg) == pytest.approx((33.5, 71.4), abs=1e-7)
    assert found.point.alt_m == pytest.approx(1200.0, abs=0.16)
    angles = (found.heading_deg, found.pitch_deg, found.roll_deg)
    assert angles == pytest.approx((40.0, -35.0, 1.5), abs=0.003)
    assert found.hfov_deg == pytest.approx(24.6, abs=0.002)
    airframe = (found.airframe_heading_deg, found.airframe_pitch_deg, found.airframe_roll_deg)
    assert airframe == pytest.approx((350.0, -4.0, 12.0), abs=0.003)
    assert airframe[1:] == pytest.approx((-4.0, 12.0), abs=1e-6)  # the full items' resolution
    for here, there in zip(found.corners, CORNERS, strict=True):
        assert (here.lat_deg, here.lon_deg) == pytest.approx((there.lat_deg, there.lon_deg), abs=1e-7)


def test_what_the_telemetry_says_of_itself() -> None:
    """Raw sets are a log on a satellite clock, without a height above take-off."""
    found = read(packet(0) + packet(2))
    assert [sample.offset_s for sample in found.samples] == [0.0, 2.0]
    assert (found.format, found.time_base, found.clock) == ("misb_klv", TimeBase.LOG, TelemetryClock.GPS)
    assert (found.clock_uncertainty_s, found.missing, found.warnings, found.skipped) == (
        1.0,
        ("height",),
        (),
        0,
    )
    assert found.georeferenced


@given(
    heading=st.floats(0, 359), azimuth=st.floats(0, 359), elevation=st.floats(-89, 60), roll=st.floats(0, 359)
)
@settings(max_examples=50, deadline=None)
def test_on_a_level_aircraft_the_angles_add_up(
    heading: float, azimuth: float, elevation: float, roll: float
) -> None:
    """Without pitch and roll of the platform the camera's heading is platform plus sensor."""
    data = items((5, heading), (18, azimuth), (19, elevation), (20, roll), (90, 0.0), (91, 0.0))
    (found,) = read(data).samples
    assert found.heading_deg is not None
    assert found.roll_deg is not None
    assert (found.heading_deg - heading - azimuth + 180) % 360 == pytest.approx(180, abs=0.01)
    assert found.pitch_deg == pytest.approx(elevation, abs=1e-4)
    assert (found.roll_deg - roll + 180) % 360 == pytest.approx(180, abs=1e-3)


def test_the_camera_turns_with_a_banked_aircraft() -> None:
    """Looking right from a bank of 20 degrees to the right looks 20 degrees down."""
    (found,) = read(items((5, 0.0), (6, 0.0), (7, 20.0), (18, 90.0), (19, 0.0), (20, 0.0))).samples
    assert (found.heading_deg, found.pitch_deg) == pytest.approx((90.0, -20.0), abs=0.002)


def test_without_relative_roll_only_the_roll_is_unknown() -> None:
    """Roll turns about the camera's own axis: where it looks is known without it."""
    (found,) = read(items((5, 0.0), (6, 0.0), (7, 0.0), (18, 30.0), (19, -45.0))).samples
    assert (found.heading_deg, found.pitch_deg) == pytest.approx((30.0, -45.0), abs=1e-6)
    assert found.roll_deg is None


@pytest.mark.parametrize("absent", [5, 6, 7, 18, 19])
def test_without_any_other_angle_the_camera_looks_nowhere(absent: int) -> None:
    """A missing angle is not taken as zero."""
    angles = {5: 0.0, 6: 0.0, 7: 0.0, 18: 30.0, 19: -45.0, 20: 0.0}
    found = read(items(*((tag, value) for tag, value in angles.items() if tag != absent)))
    assert (found.samples[0].heading_deg, found.samples[0].pitch_deg) == (None, None)
    assert "gimbal" in found.missing


def test_the_full_attitude_stands_in_where_the_short_one_ends() -> None:
    """Bank beyond 50 degrees is out of the short item's range, which then says so."""
    (found,) = read(packet(airframe_roll_deg=60.0)).samples
    assert found.airframe_roll_deg == pytest.approx(60.0, abs=1e-6)
    (found,) = read(items((5, 0.0), (6, 0.0), (7, 60.0), (18, 30.0), (19, -45.0))).samples
    assert (found.airframe_roll_deg, found.pitch_deg) == (None, None)


def test_corners_from_the_centre_stand_in_for_the_full_ones() -> None:
    """Offset corners give the same places to within their own resolution, over the antimeridian too."""
    offsets = [(tag, value) for tag, value in zip(range(26, 34), (0.01, -0.02) * 4, strict=True)]
    (found,) = read(items((23, 33.5), (24, 71.4), *offsets)).samples
    assert found.corners is not None
    assert [(corner.lat_deg, corner.lon_deg) for corner in found.corners] == [
        pytest.approx((33.51, 71.38), abs=3e-6)
    ] * 4
    (found,) = read(items((23, 0.5), (24, -179.99), *offsets)).samples
    assert found.corners is not None
    assert found.corners[0].lon_deg == pytest.approx(179.99, abs=3e-6)


def test_both_corner_forms_agree_and_the_full_one_leads() -> None:
    """A packet with both has the full corners, which are finer."""
    both = encode_packet(SAMPLE, centre=GeoPoint(33.5, 71.4), offset_corners=True)
    (found,) = read(both).samples
    assert found.corners is not None
    assert found.corners[0].lat_deg == pytest.approx(33.501, abs=1e-7)


def test_a_corner_off_the_earth_leaves_no_corners() -> None:
    """Three corners are no picture: a camera that sees the horizon has none."""
    corners = [(tag, 33.5) for tag in range(82, 90)]
    (found,) = read(items((13, 33.0), (14, 71.0), *corners[:-2], (88, 120.0), (89, 71.0))).samples
    assert found.corners is None


@pytest.mark.parametrize(("sent", "expected"), [((75, 500.0), 500.0), ((104, 21_000.0), 21_000.0)])
def test_ellipsoid_heights_are_never_sea_levels(sent: tuple[int, float], expected: float) -> None:
    """A height above the ellipsoid goes to its own field, from either item, and not to the altitude."""
    (found,) = read(items((13, 33.5), (14, 71.4), sent)).samples
    assert found.ellipsoid_height_m == pytest.approx(expected, abs=0.2)
    assert found.point is not None
    assert found.point.alt_m is None


def test_height_is_over_the_ground_in_the_middle_of_the_picture() -> None:
    """Sensor altitude less the frame centre's elevation, both above the sea; below ground it is unknown."""
    (found,) = read(encode_packet(SAMPLE, centre=GeoPoint(33.5, 71.4, 1080.0))).samples
    assert found.height_agl_m == pytest.approx(120.0, abs=0.7)
    (buried,) = read(encode_packet(SAMPLE, centre=GeoPoint(33.5, 71.4, 1300.0))).samples
    assert buried.height_agl_m is None


def test_the_finer_ellipsoid_height_leads() -> None:
    """Item 104 has a step of 8 mm, item 75 one of 30 cm."""
    (found,) = read(encode_packet(SAMPLE, geoid_undulation_m=-41.037)).samples
    assert found.ellipsoid_height_m == pytest.approx(1158.963, abs=0.008)


@pytest.mark.parametrize("place", [((13, 0.0), (14, 0.0)), ((13, 120.0), (14, 71.4)), ((13, 33.5),)])
def test_no_fix_is_no_place(place: tuple[tuple[int, float], ...]) -> None:
    """Zero and zero, a latitude out of range and half a place are none."""
    found = read(items(*place))
    assert found.samples[0].point is None
    assert "position" in found.missing


def test_an_unset_clock_gives_no_time() -> None:
    """Sets from before 2000 have no place in a log and are counted; beside pictures they keep theirs."""
    early = packet(at=datetime(1970, 1, 1, 0, 5, tzinfo=UTC))
    assert read(early + packet()).skipped == 1
    found = read_packets([(0.0, early)])
    assert (found.samples[0].at, found.clock, found.clock_uncertainty_s) == (None, TelemetryClock.NONE, None)
    assert found.samples[0].point is not None
    with pytest.raises(TelemetryInvalid, match="none of 1 KLV sets has a place in time"):
        read(early)


# --- the real packet


def test_real_packet_is_refused_for_its_checksum(samples: Path) -> None:
    """The published example states a sum that it does not have, and ST 0601 forbids to use such a set."""
    with pytest.raises(TelemetryInvalid, match="states 0xaa43 but sums to 0x3e1e"):
        read(real_packet(samples, mended=False))


def test_real_packet_reads_as_klvdata_prints_it(samples: Path) -> None:
    """With its sum mended the example has the values that the klvdata package prints."""
    (found,) = read(real_packet(samples, mended=True)).samples
    assert found.at == datetime(2009, 1, 12, 22, 8, 22, tzinfo=UTC)
    assert found.point is not None
    place = (found.point.lat_deg, found.point.lon_deg, found.point.alt_m)
    assert place == pytest.approx((60.176822966978335, 128.42675904204452, 14190.719462882427), rel=1e-12)
    assert found.hfov_deg == pytest.approx(144.5712977798123)
    airframe = (found.airframe_heading_deg, found.airframe_pitch_deg, found.airframe_roll_deg)
    assert airframe == pytest.approx((159.97436484321355, -0.4315317239905987, 3.4058656575212893))
    # Relative 160.7, -168.8 and 176.9: over the back of the aircraft, and upside down twice.
    assert (found.heading_deg, found.pitch_deg) == pytest.approx((140.064, -10.472), abs=1e-3)


# --- streams of any quality


def test_reading_goes_on_after_damage() -> None:
    """A set with a flipped bit, one that is broken off and noise are skipped and counted."""
    good = [packet(index) for index in range(4)]
    flipped = bytearray(good[1])
    flipped[60] ^= 4
    found = read(b"noise" + good[0] + bytes(flipped) + good[2][:50] + good[3])
    assert [sample.at for sample in found.samples] == [START, START + timedelta(seconds=3)]
    assert found.skipped == 2


def test_a_length_beyond_the_end_does_not_hide_what_follows() -> None:
    """A damaged length that claims the rest of the file costs one set."""
    damaged = bytearray(packet(0))
    damaged[16:18] = b"\x82\xff"
    found = read(bytes(damaged) + packet(1))
    assert (len(found.samples), found.skipped) == (1, 1)


def test_a_set_inside_another_is_not_a_set() -> None:
    """Bytes of a text that look like a set are text."""
    outer = local_set([(TIME_STAMP, round(START.timestamp() * 1e6).to_bytes(8, "big")), (3, packet(5))])
    found = read(outer + packet(1))
    assert [sample.offset_s for sample in found.samples] == [0.0, 1.0]
    assert found.skipped == 0


def test_items_that_do_not_fill_their_set_are_damage() -> None:
    """A set with a right sum but a length that overruns it is counted, not read."""
    stamp = (TIME_STAMP, round(START.timestamp() * 1e6).to_bytes(8, "big"))
    bad = local_set([stamp, (5, b"\x00")])[:-2].replace(b"\x05\x01\x00", b"\x05\x40\x00")
    bad += checksum(bad).to_bytes(2, "big")
    found = read(bad + packet())
    assert (len(found.samples), found.skipped) == (1, 1)


def test_a_set_of_indefinite_length_is_damage() -> None:
    """The form of length that names none (SMPTE ST 336 forbids it) is not taken for 128."""
    stamp = (TIME_STAMP, round(START.timestamp() * 1e6).to_bytes(8, "big"))
    good = local_set([stamp, (3, bytes(112))])
    assert good[16:18] == b"\x81\x80"
    bad = UAS_KEY + b"\x80" + good[18:-2]
    bad += checksum(bad).to_bytes(2, "big")
    found = read(bad + packet())
    assert (len(found.samples), found.skipped) == (1, 1)


def test_sets_out_of_order_are_sorted_and_told() -> None:
    """A log runs forward from its earliest set."""
    found = read(packet(3) + packet(1) + packet(2))
    assert [sample.offset_s for sample in found.samples] == [0.0, 1.0, 2.0]
    assert found.warnings == ("records_out_of_order",)


def test_changing_layouts_are_read_alike() -> None:
    """Sets of the same length with other items in other places are told apart."""
    short = items((5, 10.0), (6, 1.0)), items((6, 1.0), (7, 2.0))
    found = read(b"".join(short[index % 2] for index in range(6)))
    assert [sample.airframe_heading_deg is None for sample in found.samples] == [False, True] * 3


def test_recognises_sets_but_not_videos(tmp_path: Path, clip: Callable[..., Path]) -> None:
    """A raw stream is told by its first key, or by sets in a row; a transport stream with sets is none."""
    source, video = MisbKlv(), tmp_path / "flight.ts"
    write_ts(clip(frames=20), [(index / 10, items((5, index))) for index in range(20)], out=video)
    assert UAS_KEY in video.read_bytes()
    assert source.recognises(packet()[:100])
    assert source.recognises(packet(0)[30:] + packet(1) + packet(2) + packet(3)[:20])
    assert not source.recognises(video.read_bytes()[:65_536])
    assert not source.recognises(b"")
    assert not source.recognises(b"1\n00:00:00,000 --> 00:00:01,000\n")


# --- packets beside pictures


def test_packets_have_the_pictures_time() -> None:
    """Offsets are those of the packets, whatever the clock inside says; a jump of it is told."""
    found = read_packets([(0.5, packet(0)), (1.5, packet(1)), (2.5, packet(60))])
    assert [sample.offset_s for sample in found.samples] == [0.5, 1.5, 2.5]
    assert (found.time_base, found.warnings) == (TimeBase.CLIP, ("clock_jumps",))


def test_sets_of_one_packet_follow_each_other_by_their_clock() -> None:
    """A packet's time is that of its first set."""
    found = read_packets([(0.5, packet(0) + packet(1)), (2.5, packet(2))])
    assert [sample.offset_s for sample in found.samples] == [0.5, 1.5, 2.5]


def test_a_set_over_two_packets_is_whole() -> None:
    """A set that was cut into packets is put together, and has the first one's time."""
    data = packet(0)
    found = read_packets([(0.5, data[:90]), (0.6, data[90:] + packet(1))])
    assert [sample.offset_s for sample in found.samples] == [0.5, 0.6]


def test_sets_long_before_the_first_picture_are_left_out() -> None:
    """What belongs to pictures that were cut away is counted; what comes just before stays."""
    found = read_packets([(-5.0, packet(0)), (-0.1, packet(5)), (0.9, packet(6))])
    assert ([sample.offset_s for sample in found.samples], found.skipped) == ([-0.1, 0.9], 1)


@pytest.mark.parametrize("packets", [[], [(0.0, b"")], [(0.0, b"no metadata")], [(-9.0, packet())]])
def test_packets_without_telemetry_are_refused(packets: list[tuple[float, bytes]]) -> None:
    """Nothing to read is an error with a reason."""
    with pytest.raises(TelemetryInvalid, match="KLV"):
        read_packets(packets)


# --- through the confined decoder


def patched(video: Path, **changes: bool) -> Path:
    """Return a transport stream whose metadata is unregistered, or has no times (ISO 13818-1, 2.4)."""
    data = bytearray(video.read_bytes())
    for at in range(0, len(data), 188):
        starts, pid = data[at + 1] & 0x40, int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF
        payload = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
        if starts and pid == 0x1000 and changes.get("unregistered"):
            _patch_table(data, payload + 1 + data[payload])
        if starts and pid == 0x101 and changes.get("untimed"):
            data[payload + 7] &= 0x3F
            data[payload + 9 : payload + 9 + data[payload + 8]] = b"\xff" * data[payload + 8]
    out = video.with_stem("patched")
    out.write_bytes(data)
    return out


def _patch_table(data: bytearray, start: int) -> None:
    """Rename the registration in a program map table, and renew its CRC."""
    end = start + 3 + (int.from_bytes(data[start + 1 : start + 3], "big") & 0xFFF)
    data[start:end] = data[start:end].replace(b"KLVA", b"ABCD")
    crc = 0xFFFFFFFF
    for byte in data[start : end - 4]:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    data[end - 4 : end] = crc.to_bytes(4, "big")


@pytest.mark.parametrize("unregistered", [False, True])
def test_metadata_comes_out_of_a_transport_stream(
    clip: Callable[..., Path], tmp_path: Path, limits: Limits, unregistered: bool
) -> None:
    """Registered or not, packets come out whole, timed from the first frame."""
    sent = [(index / 10, packet(index)) for index in range(20)]
    write_ts(clip(), sent, out=tmp_path / "a.ts")
    video = probe_video(patched(tmp_path / "a.ts", unregistered=unregistered), limits=limits)
    assert [data for _, data in video.klv] == [data for _, data in sent]
    assert [offset_s for offset_s, _ in video.klv] == pytest.approx([at_s for at_s, _ in sent], abs=1e-4)
    assert (video.completeness.frames_read, video.completeness.reason) == (60, None)


def test_metadata_without_times_has_the_pictures(
    clip: Callable[..., Path], tmp_path: Path, limits: Limits
) -> None:
    """An asynchronous stream is timed by the pictures that it came between."""
    sent = [(index / 10, packet(index)) for index in range(20)]
    write_ts(clip(), sent, out=tmp_path / "a.ts")
    video = probe_video(patched(tmp_path / "a.ts", untimed=True), limits=limits)
    assert [data for _, data in video.klv] == [data for _, data in sent]
    assert [offset_s for offset_s, _ in video.klv] == pytest.approx([at_s for at_s, _ in sent], abs=0.15)


def test_metadata_may_begin_late(clip: Callable[..., Path], tmp_path: Path, limits: Limits) -> None:
    """A stream that is silent at first is read from where it begins."""
    write_ts(clip(), [(1.5, packet(0)), (1.8, packet(1))], out=tmp_path / "a.ts")
    video = probe_video(tmp_path / "a.ts", limits=limits)
    assert [offset_s for offset_s, _ in video.klv] == pytest.approx([1.5, 1.8], abs=1e-4)


def test_a_header_before_each_set_is_passed_over(
    clip: Callable[..., Path], tmp_path: Path, limits: Limits
) -> None:
    """Synchronous streams put five bytes before a set (ISO 13818-1, metadata access units)."""
    sent = [(index / 10, b"\x00\x01\xdf\x00\xb8" + packet(index)) for index in range(5)]
    write_ts(clip(), sent, out=tmp_path / "a.ts")
    found = read_packets(probe_video(tmp_path / "a.ts", limits=limits).klv)
    assert [sample.offset_s for sample in found.samples] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=1e-4)


def test_a_clip_without_metadata_has_none(clip: Callable[..., Path], limits: Limits) -> None:
    """Most clips have no metadata stream."""
    assert probe_video(clip(frames=5), limits=limits).klv == ()


# --- hostile bytes


def outcome(data: bytes) -> int:
    """Return how many samples bytes give, both ways, 0 where they are refused."""
    counts = []
    for reader in (read, lambda found: read_packets([(0.0, found[:99]), (1.0, found[99:])])):
        try:
            counts.append(len(reader(data).samples))
        except TelemetryInvalid:
            counts.append(0)
    MisbKlv().recognises(data)
    return max(counts)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    """Noise is never telemetry and never breaks the reader."""
    assert outcome(data) == 0


@given(body=st.binary(max_size=200))
@settings(deadline=None)
def test_arbitrary_items_in_a_sound_set_never_break_the_reader(body: bytes) -> None:
    """A right checksum proves nothing of what it covers."""
    head = UAS_KEY + bytes([0x82]) + (len(body) + 4).to_bytes(2, "big") + body + b"\x01\x02"
    outcome(head + checksum(head).to_bytes(2, "big"))


@given(tags=st.lists(st.tuples(st.integers(2, 105), st.binary(max_size=9)), max_size=30))
@settings(deadline=None)
def test_arbitrary_values_never_break_the_reader(tags: list[tuple[int, bytes]]) -> None:
    """Items of any size and value give a sample or none, with all its values finite and in range."""
    outcome(local_set([(TIME_STAMP, bytes.fromhex("00064d0000000000")), *tags]))


@given(cut=st.integers(0, 600), flips=st.lists(st.tuples(st.integers(0, 599), st.integers(0, 7)), max_size=4))
@settings(deadline=None)
def test_flipped_and_cut_packets_give_no_wrong_sample(cut: int, flips: list[tuple[int, int]]) -> None:
    """Damage costs the sets that it hits and no others."""
    whole = packet(0) + packet(1) + packet(2)
    data = bytearray(whole[:cut])
    for at, bit in flips:
        if at < len(data):
            data[at] ^= 1 << bit
    size = len(whole) // 3
    unhurt = sum(data[size * n : size * (n + 1)] == whole[size * n : size * (n + 1)] for n in range(3))
    assert unhurt <= outcome(bytes(data))


@pytest.mark.parametrize(
    "hostile",
    [
        lambda count: UAS_KEY * count,
        lambda count: (UAS_KEY + b"\x84\x00\x0f\xff\xff") * count,
        lambda count: local_set([(3, UAS_KEY * count)]),
        lambda count: b"".join(local_set([(2 + n % 90, bytes(n // 90 % 100))]) for n in range(count // 3)),
        lambda count: local_set([(2, b"")] * (8 * count)),
    ],
    ids=["keys", "long lengths", "keys inside a set", "a new layout each", "empty items"],
)
def test_time_is_linear_in_the_bytes(hostile: Callable[[int], bytes]) -> None:
    """Bytes made to be slow take no more than a few microseconds each set."""
    outcome(hostile(100))
    began = time.process_time()
    outcome(hostile(30_000))
    assert time.process_time() - began < 5.0
