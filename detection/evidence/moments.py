"""Where the things that were detected are at any moment, also between the looks at which they were.

Belongs here: boxes over time. Not here: how they are drawn (``excerpt.py``) or hidden (``blur.py``).

A thing that a track follows moves on a straight line between two looks. What no track joins is held until
halfway to the neighbouring look. To be hidden, every box is held besides from the look before its own to
the look after it, and followed over looks in which it was missed: a camera may hold its picture or turn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from outwatch.domain.types import Detection

MAX_BRIDGE_S = 2.0
"""A thing that a track lost for longer may have gone anywhere meanwhile."""
USUAL_INTERVAL_S = 0.5
"""Between looks, where a clip has only one."""
_MOMENT_S = 1e-3
"""Shorter than any frame: at the next look itself what was found there is enough."""


def scaled(detections: Iterable[Detection], zoom: float) -> list[Detection]:
    """Return detections with their boxes in pixels of a picture ``zoom`` times as large."""
    if zoom == 1:
        return list(detections)
    found = []
    for detection in detections:
        left, top, right, bottom = (edge * zoom for edge in detection.box_xyxy_px)
        found.append(replace(detection, box_xyxy_px=(left, top, right, bottom)))
    return found


@dataclass(frozen=True, slots=True)
class _Stretch:
    """One thing between two moments, from its box at the first to its box at the second."""

    start_s: float
    end_s: float
    first: Detection
    last: Detection

    def at(self, offset_s: float) -> Detection:
        """Return the detection with its box where it is at a moment."""
        if self.first is self.last:
            return self.first
        share = (offset_s - self.start_s) / (self.end_s - self.start_s)
        edges = np.asarray(self.first.box_xyxy_px) * (1 - share) + np.asarray(self.last.box_xyxy_px) * share
        left, top, right, bottom = edges.tolist()
        return replace(self.first, offset_s=offset_s, box_xyxy_px=(left, top, right, bottom))


class Moments:
    """A clip's detections, to be asked for any moment of it."""

    def __init__(
        self, detections: Iterable[Detection], *, looks_s: Sequence[float], hiding: bool = False
    ) -> None:
        """Take detections and when the camera's frames were looked at.

        Args:
            detections: in any order.
            looks_s: offsets of all looks in seconds, those without detections among them, ascending.
            hiding: rather show a box where nothing is than miss one.
        """
        self._looks_s, self._hiding = looks_s, hiding
        by_track: dict[tuple[int, int], list[Detection]] = {}
        for number, found in enumerate(sorted(detections, key=lambda found: found.offset_s)):
            track = (0, number) if found.track_id is None else (1, found.track_id)
            by_track.setdefault(track, []).append(found)
        self._stretches = [stretch for track in by_track.values() for stretch in self._follow(track)]

    def at(self, offset_s: float) -> list[Detection]:
        """Return what is there at a moment, each with its box then."""
        return [s.at(offset_s) for s in self._stretches if s.start_s <= offset_s < s.end_s]

    def _follow(self, track: Sequence[Detection]) -> Iterable[_Stretch]:
        """Yield the stretches of one thing: to be drawn they do not overlap."""
        for before, found, after in zip([None, *track], track, [*track[1:], None], strict=False):
            joined_before = before is not None and self._joined(before, found)
            joined_after = after is not None and self._joined(found, after)
            start_s = end_s = found.offset_s
            if self._hiding or not joined_before:
                start_s -= self._reach_s(found, -1)
            if self._hiding or not joined_after:
                end_s += self._reach_s(found, 1)
            yield _Stretch(start_s, end_s, found, found)
            if after is not None and joined_after:
                yield _Stretch(found.offset_s, after.offset_s, found, after)

    def _joined(self, a: Detection, b: Detection) -> bool:
        """Return whether one thing is followed from one sighting of its track to the next."""
        looks_apart = self._number_of(b) - self._number_of(a)
        return 0 < b.offset_s - a.offset_s <= MAX_BRIDGE_S and (self._hiding or looks_apart == 1)

    def _reach_s(self, found: Detection, way: int) -> float:
        """Return for how long a box is held backward (-1) or forward (1) of its look."""
        there = self._number_of(found) + way
        interval_s = USUAL_INTERVAL_S
        if 0 <= there < len(self._looks_s):
            interval_s = abs(self._looks_s[there] - found.offset_s)
        interval_s = min(interval_s, MAX_BRIDGE_S)
        return interval_s - _MOMENT_S if self._hiding else interval_s / 2

    def _number_of(self, found: Detection) -> int:
        """Return which look a detection is of."""
        return bisect_left(self._looks_s, found.offset_s - 1e-6)
