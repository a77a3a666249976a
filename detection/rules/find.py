"""All rules asked of one clip: detections go in, its events come out; the same input gives the same events.

Belongs here: the order in which rules are asked. Not here: the rules themselves (the modules beside it).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial

from detection.labels import VEHICLE_LABELS
from detection.rules.approach import approach
from detection.rules.claims import Counting, MakeId, event_of, mean_confidence, with_ids
from detection.rules.context import Context, in_context, known_by
from detection.rules.convoy import convoy
from detection.rules.gathering import find_groups, gathering_happenings, gathering_near_outpost
from detection.rules.loitering import loitering
from detection.rules.night import night_activity
from detection.rules.paths import Paths
from detection.rules.scene import PEOPLE, Claim, Scene
from detection.rules.stopped import stopped_vehicle
from detection.rules.thresholds import Thresholds
from detection.rules.trend import trend
from detection.rules.vehicle import vehicle_near_outpost
from detection.sightings import Watch
from outwatch.domain.expected import BaselinePlace, Expected
from outwatch.domain.types import Coverage, Detection, Event, EventKind, Outpost, Recall

OF_MANY = (EventKind.GATHERING_NEAR_OUTPOST, EventKind.GATHERING_GROWING, EventKind.GATHERING_DISPERSING)
"""Kinds that rest on many boxes, each of which may be weak; of all others more is asked of each."""


def find_events(
    detections: Sequence[Detection],
    *,
    looks: Sequence[Coverage],
    outposts: Sequence[Outpost],
    thresholds: Thresholds,
    recall: Recall,
    make_id: MakeId,
    expected: Expected | None = None,
    baseline: Sequence[BaselinePlace] = (),
    clock_uncertainty_s: float = 0.0,
) -> list[Event]:
    """Return the events of one clip, in order of start.

    Args:
        detections: of one clip and one model; those without a place are only counted in view.
        looks: every look of the clip, with or without detections.
        outposts: the watched places.
        thresholds: when something is an event.
        recall: the model's measured recall; see ``claims.UNMEASURED_RECALL`` for what it does not hold.
        make_id: from kind, place and start to the event's id. The place is the outpost's id; a second
            event of the same kind, outpost and start has ``#2`` behind it, and so on.
        expected: what is expected at the places, by hour; nothing where it is None.
        baseline: what a person confirmed to stand there on every flight.
        clock_uncertainty_s: how far off the clip's times may be, either way. Neither an hour's expectation
            nor night is claimed where this leaves it open.

    Raises:
        ValueError: the detections are of several clips or models, or in frames that are no look.
    """
    _check(detections, looks)
    located = sorted(
        (detection for detection in detections if detection.fix.point is not None),
        key=lambda d: (d.frame_index, d.box_xyxy_px, d.label),
    )
    if not located:
        return []
    people = [detection for detection in located if detection.label in PEOPLE]
    counting = Counting(
        recall,
        {look.frame_index: look.gsd_m for look in looks},
        Counter((detection.frame_index, detection.label) for detection in detections),
    )
    scene_of = partial(
        Scene,
        looks=looks,
        people=people,
        vehicles=[detection for detection in located if detection.label in VEHICLE_LABELS],
        groups=find_groups(people, thresholds.gathering_link_m),
        paths=Paths(located, gap=thresholds.max_gap),
        thresholds=thresholds,
    )
    context = Context(expected or Expected(), baseline, timedelta(seconds=clock_uncertainty_s))
    fixes = [detection.fix for detection in located]
    found = []
    for outpost in outposts:
        watch = Watch(outpost, looks)
        if watch.could_reach(fixes):
            found += [
                in_context(event_of(claim, watch=watch, counting=counting), outpost=outpost, context=context)
                for claim in _claims(scene_of(watch=watch), recall=recall, context=context)
                if mean_confidence(claim) >= _least_confidence(claim.kind, thresholds)
            ]
    return with_ids(found, make_id)


def _claims(scene: Scene, *, recall: Recall, context: Context) -> Iterator[Claim]:
    """Yield what every rule says of one outpost."""
    by_place: defaultdict[int | None, list[Detection]] = defaultdict(list)
    for vehicle in scene.vehicles:
        by_place[known_by(vehicle, outpost=scene.watch.outpost, context=context)].append(vehicle)
    for vehicles in by_place.values():  # a stranger among an outpost's own vehicles is an event of his own
        yield from vehicle_near_outpost(scene, vehicles)
    happenings = gathering_happenings(scene)
    gatherings = gathering_near_outpost(happenings)
    yield from gatherings
    yield from trend(scene, happenings, recall=recall)
    yield from stopped_vehicle(scene)
    yield from approach(scene)
    yield from convoy(scene)
    yield from loitering(scene, gatherings=gatherings)
    yield from night_activity(scene, gatherings=gatherings, clock_uncertainty=context.clock_uncertainty)


def _least_confidence(kind: EventKind, thresholds: Thresholds) -> float:
    return thresholds.gathering_min_confidence if kind in OF_MANY else thresholds.vehicle_min_confidence


def _check(detections: Sequence[Detection], looks: Sequence[Coverage]) -> None:
    sources = {(detection.clip_id, detection.model_id) for detection in detections}
    if len(sources) > 1:
        raise ValueError(f"detections must be of one clip and one model, found {sorted(sources)}")
    strays = {detection.frame_index for detection in detections} - {look.frame_index for look in looks}
    if strays:
        raise ValueError(f"detections must lie in looks, found frames without one: {sorted(strays)[:5]}")
