"""What an event means here and now: the sun, what is expected at this hour, whose vehicles they are.

Belongs here: notes, lowering and suppression, with the reason on the record. An event is never dropped: what
is expected is lowered, what is a place's own or its baseline raises no alert, and both stay in the lake. Not
here: reading expectations (``outwatch/domain/expected.py``) and what follows from them (``alerting``).

A span of hours only holds for an event that lies wholly within it, as far off as its clock may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import shapely

from detection.rules.scene import VEHICLE
from detection.sightings import place_of
from detection.sun import CIVIL_TWILIGHT_DEG, sun_elevation_deg
from outwatch.domain.expected import Activity, BaselinePlace, Expected, Hours, OwnTraffic
from outwatch.domain.geometry import distance_m
from outwatch.domain.types import Detection, Event, EventKind, GeoPoint, Outpost

SUN_KNOWN_WITHIN = timedelta(minutes=30)
"""A clock worse than this may be off by more than twilight lasts, so nothing is said of the sun."""
AS_EXPECTED, AS_USUAL = 1, 2
"""Levels of priority off: the kind of thing is expected now; and its number is usual too."""


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of the places and of the clip's clock."""

    expected: Expected = field(default_factory=Expected)
    baseline: Sequence[BaselinePlace] = ()
    clock_uncertainty: timedelta = timedelta(0)


def in_context(event: Event, *, outpost: Outpost, context: Context) -> Event:
    """Return the event with what its place and hour say of it."""
    measures, notes = dict(event.measures), list(event.notes)
    if context.clock_uncertainty <= SUN_KNOWN_WITHIN:
        elevation_deg = sun_elevation_deg(event.peak_at, place_of(event.fix))
        measures["sun_elevation_deg"] = elevation_deg
        if elevation_deg < CIVIL_TWILIGHT_DEG:
            notes.append(f"night: the sun is {-elevation_deg:.0f} degrees below the horizon")
    lowered_by = 0
    for activity in context.expected.activities:
        if _holds_now(activity, event, outpost=outpost, context=context):
            by, note = _lowering(activity, event)
            lowered_by = max(lowered_by, by)
            notes.append(note)
    return replace(
        event,
        measures=measures,
        notes=tuple(notes),
        lowered_by=lowered_by,
        suppressed_by=_suppressor(event, outpost=outpost, context=context),
    )


def known_by(vehicle: Detection, *, outpost: Outpost, context: Context) -> int | None:
    """Return the number of the place where the outpost's own park, or the baseline has one; None elsewhere.

    What stands at one place is counted apart from what stands at another: each has its own number.
    """
    point = place_of(vehicle.fix)
    places = [
        *(
            own.area is not None and _holds(own, VEHICLE, outpost=outpost) and _within(point, own.area)
            for own in context.expected.own
        ),
        *(_is_at(place, VEHICLE, point) for place in context.baseline),
    ]
    return places.index(True) if True in places else None


def _lowering(activity: Activity, event: Event) -> tuple[int, str]:
    """Return the levels off and the note: less where more are there than usual, none where surely more."""
    if activity.usual is None:
        return AS_EXPECTED, f"expected now: {activity.name}"
    if event.count <= activity.usual:
        return AS_USUAL, f"expected now: {activity.name}, usually up to {activity.usual}"
    if event.count_low <= activity.usual:
        return AS_EXPECTED, f"expected now: {activity.name}, perhaps more than the usual {activity.usual}"
    return 0, f"more than expected: {activity.name} usually has up to {activity.usual}"


def _suppressor(event: Event, *, outpost: Outpost, context: Context) -> str | None:
    """Return why no alert is raised: the first of the place's own, or of its baseline, that explains all."""
    point = place_of(event.fix)
    for own in context.expected.own:
        if not _holds_now(own, event, outpost=outpost, context=context):
            continue
        if own.at_most is not None and event.count > own.at_most:
            continue
        if own.area is None or _within(point, own.area):
            return f"own: {own.name}"
    for place in context.baseline:
        more = place.at_most is not None and event.count > place.at_most
        if _is_at(place, event.kind, point) and not more:
            return f"baseline: {place.reason}"
    return None


def _holds(entry: Activity | OwnTraffic, kind: EventKind, *, outpost: Outpost) -> bool:
    return kind in entry.kinds and (not entry.outposts or outpost.id in entry.outposts)


def _holds_now(entry: Activity | OwnTraffic, event: Event, *, outpost: Outpost, context: Context) -> bool:
    return _holds(entry, event.kind, outpost=outpost) and (
        entry.hours is None or _covers(entry.hours, event, context=context)
    )


def _covers(hours: Hours, event: Event, *, context: Context) -> bool:
    start = (event.started_at - context.clock_uncertainty).astimezone(context.expected.zone)
    end = (event.ended_at + context.clock_uncertainty).astimezone(context.expected.zone)
    return hours.cover(start, end)


def _within(point: GeoPoint, area: shapely.Geometry) -> bool:
    return bool(shapely.intersects_xy(area, point.lon_deg, point.lat_deg))


def _is_at(place: BaselinePlace, kind: EventKind, point: GeoPoint) -> bool:
    there = shapely.Point(place.point.lon_deg, place.point.lat_deg)
    return place.kind is kind and distance_m(point, there) <= place.radius_m
