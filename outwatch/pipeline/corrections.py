"""Flights that a person corrected: from clicked points to the poses and the locator of the flight's clips.

Belongs here: solving, keeping and applying corrections. Not here: the mathematics
(``detection/correction.py``) and the book (``storage/corrections.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from detection.correction import Click, FlightCorrection, solve_correction
from detection.ground import GroundLocator
from ingest.align import PoseTrack
from outwatch.domain.errors import CorrectionRefused, ObjectMissing
from outwatch.domain.types import Clip, GeoPoint, TelemetrySample
from outwatch.pipeline.registration import stored_telemetry
from outwatch.pipeline.wiring import Pipeline
from storage import keys
from storage.corrections import Revision
from storage.tables import WorkState

PoseAt = Callable[[float], TelemetrySample | None]


@dataclass(frozen=True, slots=True)
class KnownPoint:
    """A place that a person knows and saw in a frame of a clip."""

    clip_id: str
    offset_s: float
    """Seconds from the clip's first frame."""
    x_px: float
    y_px: float
    lat_deg: float
    lon_deg: float
    alt_m: float | None = None
    """Above mean sea level, where the point does not stand on the ground that is known: a roof, a mast."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """What stands for a flight, and which of its clips follow."""

    revision: Revision
    reopened: tuple[str, ...]
    """Clips that are to be detected again."""


def pose_source(pipeline: Pipeline, clip: Clip) -> tuple[PoseAt, GroundLocator]:
    """Return the pose at any moment of a clip and the locator for it, with the flight's correction if any."""
    track = PoseTrack(stored_telemetry(pipeline, clip))
    correction = standing_correction(pipeline, clip)
    if correction is None:
        return track.at, pipeline.locator
    locator = pipeline.locator.with_budget(correction.budget(pipeline.locator.budget))
    return lambda offset_s: correction.pose(track.at(offset_s)), locator


def standing_correction(pipeline: Pipeline, clip: Clip) -> FlightCorrection | None:
    """Return the correction that stands for a clip, None where its telemetry stands as it came.

    One that was made of other telemetry than the clip has now does not.
    """
    revision = pipeline.corrections.standing(clip.flight_id)
    if revision is None or revision.body is None or _is_outdated(pipeline, revision.body, clip):
        return None
    return FlightCorrection(**revision.body["correction"])


def correction_notes(pipeline: Pipeline, clip: Clip) -> tuple[str, ...]:
    """Return, in words, that a clip has lost its flight's correction; nothing where it has not."""
    revision = pipeline.corrections.standing(clip.flight_id)
    if revision is None or revision.body is None or not _is_outdated(pipeline, revision.body, clip):
        return ()
    why = "it was made of other telemetry than the clip has now; correct the flight anew"
    return (f"the correction of flight {clip.flight_id} is not applied: {why}",)


def revision_number(pipeline: Pipeline, clip: Clip) -> int:
    """Return which revision of its flight's correction a clip follows, 0 where nobody ever corrected it."""
    revision = pipeline.corrections.standing(clip.flight_id)
    return 0 if revision is None else revision.number


def flight_named(pipeline: Pipeline, name: str) -> tuple[str, list[Clip]]:
    """Return a flight's id and its clips in order of time, by its own id or that of one of its clips.

    Raises:
        ObjectMissing: neither is known.
    """
    clips = pipeline.ledger.clips()
    flight_id = next((clip.flight_id for clip in clips if name in {clip.flight_id, clip.id}), None)
    if flight_id is None:
        raise ObjectMissing(f"no flight and no clip is called {name!r}: `outwatch files` lists the clips")
    return flight_id, [clip for clip in clips if clip.flight_id == flight_id]


def correct_flight(pipeline: Pipeline, name: str, points: Sequence[KnownPoint], *, who: str) -> Corrected:
    """Solve for a flight's heading and height by known points, keep that, and open its clips again.

    Args:
        pipeline: with the ledger and the terrain.
        name: the flight's id, or that of one of its clips.
        points: two or more, in frames of clips of the flight.
        who: answers for the points.

    Raises:
        ObjectMissing: the flight is unknown.
        CorrectionRefused: no correction follows from the points; nothing changes.
    """
    flight_id, clips = flight_named(pipeline, name)
    by_id = {clip.id: clip for clip in clips}
    strangers = [point.clip_id for point in points if point.clip_id not in by_id]
    if strangers:
        raise CorrectionRefused(
            f"clip {strangers[0]} is not of flight {flight_id}; expected one of {', '.join(by_id)}"
        )
    tracks = {clip_id: PoseTrack(stored_telemetry(pipeline, by_id[clip_id])) for clip_id in _used(points)}
    clicks = [_click(point, by_id[point.clip_id], tracks[point.clip_id]) for point in points]
    correction = solve_correction(clicks, locator=pipeline.locator)
    body = {
        "points": [asdict(point) for point in points],
        "correction": asdict(correction),
        "telemetry": {clip.id: _poses_sha256(pipeline, clip) for clip in clips},
    }
    return _record(pipeline, flight_id, clips, body, who=who)


def remove_correction(pipeline: Pipeline, name: str, *, who: str) -> Corrected:
    """Let a flight's telemetry stand as it came, and open its clips again.

    Raises:
        ObjectMissing: the flight is unknown, or has no correction.
    """
    flight_id, clips = flight_named(pipeline, name)
    standing = pipeline.corrections.standing(flight_id)
    if standing is None or standing.body is None:
        raise ObjectMissing(f"flight {flight_id} has no correction to remove")
    return _record(pipeline, flight_id, clips, None, who=who)


def _record(
    pipeline: Pipeline, flight_id: str, clips: Sequence[Clip], body: Mapping[str, object] | None, *, who: str
) -> Corrected:
    revision = pipeline.corrections.record(flight_id, body, who=who)
    reopened = tuple(clip.id for clip in clips)
    # The correction first: a crash leaves clips to be opened by the same command, never work without it. Who
    # looks at one of them, or at a part, has begun without it: that work is begun anew.
    parts = [
        (work.step, work.subject)
        for work in pipeline.ledger.work("detect_parts", WorkState.CLAIMED)
        if keys.parse_part(work.subject).clip_id in reopened
    ]
    pipeline.ledger.start_anew([*parts, *(("detect_clips", clip_id) for clip_id in reopened)])
    return Corrected(revision, reopened)


def _is_outdated(pipeline: Pipeline, body: Mapping[str, Any], clip: Clip) -> bool:
    """Return whether a clip's poses are others than those that were corrected; a later clip had none."""
    corrected = body.get("telemetry", {}).get(clip.id)
    return corrected is not None and corrected != _poses_sha256(pipeline, clip)


def _poses_sha256(pipeline: Pipeline, clip: Clip) -> str:
    """Return a hash of a clip's poses; when on the clock they were is no part of it."""
    poses = [
        (
            (sample.offset_s, sample.point and astuple(sample.point)),
            (sample.height_agl_m, sample.ellipsoid_height_m),
            (sample.heading_deg, sample.pitch_deg, sample.roll_deg),
        )
        for sample in stored_telemetry(pipeline, clip).samples
    ]
    return hashlib.sha256(json.dumps(poses).encode()).hexdigest()


def _used(points: Sequence[KnownPoint]) -> set[str]:
    return {point.clip_id for point in points}


def _click(point: KnownPoint, clip: Clip, track: PoseTrack) -> Click:
    if not (0 <= point.x_px <= clip.width_px and 0 <= point.y_px <= clip.height_px):
        raise CorrectionRefused(
            f"pixel {point.x_px:g},{point.y_px:g} is outside clip {clip.id}, which is {clip.width_px} by"
            f" {clip.height_px}"
        )
    return Click(
        offset_s=point.offset_s,
        pixel=(point.x_px, point.y_px),
        point=GeoPoint(point.lat_deg, point.lon_deg, point.alt_m),
        pose=track.at(point.offset_s),
        camera=clip.camera,
        width_px=clip.width_px,
        height_px=clip.height_px,
    )
