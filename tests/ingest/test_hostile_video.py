"""Files made to harm, or that are no video: each is refused with a reason, in time and in bounds."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ingest.container import _not_opened
from ingest.sandbox import Limits
from ingest.video import probe_video, read_frames
from outwatch.domain.errors import CorruptClip, UnsupportedFormat

Clip = Callable[..., Path]
BOMB_WIDTH_PX, BOMB_HEIGHT_PX = 16384, 8192
# A process of its own, as Linux counts the parent's memory before exec among the child's.
MEASURE = """
import json, os, subprocess, sys
request = {"mode": "probe", "limits": json.loads(sys.argv[1]), "parent_pid": os.getpid()}
note, end = os.pipe()
os.write(end, json.dumps(request).encode())
os.close(end)
command = [sys.executable, "-m", "ingest.decoder", str(note)]
child = subprocess.Popen(command, stdout=subprocess.DEVNULL, pass_fds=[note])
print(os.wait4(child.pid, 0)[2].ru_maxrss)
child.returncode = 0
"""


def test_text_named_as_video_is_no_video(tmp_path: Path, limits: Limits) -> None:
    """A text file is refused as such, also where it begins as a transport stream does."""
    path = tmp_path / "notes.mp4"
    for text in ("the lens was dirty\n" * 200, "Good flight, clear sky\n" * 200, "G"):
        path.write_text(text)
        with pytest.raises(UnsupportedFormat, match=r"notes\.mp4: is not a video"):
            probe_video(path, limits=limits)


@pytest.mark.parametrize(("before", "packet"), [(0, 188), (4, 192), (0, 204)])
def test_damaged_transport_stream_is_no_foreign_file(before: int, packet: int) -> None:
    """Two sync bytes a packet apart are a video that was damaged, whatever kind of packets."""
    head = bytearray(256)
    head[before] = head[before + packet] = ord("G")
    assert _not_opened(bytes(head), OSError(5, "damaged")).kind == "corrupt"
    head[before + packet] = ord("g")
    assert _not_opened(bytes(head), OSError(5, "damaged")).kind == "unsupported"


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
    archive, image = tmp_path / "flight.mp4", tmp_path / "still.png"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.mp4", b"x" * 5000)
    Image.new("RGB", (64, 64)).save(image)
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
    """A pipe, a folder and a link are refused unread; a missing file says so."""
    pipe, folder, link = tmp_path / "pipe.mp4", tmp_path / "folder.mp4", tmp_path / "link.mp4"
    os.mkfifo(pipe)
    folder.mkdir()
    link.symlink_to(clip())
    for path, reason in ((pipe, "no regular file"), (folder, "no regular file"), (link, "symbolic link")):
        with pytest.raises(UnsupportedFormat, match=reason):
            probe_video(path, limits=limits)
    with pytest.raises(CorruptClip, match="No such file"):
        probe_video(tmp_path / "missing.mp4", limits=limits)


def test_sound_without_picture_is_refused(tmp_path: Path, limits: Limits) -> None:
    """A container without video says so."""
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


@pytest.fixture(scope="module")
def huge_picture() -> bytes:
    """A JPEG of 1.5 MB that takes 134 MB when decoded."""
    with io.BytesIO() as file:
        Image.new("L", (BOMB_WIDTH_PX, BOMB_HEIGHT_PX), 90).save(file, "JPEG", quality=5)
        return file.getvalue()


@pytest.mark.parametrize("name", ["bomb.mp4", "bomb.avi", "bomb.mkv"])
@pytest.mark.parametrize("stated", [(BOMB_WIDTH_PX, BOMB_HEIGHT_PX), (160, 128)], ids=["honest", "lying"])
def test_pixel_bomb_is_refused_before_it_takes_memory(
    tmp_path: Path, limits: Limits, huge_picture: bytes, stated: tuple[int, int], name: str
) -> None:
    """A 16384 x 8192 frame is refused whatever its container states, and its memory is never taken."""
    bomb = _of_pictures(tmp_path / name, [huge_picture], stated=stated)
    with pytest.raises(UnsupportedFormat, match="exceed max_pixels=50000000: convert the clip"):
        probe_video(bomb, limits=limits)
    assert _peak_kb(bomb, limits) < 120_000
    assert _peak_kb(bomb, replace(limits, max_pixels=BOMB_WIDTH_PX * BOMB_HEIGHT_PX)) > 180_000


def test_pixel_bomb_behind_a_small_frame_is_not_decoded(
    tmp_path: Path, limits: Limits, huge_picture: bytes
) -> None:
    """A frame that grows midway is lost, not decoded."""
    with io.BytesIO() as file:
        Image.new("L", (160, 128), 90).save(file, "JPEG")
        small = file.getvalue()
    path = _of_pictures(tmp_path / "grows.avi", [small, huge_picture, small], stated=(160, 128))
    completeness = probe_video(path, limits=limits).completeness
    assert (completeness.frames_read, completeness.corrupt_frames) == (2, 1)
    assert _peak_kb(path, limits) < 120_000


@pytest.mark.parametrize("name", ["large.mp4", "large.ts"])
def test_frame_above_the_limit_says_its_size(clip: Clip, limits: Limits, name: str) -> None:
    """The reason names the size, the limit and the way out; below the limit it is read."""
    path = clip(name, frames=2)
    with pytest.raises(UnsupportedFormat, match=r"frames of 160x128 pixels exceed max_pixels=20479: convert"):
        probe_video(path, limits=replace(limits, max_pixels=160 * 128 - 1))
    assert probe_video(path, limits=replace(limits, max_pixels=2 * 160 * 128)).width_px == 160


def test_memory_limit_holds_and_says_what_to_do(tmp_path: Path, limits: Limits, huge_picture: bytes) -> None:
    """A decoder that needs more memory than it may have is refused, not waited for."""
    path = _of_pictures(tmp_path / "big.avi", [huge_picture], stated=(BOMB_WIDTH_PX, BOMB_HEIGHT_PX))
    tight = replace(limits, max_pixels=BOMB_WIDTH_PX * BOMB_HEIGHT_PX, memory_mb=300)
    with pytest.raises(UnsupportedFormat, match="needs more than 300 MB to decode: raise decoder_memory_mb"):
        probe_video(path, limits=tight)


def test_processor_limit_holds_and_says_what_to_do(
    tmp_path: Path, limits: Limits, huge_picture: bytes
) -> None:
    """A clip that needs more processor time than it may have is refused."""
    path = _of_pictures(tmp_path / "long.avi", [huge_picture] * 20, stated=(BOMB_WIDTH_PX, BOMB_HEIGHT_PX))
    tight = replace(limits, max_pixels=BOMB_WIDTH_PX * BOMB_HEIGHT_PX, cpu_s=1)
    with pytest.raises(CorruptClip, match="more than 1 s of processor time"):
        probe_video(path, limits=tight)


def _of_pictures(path: Path, pictures: list[bytes], *, stated: tuple[int, int]) -> Path:
    """Write a clip of JPEGs in a container that states a frame size."""
    with av.open(str(path), "w") as container:
        stream = container.add_mux_stream("mjpeg", rate=10, width=stated[0], height=stated[1])
        stream.time_base = Fraction(1, 10)
        for number, picture in enumerate(pictures):
            packet = av.Packet(picture)
            packet.stream, packet.time_base = stream, Fraction(1, 10)
            packet.pts = packet.dts = number
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)
    return path


def _peak_kb(path: Path, limits: Limits) -> int:
    """Return the most memory that a decoder of this file ever holds."""
    with path.open("rb") as file:
        command = [sys.executable, "-c", MEASURE, json.dumps(asdict(limits))]
        return int(subprocess.run(command, stdin=file, capture_output=True, check=True).stdout)
