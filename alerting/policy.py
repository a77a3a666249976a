"""How urgent an event is, which happening it belongs to, and the alert that is made of it.

Belongs here: pure decisions on events. Not here: the words (``messages.py``), cool-down and merging,
which need to know what was sent before (the alert book in ``storage``), and sending.

The table, before the deductions; a gathering that grows is a gathering:

    gathering          police outpost, checkpoint; fresh and confident    P1
    gathering          any watched place                                  P2
    approach, convoy   police outpost, checkpoint; several come           P2
    sensors            any watched place; several agree                   P2
    approach, convoy   any watched place                                  P3
    vehicle, stopped   any watched place                                  P3
    night activity     any place that is closed then                      P3
    sensor             any watched place; one alone                       P3
    loitering          police outpost, checkpoint                         P3
    loitering          any watched place                                  P4
    dispersing         any watched place                                  P4

One lower for footage that is not live, or may not be as its clock is uncertain; one lower where the
place is as likely outside the watch radius as inside; one or two lower where it is expected at this hour;
never below P4. A gathering comes before a vehicle because vehicles pass every outpost all day; outposts and
checkpoints come first because they are what is attacked by groups. One sensor alone is as often a fox as a
person; of several that agree the same is rare. What is a place's own, or of its baseline, raises no alert.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from alerting import messages
from alerting.messages import Age
from outwatch.domain.types import Alert, Event, EventKind, Outpost, OutpostKind, Priority

_BASE = {
    EventKind.GATHERING_NEAR_OUTPOST: Priority.P2,
    EventKind.GATHERING_GROWING: Priority.P2,
    EventKind.APPROACH: Priority.P3,
    EventKind.CONVOY: Priority.P3,
    EventKind.VEHICLE_NEAR_OUTPOST: Priority.P3,
    EventKind.STOPPED_VEHICLE: Priority.P3,
    EventKind.NIGHT_ACTIVITY: Priority.P3,
    EventKind.SENSOR_TRIP: Priority.P3,
    EventKind.LOITERING: Priority.P4,
    EventKind.GATHERING_DISPERSING: Priority.P4,
}
_GATHERINGS = (EventKind.GATHERING_NEAR_OUTPOST, EventKind.GATHERING_GROWING)
_FIRST_PLACES = (OutpostKind.POLICE_OUTPOST, OutpostKind.CHECKPOINT)
_LEVELS = tuple(Priority)
SURE_P_INSIDE = 0.8
"""P1 wakes people up: at most one in five may turn out to lie outside the watch radius."""
SURE_CONFIDENCE = 0.6
"""... and the detector must be well above its working point of 0.25."""
EVEN_P_INSIDE = 0.5
"""Below this the place is more likely outside the watch radius than inside."""


def dedup_key(event: Event) -> str:
    """Return the key of an event's happening: one outpost, one kind; the cool-down bounds it in time."""
    return f"{event.outpost_id}/{event.kind}"


def raises(event: Event) -> bool:
    """Return whether an event may raise an alert: one that is suppressed stays on record and raises none."""
    return event.suppressed_by is None


def priority_of(event: Event, *, outpost: Outpost, age: Age) -> Priority:
    """Return how soon a control room must look, by the table at the top of this module."""
    live = age.verdict == "live"
    sure = event.p_inside >= SURE_P_INSIDE and event.confidence >= SURE_CONFIDENCE
    first_place = outpost.kind in _FIRST_PLACES
    raised = _is_more(event, first_place=first_place) or (
        event.kind in _GATHERINGS and first_place and live and sure
    )
    lowered = (not live) + (event.p_inside < EVEN_P_INSIDE) + event.lowered_by
    level = _LEVELS.index(_BASE[event.kind]) - raised + lowered
    return _LEVELS[min(level, len(_LEVELS) - 1)]


def _is_more(event: Event, *, first_place: bool) -> bool:
    """Return whether an event is one level above its kind, however fresh and sure it is."""
    match event.kind:
        case EventKind.SENSOR_TRIP:
            return event.count > 1
        case EventKind.APPROACH:
            return first_place and event.count > 1
        case EventKind.CONVOY:
            return first_place and event.measures.get("closing_m_s", 0.0) > 0
        case EventKind.LOITERING:
            return first_place
        case _:
            return False


def make_alert(
    event: Event,
    *,
    outpost: Outpost,
    raised_at: datetime,
    alert_id: str,
    live_within: timedelta,
    clock_uncertainty_s: float,
    zone: ZoneInfo,
) -> Alert:
    """Return the alert that an event raises, with its words as of ``raised_at``.

    Args:
        event: what was seen.
        outpost: the place it was seen near.
        raised_at: now, UTC-aware.
        alert_id: the id under which the alert book keeps it.
        live_within: footage that is, or may be, older than this is not spoken of as live.
        clock_uncertainty_s: how far off the event's times may be, either way: that of its clip.
        zone: the time zone of the control room.

    Raises:
        ValueError: the event belongs to another outpost, or the uncertainty is negative.
    """
    if event.outpost_id != outpost.id:
        raise ValueError(f"event {event.id} is near {event.outpost_id!r}, found outpost {outpost.id!r}")
    age = Age(
        since=raised_at - event.ended_at,
        uncertainty=timedelta(seconds=clock_uncertainty_s),
        live_within=live_within,
    )
    priority = priority_of(event, outpost=outpost, age=age)
    return Alert(
        id=alert_id,
        dedup_key=dedup_key(event),
        priority=priority,
        kind=event.kind,
        outpost_id=outpost.id,
        control_room=outpost.control_room,
        event_ids=(event.id,),
        raised_at=raised_at,
        captured_from=event.started_at,
        captured_to=event.ended_at,
        message_en=messages.text_en(event, outpost=outpost, age=age, zone=zone),
        message_ur=messages.text_ur(event, outpost=outpost, age=age, zone=zone),
        payload={
            "alert_id": alert_id,
            "subject": messages.text_subject(event, outpost=outpost, priority=priority, age=age),
            "priority": str(priority),
            "raised_at": raised_at.isoformat(),
            "clock_uncertainty_s": clock_uncertainty_s,
            **_fields(event, outpost=outpost),
        },
    )


def _fields(event: Event, *, outpost: Outpost) -> dict[str, object]:
    """Return what programs may want to know of an event, of JSON types only."""
    point = event.fix.point
    return {
        "kind": str(event.kind),
        "event_ids": [event.id],
        "outpost": {
            "id": outpost.id,
            "name": outpost.name,
            "name_ur": outpost.name_ur,
            "kind": str(outpost.kind),
            "watch_radius_m": outpost.watch_radius_m,
        },
        "captured_from": event.started_at.isoformat(),
        "captured_to": event.ended_at.isoformat(),
        "lat_deg": point.lat_deg if point else None,
        "lon_deg": point.lon_deg if point else None,
        "error_radius_m": event.fix.error_radius_m,
        "distance_m": event.distance_m,
        "bearing_deg": event.bearing_deg,
        "count": {"low": event.count_low, "best": event.count, "high": event.count_high},
        "in_view": event.in_view,
        "p_inside": event.p_inside,
        "confidence": event.confidence,
        "sensor_ids": list(event.sensor_ids),
        "review": str(event.review),
        "evidence_keys": list(event.evidence_keys),
        "model_id": event.model_id,
        "rule_version": event.rule_version,
        "measures": dict(event.measures),
        "notes": list(event.notes),
        "lowered_by": event.lowered_by,
    }
