"""What stands at a place on every flight: candidates for an outpost's baseline, which a person confirms.

Belongs here: which events show the same standing thing, and whether every flight that saw its place showed
it; pure. Not here: where candidates and decisions are kept (``storage/baseline.py``) and what a confirmed
place does to an event (``detection/rules``).

A flight speaks against a thing only where its place was seen for long enough to be claimed, in looks that
could have shown it: "not seen" and "not looked" differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from detection.incident_gate import JoinRules, same_place
from detection.labels import VEHICLE_LABELS
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.incidents import Account
from outwatch.domain.types import Coverage, EventKind, GeoPoint

STANDING = EventKind.VEHICLE_NEAR_OUTPOST
"""The kind of what may stand there; what stopped was seen to drive."""
_VERTEX_M = 1.0
"""Corners of ground that was seen are kept to this: finer than any fix."""
_DEG_PER_M = 1 / 111_320.0


@dataclass(frozen=True, slots=True)
class BaselineRules:
    """What makes a candidate; names and meanings are those of the settings' ``incidents``."""

    min_flights: int
    min_days: int


@dataclass(frozen=True, slots=True)
class GroundSeen:
    """The ground on which a clip would have shown a standing vehicle, WGS 84, longitude first."""

    clip_id: str
    flight_id: str
    started_at: datetime
    ground: BaseGeometry


@dataclass(frozen=True, slots=True)
class StandingThing:
    """A thing that several flights showed at one place."""

    first_event_id: str
    outpost_id: str
    point: GeoPoint
    radius_m: float
    """What showed there lay within this of ``point``."""
    count: int
    """How many stand there, as at least two flights showed."""
    flights: tuple[str, ...]
    """That showed it, in order."""
    absent_flight: str | None
    """The last that saw the place without it, since it first stood there."""
    first_at: datetime
    last_at: datetime
    is_candidate: bool


def ground_seen(looks: Sequence[Coverage], *, min_duration: timedelta) -> BaseGeometry | None:
    """Return the ground that was in view for ``min_duration`` in looks that could show a vehicle, if any."""
    usable = [
        look for look in looks if look.footprint is not None and VEHICLE_LABELS.isdisjoint(look.blind_to)
    ]
    held, later = [], 0
    for look in usable:
        while later < len(usable) and usable[later].at - look.at < min_duration:
            later += 1
        if later < len(usable):
            both = shapely.intersection(look.footprint, usable[later].footprint)
            held.append(shapely.simplify(both, _VERTEX_M * _DEG_PER_M))
    whole = shapely.union_all(held)
    return None if whole.is_empty else whole


def find_standing(
    accounts: Sequence[Account], seen: Sequence[GroundSeen], *, gate: JoinRules, rules: BaselineRules
) -> list[StandingThing]:
    """Return what stood at one place on more than one flight, in order of when it first did.

    Args:
        accounts: events of any kinds, clips and outposts; the order does not matter.
        seen: the clips that they are of, and all others that flew there.
        gate: which places agree.
        rules: what makes a candidate.
    """
    flights = {item.clip_id: item.flight_id for item in seen}
    left = sorted(
        (a for a in accounts if a.kind is STANDING and a.point is not None and a.clip_id in flights),
        key=lambda a: (a.covariance_m2[0] + a.covariance_m2[2], a.started_at, a.event_id),
    )
    things = []
    while left:
        near = [a for a in left[1:] if a.outpost_id == left[0].outpost_id]
        agree = same_place(left[0], near, rules=gate)
        members = [left[0], *(a for a, fits in zip(near, agree, strict=True) if fits)]
        taken = {a.event_id for a in members}
        left = [a for a in left if a.event_id not in taken]
        if len({flights[a.subject] for a in members}) > 1:
            things.append(_thing(members, seen, flights=flights, gate=gate, rules=rules))
    return sorted(things, key=lambda thing: (thing.first_at, thing.first_event_id))


def _thing(
    members: Sequence[Account],
    seen: Sequence[GroundSeen],
    *,
    flights: dict[str, str],
    gate: JoinRules,
    rules: BaselineRules,
) -> StandingThing:
    ordered = sorted(members, key=lambda a: (a.started_at, a.event_id))
    point, spread_m = _middle(ordered)
    radius_m = max(gate.vehicle_extent_m, spread_m)
    first_at, last_at = ordered[0].started_at, max(a.ended_at for a in ordered)
    showed = tuple(dict.fromkeys(flights[a.subject] for a in ordered))
    days = {a.started_at.date() for a in ordered}
    absent = [
        item.flight_id
        for item in sorted(seen, key=lambda item: (item.started_at, item.clip_id))
        if item.started_at >= first_at
        and item.flight_id not in showed
        and _covers(item.ground, point, radius_m=radius_m)
    ]
    return StandingThing(
        first_event_id=ordered[0].event_id,
        outpost_id=ordered[0].outpost_id,
        point=point,
        radius_m=radius_m,
        count=_shown_twice(ordered, flights),
        flights=showed,
        absent_flight=absent[-1] if absent else None,
        first_at=first_at,
        last_at=last_at,
        is_candidate=len(showed) >= rules.min_flights and len(days) >= rules.min_days and not absent,
    )


def _shown_twice(members: Sequence[Account], flights: dict[str, str]) -> int:
    """Return the largest count that a second flight bears out: one more beside it is no baseline."""
    most: dict[str, int] = {}
    for account in members:
        flight = flights[account.subject]
        most[flight] = max(most.get(flight, 0), account.count)
    return sorted(most.values())[-2]


def _middle(members: Sequence[Account]) -> tuple[GeoPoint, float]:
    """Return the mean of places, each weighed by how well it is known, and the largest distance from it."""
    points = [a.point for a in members if a.point is not None]
    weights = np.array([1 / (1.0 + a.covariance_m2[0] + a.covariance_m2[2]) for a in members])
    frame = LocalFrame.at(points[0])
    places_m = np.array(frame.to_local([p.lat_deg for p in points], [p.lon_deg for p in points]))
    middle_m = (places_m * weights).sum(axis=1) / weights.sum()
    lat_deg, lon_deg = frame.to_geo(*middle_m)
    spread_m = max(math.hypot(*step) for step in (places_m - middle_m[:, None]).T)
    return GeoPoint(float(lat_deg), float(lon_deg)), spread_m


def _covers(ground: BaseGeometry, point: GeoPoint, *, radius_m: float) -> bool:
    """Return whether all of a circle was in view: at its edge the thing may have stood outside."""
    if not ground.intersects(shapely.Point(point.lon_deg, point.lat_deg)):
        return False
    circle = shapely.Point(0.0, 0.0).buffer(radius_m)
    return bool(LocalFrame.at(point).project(ground).covers(circle))
