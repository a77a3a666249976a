"""Files made to harm, or that are no video: each is refused with a reason, in time and in bounds."""

from __future__ import annotations

import os
import resource
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.sandbox import Limits
from ingest.video import probe_video, read_frames
from outwatch.domain.errors import CorruptClip, PermanentError, UnsupportedFormat

Clip = Callable[..., Path]
BOMB_WIDTH_PX, BOMB_HEIGHT_PX = 16384, 8192


def test_text_named_as_video_is_no_video(tmp_path: Path, limits: Limits) -> None:
    """A text file is refused as such."""
    path = tmp_path / "notes.mp4"
    path.write_text("the lens was dirty\n" * 200)
    with pytest.raises(UnsupportedFormat, match=r"notes\.mp4: is not a video"):
        probe_video(path, limits=limits)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{target}'\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{target}</BaseURL></MPD>',
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    ],
    ids=["hls", "concat", "dash", "sdp"],
)
def test_playlist_named_as_video_reads_no_other_file(
    clip: Clip, tmp_path: Path, limits: Limits, text: str
) -> None:
    """A playlist that points at a good local clip is refused, not followed."""
    target = clip("target.ts")
    path = tmp_path / "playlist.mp4"
    path.write_text(text.format(target=target))
    with pytest.raises(UnsupportedFormat, match="is not a video"):
        probe_video(path, limits=limits)


def test_archive_and_picture_are_no_video(tmp_path: Path, limits: Limits) -> None:
    """A zip and an image are refused, whatever their names."""
    import cv2
    import numpy as np

    archive, image = tmp_path / "flight.mp4", tmp_path / "still.png"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.mp4", b"x" * 5000)
    cv2.imwrite(str(image), np.zeros((64, 64, 3), np.uint8))
    for path in (archive, image.rename(tmp_path / "still.mp4")):
        with pytest.raises(UnsupportedFormat, match="is not a video"):
            probe_video(path, limits=limits)


def test_empty_file_is_refused(tmp_path: Path, limits: Limits) -> None:
    """An empty file is refused before a decoder starts."""
    path = tmp_path / "empty.mp4"
    path.touch()
    with pytest.raises(CorruptClip, match=r"empty \(0 bytes\): copy it again"):
        probe_video(path, limits=limits)


def test_only_regular_files_are_read(clip: Clip, tmp_path: Path, limits: Limits) -> None:
    """A pipe, a folder and a link are refused at once; a missing file says so."""
    pipe, folder, link = tmp_path / "pipe.mp4", tmp_path / "folder.mp4", tmp_path / "link.mp4"
    os.mkfifo(pipe)
    folder.mkdir()
    link.symlink_to(clip())
    started = time.monotonic()
    for path, reason in ((pipe, "no regular file"), (folder, "no regular file"), (link, "symbolic link")):
        with pytest.raises(UnsupportedFormat, match=reason):
            probe_video(path, limits=limits)
    with pytest.raises(CorruptClip, match="No such file"):
        probe_video(tmp_path / "missing.mp4", limits=limits)
    assert time.monotonic() - started < 2


def test_sound_without_picture_is_refused(tmp_path: Path, limits: Limits) -> None:
    """A container without video says so."""
    import av
    import numpy as np

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(CorruptClip, match="holds no video"):
        probe_video(path, limits=limits)


def test_codec_off_the_list_is_refused(clip: Clip, limits: Limits) -> None:
    """A codec that no camera writes is not decoded at all."""
    with pytest.raises(UnsupportedFormat, match="codec flv is none of"):
        probe_video(clip("old.avi", codec="flv"), limits=limits)


def test_clip_without_one_decodable_frame_is_refused(clip: Clip, limits: Limits) -> None:
    """A container in order whose pictures are noise gives no frame."""
    path = clip(frames=10)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    path.write_bytes(data)
    with pytest.raises(CorruptClip, match="not one frame can be decoded"):
        probe_video(path, limits=limits)
    with pytest.raises(CorruptClip, match="not one frame can be decoded"):
        list(read_frames(path, limits=limits))


@pytest.mark.parametrize("header", ["honest", "lying"])
def test_pixel_bomb_is_refused_before_it_takes_memory(clip: Clip, limits: Limits, header: str) -> None:
    """A 16384 x 8192 frame is refused by its header, or by its stream where the header lies."""
    path = clip("bomb.avi", codec="mjpeg", pixels="yuvj420p", frames=3)
    data = path.read_bytes()
    old, new = struct.pack(">HH", 128, 160), struct.pack(">HH", BOMB_HEIGHT_PX, BOMB_WIDTH_PX)
    data = data.replace(b"\xff\xc0\x00\x11\x08" + old, b"\xff\xc0\x00\x11\x08" + new)
    if header == "honest":
        data = data.replace(struct.pack("<II", 160, 128), struct.pack("<II", BOMB_WIDTH_PX, BOMB_HEIGHT_PX))
    path.write_bytes(data)
    before_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with pytest.raises(PermanentError, match=r"16384x8192 pixels exceed|not one frame can be decoded"):
        probe_video(path, limits=limits)
    grown_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before_kb
    assert grown_kb < 150_000  # one such frame alone takes 200 MB


def test_h264_bomb_in_a_stream_is_refused(tmp_path: Path, limits: Limits) -> None:
    """A real frame above the limit is refused by its size, with a way out."""
    import av
    import numpy as np

    path = tmp_path / "large.ts"
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=1, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 1024, 512, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((512, 1024, 3), np.uint8), format="bgr24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    small = Limits(max_pixels=1024 * 512 - 1, memory_mb=2048, cpu_s=60, silence_s=30)
    with pytest.raises(PermanentError, match=r"max_pixels|not one frame"):
        probe_video(path, limits=small)
    assert probe_video(path, limits=limits).width_px == 1024


def test_memory_limit_holds_and_says_what_to_do(clip: Clip, limits: Limits) -> None:
    """A decoder that needs more memory than it may have is refused, not waited for."""
    tight = Limits(max_pixels=limits.max_pixels, memory_mb=200, cpu_s=60, silence_s=30)
    with pytest.raises(PermanentError, match="decoder"):
        probe_video(clip(), limits=tight)


def test_processor_limit_holds_and_says_what_to_do(tmp_path: Path, limits: Limits) -> None:
    """A clip that needs more processor time than it may have is refused."""
    import av
    import numpy as np

    path = tmp_path / "long.avi"
    noise = np.random.default_rng(1).integers(0, 255, (2160, 3840, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuvj420p"
        (picture,) = stream.encode(av.VideoFrame.from_ndarray(noise, format="bgr24"))
        for number in range(60):  # the same picture again and again: cheap to write, dear to read
            packet = av.Packet(bytes(picture))
            packet.stream, packet.time_base = stream, picture.time_base
            packet.pts = packet.dts = number
            container.mux(packet)
    tight = Limits(max_pixels=limits.max_pixels, memory_mb=2048, cpu_s=1, silence_s=30)
    with pytest.raises(CorruptClip, match="more than 1 s of processor time"):
        probe_video(path, limits=tight)
