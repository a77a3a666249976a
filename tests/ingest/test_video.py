"""Probing and reading healthy and damaged clips."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ingest.sandbox import Limits
from ingest.video import probe_video, read_frames
from outwatch.domain.errors import PermanentError
from outwatch.domain.types import Completeness, Frame, Modality

Clip = Callable[..., Path]
KINDS = [
    ("a.mp4", "libx264", "yuv420p"),
    ("b.mp4", "libx265", "yuv420p"),
    ("c.mp4", "mpeg4", "yuv420p"),
    ("d.mkv", "libx264", "yuv420p"),
    ("e.ts", "libx264", "yuv420p"),
    ("f.avi", "mjpeg", "yuvj420p"),
    ("g.webm", "libvpx-vp9", "yuv420p"),
    ("h.mov", "prores_ks", "yuv422p10le"),
    ("i.mpg", "mpeg2video", "yuv420p"),
]


def flip(path: Path, *, at: float) -> Path:
    """Flip the bits of three bytes at a share of a file's length."""
    data = bytearray(path.read_bytes())
    for step in range(3):
        data[int(len(data) * at) + 5 * step] ^= 0xFF
    damaged = path.with_stem(f"{path.stem}_{at}")
    damaged.write_bytes(data)
    return damaged


def marks(frames: list[Frame]) -> list[tuple[int, float, bool]]:
    """Return what identifies frames, without their pixels."""
    return [(frame.index, frame.offset_s, frame.is_corrupt) for frame in frames]


@pytest.mark.parametrize(("name", "codec", "pixels"), KINDS)
def test_whole_clip_is_complete(clip: Clip, limits: Limits, name: str, codec: str, pixels: str) -> None:
    """Every allowed container and codec gives size, rate, length and all frames."""
    video = probe_video(clip(name, codec=codec, pixels=pixels, frames=30), limits=limits)
    assert (video.width_px, video.height_px, round(video.frame_rate_hz)) == (160, 128, 30)
    assert (video.completeness.frames_read, video.completeness.reason) == (30, None)
    assert video.duration_s == pytest.approx(1.0, abs=0.002)
    assert video.modality is Modality.RGB


def test_frames_carry_the_picture_in_bgr(
    clip: Clip, limits: Limits, picture: Callable[[int], np.ndarray]
) -> None:
    """Pixels come through the pipe as they were written, but for coding loss."""
    frames = list(read_frames(clip(frames=3), limits=limits))
    assert [frame.index for frame in frames] == [0, 1, 2]
    for frame in frames:
        assert (frame.image.shape, frame.image.dtype) == ((128, 160, 3), np.uint8)
        loss = np.abs(frame.image.astype(int) - picture(frame.index)).mean()
        other = np.abs(frame.image.astype(int) - picture(frame.index)[:, :, ::-1]).mean()
        assert loss < 0.5 * other


def test_time_grid_picks_the_first_frame_at_or_after_each_step(clip: Clip, limits: Limits) -> None:
    """Sampling by time takes the first frame at or after each k / fps, also across a hole."""
    path = clip(frames=8, fps=10, times=[0, 1, 3, 4, 7, 12, 13, 15])
    sampled = [(frame.index, frame.offset_s) for frame in read_frames(path, sample_fps=4, limits=limits)]
    assert sampled == [(0, 0.0), (2, 0.3), (4, 0.7), (5, 1.2), (6, 1.3), (7, 1.5)]


@pytest.mark.parametrize("at", [None, 0.34, 0.65])
def test_index_and_marks_of_a_frame_are_the_same_in_every_mode(
    clip: Clip, limits: Limits, at: float | None
) -> None:
    """All frames, sampled frames and listed frames agree, in whole and in damaged clips."""
    path = clip() if at is None else flip(clip(), at=at)
    every = {mark[0]: mark for mark in marks(list(read_frames(path, limits=limits)))}
    sampled = marks(list(read_frames(path, sample_fps=7, limits=limits)))
    listed = marks(list(read_frames(path, indices=[57, 0, 31], limits=limits)))
    assert sampled == [every[mark[0]] for mark in sampled]
    assert listed == [every[index] for index in (0, 31, 57)]


def test_any_number_of_frames_may_be_listed(clip: Clip, limits: Limits) -> None:
    """A list longer than a command line, and an empty one, are served."""
    path = clip(frames=4)
    assert [frame.index for frame in read_frames(path, indices=range(60_000), limits=limits)] == [0, 1, 2, 3]
    assert list(read_frames(path, indices=[], limits=limits)) == []
    assert [frame.index for frame in read_frames(path, indices=[0], limits=limits)] == [0]


def test_a_rate_beside_indices_is_a_mistake(clip: Clip, limits: Limits) -> None:
    """Only one way to choose frames may be given."""
    with pytest.raises(ValueError, match="sample_fps"):
        next(read_frames(clip(), sample_fps=2, indices=[1], limits=limits))


def test_grey_video_is_thermal(clip: Clip, limits: Limits) -> None:
    """Frames without colour are thermal."""
    assert probe_video(clip(grey=True), limits=limits).modality is Modality.THERMAL


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-03-14T16:40:00.000000Z", datetime(2026, 3, 14, 16, 40, tzinfo=UTC)),
        ("1970-01-01T00:00:00Z", None),
        (None, None),
    ],
)
def test_creation_time_is_read_unless_the_clock_was_unset(
    clip: Clip, limits: Limits, written: str | None, expected: datetime | None
) -> None:
    """The container's time is UTC; counting from an epoch is no time."""
    path = clip(frames=5, metadata={"creation_time": written} if written else {})
    assert probe_video(path, limits=limits).created_at == expected


def test_hole_in_time_is_found(clip: Clip, limits: Limits) -> None:
    """A recording that was interrupted is incomplete and says where."""
    path = clip("gap.mkv", frames=20, fps=10, times=[*range(10), *range(40, 50)])
    completeness = probe_video(path, limits=limits).completeness
    assert completeness.gaps == (pytest.approx((0.9, 4.0), abs=0.002),)
    assert "1 holes in time, 3.1 s" in str(completeness.reason)


@pytest.mark.parametrize("tenth", range(10))
def test_clip_cut_at_any_tenth_is_flagged(clip: Clip, limits: Limits, tenth: int) -> None:
    """A cut file gives what it holds and says what it lacks, or is refused with a reason."""
    whole = clip()
    data = whole.read_bytes()
    cut = whole.with_stem("cut")
    cut.write_bytes(data[: max(1, len(data) * tenth // 10)])
    outcome = _outcome(cut, limits)
    if isinstance(outcome, Completeness):
        assert outcome.frames_declared == 60
        assert outcome.frames_read < 60
        assert f"only {outcome.frames_read} of 60 frames" in str(outcome.reason)
    else:
        assert tenth <= 2
        assert "copy" in outcome or "hand in" in outcome


@pytest.mark.parametrize("name", ["cut.mkv", "cut.ts", "cut.avi"])
@pytest.mark.parametrize("share", [0.37, 0.71, 0.95])
def test_cut_is_noticed_in_containers_without_an_index(
    clip: Clip, limits: Limits, name: str, share: float
) -> None:
    """Streaming containers state no frame count, yet a cut shows."""
    path = clip(name, codec="mpeg4" if name.endswith("avi") else "libx264")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share) // 188 * 188 + 31])
    assert "cut short" in str(_outcome(path, limits))


def test_file_whose_index_was_never_written_is_refused(clip: Clip, limits: Limits) -> None:
    """A camera that lost power leaves an MP4 without its index at the end."""
    path = clip(faststart=False)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    assert "index" in str(_outcome(path, limits))


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_flipped_bytes_are_noticed(clip: Clip, limits: Limits, codec: str) -> None:
    """Of damage at eight places most is noticed, and the frames around it are still read."""
    path = clip(codec=codec)
    found = [_outcome(flip(path, at=tenth / 10 - 0.03), limits) for tenth in range(2, 10)]
    damaged = [outcome.corrupt_frames for outcome in found if isinstance(outcome, Completeness)]
    assert len(damaged) == 8
    assert sum(count > 0 for count in damaged) >= 5
    assert all(outcome.frames_read >= 59 for outcome in found if isinstance(outcome, Completeness))


def test_damaged_frames_are_counted_as_they_are_marked(clip: Clip, limits: Limits) -> None:
    """The number in the record is that of the marked frames, run after run."""
    path = flip(clip(), at=0.56)
    completeness = probe_video(path, limits=limits).completeness
    marked = [frame.index for frame in read_frames(path, limits=limits) if frame.is_corrupt]
    assert completeness.corrupt_frames == len(marked) > 0
    assert completeness == probe_video(path, limits=limits).completeness


@pytest.mark.parametrize(("name", "codec"), [("text.mp4", "mov_text"), ("text.mkv", "subrip")])
def test_embedded_telemetry_comes_out_as_srt(tmp_path: Path, limits: Limits, name: str, codec: str) -> None:
    """A subtitle track inside the video reads like a file beside it."""
    path = tmp_path / name
    lines = (
        "2026-03-14 21:40:00.000\n[latitude: 33.5866] [longitude: 71.4441] [rel_alt: 60.0 abs_alt: 1240.0]"
    )
    _with_subtitles(path, codec=codec, text=lines)
    text = probe_video(path, limits=limits).subtitles
    assert text is not None
    assert text.startswith(f"1\n00:00:00,000 --> 00:00:00,500\n{lines}\n\n2\n00:00:00,500 --> 00:00:01,000\n")


@pytest.mark.parametrize(
    ("name", "frames", "modality"),
    [
        ("night_vehicles.mp4", 435, Modality.THERMAL),
        ("night_gathering.mp4", 1170, Modality.THERMAL),
        ("aerial_traffic.mp4", 25, Modality.RGB),
        ("tower_gate_cars.mp4", 377, Modality.RGB),
        ("tower_pedestrians.avi", 795, Modality.RGB),
    ],
)
def test_real_footage_is_whole_and_of_its_kind(
    samples: Path, limits: Limits, name: str, frames: int, modality: Modality
) -> None:
    """Real clips are complete, and thermal is told from RGB."""
    video = probe_video(samples / "footage" / name, limits=limits)
    assert (video.completeness.frames_read, video.completeness.reason) == (frames, None)
    assert video.modality is modality


def _outcome(path: Path, limits: Limits) -> Completeness | str:
    try:
        return probe_video(path, limits=limits).completeness
    except PermanentError as error:
        return str(error)


def _with_subtitles(path: Path, *, codec: str, text: str) -> None:
    """Write a second of video with two text records, as aircraft embed them."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 160, 128, "yuv420p"
        track = container.add_mux_stream(codec)
        track.time_base = Fraction(1, 1000)
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((128, 160, 3), np.uint8), format="bgr24")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for number in range(2):
            data = text.encode()
            packet = av.Packet(len(data).to_bytes(2, "big") + data if codec == "mov_text" else data)
            packet.stream, packet.time_base = track, Fraction(1, 1000)
            packet.pts = packet.dts = number * 500
            packet.duration = 500
            container.mux(packet)
