"""From a clip's detections to its events with their evidence.

Belongs here: asking the rules and writing what they say. Not here: the rules (``detection/``) and what
evidence is made of (``evidence.py``).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from detection.rules import RULE_VERSION, find_events
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.expected import BaselinePlace, Expected, parse_expected
from outwatch.domain.types import EventKind, Outcome, Recall
from outwatch.pipeline.baseline import baseline_places
from outwatch.pipeline.detection import unwatched
from outwatch.pipeline.evidence import missing_pieces, with_evidence
from outwatch.pipeline.registration import standing_events
from outwatch.pipeline.wiring import Pipeline
from outwatch.pipeline.work import Done, Job, perform
from storage import keys, schemas


def publish_events(
    pipeline: Pipeline, clip_id: str, *, baseline: Sequence[BaselinePlace] | None = None
) -> Outcome:
    """Ask the rules of a clip's detections; write evidence first, then the events.

    Args:
        pipeline: the ports.
        clip_id: the clip.
        baseline: what a person confirmed to stand there on every flight; None asks the book.
    """

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
            recall=recall_from(json.loads(table.schema.metadata[b"outwatch.recall"])),
            make_id=make_id,
            expected=load_expected(
                pipeline.settings.expected,
                zone=pipeline.zone,
                outposts=[outpost.id for outpost in pipeline.outposts],
            ),
            baseline=baseline_places(pipeline) if baseline is None else baseline,
            clock_uncertainty_s=clip.clock_uncertainty_s,
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
        counts = {"events": len(events)}
        if missing := missing_pieces(events):
            counts["evidence_missing"] = missing
        outcome = Outcome("publish_events", clip_id, (*evidence, key), counts, notes=unwatched(pipeline))
        return Done(outcome, (("join_incidents", clip_id),))

    return perform(pipeline, "publish_events", clip_id, work)


def load_expected(path: Path | None, *, zone: ZoneInfo, outposts: Collection[str]) -> Expected:
    """Return what is expected at the places; nothing where no file is set.

    Args:
        path: a TOML file, or a JSON one by its name.
        zone: of its hours.
        outposts: ids of the places that there are.

    Raises:
        ConfigInvalid: the file cannot be read, or an entry of it is wrong.
    """
    if path is None:
        return Expected(zone)
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")  # some editors put a mark before it
        data = json.loads(text) if _form(path) == "JSON" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"expected file {path} cannot be read as {_form(path)}: {error}") from error
    return parse_expected(data, source=str(path), zone=zone, outposts=outposts)


def _form(path: Path) -> str:
    return "JSON" if path.suffix.lower() == ".json" else "TOML"


def recall_from(data: Mapping[str, Any]) -> Recall:
    """Return the recall that a detections file carries; older files hold one plain share by label."""
    if "overall" not in data:
        return Recall(overall=data)
    return Recall(data["overall"], tuple((gsd_m, by_label) for gsd_m, by_label in data.get("bands", ())))
