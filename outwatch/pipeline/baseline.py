"""What stands at a place on every flight: finding candidates, and what people say of them.

Belongs here: from clips' coverage and events to the book of the baseline, and its rows. Not here: what makes
a candidate (``detection/baseline.py``) and what a confirmed place does to an event (``detection/rules``).
"""

from __future__ import annotations

from typing import Any

import shapely

from detection.baseline import (
    STANDING,
    BaselineRules,
    GroundSeen,
    StandingThing,
    find_standing,
    ground_seen,
)
from outwatch.domain.errors import ObjectMissing
from outwatch.domain.expected import BaselinePlace
from outwatch.domain.geometry import distance_m
from outwatch.domain.types import Clip
from outwatch.pipeline.wiring import Pipeline, join_rules
from storage import keys, schemas
from storage.baseline import Place, PlaceDecision, SeenGround
from storage.tables import PlaceState


def find_candidates(pipeline: Pipeline, clip: Clip) -> int:
    """Note the ground that a clip saw, look again for what always stands there, and return how many do."""
    settings, book = pipeline.settings.incidents, pipeline.baseline_book
    try:
        table = pipeline.lake.read("coverage", dt=keys.dt_of(clip.started_at), name=clip.id)
    except ObjectMissing:
        return 0
    seen = ground_seen(
        schemas.coverage_from(table), min_duration=pipeline.settings.rules.vehicle_min_duration
    )
    ground = shapely.Polygon() if seen is None else seen
    book.note_ground(SeenGround(clip.id, clip.flight_id, clip.started_at, shapely.to_wkb(ground)))
    if ground.is_empty:
        return 0
    since, until = clip.started_at - settings.baseline_lookback, clip.started_at + settings.baseline_lookback
    looked = [
        GroundSeen(item.clip_id, item.flight_id, item.started_at, there)
        for item in book.ground(since, until)
        if (there := shapely.from_wkb(item.wkb)).intersects(ground)
    ]
    things = find_standing(
        pipeline.incident_book.accounts(since, until),
        looked,
        gate=join_rules(pipeline.settings),
        rules=BaselineRules(settings.baseline_min_flights, settings.baseline_min_days),
    )
    known = book.places()
    places = [
        place
        for thing in things
        for place in [_place(thing, known)]
        if thing.is_candidate or any(stood.id == place.id for stood in known)
    ]
    book.put(places)
    return sum(place.state is PlaceState.CANDIDATE for place in places)


def _place(thing: StandingThing, known: list[Place]) -> Place:
    """Return a thing as a place, under the id that the place has already, if it has one."""
    at = shapely.Point(thing.point.lon_deg, thing.point.lat_deg)
    near = [
        (distance_m(stood.point, at), stood.id)
        for stood in known
        if stood.outpost_id == thing.outpost_id and distance_m(stood.point, at) <= stood.radius_m
    ]
    return Place(
        id=min(near)[1] if near else keys.place_id(thing.first_event_id),
        outpost_id=thing.outpost_id,
        point=thing.point,
        radius_m=thing.radius_m,
        count=thing.count,
        state=PlaceState.CANDIDATE if thing.is_candidate else PlaceState.WITHDRAWN,
        flights=thing.flights,
        first_at=thing.first_at,
        last_at=thing.last_at,
        absent_flight=thing.absent_flight,
    )


def baseline_places(pipeline: Pipeline) -> list[BaselinePlace]:
    """Return the places that a person confirmed, with who did and why, for the rules."""
    book = pipeline.baseline_book
    last = {decision.place_id: decision for decision in book.decisions()}
    return [
        BaselinePlace(
            place.point, place.radius_m, STANDING, _reason(place, last[place.id]), at_most=place.count
        )
        for place in book.places()
        if place.state is PlaceState.CONFIRMED
    ]


def _reason(place: Place, decision: PlaceDecision) -> str:
    return (
        f"baseline of {place.outpost_id}, confirmed by {decision.who} on {decision.decided_at:%Y-%m-%d}: "
        f"{decision.why}"
    )


def decide_place(pipeline: Pipeline, place_id: str, state: str, *, who: str, why: str) -> dict[str, Any]:
    """Record that a person confirms, refuses or removes a place of the baseline, and return its row.

    Raises:
        ObjectMissing: there is no such place.
        DecisionRefused: what was said before does not allow it.
    """
    return place_row(pipeline.baseline_book.decide(place_id, PlaceState(state), who=who, why=why))


def place_rows(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Return every place that was ever a candidate as JSON-ready fields, oldest first."""
    return [place_row(place) for place in pipeline.baseline_book.places()]


def place_row(place: Place) -> dict[str, Any]:
    """Return one place as JSON-ready fields."""
    return {
        "id": place.id,
        "outpost_id": place.outpost_id,
        "count": place.count,
        "state": place.state.value,
        "lat_deg": place.point.lat_deg,
        "lon_deg": place.point.lon_deg,
        "radius_m": place.radius_m,
        "flights": list(place.flights),
        "first_at": place.first_at.isoformat(),
        "last_at": place.last_at.isoformat(),
        "absent_flight": place.absent_flight,
    }
