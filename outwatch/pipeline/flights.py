"""Which flight a clip belongs to: a drone splits a recording into files that arrive one by one, in any order.

Belongs here: asking the ledger for a clip's neighbours and giving the files of one recording one flight.
Not here: what makes two files one recording (``ingest/segments.py``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta

from ingest.align import ClipSpan, neighbour_doubts
from ingest.register import flight_id
from ingest.segments import SegmentInfo, clip_number, flight_of
from outwatch.domain.types import Clip
from outwatch.pipeline.wiring import Pipeline

NEIGHBOURHOOD = timedelta(days=1)
"""No battery lasts a day: files further apart are not of one recording."""

_CLIP_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Joined:
    """A clip under its flight, and those that stand and come under another flight because of it."""

    clip: Clip
    moved: tuple[tuple[Clip, Clip], ...] = ()
    """(as it stood, as it shall stand)."""


def join_flight(pipeline: Pipeline, clip: Clip) -> Joined:
    """Return a clip under the flight of the recording that it is a file of.

    The recording's first file names the flight, whichever file arrives first; a flight that an operator
    declared is left alone.
    """
    if not _undeclared(clip):
        return Joined(clip)
    siblings = [other for other in _neighbours(pipeline, clip) if _undeclared(other)]
    by_segment = {_segment(other): other for other in (*siblings, clip)}
    recording = [by_segment[part] for part in flight_of(_segment(clip), map(_segment, siblings))]
    flight = flight_id(recording[0].platform, clip_id=recording[0].id)
    moved = tuple(
        (other, replace(other, flight_id=flight))
        for other in recording
        if other.id != clip.id and other.flight_id != flight
    )
    return Joined(replace(clip, flight_id=flight), moved)


def doubts_beside_neighbours(pipeline: Pipeline, clip: Clip) -> tuple[str, ...]:
    """Return what the times and names of the same aircraft's clips say against a clip's clock.

    To be asked only where an operator named the aircraft: two of one model are not one.
    """
    return neighbour_doubts(_span(clip), map(_span, _neighbours(pipeline, clip)))


def _neighbours(pipeline: Pipeline, clip: Clip) -> list[Clip]:
    """Return the other clips of the same aircraft and lens around a clip's time."""
    counter = _counter(clip)
    if counter is None:
        return []
    around = pipeline.ledger.clips(
        since=clip.started_at - NEIGHBOURHOOD, until=clip.started_at + NEIGHBOURHOOD
    )
    return [
        other
        for other in around
        if other.id != clip.id
        and other.platform == clip.platform
        and other.modality is clip.modality
        and _counter(other) == counter
    ]


def _counter(clip: Clip) -> tuple[str, str] | None:
    number = clip_number(clip.file_name)
    return None if number is None else (number.family, number.lens)


def _undeclared(clip: Clip) -> bool:
    """Tell whether a clip's flight is named after a clip, as ``flight_id`` does, rather than by a person."""
    named_after = clip.flight_id.removeprefix(flight_id(clip.platform, clip_id=""))
    return _CLIP_ID.fullmatch(named_after) is not None


def _span(clip: Clip) -> ClipSpan:
    return ClipSpan(clip.file_name, clip.started_at, clip.started_at + timedelta(seconds=clip.duration_s))


def _segment(clip: Clip) -> SegmentInfo:
    return SegmentInfo(
        name=clip.file_name,
        size_bytes=clip.size_bytes,
        started_at=clip.started_at,
        duration_s=clip.duration_s,
        width_px=clip.width_px,
        height_px=clip.height_px,
        codec=clip.codec,
        frame_rate_hz=clip.frame_rate_hz,
    )
