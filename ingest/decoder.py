"""The child program that decodes one hostile file: ``python -m ingest.decoder DESCRIPTOR < FILE``.

Belongs here: the requests (probe, frames, isolation) and their answers. Not here: decoding itself
(``container.py``), the wall around it (``confinement.py``), and what the numbers mean (``video.py``).
It reads its request (JSON) from a descriptor, imports what it needs, confines itself, and only then looks
at the file.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import statistics
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import IO

import av
import numpy as np

from ingest.confinement import (
    FRAME,
    FRAME_HEADER,
    KLV,
    KLV_HEADER,
    REFUSAL,
    REPORT,
    Limits,
    RefusedError,
    confine,
    heartbeat,
    send,
)
from ingest.container import Decoded, Tally, decode, is_photo, open_video, rate_hz

DECLARING = ("mov", "matroska", "avi")
"""Containers whose header states a duration; of the others FFmpeg guesses one."""
CHROMA_SAMPLES, CHROMA_EVERY_S, CHROMA_SIZE_PX = 12, 1.0, (160, 120)
"""Frames looked at to tell thermal from RGB, how far apart, and the size they are shrunk to."""
SOUND_RUNS_ON_S = 0.5
"""Where a container states one length for sound and pictures, the sound may be longer by so much."""
_TAGGED_DURATION = re.compile(r"(\d{1,4}):(\d\d):(\d\d\.\d{1,9})", re.ASCII)
CHROMA_NEUTRAL, CHROMA_FLAT = 128, 6
"""Value of a grey pixel's chroma, and how far coding noise takes it (measured: 1 on thermal video)."""


def main(text: str, *, file: IO[bytes], out: IO[bytes]) -> None:
    """Confine this process, carry out one request and say how it ended."""
    request = json.loads(text)
    limits = Limits(**request["limits"])
    _import_all_of_pyav()
    holds = confine(limits, parent_pid=request["parent_pid"])
    try:
        mode = request["mode"]
        if mode == "isolation":
            send(out, REPORT, json.dumps({"holds": holds}).encode())
            return
        container, stream = open_video(file, limits=limits, photo=request.get("photo", False))
        tally = Tally()
        frames = decode(container, stream, tally=tally, limits=limits, beat=heartbeat(out))
        if mode == "probe":
            report = probe(container, stream, frames=frames, tally=tally)
            _send_klv(tally, out=out)
        else:
            wanted, last_index = _choice(sample_fps=request["sample_fps"], indices=request["indices"])
            _send_frames(frames, stream, wanted=wanted, last_index=last_index, out=out)
            report = _summary(container, stream, tally)
        send(out, REPORT, json.dumps(report).encode())
    except RefusedError as refused:
        _refuse(out, refused.kind, str(refused))
    except MemoryError:
        reason = f"needs more than {limits.memory_mb} MB to decode: raise decoder_memory_mb or cut the clip"
        _refuse(out, "unsupported", reason)
    except av.FFmpegError as error:
        _refuse(out, "corrupt", f"cannot be decoded ({error.strerror})")


def probe(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    *,
    frames: Iterator[Decoded],
    tally: Tally,
) -> dict[str, object]:
    """Decode a file to its end and return all that is known of it."""
    chroma: list[float] = []
    for decoded in frames:
        if len(chroma) < CHROMA_SAMPLES and decoded.offset_s >= len(chroma) * CHROMA_EVERY_S:
            chroma.append(coloured_share(decoded.frame))
    declares = container.format.name.startswith(DECLARING)
    return {
        **_summary(container, stream, tally),
        "container": container.format.name,
        "codec": stream.codec_context.name,
        "width": stream.width,
        "height": stream.height,
        "rate_hz": 0.0 if is_photo(container) else rate_hz(stream),
        "created": container.metadata.get("creation_time"),
        "frames_declared": 1 if is_photo(container) else stream.frames or None,
        "duration_declared_s": _duration_s(container, stream) if declares else None,
        "coloured_share": _coloured(chroma, damaged=tally.marked + tally.lost > 0),
        "subtitles": _subtitles(tally),
    }


def _send_frames(
    frames: Iterator[Decoded],
    stream: av.VideoStream,
    *,
    wanted: Callable[[int, float], bool],
    last_index: int | None,
    out: IO[bytes],
) -> None:
    for decoded in frames:
        if wanted(decoded.index, decoded.offset_s):
            # All frames of a clip have one size, whatever a damaged header says midway.
            image = decoded.frame.to_ndarray(format="bgr24", width=stream.width, height=stream.height)
            header = FRAME_HEADER.pack(decoded.index, decoded.offset_s, decoded.is_corrupt, *image.shape[:2])
            send(out, FRAME, header, np.ascontiguousarray(image).data)
        if last_index is not None and decoded.index >= last_index:
            return


def _send_klv(tally: Tally, *, out: IO[bytes]) -> None:
    """Send the metadata's packets, timed from the first frame; what came before any picture came with it."""
    for at_s, data in tally.klv:
        offset_s = 0.0 if at_s is None else at_s - tally.first_s
        send(out, KLV, KLV_HEADER.pack(offset_s), data)


def _choice(
    *, sample_fps: float | None, indices: Collection[int] | None
) -> tuple[Callable[[int, float], bool], int | None]:
    """Return what chooses frames by index and offset, and the last index it can choose."""
    if indices is not None:
        listed = frozenset(indices)
        return (lambda index, _offset_s: index in listed), max(listed, default=-1)
    if sample_fps is not None:
        return _Grid(sample_fps).reached, None
    return (lambda _index, _offset_s: True), None


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


def _coloured(shares: Sequence[float], *, damaged: bool) -> float | None:
    """Return how coloured a clip is: its most coloured sample, or the median where damage paints colours."""
    if not shares:
        return None
    return statistics.median(shares) if damaged else max(shares)


def coloured_share(frame: av.VideoFrame) -> float:
    """Return the share of a frame's chroma values that are not grey."""
    width, height = CHROMA_SIZE_PX
    small = frame.reformat(width=width, height=height, format="yuv420p")
    planes = [
        np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in small.planes[1:]
    ]
    distance = np.abs(np.stack(planes).astype(np.int16) - CHROMA_NEUTRAL)
    return float((distance > CHROMA_FLAT).mean())


def _summary(
    container: av.container.InputContainer, stream: av.VideoStream, tally: Tally
) -> dict[str, object]:
    last_frame_s = 0.0 if is_photo(container) else 1 / rate_hz(stream)
    return {
        "frames_read": tally.frames_read,
        "marked": tally.marked,
        "lost": tally.lost,
        "discarded": tally.discarded,
        "backward": tally.backward,
        "read_error": tally.read_error,
        "gaps": tally.gaps,
        "duration_read_s": round(tally.last_offset_s + last_frame_s, 6) if tally.frames_read else 0.0,
    }


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


def _import_all_of_pyav() -> None:
    """Import what PyAV imports only when it meets a kind of stream, while files can still be opened."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in {"av.__main__", "av.datasets"}:  # a command line, and a downloader
            importlib.import_module(module.name)


def _refuse(out: IO[bytes], kind: str, reason: str) -> None:
    send(out, REFUSAL, json.dumps({"kind": kind, "reason": reason}).encode())


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1])) as request:
        text = request.read()
    main(text, file=os.fdopen(0, "rb"), out=os.fdopen(1, "wb"))
