"""The child program that decodes one hostile file: ``python -m ingest.decoder DESCRIPTOR < FILE``.

Belongs here: the requests (probe, timeline, frames, isolation) and their answers. Not here: decoding itself
(``container.py``), the wall around it (``confinement.py``), and what the numbers mean (``video.py``).
It reads its request (JSON) from a descriptor, imports what it needs, confines itself, and only then looks
at the file.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import pkgutil
import re
import statistics
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import IO, Any

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
from ingest.container import Decoded, Tally, decode, holes, is_photo, open_video, rate_hz, read_packets
from ingest.timeline import PacketTable, grid_step

DECLARING = ("mov", "matroska", "avi")
"""Containers whose header states a duration; of the others FFmpeg guesses one."""
CHROMA_SAMPLES, CHROMA_EVERY_S, CHROMA_SIZE_PX = 12, 1.0, (160, 120)
"""Frames looked at to tell thermal from RGB, how far apart, and the size they are shrunk to."""
SCALER = "AREA"
"""How frames are shrunk. Measured for 1920x1080 to 640x360, colours changed in the same pass: 2.0 ms a
frame, FFmpeg's default (bicubic) 2.3, fast bilinear 1.7, which leaves out most pixels and so small things."""
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
        source = Source(file, limits=limits, photo=request.get("photo", False), beat=heartbeat(out))
        if mode == "probe":
            report = probe(source, full_mpx=request.get("full_mpx"), keyframe_fps=request.get("keyframe_fps"))
            _send_klv(source.tally, out=out)
        elif mode == "timeline":
            report = source.timeline()
        else:
            report = send_frames(
                source,
                sample_fps=request["sample_fps"],
                indices=request["indices"],
                longest_px=request.get("longest_px"),
                out=out,
            )
        send(out, REPORT, json.dumps(report).encode())
    except RefusedError as refused:
        _refuse(out, refused.kind, str(refused))
    except MemoryError:
        reason = f"needs more than {limits.memory_mb} MB to decode: raise decoder_memory_mb or cut the clip"
        _refuse(out, "unsupported", reason)
    except av.FFmpegError as error:
        _refuse(out, "corrupt", f"cannot be decoded ({error.strerror})")


class Source:
    """A hostile file, opened, with the table of its packets where they tell which frame each is."""

    def __init__(self, file: IO[bytes], *, limits: Limits, photo: bool, beat: Callable[[], None]) -> None:
        """Open the file.

        Raises:
            RefusedError: it is not taken, as ``open_video`` says.
        """
        self._file, self._limits, self._photo, self._beat = file, limits, photo, beat
        self.container, self.stream = open_video(file, limits=limits, photo=photo)
        self.tally = Tally()
        self.table: PacketTable | None = None
        self.problem: str | None = "a photo has one frame"
        if not is_photo(self.container):
            self.table, self.problem = self._read_packets()

    @property
    def mpx(self) -> float:
        """Return how many megapixels a decode of all frames gives; infinite where that is not known."""
        if self.table is None:
            return math.inf
        return self.table.count * self.stream.width * self.stream.height / 1e6

    def frames(self, wanted: Collection[int] | None = None, *, to_end: bool = True) -> Iterator[Decoded]:
        """Yield frames as ``decode`` does, counting anew."""
        self.tally = Tally()
        container, stream = self._opened_again()
        yield from decode(
            container,
            stream,
            tally=self.tally,
            limits=self._limits,
            beat=self._beat,
            table=self.table,
            wanted=wanted,
            to_end=to_end,
        )

    def holds(self, indices: Sequence[int] | None) -> bool:
        """Return whether any of some frames, or of all, may be in the file."""
        if indices is None:
            return True
        return any(self.table is None or index < self.table.count for index in indices[:1])

    def timeline(self) -> dict[str, object]:
        """Return the frames' times and the keyframes' indices, or why they cannot be told."""
        if self.table is None:
            return {"offsets_s": [], "keyframes": [], "problem": self.problem}
        return {
            "offsets_s": self.table.offsets_s.tolist(),
            "keyframes": self.table.keyframes.tolist(),
            "problem": None,
        }

    def _read_packets(self) -> tuple[PacketTable | None, str | None]:
        container, stream = self._opened_again()
        try:
            return read_packets(container, stream, beat=self._beat), None
        except ValueError as unordered:
            return None, str(unordered)

    def _opened_again(self) -> tuple[av.container.InputContainer, av.VideoStream]:
        """Return the file opened anew: what was read once cannot be read again, and no seek is trusted."""
        self._file.seek(0)
        return open_video(self._file, limits=self._limits, photo=self._photo)


def probe(source: Source, *, full_mpx: float | None, keyframe_fps: float | None) -> dict[str, object]:
    """Return all that is known of a file.

    Args:
        source: the opened file.
        full_mpx: a file of more megapixels than this has only its keyframes decoded, unless these or
            its packets show damage; None decodes every file to its end.
        keyframe_fps: so many of them a second at most; None is all.
    """
    if full_mpx is not None and source.mpx > full_mpx and source.table is not None:
        report = _probed(source, wanted=source.table.sampled_keyframes(keyframe_fps).tolist())
        if _sound(report, source.table):
            return report
    return _probed(source, wanted=None)


def _probed(source: Source, *, wanted: Sequence[int] | None) -> dict[str, object]:
    chroma: list[float] = []
    for decoded in source.frames(wanted):
        if len(chroma) < CHROMA_SAMPLES and decoded.offset_s >= len(chroma) * CHROMA_EVERY_S:
            chroma.append(coloured_share(decoded.frame))
    container, stream, tally = source.container, source.stream, source.tally
    declares = container.format.name.startswith(DECLARING)
    return {
        **_summary(container, stream, tally),
        **(_by_packets(source.table, wanted, tally, rate_hz(stream)) if source.table and wanted else {}),
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


def _by_packets(
    table: PacketTable, wanted: Sequence[int], tally: Tally, frame_rate_hz: float
) -> dict[str, object]:
    """Return what packets say of a file of which only some frames were decoded."""
    offsets_s = table.offsets_s
    return {
        "checked": "keyframes",
        "frames_read": len(offsets_s),
        "lost": tally.lost + len(wanted) - tally.frames_read,
        "discarded": table.hidden,
        "gaps": holes(offsets_s.tolist(), interval_s=1 / frame_rate_hz),
        "duration_read_s": round(float(offsets_s[-1]) + 1 / frame_rate_hz, 6),
    }


def _sound(report: Mapping[str, Any], table: PacketTable) -> bool:
    """Return whether neither packets nor keyframes show damage, nor any frame is missing."""
    declared = report["frames_declared"]
    whole = declared is None or declared - report["discarded"] <= report["frames_read"]
    damage = report["marked"] or report["lost"] or report["read_error"] or report["gaps"] or table.corrupt
    return whole and not damage


def send_frames(
    source: Source,
    *,
    sample_fps: float | None,
    indices: Sequence[int] | None,
    longest_px: int | None,
    out: IO[bytes],
) -> dict[str, object]:
    """Send the asked frames and return a summary of the decode."""
    listed = None if indices is None else frozenset(indices)
    last = None if listed is None else max(listed, default=-1)
    size = _size(source.stream, longest_px)
    grid = None if sample_fps is None else _Grid(sample_fps)
    for decoded in source.frames(indices, to_end=indices is None):
        if (listed is None or decoded.index in listed) and (grid is None or grid.reached(decoded.offset_s)):
            # All frames of a clip have one size, whatever a damaged header says midway.
            image = decoded.frame.to_ndarray(
                format="bgr24", width=size[0], height=size[1], interpolation=SCALER
            )
            header = FRAME_HEADER.pack(decoded.index, decoded.offset_s, decoded.is_corrupt, *image.shape[:2])
            send(out, FRAME, header, np.ascontiguousarray(image).data)
        if last is not None and decoded.index >= last:
            break
    summary = _summary(source.container, source.stream, source.tally)
    # That nothing was decoded means damage only where something was to be.
    return summary if source.holds(indices) else {**summary, "frames_read": None}


def _size(stream: av.VideoStream, longest_px: int | None) -> tuple[int, int]:
    """Return width and height of the frames to send: as they are, or shrunk to a longest side."""
    longest = max(stream.width, stream.height)
    if longest_px is None or longest <= longest_px:
        return stream.width, stream.height
    scale = longest_px / longest
    return max(1, round(stream.width * scale)), max(1, round(stream.height * scale))


def _send_klv(tally: Tally, *, out: IO[bytes]) -> None:
    """Send the metadata's packets, timed from the first frame; what came before any picture came with it."""
    for at_s, data in tally.klv:
        offset_s = 0.0 if at_s is None else at_s - tally.first_s
        send(out, KLV, KLV_HEADER.pack(offset_s), data)


class _Grid:
    """Chooses the first frame at or after each k / fps, of frames that are told one by one."""

    def __init__(self, fps: float) -> None:
        self._fps, self._next = fps, 0

    def reached(self, offset_s: float) -> bool:
        """Return whether a frame, later than all told before, is the first at or after a step."""
        step = grid_step(offset_s, self._fps)
        if step < self._next:
            return False
        self._next = step + 1
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
        "checked": "every_frame",
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
