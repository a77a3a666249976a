"""What people and programs ask of the pipeline: events, alerts, open work, as plain rows.

Belongs here: reading for the front doors. Not here: changing anything, and how rows are shown.
"""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from outwatch.domain.types import Alert, Event
from outwatch.pipeline.wiring import Pipeline
from storage import schemas
from storage.ledger import Work
from storage.tables import WorkState


def events(pipeline: Pipeline, *, since: date | None = None) -> list[Event]:
    """Return the events that stand in the lake, oldest first.

    Args:
        pipeline: where to look.
        since: first UTC date of capture.
    """
    found = schemas.events_from(pipeline.lake.scan("events", since=since))
    return sorted(found, key=lambda event: (event.started_at, event.id))


def alerts(pipeline: Pipeline, *, control_room: str | None = None) -> list[Alert]:
    """Return the alerts, newest first: all, or those of one control room."""
    return pipeline.alert_book.alerts(control_room=control_room)[::-1]


def unfinished(pipeline: Pipeline) -> list[Work]:
    """Return the work that is open, claimed or failed, oldest first."""
    return [work for work in pipeline.ledger.work() if work.state is not WorkState.DONE]


def files(
    pipeline: Pipeline, *, since: datetime | None = None, outcome: str | None = None
) -> list[dict[str, Any]]:
    """Return every file that was handed in or announced, oldest first, with its outcome and the reason.

    Args:
        pipeline: whose ledger.
        since: first time of receipt, UTC-aware.
        outcome: only files of this one.
    """
    return [
        {
            "received_at": file.received_at.isoformat(),
            "name": file.name,
            "size_bytes": file.size_bytes,
            "sha256": file.sha256 or None,
            "outcome": file.outcome.value,
            "reason": file.reason,
            "clip_id": file.clip_id,
            "upload_id": upload.id,
            "operator": upload.declared.get("operator"),
        }
        for upload in pipeline.ledger.uploads(since=since)
        for file in upload.files
        if outcome in {None, file.outcome}
    ]


def refused_readings(pipeline: Pipeline, *, since: date | None = None) -> list[dict[str, Any]]:
    """Return the sensor readings that are kept apart, oldest first, with the reason and what came.

    Args:
        pipeline: where to look.
        since: first UTC date of receipt.
    """
    found = schemas.refused_readings_from(pipeline.lake.scan("refused_readings", since=since))
    return [
        {
            "received_at": item.received_at.isoformat(),
            "feed": item.feed,
            "sensor_id": item.sensor_id,
            "reason": item.reason,
            "why": item.why,
            "payload": item.payload,
        }
        for item in sorted(found, key=lambda item: (item.received_at, item.id))
    ]


def event_row(pipeline: Pipeline, event: Event) -> dict[str, Any]:
    """Return an event as JSON-ready fields, with where its evidence can be opened."""
    point = event.fix.point
    return {
        "id": event.id,
        "incident_id": pipeline.incident_book.incident_of([event.id]).get(event.id),
        "kind": event.kind.value,
        "outpost_id": event.outpost_id,
        "clip_id": event.clip_id,
        "window": event.window,
        "sensor_ids": list(event.sensor_ids),
        "started_at": event.started_at.isoformat(),
        "ended_at": event.ended_at.isoformat(),
        "lat_deg": point.lat_deg if point else None,
        "lon_deg": point.lon_deg if point else None,
        "error_radius_m": event.fix.error_radius_m,
        "distance_m": event.distance_m,
        "bearing_deg": event.bearing_deg,
        "p_inside": event.p_inside,
        "count_low": event.count_low,
        "count": event.count,
        "count_high": event.count_high,
        "in_view": event.in_view,
        "confidence": event.confidence,
        "model_id": event.model_id,
        "rule_version": event.rule_version,
        "review": event.review.value,
        "measures": dict(event.measures),
        "notes": list(event.notes),
        "lowered_by": event.lowered_by,
        "suppressed_by": event.suppressed_by,
        "evidence": [locate(pipeline, key) for key in event.evidence_keys],
    }


def alert_row(pipeline: Pipeline, alert: Alert) -> dict[str, Any]:
    """Return an alert as JSON-ready fields, with how each of its deliveries stands."""
    return {
        "id": alert.id,
        "priority": alert.priority.value,
        "state": alert.state.value,
        "kind": alert.kind.value,
        "outpost_id": alert.outpost_id,
        "control_room": alert.control_room,
        "event_ids": list(alert.event_ids),
        "raised_at": alert.raised_at.isoformat(),
        "captured_from": alert.captured_from.isoformat(),
        "captured_to": alert.captured_to.isoformat(),
        "message_en": alert.message_en,
        "message_ur": alert.message_ur,
        "deliveries": [
            {
                "channel": delivery.channel,
                "state": delivery.state,
                "attempts": delivery.attempts,
                "last_error": delivery.last_error,
            }
            for delivery in pipeline.alert_book.deliveries(alert.id)
        ],
    }


def locate(pipeline: Pipeline, key: str) -> str:
    """Return where an object can be opened: a path on this machine, or ``s3://bucket/prefix/key``."""
    url = pipeline.store.url
    if url.startswith("file://"):
        return str(Path(unquote(urlsplit(url).path)) / key)
    return f"{url.rpartition('?endpoint=')[0].rstrip('/')}/{key}"
