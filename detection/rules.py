"""From located detections to events: a vehicle near an outpost, a gathering near an outpost.

Belongs here: when something is an event, and how sure its counts are. Not here: where things stand
(``detection/ground.py``), how looks are chained (``detection/sightings.py``), who is told and how
soon (``alerting``).

One clip goes in, its events come out; the same input gives the same events. Each rule turns the
looks of a clip into *sightings*: one of each group of people, one of all vehicles together.
Sightings that belong together are a *happening*; a happening that lasts is an *event*.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from sklearn.cluster import DBSCAN

from detection.labels import PERSON, VEHICLE_LABELS
from detection.sightings import (
    MIN_LOOKS,
    Sighting,
    Watch,
    by_look,
    largest_by_look,
    link,
    merge,
    most_central,
    place_of,
)
from outwatch.domain.geometry import bearing_deg, distance_m
from outwatch.domain.types import Coverage, Detection, Event, EventKind, Outpost

RULE_VERSION = "1"
VEHICLE, GATHERING = EventKind.VEHICLE_NEAR_OUTPOST, EventKind.GATHERING_NEAR_OUTPOST
LABELS = {VEHICLE: VEHICLE_LABELS, GATHERING: frozenset({PERSON})}
"""What each rule counts."""
MIN_PRESENCE = {VEHICLE: 0.5, GATHERING: 0.3}
"""Share of looks that must show it for as long as it must last. A vehicle is one thing, seen or not: more
often than not. A group must reach its size in one look: where 70 % of people are found, a group of ten
shows 8 in 38 % of looks (binomial), and people passing by show it in far fewer."""
CORE_NEIGHBOURS = 3
"""People within reach, oneself included, who make a place dense (DBSCAN ``min_samples``): with two, a chain
of single passers-by is a group; with four, one person whom the detector misses breaks a real one."""
USUAL_QUANTILE = {VEHICLE: 0.75, GATHERING: 0.5}
"""Where among the counts of all looks the stated count lies. Parked vehicles that leave the frame pull
the median down, so theirs is higher; a group's edge differs from look to look both ways."""
LOW_QUANTILE = 0.1
"""Nine looks of ten that cover the place show at least ``count_low``."""
UNMEASURED_RECALL = 0.5
"""For a label whose recall nobody measured: the middle between finding nothing and everything, so that
twice as many as are seen may be there. To take it as perfect would state a bound that nobody knows."""
LEAST_RECALL = 0.2
"""A model that finds fewer than one in five cannot bound a count from above; no more is made up for."""

WALKING_M_S = 1.5
"""A brisk walk, so that a group on the move stays one (adults walk at 1.3 m/s, Bohannon 1997, up to 1.5)."""
CENTRE_JITTER_M = 15.0
"""How far the middle member of a group moves between looks, beyond the link between neighbours, though
all stand still: where a group joins another, its middle jumps by half of its new width. On the sample
flight, where 13 people are at times linked to 21, 12 m would part the largest looks from the others."""
SAME_PLACE_M = 4.0
"""How far the box of one parked car moves between looks: half a car and the jitter of its edges. Not the
error of the fix, which neighbouring looks share, and within which false boxes can be anywhere."""

MakeId = Callable[[EventKind, str, datetime], str]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When something is an event; names and meanings are those of the settings' ``rules``."""

    gathering_min_people: int
    gathering_link_m: float
    gathering_min_duration: timedelta
    gathering_min_confidence: float
    vehicle_min_duration: timedelta
    vehicle_min_confidence: float
    max_gap: timedelta
    merge_gap: timedelta
    merge_distance_m: float
    min_p_inside: float


@dataclass(frozen=True, slots=True)
class _Happening:
    """What lasted near an outpost: its parts in order of start, and how many each of its looks shows."""

    parts: list[list[Sighting]]
    sizes: list[int]

    @property
    def sightings(self) -> list[Sighting]:
        """Return the sightings of all parts, in order of time."""
        return sorted((sighting for part in self.parts for sighting in part), key=lambda s: s.at)


def find_events(
    detections: Sequence[Detection],
    *,
    looks: Sequence[Coverage],
    outposts: Sequence[Outpost],
    thresholds: Thresholds,
    recall: Mapping[str, float],
    make_id: MakeId,
) -> list[Event]:
    """Return the events of one clip, in order of start.

    Args:
        detections: of one clip and one model; those without a place are only counted in view.
        looks: every look of the clip, with or without detections.
        outposts: the watched places.
        thresholds: when something is an event.
        recall: the model's measured recall by label; see ``UNMEASURED_RECALL`` for the others.
        make_id: from kind, place and start to the event's id. The place is the outpost's id; a second
            event of the same kind, outpost and start has ``#2`` behind it, and so on.

    Raises:
        ValueError: the detections are of several clips or models, or in frames that are no look.
    """
    _check(detections, looks)
    located = [detection for detection in detections if detection.fix.point is not None]
    if not located:
        return []
    vehicles = [detection for detection in located if detection.label in LABELS[VEHICLE]]
    groups = find_groups([d for d in located if d.label in LABELS[GATHERING]], thresholds.gathering_link_m)
    in_view = Counter((detection.frame_index, detection.label) for detection in detections)
    fixes = [detection.fix for detection in located]
    found: list[Event] = []
    for watch in (Watch(outpost, looks) for outpost in outposts):
        if not watch.could_reach(fixes):
            continue
        happenings = {
            VEHICLE: _vehicle_happenings(vehicles, watch, looks=looks, thresholds=thresholds),
            GATHERING: _gathering_happenings(groups, watch, thresholds),
        }
        least = {VEHICLE: thresholds.vehicle_min_confidence, GATHERING: thresholds.gathering_min_confidence}
        found += [
            _event(kind, happening, watch=watch, recall=recall, in_view=in_view)
            for kind, of_kind in happenings.items()
            for happening in of_kind
            if _mean_confidence(happening.sightings) >= least[kind]
        ]
    return _with_ids(found, make_id)


def find_groups(people: Sequence[Detection], link_m: float) -> list[list[Detection]]:
    """Return every group of people who stand together, of any size from ``CORE_NEIGHBOURS``, look by look.

    People are linked in metres from the camera's ground point, which are free of the pose error that
    all boxes of a frame share.
    """
    found: list[list[Detection]] = []
    for look in by_look([person for person in people if person.east_m is not None]):
        if len(look) < CORE_NEIGHBOURS:
            continue
        places_m = np.array([[person.east_m, person.north_m] for person in look], float)
        linked = DBSCAN(
            eps=link_m,
            min_samples=CORE_NEIGHBOURS,
            algorithm="kd_tree",  # the default starts a thread pool for few people and takes 40 times as long
        ).fit_predict(places_m)
        found += [
            [person for person, label in zip(look, linked, strict=True) if label == number]
            for number in range(linked.max() + 1)
        ]
    return found


def _check(detections: Sequence[Detection], looks: Sequence[Coverage]) -> None:
    sources = {(detection.clip_id, detection.model_id) for detection in detections}
    if len(sources) > 1:
        raise ValueError(f"detections must be of one clip and one model, found {sorted(sources)}")
    strays = {detection.frame_index for detection in detections} - {look.frame_index for look in looks}
    if strays:
        raise ValueError(f"detections must lie in looks, found frames without one: {sorted(strays)[:5]}")


def _vehicle_happenings(
    vehicles: Sequence[Detection], watch: Watch, *, looks: Sequence[Coverage], thresholds: Thresholds
) -> list[_Happening]:
    """Return the lasting happenings of vehicles near an outpost, all vehicles of a look together."""
    odds = watch.p_inside([vehicle.fix for vehicle in vehicles])
    near = [v for v, p in zip(vehicles, odds.tolist(), strict=True) if p >= thresholds.min_p_inside]
    steady = {vehicle.frame_index for vehicle in _without_flicker(near, watch, looks)}
    shown = [watch.sighting(members) for members in by_look(near)]
    # Lasting vehicles make the event; what flickers beside them is likelier a vehicle half missed.
    return _happenings(
        VEHICLE,
        [sighting for sighting in shown if sighting.members[0].frame_index in steady],
        shown=shown,
        watch=watch,
        thresholds=thresholds,
    )


def _without_flicker(
    vehicles: Sequence[Detection], watch: Watch, looks: Sequence[Coverage]
) -> list[Detection]:
    """Return the vehicles that last.

    Either the track has ``MIN_LOOKS`` hits, or so many looks in a row show a vehicle within
    ``SAME_PLACE_M``: a camera that turns breaks tracks. Where the pose is too rough for that, none does.
    """
    if not vehicles:
        return []
    hits = Counter(vehicle.track_id for vehicle in vehicles if vehicle.track_id is not None)
    order = {frame: index for index, frame in enumerate(sorted(look.frame_index for look in looks))}
    vehicles = sorted(vehicles, key=lambda vehicle: vehicle.frame_index)
    look_of = np.array([order[vehicle.frame_index] for vehicle in vehicles])
    places_m = watch.places_m([vehicle.fix for vehicle in vehicles])

    def in_a_row(index: int) -> bool:
        look = int(look_of[index])
        around = slice(*np.searchsorted(look_of, [look - MIN_LOOKS + 1, look + MIN_LOOKS]).tolist())
        away_m = np.hypot(*(places_m[around] - places_m[index]).T)
        shown = set(look_of[around][away_m <= SAME_PLACE_M].tolist())
        firsts = range(look - MIN_LOOKS + 1, look + 1)
        return any(shown.issuperset(range(first, first + MIN_LOOKS)) for first in firsts)

    return [
        vehicle
        for index, vehicle in enumerate(vehicles)
        if (vehicle.track_id is not None and hits[vehicle.track_id] >= MIN_LOOKS) or in_a_row(index)
    ]


def _gathering_happenings(
    groups: Sequence[Sequence[Detection]], watch: Watch, thresholds: Thresholds
) -> list[_Happening]:
    """Return the lasting happenings of large enough groups whose middle is near an outpost."""
    shown = [watch.sighting(group) for group in groups]
    large = [sighting for sighting in shown if len(sighting.members) >= thresholds.gathering_min_people]
    odds = watch.p_inside([sighting.fix for sighting in large])
    near = [s for s, p in zip(large, odds.tolist(), strict=True) if p >= thresholds.min_p_inside]
    return _happenings(GATHERING, near, shown=shown, watch=watch, thresholds=thresholds)


def _happenings(
    kind: EventKind,
    sightings: Sequence[Sighting],
    *,
    shown: Sequence[Sighting],
    watch: Watch,
    thresholds: Thresholds,
) -> list[_Happening]:
    """Return the happenings: sightings without a long gap that last, merged where they are near.

    Groups are told apart by how far people walk; vehicles of an outpost are one happening wherever they
    stand. ``shown`` is all that looks show, also what is too small or too brief to be a sighting.
    """
    min_duration, reach_m, merge_m = thresholds.vehicle_min_duration, math.inf, math.inf
    if kind is GATHERING:
        min_duration, merge_m = thresholds.gathering_min_duration, thresholds.merge_distance_m
        reach_m = thresholds.gathering_link_m + CENTRE_JITTER_M
    lasting = [
        part
        for part in link(sightings, gap=thresholds.max_gap, reach_m=reach_m, speed_m_s=WALKING_M_S)
        if len({sighting.at for sighting in part}) >= MIN_LOOKS
        and watch.lasts(part, min_duration=min_duration, min_presence=MIN_PRESENCE[kind])
    ]
    return [
        _Happening(parts, _sizes(parts, shown=shown, watch=watch, reach_m=reach_m))
        for parts in merge(lasting, gap=thresholds.merge_gap, reach_m=merge_m)
    ]


def _sizes(
    parts: Sequence[Sequence[Sighting]], *, shown: Sequence[Sighting], watch: Watch, reach_m: float
) -> list[int]:
    """Return how many things each look that covers the parts shows together there, 0 for none."""
    size_at: Counter[datetime] = Counter()
    for part in parts:
        at_s = [sighting.at.timestamp() for sighting in part]
        places_m = np.array([sighting.place_m for sighting in part])
        during = [sighting for sighting in shown if part[0].at <= sighting.at <= part[-1].at]
        for sighting in during:
            moment_s = sighting.at.timestamp()
            there_m = [np.interp(moment_s, at_s, places_m[:, axis]) for axis in (0, 1)]
            if math.dist(there_m, sighting.place_m) <= reach_m:
                size_at[sighting.at] = max(size_at[sighting.at], len(sighting.members))
    return [size_at[at] for at in {at for part in parts for at in watch.looked(part)}]


def _mean_confidence(sightings: Sequence[Sighting]) -> float:
    """Return the mean confidence of everything that the sightings show."""
    confidences = [member.confidence for sighting in sightings for member in sighting.members]
    return math.fsum(confidences) / len(confidences)


def _event(
    kind: EventKind,
    happening: _Happening,
    *,
    watch: Watch,
    recall: Mapping[str, float],
    in_view: Mapping[tuple[int, str], int],
) -> Event:
    """Return a happening as an event without an id.

    The confidence is the mean confidence of its detections times the share of looks that show it,
    among those that cover its place from start to end: a measure to sort by, not a probability.
    """
    sightings = happening.sightings
    largest = largest_by_look(sightings)
    start, end = largest[0].at, largest[-1].at
    peak = max(largest, key=lambda s: (len(s.members), s.confidence, -s.at.timestamp()))
    fix = most_central(sightings).fix
    count_low, count, count_high = _counts(
        largest, sizes=happening.sizes, recall=recall, usual_quantile=USUAL_QUANTILE[kind]
    )
    confidence = math.fsum(sighting.confidence for sighting in largest) / len(largest)
    return Event(
        id="",
        kind=kind,
        clip_id=peak.members[0].clip_id,
        outpost_id=watch.outpost.id,
        started_at=start,
        ended_at=end,
        peak_at=peak.at,
        peak_frame_index=peak.members[0].frame_index,
        fix=fix,
        distance_m=distance_m(place_of(fix), watch.outpost.geometry),
        bearing_deg=bearing_deg(watch.centre, place_of(fix)),
        p_inside=float(watch.p_inside([fix])[0]),
        count_low=count_low,
        count=count,
        count_high=count_high,
        in_view=sum(in_view[peak.members[0].frame_index, label] for label in LABELS[kind]),
        confidence=confidence * watch.presence(sightings, start=start, end=end),
        model_id=peak.members[0].model_id,
        rule_version=RULE_VERSION,
    )


def _counts(
    sightings: Sequence[Sighting],
    *,
    sizes: Sequence[int],
    recall: Mapping[str, float],
    usual_quantile: float,
) -> tuple[int, int, int]:
    """Return low, usual and high count.

    Low is what nearly every look shows, also those that show too few to make an event, but never
    nothing: an event says that something is there. High is the largest count that ``MIN_LOOKS`` looks
    reached, so that one look's false boxes do not set it, each label divided by the share of such
    things the model finds.
    """
    usual = int(np.quantile([len(s.members) for s in sightings], usual_quantile, method="nearest"))
    low = max(1, min(usual, int(np.quantile(sizes, LOW_QUANTILE, method="lower"))))
    likely = sorted(_likely_number(sighting.members, recall) for sighting in sightings)
    return low, usual, max(usual, math.ceil(likely[-MIN_LOOKS]))


def _likely_number(members: Iterable[Detection], recall: Mapping[str, float]) -> float:
    """Return how many things stand behind those that were found."""
    found = Counter(member.label for member in members)
    return math.fsum(
        number / max(LEAST_RECALL, recall.get(label, UNMEASURED_RECALL)) for label, number in found.items()
    )


def _with_ids(events: Iterable[Event], make_id: MakeId) -> list[Event]:
    """Return the events in order of start, each with its own id."""
    seen: Counter[tuple[EventKind, str, datetime]] = Counter()
    named: list[Event] = []
    for event in sorted(events, key=lambda e: (e.started_at, e.kind, e.outpost_id, e.distance_m)):
        key = event.kind, event.outpost_id, event.started_at
        seen[key] += 1
        place = event.outpost_id if seen[key] == 1 else f"{event.outpost_id}#{seen[key]}"
        named.append(replace(event, id=make_id(event.kind, place, event.started_at)))
    return named
