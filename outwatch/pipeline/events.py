"""From a clip's detections to its events with their evidence.

Belongs here: asking the rules and writing what they say. Not here: the rules (``detection/``) and what
evidence is made of (``evidence.py``).
"""

from __future__ import annotations

import json
from datetime import datetime

from detection.rules import RULE_VERSION, find_events
from outwatch.domain.types import EventKind, Outcome, Recall
from outwatch.pipeline.detection import unwatched
from outwatch.pipeline.evidence import with_evidence
from outwatch.pipeline.registration import standing_events
from outwatch.pipeline.wiring import Pipeline
from outwatch.pipeline.work import Done, Job, perform
from storage import keys, schemas


def publish_events(pipeline: Pipeline, clip_id: str) -> Outcome:
    """Ask the rules of a clip's detections; write evidence first, then the events."""

    def work(job: Job) -> Done:
        clip = pipeline.ledger.require_clip(clip_id)
        dt = keys.dt_of(clip.started_at)
        table = pipeline.lake.read("detections", dt=dt, name=clip.id)
        detections = schemas.detections_from(table)
        looks = schemas.coverage_from(pipeline.lake.read("coverage", dt=dt, name=clip.id))

        def make_id(kind: EventKind, outpost_id: str, started_at: datetime) -> str:
            return keys.event_id(source=clip.id, rule=kind, place=outpost_id, started_at=started_at)

        events = find_events(
            detections,
            looks=looks,
            outposts=pipeline.outposts,
            thresholds=pipeline.thresholds,
            recall=Recall(**json.loads(table.schema.metadata[b"outwatch.recall"])).overall,
            make_id=make_id,
        )
        before = standing_events(pipeline, clip)
        job.confirm(clip)
        events = with_evidence(pipeline, clip, events, detections, folder=job.folder)
        metadata = {
            "model_id": table.schema.metadata[b"outwatch.model_id"].decode(),
            "rule_version": RULE_VERSION,
            "clip_id": clip.id,
        }
        key = pipeline.lake.write(
            "events", schemas.events_table(events), dt=dt, name=clip.id, metadata=metadata
        )
        evidence = tuple(name for event in events for name in event.evidence_keys)
        for stale in {key for event in before for key in event.evidence_keys}.difference(evidence):
            pipeline.store.delete(stale)
        outcome = Outcome(
            "publish_events", clip_id, (*evidence, key), {"events": len(events)}, notes=unwatched(pipeline)
        )
        return Done(outcome, (("send_alerts", clip_id),))

    return perform(pipeline, "publish_events", clip_id, work)
