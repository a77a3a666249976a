"""Join what a drone split: consecutive files that are one recording without a gap.

Belongs here: the numbers in clips' names, and the pure decision which clips continue each other. Not
here: what else lies on a card (``card.py``), and which flight a clip is registered under (the pipeline).

A card's file system, or a camera's own rule, ends a file at a size or a length; the camera then starts
the next one without losing a frame. A person who stops a recording and starts another one a second
later leaves the same trace in names and times, which container clocks give to the second only. So
names, times, picture and codec are necessary, and one more sign is asked for that only a split gives:

    chapters    the name itself counts the parts of one recording (GoPro: GH010042, GH020042)
    size        the earlier file is as large as a file gets before it is split
    frame       clocks that show fractions of a second leave less than one frame between the two
    length      in a run of files all but the last are equally long (cameras that split by time)

What has none of these signs stays two recordings: a false join would invent footage between them.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import PurePosixPath

from outwatch.domain.types import require_utc

SPLIT_MIN_BYTES = 3_500_000_000
"""Smallest file that is thought to have been split for its size: FAT32 ends at 4.29 GB, and cameras
stay below it by up to a tenth, or by the size of a group of pictures."""
JOIN_TOLERANCE_S = 2.0
"""Farthest that a start may lie from the end before it: both starts are cut to whole seconds, and the
duration is rounded to a frame."""
SAME_LENGTH_S = 1.0
"""Files split by a camera's timer differ by less: they end at the next keyframe."""
SAME_RATE_SHARE = 0.001
"""Mean frame rates of one recording's files differ by less; 29.97 and 30 are taken as one."""

_CHAPTER = re.compile(r"(?P<family>G[HXLS])(?P<chapter>\d{2})(?P<number>\d{4})", re.ASCII | re.IGNORECASE)
_OLD_CHAPTER = re.compile(r"(?:GOPR|GP(?P<chapter>\d{2}))(?P<number>\d{4})", re.ASCII | re.IGNORECASE)
_DATED = re.compile(r"(?P<family>DJI)_\d{14}_(?P<number>\d{4})(?P<lens>\w{0,16})", re.ASCII | re.IGNORECASE)
_COUNTED = re.compile(
    r"(?P<family>[^\d]{0,32})(?P<number>\d{2,8})(?P<lens>[_-][A-Z]{1,8})?", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class ClipNumber:
    """What a clip's name counts."""

    family: str
    """What clips of one camera and one counter share: folder and letters of the name."""
    number: int
    lens: str = ""
    """Tells files apart that two lenses wrote at the same time."""
    chapter: int | None = None
    """Which part of one recording, where the name counts these."""

    @property
    def next(self) -> ClipNumber:
        """Return what the file after this one is called if it is of the same recording."""
        if self.chapter is not None:
            return ClipNumber(self.family, self.number, self.lens, self.chapter + 1)
        return ClipNumber(self.family, self.number + 1, self.lens)


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """What must be known of a clip to tell whether another one continues it."""

    name: str
    """With its folder where the card has folders, ``/`` between them."""
    size_bytes: int
    started_at: datetime
    duration_s: float
    width_px: int
    height_px: int
    codec: str
    frame_rate_hz: float

    def __post_init__(self) -> None:
        require_utc(self.started_at, name="started_at")

    @property
    def ended_at(self) -> datetime:
        """Return when the last frame ended."""
        return self.started_at + timedelta(seconds=self.duration_s)


def clip_number(name: str) -> ClipNumber | None:
    """Return what a clip's name counts, None where it counts nothing.

    A counter that starts again (DJI_0999 of one folder, DJI_0001 of the next) is not followed.
    """
    path = PurePosixPath(name)
    folder = f"{path.parent}/".casefold()
    stem = path.stem
    if found := _CHAPTER.fullmatch(stem):
        family = found["family"].casefold()
        return ClipNumber(folder + family, int(found["number"]), chapter=int(found["chapter"]))
    if found := _OLD_CHAPTER.fullmatch(stem):
        return ClipNumber(folder + "gopr", int(found["number"]), chapter=int(found["chapter"] or 0))
    if found := _DATED.fullmatch(stem) or _COUNTED.fullmatch(stem):
        return ClipNumber(
            folder + found["family"].casefold(), int(found["number"]), (found["lens"] or "").casefold()
        )
    return None


def continues(before: SegmentInfo, after: SegmentInfo) -> bool:
    """Tell by the two files alone whether ``after`` goes on where ``before`` was split."""
    number = clip_number(before.name)
    if number is None or not _adjacent(before, after):
        return False
    if number.chapter is not None or before.size_bytes >= SPLIT_MIN_BYTES:
        return True
    exact = bool(before.started_at.microsecond and after.started_at.microsecond)
    return exact and abs(_gap_s(before, after)) * before.frame_rate_hz < 1


def join_segments(clips: Iterable[SegmentInfo]) -> list[tuple[SegmentInfo, ...]]:
    """Return the recordings that clips belong to, in order of start, each with its files in order.

    Every clip is in exactly one recording; the order in which clips are given does not matter.

    Args:
        clips: all that is known of one card or one camera; equal ones count once.
    """
    ordered = sorted(set(clips), key=_order)
    recordings = [part for run in _runs(ordered) for part in _split(run)]
    return sorted(recordings, key=lambda recording: _order(recording[0]))


def flight_of(clip: SegmentInfo, others: Iterable[SegmentInfo]) -> tuple[SegmentInfo, ...]:
    """Return the recording to which a clip belongs among all others, in order; alone it is its own.

    The first file of the result names the flight. When an earlier file arrives later, the answer for
    those that stand changes: ask again for all of them.
    """
    return next(recording for recording in join_segments([clip, *others]) if clip in recording)


def _adjacent(before: SegmentInfo, after: SegmentInfo) -> bool:
    """Tell whether number, time, picture and codec allow ``after`` to continue ``before``."""
    number, following = clip_number(before.name), clip_number(after.name)
    if number is None or following != number.next or not _same_camera(before, after):
        return False
    gap_s = _gap_s(before, after)
    if number.chapter is not None:
        # Chapters may repeat the time at which their recording started.
        return -before.duration_s - JOIN_TOLERANCE_S <= gap_s <= JOIN_TOLERANCE_S
    return abs(gap_s) <= JOIN_TOLERANCE_S


def _same_camera(one: SegmentInfo, other: SegmentInfo) -> bool:
    return (one.width_px, one.height_px, one.codec) == (other.width_px, other.height_px, other.codec) and (
        abs(one.frame_rate_hz - other.frame_rate_hz) <= SAME_RATE_SHARE * one.frame_rate_hz
    )


def _gap_s(before: SegmentInfo, after: SegmentInfo) -> float:
    return (after.started_at - before.ended_at).total_seconds()


def _order(clip: SegmentInfo) -> tuple[datetime, str, int, float, int]:
    return clip.started_at, clip.name, clip.size_bytes, clip.duration_s, clip.width_px


def _runs(ordered: Sequence[SegmentInfo]) -> list[list[SegmentInfo]]:
    """Return clips in chains of adjacent ones; cards of several cameras may hold equal numbers."""
    waiting: dict[ClipNumber, list[SegmentInfo]] = defaultdict(list)
    for clip in ordered:
        if (number := clip_number(clip.name)) is not None:
            waiting[number].append(clip)
    after: dict[SegmentInfo, SegmentInfo] = {}
    for clip in ordered:
        if (found := _successor(clip, waiting)) is not None:
            after[clip] = found
    followers = set(after.values())
    runs = []
    for clip in ordered:
        if clip not in followers:
            run = [clip]
            while (following := after.get(run[-1])) is not None:
                run.append(following)
            runs.append(run)
    return runs


def _successor(clip: SegmentInfo, waiting: Mapping[ClipNumber, list[SegmentInfo]]) -> SegmentInfo | None:
    """Take the clip that follows nearest in time out of ``waiting``, which is in order of start."""
    number = clip_number(clip.name)
    bucket = waiting.get(number.next, []) if number is not None else []
    latest = clip.ended_at + timedelta(seconds=JOIN_TOLERANCE_S)
    earliest = latest - timedelta(seconds=2 * JOIN_TOLERANCE_S)
    if number is not None and number.chapter is not None:
        earliest -= timedelta(seconds=clip.duration_s)
    near = []
    for position in range(bisect_left(bucket, earliest, key=lambda other: other.started_at), len(bucket)):
        if bucket[position].started_at > latest:
            break
        if _adjacent(clip, bucket[position]):
            near.append(position)
    if not near:
        return None
    return bucket.pop(min(near, key=lambda position: abs(_gap_s(clip, bucket[position]))))


def _split(run: Sequence[SegmentInfo]) -> list[tuple[SegmentInfo, ...]]:
    """Cut a run of adjacent clips where nothing shows that the camera itself went on."""
    recordings = [[run[0]]]
    for position, (before, after) in enumerate(pairwise(run)):
        if continues(before, after) or _split_by_timer(run, position):
            recordings[-1].append(after)
        else:
            recordings.append([after])
    return [tuple(recording) for recording in recordings]


def _split_by_timer(run: Sequence[SegmentInfo], position: int) -> bool:
    """Tell whether a clip is as long as a neighbour that was followed too, and its follower no longer."""
    length_s = run[position].duration_s
    followed = [run[other].duration_s for other in (position - 1, position + 1) if 0 <= other < len(run) - 1]
    return run[position + 1].duration_s <= length_s + SAME_LENGTH_S and any(
        abs(other_s - length_s) <= SAME_LENGTH_S for other_s in followed
    )
