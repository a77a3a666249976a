"""From a claim to an event: how sure it is, and how many are there.

Belongs here: confidence, counts as intervals, ids. Not here: rules (the modules beside this one) and what was
expected (``context.py``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from detection.rules.scene import GATHERING, LABELS, VEHICLE, Claim
from detection.sightings import MIN_LOOKS, Sighting, Watch, largest_by_look, most_central, place_of, weights_s
from outwatch.domain.geometry import bearing_deg, distance_m
from outwatch.domain.types import Detection, Event, EventKind, Recall

RULE_VERSION = "2"
USUAL_QUANTILE = {VEHICLE: 0.75, GATHERING: 0.5}
"""Where among the counts of all looks the stated count lies. Parked vehicles that leave the frame pull
the median down, so theirs is higher; a group's edge differs from look to look both ways."""
MEDIAN = 0.5
LOW_QUANTILE = 0.1
"""Nine tenths of the time looked at the place show at least ``count_low``."""
UNMEASURED_RECALL = 0.5
"""For a label whose recall nobody measured: the middle between finding nothing and everything, so that
twice as many as are seen may be there. To take it as perfect would state a bound that nobody knows."""
LEAST_RECALL = 0.2
"""A model that finds fewer than one in five cannot bound a count from above; no more is made up for."""

MakeId = Callable[[EventKind, str, datetime], str]


@dataclass(frozen=True, slots=True)
class Counting:
    """What counts need beside a claim: the model's recall, and how each look saw."""

    recall: Recall
    gsd_m: Mapping[int, float | None]
    """Ground sample distance of each look, by its frame."""
    in_view: Mapping[tuple[int, str], int]
    """How many of a label each frame shows, with a place or without."""

    def likely(self, members: Sequence[Detection]) -> float:
        """Return how many things stand behind those that one look found."""
        recall = self.recall.at(self.gsd_m.get(members[0].frame_index))
        found = Counter(member.label for member in members)
        return math.fsum(
            number / max(LEAST_RECALL, recall.get(label, UNMEASURED_RECALL))
            for label, number in found.items()
        )


def mean_confidence(claim: Claim) -> float:
    """Return the mean confidence of everything that a claim's sightings show."""
    confidences = [member.confidence for sighting in claim.sightings for member in sighting.members]
    return math.fsum(confidences) / len(confidences)


def event_of(claim: Claim, *, watch: Watch, counting: Counting) -> Event:
    """Return a claim as an event without an id.

    The confidence is the mean confidence of its detections times the share of the time that shows it,
    among what was looked at its place from start to end: a measure to sort by, not a probability.
    """
    largest = largest_by_look(claim.sightings)
    start, end = largest[0].at, largest[-1].at
    peak = max(largest, key=lambda s: (len(s.members), s.confidence, -s.at.timestamp()))
    fix = claim.fix or most_central(claim.sightings).fix
    count_low, count, count_high = _counts(claim, largest=largest, counting=counting)
    confidence = math.fsum(sighting.confidence for sighting in largest) / len(largest)
    return Event(
        id="",
        kind=claim.kind,
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
        in_view=sum(counting.in_view[peak.members[0].frame_index, label] for label in LABELS[claim.kind]),
        confidence=confidence * watch.presence(claim.sightings, start=start, end=end),
        model_id=peak.members[0].model_id,
        rule_version=RULE_VERSION,
        measures=dict(claim.measures),
        notes=claim.notes,
    )


def _counts(claim: Claim, *, largest: Sequence[Sighting], counting: Counting) -> tuple[int, int, int]:
    """Return low, usual and high count.

    Low is what nearly all the time shows, also looks that show too few to make an event, but never
    nothing: an event says that something is there. High is the largest count that ``MIN_LOOKS`` looks
    reached, so that one look's false boxes do not set it, each label divided by the share of such
    things the model finds at that look's ground sample distance.
    """
    weights = weights_s([sighting.at for sighting in largest])
    seen = [(len(sighting.members), weight) for sighting, weight in zip(largest, weights, strict=True)]
    usual = _quantile(seen, USUAL_QUANTILE.get(claim.kind, MEDIAN))
    low = max(1, min(usual, _quantile(claim.sizes.items() or seen, LOW_QUANTILE)))
    likely = sorted(counting.likely(sighting.members) for sighting in claim.sightings)
    return low, usual, max(usual, math.ceil(likely[-min(MIN_LOOKS, len(likely))]))


def _quantile(weighted: Iterable[tuple[int, float]], share: float) -> int:
    """Return the smallest number at or below which lies at least a share of the weight."""
    ordered = sorted(weighted)
    short = share * math.fsum(weight for _, weight in ordered)
    for number, weight in ordered:
        short -= weight
        if short <= 1e-9:  # noqa: PLR2004  what adding up seconds leaves
            return number
    return ordered[-1][0]


def with_ids(events: Iterable[Event], make_id: MakeId) -> list[Event]:
    """Return the events in order of start, each with its own id."""
    seen: Counter[tuple[EventKind, str, datetime]] = Counter()
    named: list[Event] = []
    for event in sorted(events, key=lambda e: (e.started_at, e.kind, e.outpost_id, e.distance_m)):
        key = event.kind, event.outpost_id, event.started_at
        seen[key] += 1
        place = event.outpost_id if seen[key] == 1 else f"{event.outpost_id}#{seen[key]}"
        named.append(replace(event, id=make_id(event.kind, place, event.started_at)))
    return named
