"""When each frame of a clip is shown and which are keyframes, known without decoding one.

Belongs here: the order of packets turned into the order of frames, which packets a decoder needs for
which frames, and choosing frames by time. Not here: reading packets and decoding (``container.py``).

A frame's index is its place in the order of display among all frames that the file holds, whether or
not they can be decoded: so it is the same however few of them are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MAX_FRAMES = 4_000_000
"""Eighteen hours at 60 frames a second: whoever states more is decoded whole, frame by frame."""
GRID_TOLERANCE = 1e-6
"""Of a step: timestamps are rounded to the container's clock."""


@dataclass(frozen=True, slots=True)
class Packet:
    """What a container says of one coded frame, in order of decoding."""

    pts: int | None
    is_keyframe: bool
    is_hidden: bool = False
    """An edit list hides it: it is decoded and not shown."""
    is_corrupt: bool = False


class PacketTable:
    """A clip's packets: which frame each becomes, and which others it needs."""

    def __init__(self, packets: Sequence[Packet], *, time_base: Fraction) -> None:
        """Take the packets in order of decoding.

        Raises:
            ValueError: they do not tell the order of display; the message says why.
        """
        if not packets or not packets[0].is_keyframe:
            raise ValueError("the pictures do not begin with a keyframe")
        if any(packet.pts is None for packet in packets):
            raise ValueError("frames without a timestamp")
        self._pts = np.array([packet.pts for packet in packets], dtype=np.int64)
        shown = np.array([not packet.is_hidden for packet in packets])
        self._shown_pts: Integers = np.sort(self._pts[shown])
        if len(self._shown_pts) == 0 or (np.diff(self._shown_pts) <= 0).any():
            raise ValueError("several frames with one timestamp")
        if self._pts[shown].min() < self._pts[0]:
            raise ValueError("frames that are shown before the first keyframe")
        self._shown = shown
        self._keys: Integers = np.flatnonzero([packet.is_keyframe for packet in packets])
        if (np.diff(self._pts[self._keys]) <= 0).any():
            raise ValueError("time runs backwards: the file may be joined from several")
        self.time_base = time_base
        self.corrupt = sum(packet.is_corrupt for packet in packets)
        self.hidden = len(packets) - len(self._shown_pts)

    @property
    def count(self) -> int:
        """Return how many frames are shown."""
        return len(self._shown_pts)

    @property
    def first_pts(self) -> int:
        """Return the timestamp of the first frame that is shown."""
        return int(self._shown_pts[0])

    @property
    def offsets_s(self) -> Floats:
        """Return the frames' times from the first one, shape (n,), in order of display."""
        ticks = self._shown_pts - self._shown_pts[0]
        seconds: Floats = np.round(ticks * self.time_base.numerator / self.time_base.denominator, 6)
        return seconds

    @property
    def keyframes(self) -> Integers:
        """Return the indices of the frames that can be decoded by themselves, ascending."""
        shown_keys = self._keys[self._shown[self._keys]]
        return np.sort(np.searchsorted(self._shown_pts, self._pts[shown_keys]))

    def sampled_keyframes(self, fps: float | None) -> Integers:
        """Return the indices of the first keyframe at or after each k / ``fps`` seconds; None is all."""
        keyframes = self.keyframes
        return keyframes if fps is None else keyframes[_firsts(self.offsets_s[keyframes], fps)]

    def index_of(self, pts: int) -> int:
        """Return the index of the frame with a timestamp, or of the next one where there is none."""
        return int(np.searchsorted(self._shown_pts, pts))

    def needed(self, indices: Iterable[int]) -> npt.NDArray[np.bool_]:
        """Return which packets must be decoded to see some frames, in order of decoding.

        A frame needs all from the last keyframe that is shown no later than it, up to itself: pictures
        that follow a keyframe and are shown before it may need the keyframe before.
        """
        wanted = np.array(sorted(indices), dtype=np.int64)
        wanted = wanted[(wanted >= 0) & (wanted < len(self._shown_pts))]
        position_of = np.argsort(np.where(self._shown, self._pts, np.iinfo(np.int64).max), kind="stable")
        keys = self._keys[np.argsort(self._pts[self._keys], kind="stable")]
        ends = position_of[wanted]
        starts = keys[np.maximum(np.searchsorted(self._pts[keys], self._pts[ends], side="right") - 1, 0)]
        steps = np.zeros(len(self._pts) + 1, dtype=np.int64)
        np.add.at(steps, np.minimum(starts, ends), 1)
        np.add.at(steps, ends + 1, -1)
        return np.cumsum(steps)[:-1] > 0


@dataclass(frozen=True, slots=True)
class Timeline:
    """The times of all frames of a clip and which are keyframes, or why that cannot be told."""

    offsets_s: Floats
    """Seconds from the first frame, shape (n,), ascending; empty where it cannot be told."""
    keyframes: Integers
    """Indices of keyframes, ascending."""
    problem: str | None = None
    """Why frames cannot be picked without decoding all, in words."""

    @property
    def longest_gap_s(self) -> float:
        """Return the longest time without a keyframe, up to the clip's last frame."""
        if len(self.keyframes) == 0:
            return float("inf")
        times_s = np.append(self.offsets_s[self.keyframes], self.offsets_s[-1])
        return float(np.diff(times_s).max(initial=0.0))

    def sampled(self, fps: float) -> Integers:
        """Return the indices of the first frame at or after each k / ``fps`` seconds."""
        return _firsts(self.offsets_s, fps)

    def sampled_keyframes(self, fps: float) -> Integers:
        """Return the indices of the first keyframe at or after each k / ``fps`` seconds."""
        return self.keyframes[_firsts(self.offsets_s[self.keyframes], fps)]

    def within(self, indices: Integers, spans_s: Sequence[tuple[float, float]]) -> Integers:
        """Return those of some frames that lie in any of the spans, which are (start, end), end excluded."""
        times_s = self.offsets_s[indices]
        inside = np.zeros(len(indices), dtype=bool)
        for start_s, end_s in spans_s:
            inside |= (times_s >= start_s) & (times_s < end_s)
        return indices[inside]

    def parts_s(self, length_s: float) -> list[tuple[float, float]]:
        """Return spans of about a length that begin at keyframes and together hold the whole clip."""
        times_s = self.offsets_s[self.keyframes]
        starts = [0.0]
        while (after := int(np.searchsorted(times_s, starts[-1] + length_s))) < len(times_s):
            starts.append(float(times_s[after]))
        return list(pairwise([*starts, float("inf")]))


def grid_step(offset_s: float, fps: float) -> int:
    """Return which of the steps k / ``fps`` seconds was the last at a time."""
    return int(offset_s * fps + GRID_TOLERANCE)


def _firsts(times_s: Floats, fps: float) -> Integers:
    """Return the positions of the first time at or after each k / ``fps``; the times ascend."""
    steps = np.floor(times_s * fps + GRID_TOLERANCE).astype(np.int64)
    return np.asarray(np.unique(steps, return_index=True)[1], dtype=np.int64)
