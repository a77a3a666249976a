"""The steps of the pipeline, one function each: named inputs in, computed keys out.

Every step claims its subject in the ledger, writes data objects first and the ledger row last, and
may be run again at any time: the same inputs give the same keys with the same content. Belongs
here: the order of calls into the four stages. Not here: what those calls do, and who asks for a
step (a DAG, the CLI).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from alerting.delivery import Delivered, Failed, attempt, next_attempt
from alerting.messages import write_message
from alerting.policy import make_alert
from detection.detect import detect_clip
from detection.evidence import draw_still
from detection.rules import RULE_VERSION, find_events
from detection.tracks import ClipTracker
from ingest.align import PoseTrack
from ingest.video import read_frames
from outwatch.domain.errors import ObjectMissing, OutwatchError, TransientError
from outwatch.domain.types import Clip, Event, EventKind, Outcome
from outwatch.pipeline.registration import Registered, register_upload, remove_clip_objects
from outwatch.pipeline.wiring import SOFTWARE, Pipeline
from storage import keys, schemas
from storage.ledger import LandedFile

log = structlog.get_logger(__name__)

STEPS = ("ingest_footage", "detect_clips", "publish_events", "send_alerts")
"""The steps in the order in which data passes them; each opens the next in the ledger."""
SCRATCH_KEPT = timedelta(days=1)
"""No step works for a day: an older scratch folder belongs to a worker that died."""
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class _Done:
    outcome: Outcome
    opens: tuple[tuple[str, str], ...] = ()
    registered: Registered | None = None


def summary(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain JSON: keys and counts only, small enough for XCom."""
    return asdict(outcome) | {"counts": dict(outcome.counts), "outputs": list(outcome.outputs)}


def open_subjects(pipeline: Pipeline, step: str) -> list[str]:
    """Return what is open for a step, oldest first: never done, or its worker died."""
    return pipeline.ledger.open_subjects(step)


def ingest_footage(pipeline: Pipeline, upload_id: str) -> Outcome:
    """Register one upload: each clip to ``footage/``, each refused file to ``quarantine/``."""

    def work(folder: Path) -> _Done:
        registered = register_upload(pipeline, upload_id, folder=folder)
        opens = tuple(("detect_clips", clip.id) for clip in registered.clips)
        outcome = Outcome(
            "ingest_footage", upload_id, registered.outputs, registered.counts, registered.reasons
        )
        return _Done(outcome, opens, registered)

    return _perform(pipeline, "ingest_footage", upload_id, work)


def detect_clips(pipeline: Pipeline, clip_id: str, *, progress: Progress | None = None) -> Outcome:
    """Write a clip's detections, tracks and coverage."""

    def work(folder: Path) -> _Done:
        clip = pipeline.ledger.require_clip(clip_id)
        detector = pipeline.detector(clip.modality)
        source = _fetch(pipeline, clip, folder)
        fps = pipeline.settings.detection.sample_fps
        found = detect_clip(
            read_frames(source, sample_fps=fps, limits=pipeline.limits),
            clip=clip,
            detector=detector,
            tracker=ClipTracker(sample_fps=fps),
            locator=pipeline.locator,
            pose_at=_pose_track(pipeline, clip).at,
            batch=pipeline.settings.detection.batch,
            progress=progress,
        )
        tables = {
            "detections": schemas.detections_table(found.detections),
            "tracks": schemas.tracks_table(found.tracks),
            "coverage": schemas.coverage_table(found.looks),
        }
        metadata = {"model_id": detector.model_id, "clip_id": clip.id}
        outputs = tuple(
            pipeline.lake.write(name, table, dt=keys.dt_of(clip.started_at), name=clip.id, metadata=metadata)
            for name, table in tables.items()
        )
        outcome = Outcome("detect_clips", clip_id, outputs, found.counts, _why_not_located(found.counts, clip))
        return _Done(outcome, (("publish_events", clip_id),))

    return _perform(pipeline, "detect_clips", clip_id, work)


def publish_events(pipeline: Pipeline, clip_id: str) -> Outcome:
    """Ask the rules of a clip's detections; write evidence first, then the events."""

    def work(folder: Path) -> _Done:
        clip = pipeline.ledger.require_clip(clip_id)
        dt = keys.dt_of(clip.started_at)
        detections = schemas.detections_from(pipeline.lake.read("detections", dt=dt, name=clip.id))
        looks = schemas.coverage_from(pipeline.lake.read("coverage", dt=dt, name=clip.id))

        def make_id(kind: EventKind, outpost_id: str, started_at: Any) -> str:
            return keys.event_id(source=clip.id, rule=kind, place=outpost_id, started_at=started_at)

        events = find_events(
            detections,
            looks=looks,
            outposts=pipeline.outposts,
            thresholds=pipeline.thresholds,
            recall=pipeline.detector(clip.modality).recall,
            make_id=make_id,
        )
        events = _with_evidence(pipeline, clip, events, detections, folder=folder)
        metadata = {"rule_version": RULE_VERSION, "clip_id": clip.id}
        key = pipeline.lake.write(
            "events", schemas.events_table(events), dt=dt, name=clip.id, metadata=metadata
        )
        evidence = tuple(name for event in events for name in event.evidence_keys)
        outcome = Outcome("publish_events", clip_id, (*evidence, key), {"events": len(events)})
        return _Done(outcome, (("send_alerts", clip_id),))

    return _perform(pipeline, "publish_events", clip_id, work)


def raise_alerts(pipeline: Pipeline, clip_id: str) -> Outcome:
    """Enter a clip's events in the alert book: a new alert, or more of one that stands."""

    def work(_folder: Path) -> _Done:
        raised, joined = [], []
        for event in clip_events(pipeline, pipeline.ledger.require_clip(clip_id)):
            alert = make_alert(
                event,
                outpost=pipeline.outpost(event.outpost_id),
                alert_id=keys.alert_id(event.id),
                raised_at=pipeline.now(),
                live_within=pipeline.settings.alerts.live_within,
                zone=pipeline.zone,
            )
            standing, is_new = pipeline.alert_book.raise_or_join(
                alert,
                cool_down=pipeline.settings.alerts.cool_down,
                channels=[channel.name for channel in pipeline.channels],
            )
            (raised if is_new else joined).append(standing.id)
        counts = {"raised": len(raised), "joined": len(joined)}
        return _Done(Outcome("send_alerts", clip_id, tuple(raised), counts))

    return _perform(pipeline, "send_alerts", clip_id, work)


def deliver_alerts(pipeline: Pipeline) -> Outcome:
    """Try every delivery that is due; keep what failed for later and what was refused for people."""
    counts = {"delivered": 0, "failed": 0, "refused": 0}
    channels = {channel.name: channel for channel in pipeline.channels}
    for due in pipeline.alert_book.due(pipeline.now()):
        channel = channels.get(due.channel)
        if channel is None or not pipeline.alert_book.claim_delivery(due.id):
            continue
        alert = pipeline.alert_book.alert(due.alert_id)
        message = write_message(
            alert, outpost=pipeline.outpost(alert.outpost_id), now=pipeline.now(), zone=pipeline.zone,
            still_jpeg=_still(pipeline, alert.payload),
        )
        result = attempt(channel, message)
        if isinstance(result, Delivered):
            pipeline.alert_book.delivered(due.id, answer=result.answer)
            counts["delivered"] += 1
        elif isinstance(result, Failed):
            alerts = pipeline.settings.alerts
            wait = next_attempt(due.attempts + 1, base=alerts.retry_base, cap=alerts.retry_cap)
            pipeline.alert_book.failed(
                due.id, error=result.error, next_attempt_at=pipeline.now() + wait
            )
            counts["failed"] += 1
        else:
            pipeline.alert_book.failed(due.id, error=result.error, next_attempt_at=None)
            counts["refused"] += 1
    return Outcome("deliver_alerts", "", counts=counts)


def sweep(pipeline: Pipeline) -> Outcome:
    """Adopt settled files found in ``landing/``, free the work of dead workers, clear old scratch."""
    counts = {
        "adopted": _adopt_landing(pipeline),
        "freed": pipeline.ledger.release_stale(),
        "scratch_cleared": _clear_scratch(pipeline.scratch),
        "partial_writes_cleared": pipeline.store.sweep_partial(SCRATCH_KEPT),
    }
    return Outcome("sweep", "", counts=counts)


def clip_events(pipeline: Pipeline, clip: Clip) -> list[Event]:
    """Return the events that stand for a clip; none before they are published."""
    try:
        table = pipeline.lake.read("events", dt=keys.dt_of(clip.started_at), name=clip.id)
    except ObjectMissing:
        return []
    return schemas.events_from(table)


def _perform(
    pipeline: Pipeline, step: str, subject: str, work: Callable[[Path], _Done]
) -> Outcome:
    """Claim, work in a scratch folder, and complete; on failure say in the ledger what is to come."""
    claim = pipeline.ledger.claim(step, subject)
    if claim is None:
        return Outcome(step, subject, counts={"skipped": 1})
    logger = log.bind(step=step, subject=subject)
    try:
        with (
            tempfile.TemporaryDirectory(dir=pipeline.scratch) as folder,
            pipeline.ledger.hold(claim),
        ):
            done = work(Path(folder))
    except BaseException as error:
        retry = isinstance(error, TransientError) or not isinstance(error, Exception)
        pipeline.ledger.fail(claim, error, retry=retry)
        logger.warning("step_failed", error=str(error), kind=type(error).__name__, retry=retry)
        raise
    registered = done.registered
    pipeline.ledger.complete(
        claim,
        done.outcome,
        clips=registered.clips if registered else (),
        files=registered.files if registered else (),
        opens=done.opens,
    )
    if registered:
        for key in registered.landing_keys:
            pipeline.store.delete(key)
        for old in registered.replaced:
            remove_clip_objects(pipeline, old)
    logger.info("step_done", **done.outcome.counts)
    return done.outcome


def _fetch(pipeline: Pipeline, clip: Clip, folder: Path) -> Path:
    path = folder / Path(clip.object_key).name
    pipeline.store.download(clip.object_key, path)
    return path


def _pose_track(pipeline: Pipeline, clip: Clip) -> PoseTrack:
    if clip.telemetry_format is None:
        return PoseTrack(None)
    key = keys.footage(clip.id, dt=keys.dt_of(clip.started_at), name="telemetry.parquet")
    return PoseTrack(schemas.telemetry_from(schemas.read_parquet(pipeline.store.get(key))))


def _why_not_located(counts: Mapping[str, int], clip: Clip) -> str | None:
    return None
