"""Know a video file and read its frames, through the confined decoder.

Belongs here: what the decoder's numbers mean: completeness, modality, time of recording. Not here:
decoding (``decoder.py``) and the child it runs in (``sandbox.py``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ingest.confinement import (
    FRAME,
    FRAME_HEADER,
    KLV,
    KLV_HEADER,
    MAX_KLV_BYTES,
    MAX_KLV_PACKETS,
    REPORT,
    Limits,
)
from ingest.sandbox import converse
from ingest.timeline import Timeline
from outwatch.domain.errors import CorruptClip
from outwatch.domain.types import Completeness, Frame, Modality

COLOURED_SHARE_RGB = 0.001
"""From this share of coloured pixels on a clip is RGB. Measured: thermal 0, RGB traffic 0.06 to 0.42;
a thermal picture in false colours counts as RGB, for which the camera must be named."""
EARLIEST_CREATION = datetime(2000, 1, 1, tzinfo=UTC)
"""Earlier creation times are unset clocks: containers count from 1904 or 1970."""
SHORTER_INTERVALS = 1.5
"""A declared duration is rounded and may exceed the pictures' by one frame, not by two."""
_CUT = "the file is cut short or damaged, copy it again"
TS_PACKET_BYTES = (188, 192, 204)
"""Sizes of MPEG transport stream packets: plain, with a timestamp, with error correction."""


PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
"""Names of still pictures, each a clip of one frame. The name decides which kind of decoder may open a
file, its content whether it does."""


@dataclass(frozen=True, slots=True)
class ProbedVideo:
    """What one pass over a video file told; a photo is one frame of duration 0 at rate 0."""

    container: str
    codec: str
    width_px: int
    height_px: int
    frame_rate_hz: float
    created_at: datetime | None
    """The container's own time, as if it were UTC; many cameras write local time there."""
    duration_s: float
    """From the first frame to the end of the last one that was read."""
    modality: Modality
    completeness: Completeness
    subtitles: str | None
    """The embedded text track as SRT, timed from the first frame."""
    klv: tuple[tuple[float, bytes], ...] = ()
    """The packets of the embedded metadata stream: seconds from the first frame, and bytes."""

    @property
    def recorded_s(self) -> float:
        """Return how long the recording was, also where the file holds only a part of it."""
        return max(self.duration_s, self.completeness.duration_declared_s or 0.0)


def probe_video(
    path: Path, *, limits: Limits, full_mpx: float | None = None, keyframe_fps: float | None = None
) -> ProbedVideo:
    """Read a file to its end in a confined child and return what it is and what is missing of it.

    Args:
        path: the video file.
        limits: what it may cost.
        full_mpx: of a file with more megapixels than this only the keyframes are decoded, unless they or
            its packets show damage; None decodes every frame of any file.
        keyframe_fps: so many of those keyframes a second at most; None is all.

    Raises:
        CorruptClip: no frame of it can be decoded, or it breaks the decoder.
        UnsupportedFormat: it is not a regular file, or not one of the formats, codecs and sizes.
        FeedTimeout: the decoder went silent.
    """
    task = {
        "mode": "probe",
        "photo": is_photo(path),
        "full_mpx": full_mpx,
        "keyframe_fps": keyframe_fps,
    }
    klv: list[tuple[float, bytes]] = []
    klv_bytes = 0
    for kind, payload in converse(path, task=task, limits=limits):
        if kind == KLV:
            klv.append(_packet(path, payload))
            klv_bytes += len(payload) - KLV_HEADER.size
            if klv_bytes > MAX_KLV_BYTES or len(klv) > MAX_KLV_PACKETS:
                raise _senseless(path)
        if kind == REPORT:
            return _probed(path, _report(path, payload), klv=tuple(klv))
    raise CorruptClip(f"{path.name}: the decoder gave no report")  # pragma: no cover - converse raises first


def read_timeline(path: Path, *, limits: Limits) -> Timeline:
    """Return when each frame of a clip is shown and which are keyframes, without decoding any.

    Raises:
        CorruptClip: the file breaks the decoder.
        UnsupportedFormat: it is not one of the formats, codecs and sizes.
        FeedTimeout: the decoder went silent.
    """
    task = {"mode": "timeline", "photo": is_photo(path)}
    for kind, payload in converse(path, task=task, limits=limits):
        if kind == REPORT:
            return _timeline(path, _report(path, payload))
    raise CorruptClip(f"{path.name}: the decoder gave no report")  # pragma: no cover - converse raises first


def read_frames(
    path: Path,
    *,
    limits: Limits,
    sample_fps: float | None = None,
    indices: Collection[int] | None = None,
    longest_px: int | None = None,
) -> Iterator[Frame]:
    """Yield frames in order of display; index and offset of a frame are the same however it is asked for.

    Listed frames cost what they and the frames that they are coded from cost, not what the clip costs:
    a keyframe needs no other. All else decodes the clip whole.

    Args:
        path: the video file.
        limits: what it may cost.
        sample_fps: yield the first frame at or after each k / ``sample_fps`` seconds.
        indices: yield these frames; without it and without ``sample_fps`` all.
        longest_px: shrink larger images so that their longest side has so many pixels.

    Raises:
        ValueError: both are given, or the rate is not a positive number.
        CorruptClip: nothing can be decoded, or the file breaks the decoder on the way.
        UnsupportedFormat: it is not one of the formats, codecs and sizes.
        FeedTimeout: the decoder went silent.
    """
    if sample_fps is not None and (indices is not None or not (0 < sample_fps < math.inf)):
        raise ValueError(f"sample_fps must be a positive number and go without indices, found {sample_fps}")
    task = {
        "mode": "frames",
        "photo": is_photo(path),
        "sample_fps": sample_fps,
        "indices": None if indices is None else sorted(index for index in indices if index >= 0),
        "longest_px": longest_px,
    }
    for kind, payload in converse(path, task=task, limits=limits):
        if kind == FRAME:
            yield _frame(path, payload, limits=limits)
        elif _report(path, payload).get("frames_read") == 0:
            raise _no_frames(path)


def is_photo(path: PurePath) -> bool:
    """Return whether a file is to be opened as a still picture, by its name."""
    return path.suffix.lower() in PHOTO_SUFFIXES


def _frame(path: Path, payload: memoryview, *, limits: Limits) -> Frame:
    if len(payload) < FRAME_HEADER.size:
        raise _senseless(path)
    index, offset_s, is_corrupt, height, width = FRAME_HEADER.unpack_from(payload)
    pixels = payload[FRAME_HEADER.size :]
    if len(pixels) != height * width * 3 or height * width > limits.max_pixels or not math.isfinite(offset_s):
        raise _senseless(path)
    image = np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3)
    return Frame(index=index, offset_s=offset_s, image=image, is_corrupt=is_corrupt)


def _packet(path: Path, payload: memoryview) -> tuple[float, bytes]:
    if len(payload) < KLV_HEADER.size:
        raise _senseless(path)
    (offset_s,) = KLV_HEADER.unpack_from(payload)
    if not math.isfinite(offset_s):
        raise _senseless(path)
    return offset_s, bytes(payload[KLV_HEADER.size :])


def _report(path: Path, payload: memoryview) -> Mapping[str, Any]:
    try:
        report = json.loads(bytes(payload))
    except (ValueError, RecursionError) as error:
        raise _senseless(path) from error
    if not isinstance(report, dict):
        raise _senseless(path)
    return report


def _timeline(path: Path, report: Mapping[str, Any]) -> Timeline:
    try:
        offsets_s = np.array(report["offsets_s"], dtype=np.float64)
        keyframes = np.array(report["keyframes"], dtype=np.int64)
        problem = report["problem"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _senseless(path) from error
    sensible = np.isfinite(offsets_s).all() and (np.diff(offsets_s) >= 0).all() and offsets_s.ndim == 1
    within = keyframes.ndim == 1 and ((keyframes >= 0) & (keyframes < len(offsets_s))).all()
    if not (sensible and within and (np.diff(keyframes) > 0).all()):
        raise _senseless(path)
    return Timeline(offsets_s, keyframes, None if problem is None else str(problem))


def _probed(path: Path, report: Mapping[str, Any], *, klv: tuple[tuple[float, bytes], ...]) -> ProbedVideo:
    try:
        if report["frames_read"] == 0:
            raise _no_frames(path)
        share = report["coloured_share"]
        return ProbedVideo(
            container=str(report["container"]),
            codec=str(report["codec"]),
            width_px=int(report["width"]),
            height_px=int(report["height"]),
            frame_rate_hz=float(report["rate_hz"]),
            created_at=_created_at(report["created"]),
            duration_s=float(report["duration_read_s"]),
            modality=Modality.RGB if share >= COLOURED_SHARE_RGB else Modality.THERMAL,
            completeness=_completeness(report, size_bytes=path.stat().st_size),
            subtitles=None if report["subtitles"] is None else str(report["subtitles"]),
            klv=klv,
        )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise _senseless(path) from error


def _completeness(report: Mapping[str, Any], *, size_bytes: int) -> Completeness:
    declared = report["frames_declared"]
    gaps = tuple((float(start), float(end)) for start, end in report["gaps"])
    return Completeness(
        frames_declared=None if declared is None else int(declared) - int(report["discarded"]),
        frames_read=int(report["frames_read"]),
        corrupt_frames=int(report["marked"]) + int(report["lost"]),
        duration_declared_s=report["duration_declared_s"],
        duration_read_s=float(report["duration_read_s"]),
        gaps=gaps,
        checked="keyframes" if report["checked"] == "keyframes" else "every_frame",
        reason="; ".join(_shortcomings(report, size_bytes=size_bytes)) or None,
    )


def _shortcomings(report: Mapping[str, Any], *, size_bytes: int) -> Iterator[str]:
    """Yield, in an operator's words, what is missing or damaged."""
    read, lost, read_s = report["frames_read"], report["lost"], report["duration_read_s"]
    declared, length_s = report["frames_declared"], report["duration_declared_s"]
    expected = None if declared is None else declared - report["discarded"]
    if expected is not None and read + lost < expected:
        yield f"only {read} of {expected} frames can be read: {_CUT}"
    if expected is None and length_s and read_s < length_s - SHORTER_INTERVALS / report["rate_hz"]:
        yield f"only {read_s:.1f} of {length_s:.1f} s can be read: {_CUT}"
    if report["container"] == "mpegts" and all(size_bytes % packet for packet in TS_PACKET_BYTES):
        yield f"the file ends amid a packet: {_CUT}"
    if damaged := report["marked"] + lost:
        yield f"{damaged} damaged frames, {lost} of them beyond reading"
    if report["read_error"]:
        yield f"reading stopped before the end ({report['read_error']})"
    if gaps := report["gaps"]:
        missing_s = sum(end - start for start, end in gaps)
        yield f"{len(gaps)} holes in time, {missing_s:.1f} s in all: the recording was interrupted"
    if report["backward"]:
        yield f"time runs backwards {report['backward']} times: the file may be joined from several"


def _created_at(text: str | None) -> datetime | None:
    """Return the container's creation time; None where it is absent, unreadable or an unset clock."""
    try:
        at = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    if at is None:
        return None
    at = at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    return at if at >= EARLIEST_CREATION else None


def _no_frames(path: Path) -> CorruptClip:
    return CorruptClip(f"{path.name}: not one frame can be decoded: copy it again from the card")


def _senseless(path: Path) -> CorruptClip:
    return CorruptClip(f"{path.name} broke the decoder, which no longer speaks sense: do not use the file")
