"""How a clip's picture moves: the shift of its centre and its turn about the centre.

Belongs here: measuring motion in frames, by phase correlation of small grey pictures a fifth of a second
apart. Not here: what a log says of it (``motionfit.py``), and decoding (``video.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, takewhile
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import structlog

from ingest.confinement import Limits
from ingest.video import read_frames
from outwatch.domain.types import Frame

FloatArray = npt.NDArray[np.float64]
Picture = npt.NDArray[np.float32]

SAMPLE_FPS = 5.0
"""Frames compared a second: at 30 degrees a second a picture of 60 degrees still overlaps its neighbour's by
nine tenths."""
LONGEST_S = 300.0
"""How much of a clip is looked at: five minutes hold turns enough where a flight has any."""
WIDTH_PX = 160
"""Width of the pictures that are compared; noise averages out, and a fifth of a pixel is still seen."""
LONGEST_STEP_S = 1.0
"""Pictures farther apart are not compared: there is a hole between them."""
MIN_RESPONSE = 0.15
"""Less of the correlation than this in its peak is no match. Measured on simulated flights: neighbouring
pictures give 0.7 to 1 (1 in 100 below 0.4), pictures of different places at most 0.12 in 19 of 20."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class MotionTrack:
    """How a clip's picture moves: n steps from frame to frame that could be compared."""

    offsets_s: FloatArray
    """(n,), the middle of each step in seconds from the clip's first frame, rising."""
    shift_px_s: FloatArray
    """(n, 2), how fast what is in the centre moves right and down, in pixels of a picture of ``WIDTH_PX``."""
    turn_rad_s: FloatArray
    """(n,), how fast the picture turns about its centre, clockwise as seen."""
    compared: int
    """Steps that were looked at; those beyond n could not be told."""


def read_motion(path: Path, *, limits: Limits) -> MotionTrack:
    """Measure how the picture of a video file moves in its first ``LONGEST_S``.

    Raises:
        CorruptClip: nothing can be decoded, or the file breaks the decoder on the way.
        UnsupportedFormat: it is not one of the formats, codecs and sizes.
        FeedTimeout: the decoder went silent.
    """
    frames = read_frames(path, limits=limits, sample_fps=SAMPLE_FPS)
    track = measure_motion(takewhile(lambda frame: frame.offset_s <= LONGEST_S, frames))
    log.info("motion_measured", file=path.name, steps=track.compared, matched=len(track.offsets_s))
    return track


def measure_motion(frames: Iterable[Frame]) -> MotionTrack:
    """Measure how the picture moves from frame to frame; damaged frames are passed over.

    Args:
        frames: in order, some fifth of a second apart, of one size.
    """
    rows: list[tuple[float, float, float, float]] = []
    compared = 0
    for (before_s, before), (after_s, after) in pairwise(_pictures(frames)):
        step_s = after_s - before_s
        if not 0 < step_s <= LONGEST_STEP_S:
            continue
        compared += 1
        if (step := _step(before, after)) is not None:
            right_px, down_px, turn_rad = step
            rows.append(((before_s + after_s) / 2, right_px / step_s, down_px / step_s, turn_rad / step_s))
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return MotionTrack(table[:, 0], table[:, 1:3], table[:, 3], compared)


def _pictures(frames: Iterable[Frame]) -> Iterator[tuple[float, Picture]]:
    """Yield offset and small grey picture, float32, of each whole frame."""
    for frame in frames:
        if not frame.is_corrupt:
            height_px = max(8, round(frame.image.shape[0] * WIDTH_PX / frame.image.shape[1]))
            grey = cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY)
            small = cv2.resize(grey, (WIDTH_PX, height_px), interpolation=cv2.INTER_AREA)
            yield frame.offset_s, small.astype(np.float32)


def _step(before: Picture, after: Picture) -> tuple[float, float, float] | None:
    """Return shift right and down in pixels and turn in radians, None where the pictures do not match."""
    if before.shape != after.shape:
        return None
    (right_px, down_px), response = _correlate(before, after)
    if response < MIN_RESPONSE:
        return None
    return right_px, down_px, _turn_rad(before, after, round(right_px), round(down_px))


def _turn_rad(before: Picture, after: Picture, right_px: int, down_px: int) -> float:
    """Return by how much the picture turns beyond its shift, from the shifts of its four quarters.

    A turn by w moves what is at (x, y) from the centre by w * (-y, x); the least-squares w of the
    quarters' middles. 0 where the shift leaves too little in common.
    """
    height, width = before.shape
    one = before[max(0, -down_px) : height - max(0, down_px), max(0, -right_px) : width - max(0, right_px)]
    two = after[max(0, down_px) : height - max(0, -down_px), max(0, right_px) : width - max(0, -right_px)]
    rows, columns = one.shape[0] // 2, one.shape[1] // 2
    if rows < height // 4 or columns < width // 4:
        return 0.0
    moment = 0.0
    for top, y in ((0, -rows / 2), (rows, rows / 2)):
        for left, x in ((0, -columns / 2), (columns, columns / 2)):
            part = np.s_[top : top + rows, left : left + columns]
            (dx, dy), response = _correlate(one[part], two[part])
            if response < MIN_RESPONSE:
                return 0.0
            moment += x * dy - y * dx
    return float(moment / (rows**2 + columns**2))


def _correlate(before: Picture, after: Picture) -> tuple[tuple[float, float], float]:
    window = _window(before.shape)
    # OpenCV's own windowing writes into what it is given, and leaves the mean, which does not move.
    one, two = ((picture - picture.mean()) * window for picture in (before, after))
    (right_px, down_px), response = cv2.phaseCorrelate(one, two)
    return (float(right_px), float(down_px)), float(response)


@lru_cache(maxsize=64)
def _window(shape: tuple[int, int]) -> Picture:
    return np.asarray(cv2.createHanningWindow(shape[::-1], cv2.CV_32F), dtype=np.float32)
