"""Photos: what the camera wrote into them, and the picture as a clip of one frame."""

from __future__ import annotations

import io
import struct
import time
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, TiffImagePlugin

from ingest.align import fit_to_clip, pose_at
from ingest.register import Group, left_over, sort_upload
from ingest.sandbox import Limits
from ingest.telemetry.photo import Photo
from ingest.video import probe_video, read_frames
from outwatch.domain.errors import CorruptClip, TelemetryInvalid, UnsupportedFormat
from outwatch.domain.types import GeoPoint, Modality, Telemetry, TelemetryClock, TimeBase

KARACHI = ZoneInfo("Asia/Karachi")
MAKE, EXIF, GPS = 0x010F, 0x8769, 0x8825
TAKEN = {0x9003: "2026:03:14 21:40:00"}
PLACE = {1: "N", 2: (33.0, 30.0, 36.0), 3: "E", 4: (71.0, 26.0, 24.0)}
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" {attributes}>{elements}'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)
KINDS = ["JPEG", "PNG", "TIFF"]


def photo(
    kind: str = "JPEG",
    *,
    exif: dict[int, object] | None = None,
    gps: dict[int, object] | None = None,
    attributes: str = "",
    elements: str = "",
) -> bytes:
    """Return a small photo with the given tags, as Pillow writes it."""
    tags = Image.Exif()
    tags[MAKE] = "DJI"
    for directory, values in ((EXIF, exif), (GPS, gps)):
        if values:
            tags.get_ifd(directory).update(values)
            tags[directory] = values  # TIFF takes it from above, the others from here
    packet = XMP.format(attributes=attributes, elements=elements).encode()
    options: dict[str, object] = {"exif": tags}
    if kind == "JPEG" and attributes + elements:
        options["xmp"] = packet
    elif kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", packet.decode())
        options["pnginfo"] = text
    elif kind == "TIFF":
        tags[700] = packet
    with io.BytesIO() as file:
        picture().save(file, kind, **options)
        return file.getvalue()


def picture() -> Image.Image:
    """Return a textured picture of 160 x 128 pixels."""
    noise = np.random.default_rng(1).integers(0, 255, (16, 20, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(noise, np.ones((8, 8, 1), dtype=np.uint8)))


def read(data: bytes) -> Telemetry:
    """Read what the camera wrote."""
    return Photo().read(data, zone=KARACHI)


def parts(point: GeoPoint | None) -> tuple[float, float, float | None] | None:
    """Return a place as latitude, longitude and altitude."""
    return point and (point.lat_deg, point.lon_deg, point.alt_m)


def test_real_thermal_photo_gives_what_a_person_reads_in_it(samples: Path, limits: Limits) -> None:
    """A DJI XT2's JPEG: pose, place, lens and local time, and one thermal frame."""
    path = samples / "telemetry/dji_photo/DJI_XT2.jpg"
    data = path.read_bytes()
    telemetry = read(data)
    (sample,) = telemetry.samples
    assert Photo().recognises(data[:65_536])
    assert datetime(2018, 7, 27, 9, 51, 54, 481_000, tzinfo=UTC) == sample.at
    assert pytest.approx((9.97215736, 76.37778586, 39.1)) == parts(sample.point)
    assert (1.9, 19.0) == (sample.height_agl_m, sample.focal_length_mm)
    assert (82.400002, 0.0, 0.0) == (sample.heading_deg, sample.pitch_deg, sample.roll_deg)
    assert (81.900002, 1.2, -0.9) == (
        sample.airframe_heading_deg,
        sample.airframe_pitch_deg,
        sample.airframe_roll_deg,
    )
    assert (TimeBase.CLIP, TelemetryClock.LOCAL, "Asia/Karachi") == (
        telemetry.time_base,
        telemetry.clock,
        telemetry.zone,
    )
    assert ((), (), True) == (telemetry.missing, telemetry.warnings, telemetry.georeferenced)
    video = probe_video(path, limits=limits)
    assert (640, 512, Modality.THERMAL) == (video.width_px, video.height_px, video.modality)
    assert (1, None) == (video.completeness.frames_read, video.completeness.reason)


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_found_in_every_kind_of_file(kind: str) -> None:
    """EXIF with its sub-directories, and XMP, come out of JPEG, PNG and TIFF alike."""
    data = photo(kind, exif=TAKEN, gps=PLACE, attributes='drone-dji:GimbalPitchDegree="-45.5"')
    (sample,) = read(data).samples
    assert Photo().recognises(data)
    assert datetime(2026, 3, 14, 16, 40, tzinfo=UTC) == sample.at
    assert pytest.approx((33.51, 71.44, None)) == parts(sample.point)
    assert sample.pitch_deg == -45.5


@pytest.mark.parametrize("order", ["<", ">"])
def test_either_byte_order_is_read(order: str) -> None:
    """EXIF of little- and big-endian cameras says the same."""
    text = b"2026:03:14 21:40:00\x00"
    mark = b"II*\x00" if order == "<" else b"MM\x00*"
    exif = mark + struct.pack(f"{order}IHHHIII", 8, 1, 0x0132, 2, len(text), 26, 0) + text
    segment = b"Exif\x00\x00" + exif
    data = b"\xff\xd8\xff\xe1" + struct.pack(">H", 2 + len(segment)) + segment + b"\xff\xd9"
    assert datetime(2026, 3, 14, 16, 40, tzinfo=UTC) == read(data).samples[0].at


@pytest.mark.parametrize(
    ("attributes", "elements"),
    [
        ('drone-dji:GimbalYawDegree="-90.0" drone-dji:RelativeAltitude="+60.25"', ""),
        ("drone-dji:GimbalYawDegree='-90.0'\n drone-dji:RelativeAltitude = '+60.25'", ""),
        (
            "",
            "<d:GimbalYawDegree>-90.0</d:GimbalYawDegree><d:RelativeAltitude>+60.25</d:RelativeAltitude>",
        ),
        (
            'drone-dji:GimbalYawDegree="-90.0"',
            "<drone-dji:RelativeAltitude> 60.25 </drone-dji:RelativeAltitude>",
        ),
    ],
    ids=["attributes", "single quotes", "elements", "both"],
)
def test_xmp_is_read_as_attributes_and_as_elements(attributes: str, elements: str) -> None:
    """Both forms that firmwares write give numbers, with or without a plus sign."""
    (sample,) = read(photo(attributes=attributes, elements=elements)).samples
    assert (270.0, 60.25) == (sample.heading_deg, sample.height_agl_m)


@pytest.mark.parametrize(
    ("exif", "gps", "at", "clock"),
    [
        (TAKEN, {}, "2026-03-14T16:40:00+00:00", TelemetryClock.LOCAL),
        (TAKEN | {0x9291: "25"}, {}, "2026-03-14T16:40:00.250000+00:00", TelemetryClock.LOCAL),
        (TAKEN | {0x9011: "-08:00"}, {}, "2026-03-15T05:40:00+00:00", TelemetryClock.UTC),
        (TAKEN | {0x9011: "   :  "}, {}, "2026-03-14T16:40:00+00:00", TelemetryClock.LOCAL),
        (
            TAKEN,
            {0x1D: "2026:03:14", 7: (16.0, 39.0, Fraction(595, 10))},
            "2026-03-14T16:39:59.500000+00:00",
            TelemetryClock.GPS,
        ),
        (TAKEN, {0x1D: "1999:08:22", 7: (1.0, 2.0, 3.0)}, "2026-03-14T16:40:00+00:00", TelemetryClock.LOCAL),
        (TAKEN, {0x1D: "2026:03:14", 7: (99.0, 0.0, 0.0)}, "2026-03-14T16:40:00+00:00", TelemetryClock.LOCAL),
        ({0x9003: "0000:00:00 00:00:00"}, {}, None, TelemetryClock.NONE),
        ({0x9004: "2026:03:14 21:40:00"}, {}, "2026-03-14T16:40:00+00:00", TelemetryClock.LOCAL),
    ],
)
def test_satellite_time_stands_before_offset_time_before_local_time(
    exif: dict[int, object], gps: dict[int, object], at: str | None, clock: TelemetryClock
) -> None:
    """The most trusted time that is one is used, and said."""
    telemetry = read(photo(exif=exif, gps=PLACE | gps))
    (sample,) = telemetry.samples
    assert (at and datetime.fromisoformat(at), clock) == (sample.at, telemetry.clock)
    assert ("Asia/Karachi" if clock is TelemetryClock.LOCAL else None) == telemetry.zone


@pytest.mark.parametrize(
    ("gps", "attributes", "point", "ellipsoid_height_m"),
    [
        (PLACE | {1: "S", 3: "W"}, "", (-33.51, -71.44, None), None),
        (PLACE | {5: b"\x00", 6: 1240.5}, "", (33.51, 71.44, 1240.5), None),
        (PLACE | {5: b"\x01", 6: 12.5}, "", (33.51, 71.44, -12.5), None),
        (PLACE | {5: b"\x02", 6: 1240.5}, "", (33.51, 71.44, None), 1240.5),
        (PLACE | {6: 1240.5}, 'drone-dji:AltitudeType="RtkAlt"', (33.51, 71.44, None), 1240.5),
        (PLACE, 'drone-dji:AbsoluteAltitude="+99.5"', (33.51, 71.44, 99.5), None),
        ({}, 'drone-dji:GpsLatitude="+33.51" drone-dji:GpsLongtitude="+71.44"', (33.51, 71.44, None), None),
        (PLACE | {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)}, "", None, None),
        (PLACE | {2: (95.0, 0.0, 0.0)}, "", None, None),
    ],
)
def test_place_is_read_with_its_datum(
    gps: dict[int, object],
    attributes: str,
    point: tuple[float, float, float | None] | None,
    ellipsoid_height_m: float | None,
) -> None:
    """Hemispheres, depth below the sea and heights above the ellipsoid are told apart; no fix is no place."""
    (sample,) = read(photo(exif=TAKEN, gps=gps, attributes=attributes)).samples
    assert (point and pytest.approx(point), ellipsoid_height_m) == (
        parts(sample.point),
        sample.ellipsoid_height_m,
    )


@pytest.mark.parametrize(
    ("exif", "focal_length_mm", "warnings"),
    [
        ({0x920A: 8.8, 0xA405: 24}, 24.0, ()),
        ({0x920A: 19.0}, 19.0, ()),
        ({0x920A: 19.0, 0xA405: 0}, 19.0, ()),
        ({0x920A: 8.8, 0xA405: 24, 0xA404: 1.0}, 24.0, ()),
        ({0x920A: 8.8, 0xA405: 24, 0xA404: 2.0}, 24.0, ("zoom_changes",)),
        ({}, None, ()),
    ],
)
def test_lens_is_the_35_mm_equivalent_where_there_is_one(
    exif: dict[int, object], focal_length_mm: float | None, warnings: tuple[str, ...]
) -> None:
    """As in telemetry of videos; any digital zoom makes the field of view unsure."""
    telemetry = read(photo(exif=TAKEN | exif))
    assert (focal_length_mm and pytest.approx(focal_length_mm), warnings) == (
        telemetry.samples[0].focal_length_mm,
        telemetry.warnings,
    )


@pytest.mark.parametrize("written", ["2026-03-14T16:39:59.500000", "2026-03-14 16:39:59.500"])
def test_time_of_exposure_by_satellites_stands_first(written: str) -> None:
    """What the aircraft's receiver said at the shot is surer than its clock and the last fix."""
    data = photo(
        exif=TAKEN, gps={0x1D: "2026:03:14", 7: (1.0, 2.0, 3.0)}, attributes=f'd:UTCAtExposure="{written}"'
    )
    telemetry = read(data)
    assert (datetime(2026, 3, 14, 16, 39, 59, 500_000, tzinfo=UTC), TelemetryClock.GPS) == (
        telemetry.samples[0].at,
        telemetry.clock,
    )


def test_photo_that_says_only_when_lacks_the_rest() -> None:
    """What is missing is named, as for a video."""
    telemetry = read(photo(exif=TAKEN))
    assert (("position", "height", "gimbal"), False) == (telemetry.missing, telemetry.georeferenced)


def test_telemetry_of_a_photo_fits_it() -> None:
    """One sample at the one frame of a clip of no duration is no doubt, and is its pose."""
    telemetry = read(photo(exif=TAKEN, gps=PLACE))
    assert () == fit_to_clip(telemetry, duration_s=0.0, started_hint=None)
    pose = pose_at(telemetry, 0.0)
    assert pose is not None
    assert telemetry.samples[0].point == pose.point


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\x00", b"GIF89a", photo(), photo("TIFF")]
)
def test_photo_that_says_nothing_is_refused(data: bytes) -> None:
    """A picture that went through a messenger, a stump and another format have a reason."""
    with pytest.raises(TelemetryInvalid, match="hand in the"):
        read(data)


@pytest.mark.parametrize("kind", KINDS)
def test_photo_is_a_clip_of_one_frame(tmp_path: Path, limits: Limits, kind: str) -> None:
    """It has no duration and no rate, is complete, and its frame is the picture."""
    path = tmp_path / f"photo.{kind.lower()}"
    path.write_bytes(photo(kind))
    video = probe_video(path, limits=limits)
    assert (1, 1, 0, None) == (
        video.completeness.frames_declared,
        video.completeness.frames_read,
        video.completeness.corrupt_frames,
        video.completeness.reason,
    )
    assert (0.0, 0.0, None) == (video.duration_s, video.frame_rate_hz, video.created_at)
    assert (160, 128, Modality.RGB) == (video.width_px, video.height_px, video.modality)
    (frame,) = read_frames(path, sample_fps=2, limits=limits)
    assert (0, 0.0, False) == (frame.index, frame.offset_s, frame.is_corrupt)
    loss = np.abs(frame.image.astype(int) - np.asarray(picture())[:, :, ::-1])
    assert loss.mean() < 20


def test_preview_behind_the_picture_is_no_second_frame(tmp_path: Path, limits: Limits) -> None:
    """Cameras append smaller pictures to the first; the clip has one frame still."""
    with io.BytesIO() as file:
        picture().resize((80, 64)).save(file, "JPEG")
        preview = file.getvalue()
    path = tmp_path / "photo.JPG"
    path.write_bytes(photo() + preview)
    (frame,) = read_frames(path, limits=limits)
    assert ((128, 160, 3), None) == (frame.image.shape, probe_video(path, limits=limits).completeness.reason)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_cut_jpeg_is_kept_and_flagged(tmp_path: Path, limits: Limits, share: float) -> None:
    """Half a picture may show what matters, but never passes for a whole one."""
    path = tmp_path / "cut.jpg"
    data = photo()
    path.write_bytes(data[: int(len(data) * share)])
    video = probe_video(path, limits=limits)
    assert (1, 1) == (video.completeness.frames_read, video.completeness.corrupt_frames)
    assert not video.completeness.complete
    assert [True] == [frame.is_corrupt for frame in read_frames(path, limits=limits)]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_cut_png_and_tiff_are_refused(tmp_path: Path, limits: Limits, kind: str, share: float) -> None:
    """Their decoders give nothing to look at, and that is said."""
    path = tmp_path / f"cut.{kind.lower()}"
    data = photo(kind)
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises((CorruptClip, UnsupportedFormat), match=r"not one frame|are damaged"):
        probe_video(path, limits=limits)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_is_read(tmp_path: Path, limits: Limits, compression: str) -> None:
    """Compressions without loss give the very picture."""
    path = tmp_path / "photo.tif"
    picture().save(path, compression=compression)
    (frame,) = read_frames(path, limits=limits)
    assert np.array_equal(np.asarray(picture())[:, :, ::-1], frame.image)


def test_tiff_that_would_turn_black_is_refused(tmp_path: Path, limits: Limits) -> None:
    """JPEG within TIFF is refused with a way out, not shown as night."""
    path = tmp_path / "photo.tif"
    picture().save(path, compression="jpeg")
    with pytest.raises(UnsupportedFormat, match=r"compression \(7\.0\) is none of .*: save it as JPEG"):
        probe_video(path, limits=limits)


@pytest.mark.parametrize("kind", KINDS)
def test_photo_too_large_is_refused(tmp_path: Path, limits: Limits, kind: str) -> None:
    """The limit on pixels holds for photos as for frames."""
    path = tmp_path / f"large.{kind.lower()}"
    path.write_bytes(photo(kind))
    with pytest.raises(UnsupportedFormat, match=r"max_pixels=20479: convert"):
        probe_video(path, limits=replace(limits, max_pixels=160 * 128 - 1))


def test_what_is_no_photo_is_not_opened_as_one(tmp_path: Path, limits: Limits) -> None:
    """A list of file names, a GIF and a video under a photo's name are refused unread."""
    path = tmp_path / "photo.jpg"
    for data in (b"%d.jpg\n", b"GIF89a" + bytes(99), b"\x00\x00\x00\x18ftypmp42" + bytes(99)):
        path.write_bytes(data)
        with pytest.raises(UnsupportedFormat, match="is not a JPEG, PNG or TIFF picture"):
            probe_video(path, limits=limits)


def test_photos_are_clips_of_their_own() -> None:
    """Thermal and wide pictures of one moment are two clips; a raw one is sent back for its JPEG."""
    upload = sort_upload(["a_T.JPG", "a_W.jpg", "a_T.SRT", "b.tiff", "c.DNG", "c.mp4"])
    assert ("a_T.JPG", "a_W.jpg", "b.tiff", "c.mp4") == tuple(sorted(group.video for group in upload.groups))
    assert Group("a_T.JPG") in upload.groups
    assert ("a_T.SRT", "c.DNG") == upload.others
    assert "hand in the JPEG" in str(left_over("c.DNG"))
    assert "no clip of its name" in str(left_over("a_T.SRT"))


@pytest.mark.parametrize(
    "unit", [b"\xff\xe1\x00\x02", b"\xff\xe1\x00\x08Exif\x00\x00", b" GimbalYawDegree=", b"<"]
)
def test_reading_is_linear_in_hostile_bytes(unit: bytes) -> None:
    """Eight times the bytes cost some eight times the processor time, in segments and in XMP."""

    def cost_s(size: int) -> float:
        block = b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + unit * (size // len(unit))
        png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", len(block), b"iTXt") + block
        jpeg = b"\xff\xd8" + unit * (size // len(unit))
        started = time.process_time()
        for data in (png, jpeg):
            with pytest.raises(TelemetryInvalid):
                read(data)
        return time.process_time() - started

    small_s = min(cost_s(50_000) for _ in range(3))
    assert min(cost_s(400_000) for _ in range(2)) < 24 * small_s + 0.2


WHOLE = {
    kind: photo(kind, exif=TAKEN | {0x920A: 8.8}, gps=PLACE, attributes='drone-dji:GimbalYawDegree="1"')[
        :2500
    ]
    for kind in KINDS
}


@given(
    st.sampled_from(KINDS).flatmap(
        lambda kind: (
            st.integers(0, len(WHOLE[kind])).map(lambda end: WHOLE[kind][:end])
            | st.lists(
                st.tuples(st.integers(0, len(WHOLE[kind]) - 1), st.integers(0, 255)), min_size=1, max_size=4
            ).map(lambda changes: changed(WHOLE[kind], changes))
            | st.binary(max_size=200).map(lambda tail: WHOLE[kind][:8] + tail)
        )
    )
    | st.binary(max_size=100)
)
def test_any_bytes_give_a_pose_or_its_error(data: bytes) -> None:
    """No input escapes as another error, and what is read can be stored."""
    Photo().recognises(data)
    try:
        telemetry = read(data)
    except TelemetryInvalid:
        return
    (sample,) = telemetry.samples
    assert sample.at is None or sample.at.tzinfo is UTC
    assert sample.heading_deg is None or 0 <= sample.heading_deg < 360


def changed(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    """Return the bytes with some of them replaced."""
    copy = bytearray(data)
    for at, value in changes:
        copy[at] = value
    return bytes(copy)


def test_directory_that_points_at_itself_ends() -> None:
    """A sub-directory that is its own parent, and one beyond the file, are read once or not at all."""
    entries = [(0x8769, 4, 1, 8), (0x8825, 4, 1, 0xFFFFFFF0), (0x9003, 2, 20, 0xFFFFFFF0)]
    loop = (
        b"II*\x00\x08\x00\x00\x00"
        + struct.pack("<H", 3)
        + b"".join(struct.pack("<HHII", *e) for e in entries)
    )
    assert TiffImagePlugin.II == loop[:2]
    with pytest.raises(TelemetryInvalid, match="neither when, where"):
        read(loop)


def test_directory_at_a_fraction_over_nothing_is_none() -> None:
    """A pointer written as 1/0 leads nowhere, and is no error of ours."""
    pointer = struct.pack("<HHII", 0x8769, 5, 1, 26)
    damaged = (
        b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 1) + pointer + bytes(4) + struct.pack("<II", 1, 0)
    )
    with pytest.raises(TelemetryInvalid, match="neither when, where"):
        read(damaged)
