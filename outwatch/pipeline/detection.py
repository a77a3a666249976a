"""From a registered clip to its detections, tracks and coverage.

Belongs here: the steps of one clip and of one part of a long one. Not here: how they are looked at
(``passes.py``) and where parts lie meanwhile (``parts.py``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import Connection

from detection.detect import ClipDetections
from ingest.video import read_timeline
from outwatch.domain.errors import ObjectMissing
from outwatch.domain.types import Clip, Coverage, Outcome
from outwatch.pipeline import parts
from outwatch.pipeline.corrections import correction_notes
from outwatch.pipeline.parts import tables_of
from outwatch.pipeline.passes import Footage, Found, Progress, look_through, places_of
from outwatch.pipeline.wiring import Pipeline
from outwatch.pipeline.work import Done, Job, perform
from storage import keys, schemas


def detect_clips(pipeline: Pipeline, clip_id: str, *, progress: Progress | None = None) -> Outcome:
    """Write a clip's detections, tracks and coverage; of a long clip, once all of its parts are there."""

    def work(job: Job) -> Done:
        clip = pipeline.ledger.require_clip(clip_id)
        written = parts.standing(pipeline, clip)
        if written:
            return _write(pipeline, clip, parts.read_all(pipeline, clip, written), job)
        footage = open_footage(pipeline, clip, job.folder)
        wanted = parts.parts_of(pipeline, footage)
        if not wanted:
            return _write(pipeline, clip, look_through(pipeline, footage, progress=progress), job)
        job.confirm(clip)
        # What is void goes first: whoever then writes the last part sees that all are there.
        missing = parts.discard_void(pipeline, clip, wanted)
        opens = [("detect_parts", part.subject) for part in missing] or [("detect_clips", clip_id)]
        return Done(Outcome("detect_clips", clip_id, counts={"parts": len(missing)}), tuple(opens))

    outcome = perform(pipeline, "detect_clips", clip_id, work)
    if "looks" in outcome.counts:  # only now: a crash before this costs no part its work
        parts.remove(pipeline, pipeline.ledger.require_clip(clip_id))
    return outcome


def detect_parts(pipeline: Pipeline, subject: str) -> Outcome:
    """Look at one part of a long clip; the last of them has the whole put together."""

    def work(job: Job) -> Done:
        part = keys.parse_part(subject)
        clip = pipeline.ledger.require_clip(part.clip_id)
        # Asked before looking: a correction that comes meanwhile makes the part void.
        inputs = parts.inputs_of(pipeline, clip)
        footage = open_footage(pipeline, clip, job.folder)
        spans = parts.spans_of(pipeline, footage)
        whole = (("detect_clips", clip.id),)
        if len(spans) != part.count:  # it was split otherwise meanwhile: who splits knows how
            note = f"the clip now has {len(spans)} parts, not {part.count}"
            return Done(Outcome("detect_parts", subject, counts={"skipped": 1}, notes=(note,)), whole)
        found = look_through(pipeline, footage, span=spans[part.number - 1])
        job.confirm(clip)
        outputs = parts.write(pipeline, clip, part, found, inputs=inputs)

        def put_together(connection: Connection) -> Sequence[tuple[str, str]]:
            # Void parts count too: who puts together has them looked at again, and nobody else would.
            if parts.all_written(pipeline, clip, part.count):
                pipeline.ledger.wake(connection, whole)
            return ()

        outcome = Outcome("detect_parts", subject, outputs, found.found.counts, notes=found.notes)
        return Done(outcome, also=put_together)

    return perform(pipeline, "detect_parts", subject, work)


def open_footage(pipeline: Pipeline, clip: Clip, folder: Path) -> Footage:
    """Download a clip's video into a folder and read when its frames are."""
    source = fetch(pipeline, clip, folder)
    return Footage(clip, source, read_timeline(source, limits=pipeline.limits))


def _write(pipeline: Pipeline, clip: Clip, seen: Found, job: Job) -> Done:
    """Write what was found in a clip into the lake."""
    detector, found = pipeline.detector(clip.modality), seen.found
    metadata = {
        "model_id": detector.model_id,
        "recall": json.dumps(asdict(detector.recall), sort_keys=True),
        "clip_id": clip.id,
    }
    if seen.places is not None:
        metadata["places"] = seen.places
    job.confirm(clip)
    outputs = tuple(
        pipeline.lake.write(name, table, dt=keys.dt_of(clip.started_at), name=clip.id, metadata=metadata)
        for name, table in tables_of(found).items()
    )
    notes = (
        *_unlocated(found.looks, clip),
        *_too_small(found),
        *correction_notes(pipeline, clip),
        *seen.notes,
    )
    outcome = Outcome("detect_clips", clip.id, outputs, found.counts, notes=notes)
    return Done(outcome, (("publish_events", clip.id),))


def looked_elsewhere(pipeline: Pipeline, clip_id: str) -> bool:
    """Return whether a detected clip was looked at closely around other places than those watched now."""
    clip = pipeline.ledger.clip(clip_id)
    if clip is None:
        return False
    try:
        table = pipeline.lake.read("coverage", dt=keys.dt_of(clip.started_at), name=clip.id)
    except ObjectMissing:  # it is being looked at anew already
        return False
    places = table.schema.metadata.get(b"outwatch.places")
    return places is not None and places.decode() != places_of(pipeline)


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


def _too_small(found: ClipDetections) -> tuple[str, ...]:
    """Return which things were too small to be claimed, in words; nothing where none was."""
    looks = Counter(label for look in found.looks for label in look.blind_to)
    if not looks:
        return ()
    blind = ", ".join(
        f"{label} in {count} of {len(found.looks)} looks" for label, count in looks.most_common()
    )
    return (f"too small to be claimed from this height: {blind} ({found.too_small} boxes dropped)",)


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
