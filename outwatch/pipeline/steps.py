"""The steps of the pipeline, one function each: named inputs in, computed keys out.

Every step claims its subject in the ledger, writes data objects first and the ledger row last, and
may be run again at any time: the same inputs give the same keys with the same content. Belongs
here: the order of calls into the four stages. Not here: what those calls do, and who asks for a
step (a DAG, the CLI).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection

from alerting.delivery import Delivered, Failed, Refused, attempt, next_attempt
from alerting.messages import write_message
from alerting.policy import make_alert
from detection.detect import detect_clip
from detection.evidence import draw_still
from detection.rules import RULE_VERSION, find_events
from detection.tracks import ClipTracker
from ingest.align import PoseTrack
from ingest.video import read_frames
from outwatch.domain.errors import LeaseLost, ObjectMissing, OutwatchError, PermanentError
from outwatch.domain.ports import Channel, ObjectInfo
from outwatch.domain.types import (
    Alert,
    Clip,
    Coverage,
    Detection,
    Event,
    EventKind,
    Frame,
    Outcome,
)
from outwatch.pipeline.registration import (
    Registered,
    register_upload,
    standing_events,
    stored_telemetry,
)
from outwatch.pipeline.wiring import SOFTWARE, Pipeline
from storage import keys, schemas
from storage.alert_book import Delivery
from storage.tables import WorkState

log = structlog.get_logger(__name__)

STEPS = (
    "ingest_footage",
    "detect_clips",
    "publish_events",
    "write_readings",
    "publish_sensor_events",
    "send_alerts",
)
"""The steps in the order in which data passes them; each opens the next in the ledger."""
MAX_ATTEMPTS = 5
"""Tries after which work is no longer open by itself: what fails so often needs a person."""
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Job:
    """What a step's work is given: an empty folder, whether to give up, and a check of its claim."""

    folder: Path
    last_try: bool
    confirm: Callable[..., None]
    """Raises ``LeaseLost`` where another worker took over, or the clip it is given no longer stands."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a step's work did, and what is to change with it in the ledger."""

    outcome: Outcome
    opens: tuple[tuple[str, str], ...] = ()
    registered: Registered = field(default_factory=Registered)
    also: Callable[[Connection], Sequence[tuple[str, str]]] | None = None
    """What else changes in the transaction that completes the work; returns more work that follows."""


def summary(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain JSON: keys and counts only, small enough for XCom."""
    return asdict(outcome) | {"counts": dict(outcome.counts), "outputs": list(outcome.outputs)}


def open_subjects(pipeline: Pipeline, step: str, *, limit: int | None = None) -> list[str]:
    """Return what is open for a step, oldest first and at most ``limit``: never done, or its worker died."""
    return pipeline.ledger.open_subjects(step)[:limit]


def ingest_footage(pipeline: Pipeline, upload_id: str) -> Outcome:
    """Register one upload: each clip to ``footage/``, each refused file to ``quarantine/``."""

    def work(job: Job) -> Done:
        registered = register_upload(
            pipeline, upload_id, folder=job.folder, last_try=job.last_try, confirm=job.confirm
        )
        opens = tuple(("detect_clips", clip.id) for clip in registered.clips)
        outcome = Outcome(
            "ingest_footage", upload_id, tuple(registered.outputs), registered.counts, notes=registered.notes
        )
        return Done(outcome, opens, registered)

    return perform(pipeline, "ingest_footage", upload_id, work)


def detect_clips(pipeline: Pipeline, clip_id: str, *, progress: Progress | None = None) -> Outcome:
    """Write a clip's detections, tracks and coverage."""

    def work(job: Job) -> Done:
        clip = pipeline.ledger.require_clip(clip_id)
        detector = pipeline.detector(clip.modality)
        source = _fetch(pipeline, clip, job.folder)
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
            "recall": json.dumps(dict(detector.recall), sort_keys=True),
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
            recall=json.loads(table.schema.metadata[b"outwatch.recall"]),
            make_id=make_id,
        )
        before = standing_events(pipeline, clip)
        job.confirm(clip)
        events = _with_evidence(pipeline, clip, events, detections, folder=job.folder)
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
            "publish_events", clip_id, (*evidence, key), {"events": len(events)}, notes=_unwatched(pipeline)
        )
        return Done(outcome, (("send_alerts", clip_id),))

    return perform(pipeline, "publish_events", clip_id, work)


def raise_alerts(pipeline: Pipeline, subject: str) -> Outcome:
    """Enter the events of a clip or a window in the alert book: a new alert, or more of one that stands."""

    def work(_job: Job) -> Done:
        raised: list[str] = []
        joined: list[str] = []
        for event, clock_uncertainty_s in _events_of(pipeline, subject):
            alert = make_alert(
                event,
                outpost=pipeline.outpost(event.outpost_id),
                alert_id=keys.alert_id(event.id, agreed=event.window is not None and event.count > 1),
                raised_at=pipeline.now(),
                live_within=pipeline.settings.alerts.live_within,
                clock_uncertainty_s=clock_uncertainty_s,
                zone=pipeline.zone,
            )
            standing, is_new = pipeline.alert_book.raise_or_join(
                alert,
                cool_down=pipeline.settings.alerts.cool_down,
                longest=pipeline.settings.alerts.longest,
                channels=[channel.name for channel in pipeline.channels],
            )
            (raised if is_new else joined).append(standing.id)
        counts = {"raised": len(raised), "joined": len(joined)}
        return Done(Outcome("send_alerts", subject, tuple(raised), counts))

    return perform(pipeline, "send_alerts", subject, work)


def _events_of(pipeline: Pipeline, subject: str) -> list[tuple[Event, float]]:
    """Return the events that stand for a clip or a window, each with the doubt in its time in seconds."""
    if keys.is_window(subject):
        return [(event, _doubt_s(pipeline, event)) for event in window_events(pipeline, subject)]
    clip = pipeline.ledger.require_clip(subject)
    return [(event, clip.clock_uncertainty_s) for event in standing_events(pipeline, clip)]


def _doubt_s(pipeline: Pipeline, event: Event) -> float:
    """Return how far off the time of a sensors' event may be: their clocks, or how long a feed kept it."""
    kept_s = max(
        (json.loads(pipeline.store.get(key)).get("may_be_older_s", 0.0) for key in event.evidence_keys),
        default=0.0,
    )
    return max(kept_s, pipeline.settings.sensors.future_tolerance.total_seconds())


def window_events(pipeline: Pipeline, window: str) -> list[Event]:
    """Return the events that stand for a window of readings; none where none was ever published."""
    try:
        table = pipeline.lake.read("events", dt=keys.dt_of(keys.window_start(window)), name=window)
    except ObjectMissing:
        return []
    return schemas.events_from(table)


def deliver_alerts(pipeline: Pipeline) -> Outcome:
    """Try every delivery that is due; keep what failed for later and what was refused for people."""
    counts = {"delivered": 0, "failed": 0, "refused": 0, "without_channel": 0}
    channels = {channel.name: channel for channel in pipeline.channels}
    for due in pipeline.alert_book.due(pipeline.now()):
        if due.channel not in channels:
            log.warning("delivery_without_channel", channel=due.channel, alert=due.alert_id)
            counts["without_channel"] += 1
            continue
        result = _deliver(pipeline, due, channels[due.channel])
        if result is not None:
            counts[result] += 1
    return Outcome("deliver_alerts", "", counts=counts)


def _deliver(pipeline: Pipeline, due: Delivery, channel: Channel) -> str | None:
    """Make one attempt and record it; return its result, or None where another worker makes it."""
    book = pipeline.alert_book
    delivery = book.claim_delivery(due.id)
    alert = book.alert(due.alert_id)
    if delivery is None or alert is None:
        return None
    message = write_message(alert, now=pipeline.now(), still_jpeg=_still(pipeline, alert))
    try:
        result = attempt(channel, message)
    except Exception as error:  # noqa: BLE001  a fault in one channel must not silence the others
        result = Failed(f"{channel.name}: {type(error).__name__}: {error}")
    if isinstance(result, Delivered):
        book.delivered(delivery, result.answer)
        return "delivered"
    log.warning("delivery_not_made", channel=due.channel, alert=due.alert_id, reason=result.error)
    if isinstance(result, Refused):
        book.failed(delivery, result.error, next_attempt_at=None)
        return "refused"
    alerts = pipeline.settings.alerts
    wait = next_attempt(delivery.attempts, base=alerts.retry_base, cap=alerts.retry_cap)
    book.failed(delivery, result.error, next_attempt_at=pipeline.now() + wait)
    return "failed"


def _still(pipeline: Pipeline, alert: Alert) -> bytes | None:
    """Return the still of the event that raised an alert; an alert goes out without it rather than not."""
    for key in alert.payload["evidence_keys"]:
        if key.endswith(".jpg"):
            try:
                return pipeline.store.get(key)
            except OutwatchError as error:
                log.warning("still_left_out", key=key, error=str(error))
    return None


def perform(pipeline: Pipeline, step: str, subject: str, work: Callable[[Job], Done]) -> Outcome:
    """Claim, work in a scratch folder, and complete; on failure say in the ledger what is to come."""
    ledger = pipeline.ledger
    claim = ledger.claim(step, subject)
    if claim is None:
        standing = ledger.work_on(step, subject)
        if standing is not None and standing.state is WorkState.FAILED:
            raise PermanentError(f"failed before ({standing.error}): mend that, then `outwatch retry`")
        return Outcome(step, subject, counts={"skipped": 1})
    logger = log.bind(step=step, subject=subject)

    def confirm(clip: Clip | None = None) -> None:
        if not ledger.renew(claim) or (clip is not None and ledger.clip(clip.id) != clip):
            raise LeaseLost(f"{step} of {subject} was overtaken by another worker: its result stands")

    last_try = claim.attempts >= MAX_ATTEMPTS
    try:
        with tempfile.TemporaryDirectory(dir=pipeline.scratch) as folder, ledger.hold(claim):
            done = work(Job(Path(folder), last_try, confirm))
        ledger.complete(
            claim,
            done.outcome,
            clips=[*done.registered.clips, *(new for _, new in done.registered.moved)],
            replaces=[*done.registered.replaced, *(old for old, _ in done.registered.moved)],
            files=list(done.registered.files.values()),
            opens=done.opens,
            also=done.also,
        )
    except BaseException as error:
        # What is no error of ours is tried again, as Airflow does; an interrupt is no fault of the work.
        interrupted = not isinstance(error, Exception)
        retry = interrupted or not (isinstance(error, PermanentError) or last_try)
        ledger.fail(claim, error, retry=retry)
        logger.warning("step_failed", error=str(error), kind=type(error).__name__, retry=retry)
        raise
    _delete_unchanged(pipeline, done.registered.landing)
    logger.info("step_done", **done.outcome.counts)
    return done.outcome


def _delete_unchanged(pipeline: Pipeline, read: Mapping[str, ObjectInfo]) -> None:
    """Remove from landing what was registered; what has changed since stays, and the sweep tells of it."""
    for key, info in read.items():
        try:
            if pipeline.store.head(key) == info:
                pipeline.store.delete(key)
        except OutwatchError as error:  # registered it is; the sweep removes it later
            log.warning("landing_not_cleared", key=key, error=str(error))


def _fetch(pipeline: Pipeline, clip: Clip, folder: Path) -> Path:
    path = folder / Path(clip.object_key).name
    pipeline.store.download(clip.object_key, path)
    return path


def clip_notes(pipeline: Pipeline, clip: Clip) -> tuple[str, ...]:
    """Return why a detected clip could give no events, in words a person can act on."""
    try:
        table = pipeline.lake.read("coverage", dt=keys.dt_of(clip.started_at), name=clip.id)
    except ObjectMissing:
        return ()
    return (*_unlocated(schemas.coverage_from(table), clip), *_unwatched(pipeline))


def _unwatched(pipeline: Pipeline) -> tuple[str, ...]:
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


def _with_evidence(
    pipeline: Pipeline,
    clip: Clip,
    events: Sequence[Event],
    detections: Sequence[Detection],
    *,
    folder: Path,
) -> list[Event]:
    """Write each event's still and its record of inputs, and return the events with their keys."""
    if not events:
        return []
    source = _fetch(pipeline, clip, folder)
    peaks = [event.peak_frame_index for event in events if event.peak_frame_index is not None]
    frames = {frame.index: frame for frame in read_frames(source, indices=set(peaks), limits=pipeline.limits)}
    track = PoseTrack(stored_telemetry(pipeline, clip))
    return [
        _evidence(pipeline, clip, event, frames[peak], detections, track)
        for event, peak in zip(events, peaks, strict=True)
    ]


def _evidence(
    pipeline: Pipeline,
    clip: Clip,
    event: Event,
    frame: Frame,
    detections: Sequence[Detection],
    track: PoseTrack,
) -> Event:
    still = draw_still(
        frame.image,
        event=event,
        detections=[found for found in detections if found.frame_index == frame.index],
        outpost=pipeline.outpost(event.outpost_id),
        clip_name=clip.file_name,
        pose=track.at(frame.offset_s),
        camera=clip.camera,
        local_zone=pipeline.zone,
    )
    dt = keys.dt_of(clip.started_at)
    still_key = keys.evidence(event.id, dt=dt, name="still.jpg")
    record_key = keys.evidence(event.id, dt=dt, name="evidence.json")
    record = {
        "event_id": event.id,
        "inputs": {clip.object_key: clip.sha256},
        "frame_index": frame.index,
        "outputs": {"still.jpg": hashlib.sha256(still).hexdigest()},
        "model_id": event.model_id,
        "rule_version": event.rule_version,
        "software": SOFTWARE,
    }
    pipeline.store.put(still_key, still)
    pipeline.store.put(record_key, json.dumps(record, indent=1, sort_keys=True).encode())
    return replace(event, evidence_keys=(still_key, record_key))
