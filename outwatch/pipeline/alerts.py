"""From events to alerts, and from alerts to the channels.

Belongs here: the alert book and deliveries. Not here: priorities and words (``alerting/``).
"""

from __future__ import annotations

import json
from dataclasses import replace

import structlog

from alerting.delivery import Delivered, Failed, Refused, attempt, next_attempt
from alerting.messages import write_message
from alerting.policy import make_alert, raises
from outwatch.domain.errors import ObjectMissing, OutwatchError
from outwatch.domain.ports import Channel
from outwatch.domain.types import Alert, Event, Outcome
from outwatch.pipeline.registration import standing_events
from outwatch.pipeline.wiring import Pipeline
from outwatch.pipeline.work import Done, Job, perform
from storage import keys, schemas
from storage.alert_book import Delivery

log = structlog.get_logger(__name__)


def raise_alerts(pipeline: Pipeline, subject: str) -> Outcome:
    """Enter the events of a clip or a window in the alert book: a new alert, or more of one that stands."""

    def work(_job: Job) -> Done:
        raised: list[str] = []
        joined: list[str] = []
        suppressed = 0
        for event, clock_uncertainty_s in events_of(pipeline, subject):
            if not raises(event):
                suppressed += 1
                continue
            incident_id, of_same = _incident_of(pipeline, event)
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
                replace(alert, payload={**alert.payload, "incident_id": incident_id}),
                also_events=of_same,
                cool_down=pipeline.settings.alerts.cool_down,
                longest=pipeline.settings.alerts.longest,
                channels=[channel.name for channel in pipeline.channels],
            )
            (raised if is_new else joined).append(standing.id)
        counts = {"raised": len(raised), "joined": len(joined), "suppressed": suppressed}
        return Done(Outcome("send_alerts", subject, tuple(raised), counts))

    return perform(pipeline, "send_alerts", subject, work)


def _incident_of(pipeline: Pipeline, event: Event) -> tuple[str | None, list[str]]:
    """Return an event's incident and the other events in it that tell of the same outpost.

    None and none where the event is not joined: its alert was open before incidents were.
    """
    book = pipeline.incident_book
    incident_id = book.incident_of([event.id]).get(event.id)
    standing = None if incident_id is None else book.incident(incident_id)
    accounts = [member.account for member in standing.members] if standing else []
    of_same = [a.event_id for a in accounts if a.outpost_id == event.outpost_id and a.event_id != event.id]
    return incident_id, of_same


def events_of(pipeline: Pipeline, subject: str) -> list[tuple[Event, float]]:
    """Return the events that stand for a clip or a window, each with the doubt in its time in seconds."""
    if keys.is_window(subject):
        return [(event, _doubt_s(pipeline, event)) for event in window_events(pipeline, subject)]
    clip = pipeline.ledger.require_clip(subject)
    return [(event, clip.clock_uncertainty_s) for event in standing_events(pipeline, clip)]


def _doubt_s(pipeline: Pipeline, event: Event) -> float:
    """Return how far off the time of a sensors' event may be: their clocks, or how long a feed kept it."""
    records = [key for key in event.evidence_keys if key.endswith(f"/{keys.RECORD}")]
    kept_s = max(
        (json.loads(pipeline.store.get(key)).get("may_be_older_s", 0.0) for key in records), default=0.0
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
