"""From a registered clip to its detections, tracks and coverage.

Belongs here: the order of calls for one clip. Not here: what they do (``detection/``, ``ingest/video.py``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from detection.detect import detect_clip
from detection.tracks import ClipTracker
from ingest.align import PoseTrack
from ingest.video import read_frames
from outwatch.domain.errors import ObjectMissing
from outwatch.domain.types import Clip, Coverage, Outcome
from outwatch.pipeline.registration import stored_telemetry
from outwatch.pipeline.wiring import Pipeline
from outwatch.pipeline.work import Done, Job, perform
from storage import keys, schemas

Progress = Callable[[float], None]


def detect_clips(pipeline: Pipeline, clip_id: str, *, progress: Progress | None = None) -> Outcome:
    """Write a clip's detections, tracks and coverage."""

    def work(job: Job) -> Done:
        clip = pipeline.ledger.require_clip(clip_id)
        detector = pipeline.detector(clip.modality)
        source = fetch(pipeline, clip, job.folder)
        fps = pipeline.settings.detection.sample_fps
        found = detect_clip(
            read_frames(source, sample_fps=fps, limits=pipeline.limits),
            clip=clip,
            detector=detector,
            tracker=ClipTracker(sample_fps=fps),
            locator=pipeline.locator,
            pose_at=PoseTrack(stored_telemetry(pipeline, clip)).at,
            batch=pipeline.settings.detection.batch,
            progress=progress,
        )
        tables = {
            "detections": schemas.detections_table(found.detections),
            "tracks": schemas.tracks_table(found.tracks),
            "coverage": schemas.coverage_table(found.looks),
        }
        metadata = {
            "model_id": detector.model_id,
            "recall": json.dumps(asdict(detector.recall), sort_keys=True),
            "clip_id": clip.id,
        }
        job.confirm(clip)
        outputs = tuple(
            pipeline.lake.write(name, table, dt=keys.dt_of(clip.started_at), name=clip.id, metadata=metadata)
            for name, table in tables.items()
        )
        outcome = Outcome("detect_clips", clip_id, outputs, found.counts, notes=_unlocated(found.looks, clip))
        return Done(outcome, (("publish_events", clip_id),))

    return perform(pipeline, "detect_clips", clip_id, work)


def clip_notes(pipeline: Pipeline, clip: Clip) -> tuple[str, ...]:
    """Return why a detected clip could give no events, in words a person can act on."""
    try:
        table = pipeline.lake.read("coverage", dt=keys.dt_of(clip.started_at), name=clip.id)
    except ObjectMissing:
        return ()
    return (*_unlocated(schemas.coverage_from(table), clip), *unwatched(pipeline))


def unwatched(pipeline: Pipeline) -> tuple[str, ...]:
    """Return why no event is possible at all, in words a person can act on."""
    if pipeline.outposts:
        return ()
    return ("no event is possible: no places are set; set OUTWATCH_OUTPOSTS, then `outwatch retry --events`",)


def _unlocated(looks: Sequence[Coverage], clip: Clip) -> tuple[str, ...]:
    """Return, most frequent first, why looks have no ground; nothing where all of them have."""
    if clip.telemetry_format is None:
        return ("nothing is located: no telemetry came with the clip; hand it in again with its own",)
    reasons = Counter(look.reason_if_none for look in looks if look.footprint is None)
    return tuple(
        f"not located in {count} of {len(looks)} looks: {reason}" for reason, count in reasons.most_common()
    )


def fetch(pipeline: Pipeline, clip: Clip, folder: Path) -> Path:
    """Download a clip's video into a folder and return its path."""
    path = folder / Path(clip.object_key).name
    pipeline.store.download(clip.object_key, path)
    return path
