"""Few frames of a clip are read without decoding the others, and are the same frames."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ingest.sandbox import Limits
from ingest.timeline import Packet, PacketTable, Timeline
from ingest.video import probe_video, read_frames, read_timeline
from outwatch.domain.types import Frame

Clip = Callable[..., Path]
Marks = list[tuple[int, float, bool, int]]
KINDS = [
    ("a.mp4", "libx264", {}),
    ("b.mp4", "libx265", {}),  # its default is open groups: pictures behind a keyframe need the one before
    ("c.mkv", "libx264", {"x264-params": "open-gop=1:bframes=3"}),
    ("d.ts", "libx264", {"x264-params": "bframes=2"}),
    ("e.mp4", "mpeg4", {}),
    ("f.webm", "libvpx-vp9", {}),
    ("g.avi", "mjpeg", {}),
]


def marks(frames: list[Frame]) -> Marks:
    """Return what identifies frames, with a sum of their pixels."""
    return [(f.index, f.offset_s, f.is_corrupt, int(f.image.sum(dtype=np.int64))) for f in frames]


def coded(path: Path, *, codec: str, options: dict[str, str], picture: Callable[[int], np.ndarray]) -> Path:
    """Write 48 frames at 24 a second with a keyframe every half second."""
    with av.open(str(path), "w", format="mpegts" if path.suffix == ".ts" else None) as container:
        stream = container.add_stream(codec, rate=24, options=options)
        stream.width, stream.height, stream.gop_size, stream.thread_count = 160, 128, 12, 1
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(48):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="bgr24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("name", "codec", "options"), KINDS)
def test_picked_frames_are_those_of_a_whole_decode(
    tmp_path: Path,
    limits: Limits,
    picture: Callable[[int], np.ndarray],
    name: str,
    codec: str,
    options: dict[str, str],
) -> None:
    """Keyframes, and frames of windows, have the index, time and pixels that a whole decode gives them."""
    path = coded(tmp_path / name, codec=codec, options=options, picture=picture)
    whole = {mark[0]: mark for mark in marks(list(read_frames(path, limits=limits)))}
    timeline = read_timeline(path, limits=limits)
    assert (timeline.problem, len(timeline.offsets_s), len(whole)) == (None, 48, 48)
    assert [mark[1] for mark in whole.values()] == timeline.offsets_s.tolist()
    windows = timeline.within(timeline.sampled(8.0), [(0.6, 1.1), (1.7, 9.0)])
    for indices in (timeline.keyframes.tolist(), windows.tolist(), [11, 13, 47]):
        picked = marks(list(read_frames(path, indices=indices, limits=limits)))
        assert picked == [whole[index] for index in indices]


@pytest.mark.parametrize("name", ["night_vehicles.mp4", "aerial_traffic.mp4", "tower_gate_cars.mp4"])
def test_picked_frames_of_real_clips_are_those_of_a_whole_decode(
    samples: Path, limits: Limits, name: str
) -> None:
    """Real footage, with pictures coded out of order, gives the same frames either way."""
    path = samples / "footage" / name
    timeline = read_timeline(path, limits=limits)
    assert timeline.problem is None
    indices = sorted({*timeline.keyframes.tolist()[:3], *timeline.sampled(0.2).tolist()})
    whole = {mark[0]: mark for mark in marks(list(read_frames(path, limits=limits, longest_px=160)))}
    picked = marks(list(read_frames(path, indices=indices, limits=limits, longest_px=160)))
    assert picked == [whole[index] for index in indices]


def test_frames_are_picked_by_time_as_a_whole_pass_picks_them(clip: Clip, limits: Limits) -> None:
    """The timeline chooses the frames that sampling chooses while decoding, also across a hole."""
    path = clip("gap.mkv", frames=20, fps=10, times=[*range(10), *range(40, 50)])
    sampled = [frame.index for frame in read_frames(path, sample_fps=3.0, limits=limits)]
    assert read_timeline(path, limits=limits).sampled(3.0).tolist() == sampled


def test_frames_beyond_the_end_are_not_there(clip: Clip, limits: Limits) -> None:
    """To ask for none, or for frames that a clip does not have, is no damage."""
    path = clip(frames=4)
    for indices in ([], [-1], [99], [3, 99]):
        found = [frame.index for frame in read_frames(path, indices=indices, limits=limits)]
        assert found == [index for index in indices if 0 <= index < 4]


def test_large_frames_are_shrunk_before_they_are_sent(clip: Clip, limits: Limits) -> None:
    """An image's longest side is as asked, its shape is kept, and none is enlarged."""
    path = clip(frames=2)
    shapes = [
        next(read_frames(path, limits=limits, longest_px=longest_px)).image.shape for longest_px in (80, 4000)
    ]
    assert shapes == [(64, 80, 3), (128, 160, 3)]


def test_clip_of_many_pixels_is_known_by_its_packets_and_keyframes(clip: Clip, limits: Limits) -> None:
    """What is said of it is the same as after a whole decode, but for how it was checked."""
    path = clip()
    quick, whole = probe_video(path, limits=limits, full_mpx=0.1), probe_video(path, limits=limits)
    assert (quick.completeness.checked, whole.completeness.checked) == ("keyframes", "every_frame")
    assert quick.completeness.frames_read == whole.completeness.frames_read == 60
    assert (quick.duration_s, quick.modality, quick.completeness.reason) == (
        whole.duration_s,
        whole.modality,
        None,
    )
    assert (
        probe_video(path, limits=limits, full_mpx=60 * 160 * 128 / 1e6).completeness.checked == "every_frame"
    )


def test_damage_in_a_keyframe_has_every_frame_decoded(clip: Clip, limits: Limits) -> None:
    """A clip whose keyframes show damage is checked as a short one is, with the same result."""
    path = clip()
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        key = [packet for packet in container.demux(video=0) if packet.is_keyframe][2]
    for step in range(6):
        data[key.pos + key.size // 3 + 7 * step] ^= 0xFF
    path.write_bytes(data)
    quick = probe_video(path, limits=limits, full_mpx=0.1).completeness
    assert quick.checked == "every_frame"
    assert quick == probe_video(path, limits=limits).completeness
    assert not quick.complete


@pytest.mark.parametrize("share", [0.45, 0.9])
def test_cut_clip_of_many_pixels_is_flagged(clip: Clip, limits: Limits, share: float) -> None:
    """A cut shows in the packets, whichever way the rest is looked at."""
    path = clip()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    quick = probe_video(path, limits=limits, full_mpx=0.1).completeness
    assert quick == probe_video(path, limits=limits).completeness
    assert "of 60 frames can be read" in str(quick.reason)


def test_photo_has_no_timeline(tmp_path: Path, limits: Limits) -> None:
    """One frame is read whole, and the timeline says why there is none."""
    path = tmp_path / "still.png"
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        image = np.full((48, 64, 3), 90, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
    timeline = read_timeline(path, limits=limits)
    assert (timeline.problem, len(timeline.offsets_s)) == ("a photo has one frame", 0)


@pytest.mark.parametrize(
    ("packets", "problem"),
    [
        ([Packet(0, False), Packet(1, True)], "do not begin with a keyframe"),
        ([Packet(0, True), Packet(None, False)], "without a timestamp"),
        ([Packet(0, True), Packet(0, False)], "with one timestamp"),
        ([Packet(2, True), Packet(1, False)], "before the first keyframe"),
        ([Packet(0, True), Packet(20, True), Packet(11, True), Packet(31, False)], "time runs backwards"),
        ([], "do not begin with a keyframe"),
    ],
)
def test_packets_that_do_not_tell_the_order_are_refused(packets: list[Packet], problem: str) -> None:
    """Frames are only picked where it is certain which they are."""
    with pytest.raises(ValueError, match=problem):
        PacketTable(packets, time_base=Fraction(1, 10))


def test_frames_need_what_they_are_coded_from() -> None:
    """A picture shown before a keyframe but coded behind it needs the keyframe before, and all between."""
    order = [(0, True), (2, False), (1, False), (5, True), (3, False), (4, False), (7, False)]
    table = PacketTable([Packet(pts, key) for pts, key in order], time_base=Fraction(1, 10))
    assert table.keyframes.tolist() == [0, 5]
    assert np.flatnonzero(table.needed([0, 5])).tolist() == [0, 3]
    assert np.flatnonzero(table.needed([2])).tolist() == [0, 1]
    assert np.flatnonzero(table.needed([4])).tolist() == [0, 1, 2, 3, 4, 5]
    assert np.flatnonzero(table.needed([6])).tolist() == [3, 4, 5, 6]
    assert not table.needed([99, -1]).any()


def test_frames_that_an_edit_list_hides_have_no_index() -> None:
    """They are decoded where others need them, and never counted."""
    packets = [Packet(0, True, is_hidden=True), Packet(1, False, is_hidden=True), Packet(2, False)]
    table = PacketTable(packets, time_base=Fraction(1, 10))
    assert (table.keyframes.tolist(), table.offsets_s.tolist(), table.hidden) == ([], [0.0], 2)
    assert table.needed([0]).tolist() == [True, True, True]


def test_parts_begin_at_keyframes_and_hold_all() -> None:
    """A clip is split where decoding can begin; a frame lies in exactly one part."""
    timeline = Timeline(np.arange(100) / 10, np.arange(0, 100, 7))
    parts = timeline.parts_s(3.0)
    assert [start for start, _ in parts] == [0.0, 3.5, 7.0]
    held = [timeline.within(np.arange(100), [part]).tolist() for part in parts]
    assert [index for part in held for index in part] == list(range(100))
    assert timeline.longest_gap_s == pytest.approx(0.7)
