"""The step that joins events into incidents, what people decide of them, and the rows that show them.

Belongs here: from the events of a clip or window to the book of incidents. Not here: the gate
(``detection/incidents.py``), the book (``storage/incidents.py``) and the baseline (``baseline.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from outwatch.domain.errors import DecisionRefused, ObjectMissing
from outwatch.domain.geometry import (
    CHI2_2DOF_P90,
    LocalFrame,
    covariance_from_ellipse,
    ellipse_from_covariance,
)
from outwatch.domain.incidents import Account, Revision, Verdict
from outwatch.domain.types import Event, GeoPoint, GroundFix, Incident, Outcome
from outwatch.pipeline.alerts import events_of
from outwatch.pipeline.baseline import find_candidates
from outwatch.pipeline.wiring import Pipeline
from outwatch.pipeline.work import Done, Job, perform
from storage import keys, schemas
from storage.incident_rows import Decision, Member, Standing


def join_incidents(pipeline: Pipeline, subject: str) -> Outcome:
    """Put the events of a clip or a window into the book of incidents, and join what they can reach."""

    def work(job: Job) -> Done:
        accounts = [
            _account(pipeline, event, subject, doubt_s) for event, doubt_s in events_of(pipeline, subject)
        ]
        job.confirm()
        since = pipeline.now()
        found = pipeline.incident_book.take(subject, accounts)
        counts = {"events": len(accounts), "incidents": len(found)}
        if not keys.is_window(subject):
            counts["baseline_candidates"] = find_candidates(pipeline, pipeline.ledger.require_clip(subject))
        written = append_revisions(pipeline, since, also=found)
        outcome = Outcome("join_incidents", subject, written, counts)
        return Done(outcome, (("send_alerts", subject),))

    return perform(pipeline, "join_incidents", subject, work)


def append_revisions(pipeline: Pipeline, since: datetime, *, also: Sequence[str] = ()) -> tuple[str, ...]:
    """Write to the lake each incident that changed at or after a time, as it stands, and return the keys.

    Args:
        pipeline: the ports.
        since: when a change began.
        also: ids of incidents to write in any case: a run that was cut off may have left them out.
    """
    written = []
    for change in pipeline.incident_book.changed(since, also):
        standing = change.standing
        revision = Revision(
            incident_id=change.incident_id,
            revised_at=change.changed_at,
            merged_into=change.merged_into,
            incident=None if standing is None else _incident(standing),
            by=tuple(sorted({member.membership.by for member in standing.members})) if standing else (),
        )
        captured_at = revision.incident.started_at if revision.incident else change.changed_at
        name = keys.revision(change.incident_id, revised_at=change.changed_at)
        table = schemas.incidents_table([revision])
        dt = keys.dt_of(captured_at)
        written.append(pipeline.lake.write("incidents", table, dt=dt, name=name, metadata={}))
    return tuple(written)


def _account(pipeline: Pipeline, event: Event, subject: str, clock_doubt_s: float) -> Account:
    point, covariance_m2 = _place(pipeline, event)
    return Account(
        event_id=event.id,
        subject=subject,
        kind=event.kind,
        outpost_id=event.outpost_id,
        started_at=event.started_at,
        ended_at=event.ended_at,
        clock_doubt_s=clock_doubt_s,
        point=point,
        covariance_m2=covariance_m2,
        method=event.fix.method,
        count=event.count,
    )


def _place(pipeline: Pipeline, event: Event) -> tuple[GeoPoint | None, tuple[float, float, float]]:
    """Return an event's place with its covariance; of sensors their middle, and how far they are spread."""
    if event.fix.point is None:
        return None, (0.0, 0.0, 0.0)
    tripped = [pipeline.sensors.sensor(sensor_id) for sensor_id in event.sensor_ids]
    points = [sensor.point for sensor in tripped if sensor is not None]
    if len(points) > 1:
        frame = LocalFrame.at(event.fix.point)
        places_m = np.array(frame.to_local([p.lat_deg for p in points], [p.lon_deg for p in points]))
        middle_m = places_m.mean(axis=1)
        lat_deg, lon_deg = frame.to_geo(*middle_m)
        return GeoPoint(float(lat_deg), float(lon_deg)), _upper(np.cov(places_m, bias=True))
    if event.fix.error_ellipse is not None:
        return event.fix.point, _upper(covariance_from_ellipse(event.fix.error_ellipse))
    variance_m2 = (event.fix.error_radius_m or 0.0) ** 2 / CHI2_2DOF_P90
    return event.fix.point, (variance_m2, 0.0, variance_m2)


def _upper(covariance_m2: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    return float(covariance_m2[0, 0]), float(covariance_m2[0, 1]), float(covariance_m2[1, 1])


def incidents(pipeline: Pipeline, *, since: datetime | None = None) -> list[Incident]:
    """Return the incidents with an event that ended at or after ``since``, oldest first."""
    return [_incident(standing) for standing in pipeline.incident_book.incidents(since)]


def _incident(standing: Standing) -> Incident:
    accounts = [member.account for member in standing.members]
    seen = [account for account in accounts if account.clip_id is not None] or accounts
    best = min(seen, key=lambda item: (item.point is None, item.covariance_m2[0] + item.covariance_m2[2]))
    return Incident(
        id=standing.id,
        event_ids=tuple(account.event_id for account in accounts),
        outpost_ids=tuple(sorted({account.outpost_id for account in accounts})),
        kinds=tuple(sorted({account.kind for account in accounts})),
        started_at=accounts[0].started_at,
        ended_at=max(account.ended_at for account in accounts),
        fix=_fix(best),
        count=max(account.count for account in seen),
    )


def _fix(account: Account) -> GroundFix:
    if account.point is None:
        return GroundFix(account.started_at, None, None, None, "none", "no event of it is located")
    if account.clip_id is None:
        return GroundFix(account.started_at, account.point, None, None, "sensor")
    east_east, east_north, north_north = account.covariance_m2
    ellipse = ellipse_from_covariance(np.array([[east_east, east_north], [east_north, north_north]]))
    return GroundFix(account.started_at, account.point, ellipse, ellipse.semi_major_m, account.method)


def incident_rows(pipeline: Pipeline, *, since: datetime | None = None) -> list[dict[str, Any]]:
    """Return the incidents with an event that ended at or after ``since`` as JSON-ready fields."""
    return [_row(pipeline, standing) for standing in pipeline.incident_book.incidents(since)]


def incident_row(pipeline: Pipeline, incident_id: str) -> dict[str, Any]:
    """Return one incident, by its id or one that it had before, as JSON-ready fields.

    Raises:
        ObjectMissing: there is none, or its events are gone.
    """
    return _row(pipeline, _standing(pipeline, incident_id))


def _row(pipeline: Pipeline, standing: Standing) -> dict[str, Any]:
    incident = _incident(standing)
    point = incident.fix.point
    clips = {member.account.clip_id for member in standing.members} - {None}
    known = [pipeline.ledger.clip(clip_id) for clip_id in sorted(map(str, clips))]
    return {
        "id": incident.id,
        "formerly": list(standing.aliases),
        "outpost_ids": list(incident.outpost_ids),
        "kinds": [kind.value for kind in incident.kinds],
        "started_at": incident.started_at.isoformat(),
        "ended_at": incident.ended_at.isoformat(),
        "lat_deg": point.lat_deg if point else None,
        "lon_deg": point.lon_deg if point else None,
        "error_radius_m": incident.fix.error_radius_m,
        "count": incident.count,
        "flights": sorted({clip.flight_id for clip in known if clip is not None}),
        "by_sensors": any(member.account.clip_id is None for member in standing.members),
        "events": [_member_row(member) for member in standing.members],
    }


def _member_row(member: Member) -> dict[str, Any]:
    why = member.membership
    return {
        "id": member.account.event_id,
        "kind": member.account.kind.value,
        "outpost_id": member.account.outpost_id,
        "subject": member.account.subject,
        "started_at": member.account.started_at.isoformat(),
        "ended_at": member.account.ended_at.isoformat(),
        "count": member.account.count,
        "joined_at": member.joined_at.isoformat(),
        "by": why.by,
        "near_event_id": why.near_event_id,
        "distance_m": why.distance_m,
        "mahalanobis": why.mahalanobis,
        "gap_s": why.gap_s,
        "note": why.note,
    }


def decision_rows(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Return what people decided, oldest first, as JSON-ready fields."""
    return [decision_row(decision) for decision in pipeline.incident_book.decisions()]


def decision_row(decision: Decision) -> dict[str, Any]:
    """Return one decision as JSON-ready fields."""
    return {
        "id": decision.id,
        "verdict": decision.verdict,
        "who": decision.who,
        "why": decision.why,
        "decided_at": decision.decided_at.isoformat(),
        "undoes": decision.undoes,
        "undone_by": decision.undone_by,
        "events": [list(side) for side in decision.event_ids],
    }


def join(pipeline: Pipeline, one: str, other: str, *, who: str, why: str) -> Decision:
    """Record that two incidents, or events, are one happening.

    Raises:
        ObjectMissing: one of them is not known.
        DecisionRefused: they are one already, or would be too long as one.
    """
    first, second = _standing(pipeline, one), _standing(pipeline, other)
    if first.id == second.id:
        raise DecisionRefused(f"{one} and {other} are one incident already: {first.id}")
    return _decide(pipeline, "join", _ids(first), _ids(second), who=who, why=why)


def separate(pipeline: Pipeline, event_id: str, *, who: str, why: str) -> Decision:
    """Record that an event is another happening than the rest of its incident.

    Raises:
        ObjectMissing: it is not known.
        DecisionRefused: it is alone in its incident.
    """
    standing = _standing(pipeline, event_id)
    rest = [known for known in _ids(standing) if known != event_id]
    if not rest or len(rest) == len(standing.members):
        raise DecisionRefused(f"{event_id} cannot be separated: expected one event of several in an incident")
    return _decide(pipeline, "separate", [event_id], rest, who=who, why=why)


def _decide(
    pipeline: Pipeline, verdict: Verdict, one: Sequence[str], other: Sequence[str], *, who: str, why: str
) -> Decision:
    since = pipeline.now()
    decision = pipeline.incident_book.decide(verdict, one, other, who=who, why=why)
    append_revisions(pipeline, since)
    return decision


def undo(pipeline: Pipeline, decision_id: int, *, who: str, why: str) -> Decision:
    """Record that an earlier decision no longer holds.

    Raises:
        ObjectMissing: there is no such decision.
        DecisionRefused: it does not hold any more.
    """
    since = pipeline.now()
    undone = pipeline.incident_book.undo(decision_id, who=who, why=why)
    append_revisions(pipeline, since)
    return undone


def _standing(pipeline: Pipeline, known_id: str) -> Standing:
    """Return the incident that an incident's or an event's id leads to."""
    book = pipeline.incident_book
    standing = book.incident(book.incident_of([known_id]).get(known_id, known_id))
    if standing is None:
        raise ObjectMissing(
            f"{known_id} is no incident or event that stands: see `outwatch incidents` and `outwatch events`"
        )
    return standing


def _ids(standing: Standing) -> Sequence[str]:
    return [member.account.event_id for member in standing.members]
