"""Open an untrusted video file with PyAV and decode all of it that can be decoded, or what is asked for.

Belongs here: what is allowed in, and the one way to decode, so that a frame's index is the same
whoever asks. Not here: how packets become frames (``timeline.py``) and what is done with the frames
(``decoder.py``). Only the confined child runs this.

Few frames are picked by reading all packets and decoding only those that these frames need: reading costs
a hundredth of decoding, and a seek lands where a container's index, which may lie, says.

What damage is noticed depends on the codec, as FFmpeg conceals it. Measured on flipped bits that
changed the picture (60 a codec, FFmpeg 8.1): H.264 marks a frame in 95 % of cases, MPEG-4 Part 2 in
75 %; HEVC and MJPEG mark none, and with ``err_detect=explode`` give an error in 12 % and 22 %.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice, pairwise
from typing import IO, Any

import av
import numpy as np
import numpy.typing as npt
from av.stream import Disposition

from ingest.confinement import MAX_KLV_BYTES, MAX_KLV_PACKETS, Limits, RefusedError
from ingest.still import PHOTO_CODECS, PHOTO_FORMATS, decode_still, photo_format
from ingest.timeline import MAX_FRAMES, Packet, PacketTable
from outwatch.domain.misb import UAS_KEY

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg"
"""Containers, by FFmpeg's names. None of them may name another file: no playlists, no image lists."""
CODECS = frozenset(
    {"h264", "hevc", "mjpeg", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "mpeg1video", "mpeg2video"}
    | {"vp8", "vp9", "av1", "libdav1d", "prores"}
)
"""Decoders, by FFmpeg's names: what cameras write, and what footage is commonly converted to."""
ERROR_DETECTION = {"hevc": "explode", "mjpeg": "explode"}
"""Codecs that conceal damage without a mark unless they are told to fail; the others mark the frame."""
MAX_STREAMS = 32
"""Aircraft write up to eight: pictures, subtitles and their own data."""
MAX_THREADS = 4
"""Each decoding thread holds frames of its own, and memory is limited."""
MAX_SUBTITLE_BYTES = 32 << 20
"""Text of one subtitle track; the longest sample has 4 MB."""
TS_PACKETS = ((0, 188), (4, 192), (0, 204))
"""Where the first sync byte of an MPEG transport stream lies and how far the next: plain packets, with a
timestamp in front, with error correction behind (ISO 13818-1; ETSI EN 300 744; Blu-ray)."""
_HEAD_BYTES = 256
MAX_GAPS = 1000
GAP_MIN_S, GAP_INTERVALS = 0.5, 3.0
"""A hole in the timestamps is longer than both: cameras drop single frames, and thermal ones hold
the picture for about 0.2 s while their shutter recalibrates."""


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
    klv: list[tuple[float | None, bytes]] = field(default_factory=list)
    """The metadata's packets: seconds of the container's clock, None ahead of all pictures, and bytes."""
    klv_bytes: int = 0
    klv_stream: int | None = None
    """Index of the first stream that was seen to carry MISB metadata."""
    picture_s: float | None = None
    """When the latest picture was due for decoding: streams are interleaved by that, so that metadata without
    a time of its own is of about then."""
    first_s: float = 0.0
    """Time of the first frame on the container's clock."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One frame as it left the decoder, in order of display."""

    index: int
    """Its place among the frames that the file holds, or among those decoded where that cannot be told."""
    offset_s: float
    is_corrupt: bool
    frame: av.VideoFrame


def open_video(
    file: IO[bytes], *, limits: Limits, photo: bool = False
) -> tuple[av.container.InputContainer, av.VideoStream]:
    """Open the container and choose its moving picture; no decoder is given a frame too large.

    Args:
        file: the untrusted file.
        limits: what it may cost.
        photo: it must be a still picture; without this it must not.

    Raises:
        RefusedError: the container, codec or frame size is not allowed, or there is no video in it.
    """
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    form = photo_format(head) if photo else None
    codecs = PHOTO_CODECS if photo else CODECS
    try:
        container = av.open(
            file,
            mode="r",
            format=form,
            metadata_errors="replace",
            buffer_size=1 << 20,
            # max_pixels must hold already while FFmpeg looks into the streams, so it goes to all of them.
            options={
                "max_pixels": str(limits.max_pixels),
                "codec_whitelist": ",".join(sorted(codecs)),
            },
            container_options={
                "format_whitelist": form or FORMATS,
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
    if codec not in codecs:
        raise RefusedError(
            "unsupported", f"codec {codec} is none of {', '.join(sorted(codecs))}: convert the clip"
        )
    _check_size(stream.codec_context.width, stream.codec_context.height, max_pixels=limits.max_pixels)
    return container, stream


def read_packets(
    container: av.container.InputContainer, stream: av.VideoStream, *, beat: Callable[[], None]
) -> PacketTable:
    """Read a file's packets to its end without decoding any; the container is used up.

    Raises:
        ValueError: they do not tell which frame each is; the message says why.
    """
    found: list[Packet] = []
    packets = container.demux(stream)
    while (packet := _next_packet(packets, tally=Tally())) is not None:
        beat()
        if packet.size == 0:
            continue
        found.append(Packet(packet.pts, packet.is_keyframe, packet.is_discard, packet.is_corrupt))
        if len(found) > MAX_FRAMES:
            raise ValueError(f"more than {MAX_FRAMES} frames")
    if stream.time_base is None:
        raise ValueError("the container states no clock")
    return PacketTable(found, time_base=stream.time_base)


def decode(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    *,
    tally: Tally,
    limits: Limits,
    beat: Callable[[], None],
    table: PacketTable | None = None,
    wanted: Collection[int] | None = None,
    to_end: bool = True,
) -> Iterator[Decoded]:
    """Yield every frame that can be decoded, in order; what cannot be is counted in ``tally``.

    Args:
        container: the opened file.
        stream: its pictures.
        tally: what is come upon is counted here.
        limits: what the file may cost.
        beat: called often.
        table: the file's packets, where they tell the order of display.
        wanted: with a table, the indices of the only frames to yield; damage between them goes unnoticed.
        to_end: read the text and metadata behind the last wanted frame too.
    """
    if is_photo(container):
        beat()
        yield from _decode_photo(container, stream, tally=tally, limits=limits)
        return
    needed = None if table is None or wanted is None else table.needed(wanted)
    listed = None if needed is None or wanted is None else frozenset(wanted)
    first: Fraction | None = None
    if table is not None:
        first = table.first_pts * table.time_base
        tally.first_s = float(first)
    interval_s = 1 / rate_hz(stream)
    index = -1
    for frame in _frames(
        container, stream, tally=tally, limits=limits, beat=beat, needed=needed, to_end=to_end
    ):
        _check_size(frame.width, frame.height, max_pixels=limits.max_pixels)
        at = None if frame.pts is None or stream.time_base is None else frame.pts * stream.time_base
        index = index + 1 if table is None or frame.pts is None else max(index + 1, table.index_of(frame.pts))
        if listed is not None and index not in listed:
            continue
        if tally.frames_read == 0 and table is None:
            first = at
            tally.first_s = float(at or 0)
            offset_s = 0.0
        else:
            offset_s = _offset_s(at, first, tally=tally, interval_s=interval_s, skipping=listed is not None)
        corrupt = bool(frame.is_corrupt) or (frame.width, frame.height) != (stream.width, stream.height)
        tally.frames_read += 1
        tally.marked += corrupt
        tally.last_offset_s = offset_s
        yield Decoded(index, offset_s, corrupt, frame)


def is_photo(container: av.container.InputContainer) -> bool:
    """Return whether a container is a still picture, which has one frame and no duration."""
    return container.format.name in PHOTO_FORMATS.values()


def rate_hz(stream: av.VideoStream) -> float:
    """Return frames per second as declared, else 25, which only fills in for absent timestamps."""
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    return rate if 0.01 <= rate <= 1000 else 25.0  # noqa: PLR2004 - beyond these it is a mistake


def _decode_photo(
    container: av.container.InputContainer, stream: av.VideoStream, *, tally: Tally, limits: Limits
) -> Iterator[Decoded]:
    packet = next(container.demux(stream), None)
    found = decode_still(stream.codec_context.name, packet, max_pixels=limits.max_pixels)
    if found is None:
        tally.lost += 1
        return
    frame, corrupt = found
    _check_size(frame.width, frame.height, max_pixels=limits.max_pixels)
    tally.frames_read, tally.marked = 1, int(corrupt)
    yield Decoded(0, 0.0, corrupt, frame)


def _frames(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    *,
    tally: Tally,
    limits: Limits,
    beat: Callable[[], None],
    needed: npt.NDArray[np.bool_] | None,
    to_end: bool,
) -> Iterator[av.VideoFrame]:
    """Yield what the decoder makes of the packets, of the needed ones only where these are told."""
    context = stream.codec_context
    context.thread_type = "AUTO"
    context.thread_count = 1 if _apart(needed) else min(len(os.sched_getaffinity(0)), MAX_THREADS)
    context.options = {
        "max_pixels": str(limits.max_pixels),
        "err_detect": ERROR_DETECTION.get(context.name, "crccheck+bitstream+buffer"),
    }
    last = -1 if needed is None else int(np.flatnonzero(needed).max(initial=-1))
    position, holding = -1, False
    for packet in _packets(container, stream, tally=tally, beat=beat):
        position += 1
        if needed is None or (position < len(needed) and needed[position]):
            tally.discarded += packet.is_discard
            holding = True
            yield from _decoded(context, packet, tally=tally)
            continue
        if holding:  # what follows is none of its business
            yield from _drained(context, tally=tally)
            context.flush_buffers()
            holding = False
        if position >= last and not to_end:
            return
    if holding:
        yield from _drained(context, tally=tally)


def _apart(needed: npt.NDArray[np.bool_] | None) -> bool:
    """Return whether no two packets in a row are needed: threads would only wait for each other."""
    return needed is not None and not (needed[1:] & needed[:-1]).any()


def _packets(
    container: av.container.InputContainer, stream: av.VideoStream, *, tally: Tally, beat: Callable[[], None]
) -> Iterator[av.Packet[Any]]:
    """Yield the pictures' packets; text and metadata that lie between them are kept."""
    texts = [s for s in container.streams.subtitles if s.codec_context is not None]
    packets = container.demux(stream, *texts[:1], *_metadata(container))
    while (packet := _next_packet(packets, tally=tally)) is not None:
        beat()
        if packet.size == 0:  # the end of a stream; the decoder is emptied at the end of all
            continue
        if packet.stream.type == "data":
            _keep_klv(packet, tally=tally)
        elif packet.stream is not stream:
            _keep_subtitle(packet, tally=tally)
        else:
            if packet.dts is not None:
                tally.picture_s = float(packet.dts * packet.time_base)
            yield packet


def _next_packet(packets: Iterator[av.Packet[Any]], *, tally: Tally) -> av.Packet[Any] | None:
    try:
        return next(packets, None)
    except MemoryError:
        raise
    except av.FFmpegError as error:
        tally.read_error = str(error.strerror)
        return None


def _decoded(context: av.VideoCodecContext, packet: av.Packet[Any], *, tally: Tally) -> list[av.VideoFrame]:
    try:
        return context.decode(packet)
    except MemoryError:
        raise
    except av.FFmpegError:
        tally.lost += 1
        return []


def _drained(context: av.VideoCodecContext, *, tally: Tally) -> Iterator[av.VideoFrame]:
    """Yield what a decoder still holds; an error in one frame does not lose those behind it."""
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


def _offset_s(
    at: Fraction | None, first: Fraction | None, *, tally: Tally, interval_s: float, skipping: bool
) -> float:
    """Return a frame's time from the first frame, which never runs back.

    Where frames are skipped, the time between two that are not says nothing.
    """
    expected_s = round(tally.last_offset_s + interval_s, 6)
    if at is None or first is None:
        return expected_s
    offset_s = round(float(at - first), 6)
    if skipping or (tally.frames_read == 0 and offset_s >= 0):
        return offset_s
    if offset_s <= tally.last_offset_s:
        tally.backward += 1
        return expected_s
    if len(tally.gaps) < MAX_GAPS:
        tally.gaps += holes([tally.last_offset_s, offset_s], interval_s=interval_s)
    return offset_s


def holes(offsets_s: Sequence[float], *, interval_s: float) -> list[tuple[float, float]]:
    """Return the first holes between the times of frames, which ascend, as (start, end) in seconds."""
    longest_s = max(GAP_MIN_S, GAP_INTERVALS * interval_s)
    found = ((start, end) for start, end in pairwise(offsets_s) if end - start > longest_s)
    return list(islice(found, MAX_GAPS))


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


def _metadata(container: av.container.InputContainer) -> list[Any]:
    """Return the streams that may carry KLV: those that say so, and in a transport stream all private ones.

    Encoders often leave out the registration ("KLVA") that MISB ST 1402 asks for.
    """
    private = container.format.name == "mpegts"
    return [stream for stream in container.streams.data if private or stream.name == "klv"]


def _keep_klv(packet: av.Packet[Any], *, tally: Tally) -> None:
    data = bytes(packet)
    if tally.klv_stream is None and UAS_KEY in data:
        tally.klv_stream = packet.stream.index
    if packet.stream.index != tally.klv_stream:
        return
    if len(tally.klv) == MAX_KLV_PACKETS or tally.klv_bytes + len(data) > MAX_KLV_BYTES:
        return
    tally.klv_bytes += len(data)
    at_s = tally.picture_s if packet.pts is None else float(packet.pts * packet.time_base)
    tally.klv.append((at_s, data))


def _check_size(width: int, height: int, *, max_pixels: int) -> None:
    way_out = "convert the clip to a smaller size, or raise the setting"
    if width * height > max_pixels:
        raise RefusedError(
            "unsupported", f"frames of {width}x{height} pixels exceed max_pixels={max_pixels}: {way_out}"
        )
    if width * height == 0:  # FFmpeg forgets a size that it was told to refuse
        raise RefusedError(
            "unsupported",
            f"frames are damaged, so that they have no size, or exceed max_pixels={max_pixels}: {way_out}",
        )


def _not_opened(head: bytes, error: Any) -> RefusedError:
    """Tell a damaged video from what never was one, by its first bytes."""
    begins_as_video = (
        head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}
        or head[:4] in {b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba"}
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or any(head[at : at + 1] == b"G" == head[at + step : at + step + 1] for at, step in TS_PACKETS)
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
