"""The child program that decodes one hostile file: ``python -m ingest.decoder REQUEST < FILE``.

Belongs here: everything that touches footage, and nothing that outlives one file. Not here: the
wall around it (``sandbox.py``) and what its numbers mean (``video.py``). It runs confined, so it
imports only the decoder and, after the wall is shut, nothing at all.

What damage is noticed depends on the codec, as FFmpeg conceals it. Measured on single flipped bits
that changed the picture (FFmpeg 8.1): H.264 marks the frame in 95 % of cases, MPEG-4 Part 2 in 75 %;
HEVC and MJPEG mark none, and with ``err_detect=explode`` give an error in 12 % and 22 %.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Any

from ingest.sandbox import (
    FRAME,
    FRAME_HEADER,
    REFUSAL,
    REPORT,
    Limits,
    confine,
    monotonic_beat,
    seal,
    send,
)

if TYPE_CHECKING:
    import av

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg"
"""Containers, by FFmpeg's names. None of them may name another file: no playlists, no image lists."""
CODECS = frozenset(
    {"h264", "hevc", "mjpeg", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "mpeg1video", "mpeg2video"}
    | {"vp8", "vp9", "av1", "libdav1d", "prores"}
)
"""Decoders, by FFmpeg's names: what cameras write, and what footage is commonly converted to."""
DECLARING = ("mov", "matroska", "avi")
"""Containers whose header states a duration; of the others FFmpeg guesses one."""
ERROR_DETECTION = {"hevc": "explode", "mjpeg": "explode"}
"""Codecs that conceal damage without a mark unless they are told to fail; the others mark the frame."""
MAX_STREAMS = 32
"""Aircraft write up to eight: pictures, subtitles and their own data."""
MAX_THREADS = 4
"""Each decoding thread holds frames of its own, and memory is limited."""
MAX_SUBTITLE_BYTES = 32 << 20
"""Text of one subtitle track; the longest sample has 4 MB."""
MAX_GAPS = 1000
GAP_MIN_S, GAP_INTERVALS = 0.5, 3.0
"""A hole in the timestamps is longer than both: cameras drop single frames, and thermal ones hold
the picture for about 0.2 s while their shutter recalibrates."""
CHROMA_SAMPLES, CHROMA_EVERY_S, CHROMA_SIZE_PX = 12, 1.0, (160, 120)
"""Frames looked at to tell thermal from RGB, how far apart, and the size they are shrunk to."""
SOUND_RUNS_ON_S = 0.5
"""Where a container states one length for sound and pictures, the sound may be longer by so much."""
_TAGGED_DURATION = re.compile(r"(\d{1,4}):(\d\d):(\d\d\.\d{1,9})", re.ASCII)
CHROMA_NEUTRAL, CHROMA_FLAT = 128, 6
"""Value of a grey pixel's chroma, and how far coding noise takes it (measured: 1 on thermal video)."""


class RefusedError(Exception):
    """The file is refused; ``kind`` is ``corrupt`` or ``unsupported``."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(slots=True)
class Tally:
    """What one pass over a file came upon, beside its frames."""

    frames_read: int = 0
    marked: int = 0
    """Frames that carry the decoder's mark of damage."""
    lost: int = 0
    """Packets that gave no frame but an error."""
    discarded: int = 0
    """Packets that an edit list hides: declared, and rightly not shown."""
    backward: int = 0
    read_error: str | None = None
    last_offset_s: float = 0.0
    gaps: list[tuple[float, float]] = field(default_factory=list)
    subtitles: list[tuple[float, float, str]] = field(default_factory=list)
    """Start and duration in seconds of the container's clock, and text."""
    subtitle_bytes: int = 0
    first_s: float = 0.0
    """Time of the first frame on the container's clock."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One frame as it left the decoder, in order of display."""

    index: int
    offset_s: float
    is_corrupt: bool
    frame: av.VideoFrame


def main(argument: str, *, file: IO[bytes], out: IO[bytes]) -> None:
    """Confine this process, carry out one request and say how it ended."""
    request = json.loads(argument)
    limits = Limits(**request["limits"])
    holds = confine(limits, parent_pid=request["parent_pid"])
    try:
        import av

        _import_all_of_pyav()
        holds += seal()
        mode = request["mode"]
        if mode == "isolation":
            send(out, REPORT, json.dumps({"holds": holds}).encode())
            return
        beat = monotonic_beat(out)
        container, stream = open_video(file, limits=limits)
        if mode == "probe":
            report = probe(container, stream, limits=limits, beat=beat)
        else:
            wanted = _wanted(sample_fps=request["sample_fps"], indices=request["indices"])
            report = _send_frames(container, stream, limits=limits, beat=beat, wanted=wanted, out=out)
        send(out, REPORT, json.dumps(report).encode())
    except RefusedError as refused:
        _refuse(out, refused.kind, str(refused))
    except MemoryError:
        reason = f"needs more than {limits.memory_mb} MB to decode: raise decoder_memory_mb or cut the clip"
        _refuse(out, "unsupported", reason)
    except av.FFmpegError as error:
        _refuse(out, "corrupt", f"cannot be decoded ({error.strerror})")


def _import_all_of_pyav() -> None:
    """Import what PyAV imports late, when no file can be opened any more."""
    import av
    import numpy as np  # noqa: F401 - for frames as arrays

    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in {"av.__main__", "av.datasets"}:  # a command line, and a downloader
            importlib.import_module(module.name)


def open_video(file: IO[bytes], *, limits: Limits) -> tuple[av.container.InputContainer, av.VideoStream]:
    """Open the container and choose its moving picture; no decoder is given a frame too large.

    Raises:
        RefusedError: the container, codec or frame size is not allowed, or there is no video in it.
    """
    import av
    from av.stream import Disposition

    head = file.read(16)
    file.seek(0)
    try:
        container = av.open(
            file,
            mode="r",
            metadata_errors="replace",
            buffer_size=1 << 20,
            # max_pixels must hold already while FFmpeg looks into the streams, so it goes to all of them.
            options={
                "max_pixels": str(limits.max_pixels),
                "codec_whitelist": ",".join(sorted(CODECS)),
            },
            container_options={
                "format_whitelist": FORMATS,
                "protocol_whitelist": "none",
                "max_streams": str(MAX_STREAMS),
            },
        )
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise _not_opened(head, error) from error
    pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not pictures:
        raise RefusedError(
            "corrupt",
            "holds no video: a recording that was cut off lacks its index; copy it again from the card, or"
            " repair it with the aircraft",
        )
    stream = pictures[0]
    codec = stream.codec_context.name if stream.codec_context else "unknown"
    if codec not in CODECS:
        raise RefusedError(
            "unsupported", f"codec {codec} is none of {', '.join(sorted(CODECS))}: convert the clip"
        )
    _check_size(stream.codec_context.width, stream.codec_context.height, max_pixels=limits.max_pixels)
    return container, stream


def decode(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    *,
    tally: Tally,
    limits: Limits,
    beat: Callable[[], None],
) -> Iterator[Decoded]:
    """Yield every frame that can be decoded, in order; what cannot be is counted in ``tally``."""
    first: Fraction | None = None
    interval_s = 1 / _rate_hz(stream)
    for frame in _frames(container, stream, tally=tally, limits=limits, beat=beat):
        _check_size(frame.width, frame.height, max_pixels=limits.max_pixels)
        at = None if frame.pts is None or stream.time_base is None else frame.pts * stream.time_base
        if tally.frames_read == 0:
            first = at
            tally.first_s = float(at or 0)
            offset_s = 0.0
        else:
            offset_s = _offset_s(at, first, tally=tally, interval_s=interval_s)
        corrupt = bool(frame.is_corrupt) or (frame.width, frame.height) != (stream.width, stream.height)
        yield Decoded(tally.frames_read, offset_s, corrupt, frame)
        tally.frames_read += 1
        tally.marked += corrupt
        tally.last_offset_s = offset_s


def _frames(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    *,
    tally: Tally,
    limits: Limits,
    beat: Callable[[], None],
) -> Iterator[av.VideoFrame]:
    import av

    context = stream.codec_context
    context.thread_type = "AUTO"
    context.thread_count = min(len(os.sched_getaffinity(0)), MAX_THREADS)
    context.options = {
        "max_pixels": str(limits.max_pixels),
        "err_detect": ERROR_DETECTION.get(context.name, "crccheck+bitstream+buffer"),
    }
    texts = [s for s in container.streams.subtitles if s.codec_context is not None]
    packets = container.demux(stream, *texts[:1])
    while True:
        beat()
        try:
            packet = next(packets, None)
        except MemoryError:
            raise
        except av.FFmpegError as error:
            tally.read_error = str(error.strerror)
            packet = None
        if packet is None:
            break
        if packet.stream is not stream:
            _keep_subtitle(packet, tally=tally)
            continue
        if packet.size == 0:  # the end of the stream; the decoder is emptied below
            continue
        tally.discarded += packet.is_discard
        yield from _decoded(context, packet, tally=tally)
    yield from _drained(context, tally=tally)


def _decoded(context: av.VideoCodecContext, packet: av.Packet[Any], *, tally: Tally) -> list[av.VideoFrame]:
    import av

    try:
        return context.decode(packet)
    except MemoryError:
        raise
    except av.FFmpegError:
        tally.lost += 1
        return []


def _drained(context: av.VideoCodecContext, *, tally: Tally) -> Iterator[av.VideoFrame]:
    """Yield what a decoder still holds; an error in one frame does not lose those behind it."""
    import av

    for _ in range(MAX_THREADS + 16):  # more than any decoder holds back
        try:
            yield from context.decode(None)
        except EOFError:
            return
        except MemoryError:
            raise
        except av.FFmpegError:
            tally.lost += 1
        else:
            return


def _offset_s(at: Fraction | None, first: Fraction | None, *, tally: Tally, interval_s: float) -> float:
    """Return a frame's time from the first frame, which never runs back."""
    expected_s = round(tally.last_offset_s + interval_s, 6)
    if at is None or first is None:
        return expected_s
    offset_s = round(float(at - first), 6)
    if offset_s <= tally.last_offset_s:
        tally.backward += 1
        return expected_s
    gap_s = max(GAP_MIN_S, GAP_INTERVALS * interval_s)
    if offset_s - tally.last_offset_s > gap_s and len(tally.gaps) < MAX_GAPS:
        tally.gaps.append((tally.last_offset_s, offset_s))
    return offset_s


def probe(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    *,
    limits: Limits,
    beat: Callable[[], None],
) -> dict[str, object]:
    """Decode a file to its end and return all that is known of it."""
    tally = Tally()
    chroma: list[float] = []
    for decoded in decode(container, stream, tally=tally, limits=limits, beat=beat):
        if len(chroma) < CHROMA_SAMPLES and decoded.offset_s >= len(chroma) * CHROMA_EVERY_S:
            chroma.append(coloured_share(decoded.frame))
    declares = container.format.name.startswith(DECLARING)
    return {
        **_summary(stream, tally),
        "container": container.format.name,
        "codec": stream.codec_context.name,
        "width": stream.width,
        "height": stream.height,
        "rate_hz": _rate_hz(stream),
        "created": container.metadata.get("creation_time"),
        "frames_declared": stream.frames or None,
        "duration_declared_s": _duration_s(container, stream) if declares else None,
        "coloured_share": max(chroma, default=None),
        "subtitles": _subtitles(tally),
    }


def _send_frames(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    *,
    limits: Limits,
    beat: Callable[[], None],
    wanted: Callable[[int, float], bool],
    out: IO[bytes],
) -> dict[str, object]:
    tally = Tally()
    for decoded in decode(container, stream, tally=tally, limits=limits, beat=beat):
        if wanted(decoded.index, decoded.offset_s):
            # All frames of a clip have one size, whatever a damaged header says midway.
            image = decoded.frame.to_ndarray(format="bgr24", width=stream.width, height=stream.height)
            header = FRAME_HEADER.pack(decoded.index, decoded.offset_s, decoded.is_corrupt, *image.shape[:2])
            send(out, FRAME, header, image.tobytes() if not image.flags.c_contiguous else image.data)
    return _summary(stream, tally)


def _wanted(*, sample_fps: float | None, indices: Collection[int] | None) -> Callable[[int, float], bool]:
    """Return what chooses frames by index and offset: the listed ones, a grid in time, or all."""
    if indices is not None:
        listed = frozenset(indices)
        return lambda index, _offset_s: index in listed
    if sample_fps is None:
        return lambda _index, _offset_s: True
    return _Grid(sample_fps).reached


class _Grid:
    """Chooses the first frame at or after each k / fps, so that a clip gives the same ones always."""

    def __init__(self, fps: float) -> None:
        self._fps, self._next = fps, 0

    def reached(self, _index: int, offset_s: float) -> bool:
        point = int(offset_s * self._fps + 1e-6)  # timestamps are rounded to the container's clock
        if point < self._next:
            return False
        self._next = point + 1
        return True


def coloured_share(frame: av.VideoFrame) -> float:
    """Return the share of a frame's chroma values that are not grey."""
    import numpy as np

    width, height = CHROMA_SIZE_PX
    small = frame.reformat(width=width, height=height, format="yuv420p")
    planes = [
        np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in small.planes[1:]
    ]
    distance = np.abs(np.stack(planes).astype(np.int16) - CHROMA_NEUTRAL)
    return float((distance > CHROMA_FLAT).mean())


def _summary(stream: av.VideoStream, tally: Tally) -> dict[str, object]:
    return {
        "frames_read": tally.frames_read,
        "marked": tally.marked,
        "lost": tally.lost,
        "discarded": tally.discarded,
        "backward": tally.backward,
        "read_error": tally.read_error,
        "gaps": tally.gaps,
        "duration_read_s": round(tally.last_offset_s + 1 / _rate_hz(stream), 6) if tally.frames_read else 0.0,
    }


def _rate_hz(stream: av.VideoStream) -> float:
    """Return frames per second as declared, else 25, which only fills in for absent timestamps."""
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    return rate if 0.01 <= rate <= 1000 else 25.0  # noqa: PLR2004 - beyond these it is a mistake


def _duration_s(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """Return the declared length of the pictures, of the whole file where that is all there is."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if tagged := _TAGGED_DURATION.fullmatch(stream.metadata.get("DURATION", "")):  # Matroska
        hours, minutes, seconds = map(float, tagged.groups())
        return hours * 3600 + minutes * 60 + seconds
    if not container.duration:
        return None
    return container.duration / 1_000_000 - (SOUND_RUNS_ON_S if container.streams.audio else 0.0)


def _keep_subtitle(packet: av.Packet[Any], *, tally: Tally) -> None:
    data = bytes(packet)
    if packet.stream.codec_context.name == "mov_text":  # two bytes of length precede the text
        data = data[2 : 2 + int.from_bytes(data[:2], "big")]
    # MP4 fills the time between texts with empty ones.
    if packet.pts is None or not data or tally.subtitle_bytes + len(data) > MAX_SUBTITLE_BYTES:
        return
    tally.subtitle_bytes += len(data)
    start_s = float(packet.pts * packet.time_base)
    duration_s = float((packet.duration or 0) * packet.time_base)
    tally.subtitles.append((start_s, duration_s, data.decode("utf-8", errors="replace")))


def _subtitles(tally: Tally) -> str | None:
    """Return the subtitle track as SRT text, timed from the first frame."""
    blocks = []
    for number, (start_s, duration_s, text) in enumerate(tally.subtitles, start=1):
        offset_s = max(0.0, start_s - tally.first_s)
        lines = "\n".join(line for line in text.splitlines() if line.strip())
        blocks.append(f"{number}\n{_cue(offset_s)} --> {_cue(offset_s + duration_s)}\n{lines}\n")
    return "\n".join(blocks) or None


def _cue(seconds: float) -> str:
    millis = round(seconds * 1000)
    return f"{millis // 3_600_000:02}:{millis // 60_000 % 60:02}:{millis // 1000 % 60:02},{millis % 1000:03}"


def _check_size(width: int, height: int, *, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise RefusedError(
            "unsupported",
            f"frames of {width}x{height} pixels exceed max_pixels={max_pixels}: convert the clip to a"
            " smaller size, or raise the setting",
        )


def _not_opened(head: bytes, error: Any) -> RefusedError:
    """Tell a damaged video from what never was one, by its first bytes."""
    begins_as_video = (
        head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}
        or head[:4] in {b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba"}
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or head[:1] == b"G"
    )
    if begins_as_video:
        return RefusedError(
            "corrupt",
            f"begins as a video but its index cannot be read ({error.strerror}): the recording was cut off or"
            " damaged; copy it again from the card, or repair it with the aircraft",
        )
    return RefusedError(
        "unsupported",
        "is not a video of a kind that is read here (MP4, MOV, MKV, WebM, AVI, MPEG-TS, MPEG-PS): hand in the"
        " original recording",
    )


def _refuse(out: IO[bytes], kind: str, reason: str) -> None:
    send(out, REFUSAL, json.dumps({"kind": kind, "reason": reason}).encode())


if __name__ == "__main__":
    main(sys.argv[1], file=os.fdopen(0, "rb"), out=os.fdopen(1, "wb"))
