"""A gathering that grows or disperses: a trend in its size beyond what counting makes up.

Belongs here: this rule. Sources: the rank test of Mann (1945) and Kendall (1975) for a trend, the slope of
Theil and Sen for its size, and the binomial for the noise: where a share ``r`` of people is found, a count of
``n`` varies by ``n (1 - r)``. Settings: ``trend_min_change``, ``trend_min_duration``. Looks of one moment
miss the same people, so they count as one: a bin of ``BIN_S``. A group that the view cuts off has no trend.
Not here: what a gathering is (``gathering.py``).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from scipy.stats import kendalltau, theilslopes

from detection.labels import PERSON
from detection.rules.claims import UNMEASURED_RECALL
from detection.rules.gathering import CENTRE_JITTER_M
from detection.rules.happenings import Happening
from detection.rules.scene import Claim, Scene
from detection.sightings import FloatArray, Sighting, by_look, largest_by_look, most_central, place_of
from outwatch.domain.types import EventKind, Recall

BIN_S = 5.0
"""Whom a model misses it misses for some seconds: people turn, or step out from behind each other."""
LEAST_BINS = 6
"""With fewer, no order of them is rare by chance (one in 6! = 720)."""
P_VALUE = 0.01
"""One gathering in a hundred that stays as it is shows such an order."""
SIGMAS = 3.0
"""The change must be beyond three standard deviations of both counts."""
LEAST_SHARE = 0.5
"""... and half of the smaller count: a dozen that becomes fourteen is no news."""


def trend(scene: Scene, happenings: Sequence[Happening], *, recall: Recall) -> list[Claim]:
    """Return the gatherings whose size has a trend."""
    found = (
        _claim(max(happening.parts, key=_length), scene, recall=recall)
        for happening in happenings
        if any(
            _length(part) >= scene.thresholds.trend_min_duration.total_seconds() for part in happening.parts
        )
    )
    return [claim for claim in found if claim is not None]


def _length(part: Sequence[Sighting]) -> float:
    return (part[-1].at - part[0].at).total_seconds()


def _claim(part: Sequence[Sighting], scene: Scene, *, recall: Recall) -> Claim | None:
    """Return the trend of one part: both of the group linked together and of all who are around."""
    largest = largest_by_look(part)
    around = _around(part, scene)
    linked = {sighting.at: len(sighting.members) for sighting in largest}
    gsd = {look.at: look.gsd_m for look in scene.looks}
    share = min(recall.at(gsd.get(sighting.at)).get(PERSON, UNMEASURED_RECALL) for sighting in largest)
    changes = [
        _change({at: number for at, number in counts.items() if at in around}, share=share, scene=scene)
        for counts in (linked, around)
    ]
    if any(change is None for change in changes):
        return None
    (first, last), (all_first, all_last) = (change for change in changes if change is not None)
    if (last > first) != (all_last > all_first):
        return None
    kind = EventKind.GATHERING_GROWING if last > first else EventKind.GATHERING_DISPERSING
    measures = {
        "people_first": first,
        "people_last": last,
        "people_per_min": 60.0 * (last - first) / _length(part),
    }
    return Claim(kind, largest, measures=measures)


def _around(part: Sequence[Sighting], scene: Scene) -> dict[datetime, int]:
    """Return how many people each look shows around a part, of the looks that hold all of the place."""
    radius_m = scene.thresholds.gathering_link_m + CENTRE_JITTER_M
    held = scene.watch.covering(place_of(most_central(part).fix), radius_m=radius_m)
    at_s = np.array([sighting.at.timestamp() for sighting in part])
    places_m = np.array([sighting.place_m for sighting in part])
    counts = {at: 0 for at in held if part[0].at <= at <= part[-1].at}
    for look in by_look(scene.people):
        moment = look[0].at
        if moment in counts:
            there_m = [np.interp(moment.timestamp(), at_s, places_m[:, axis]) for axis in (0, 1)]
            away_m = np.hypot(*(scene.watch.places_m([person.fix for person in look]) - there_m).T)
            counts[moment] = int((away_m <= radius_m).sum())
    return counts


def _change(counts: dict[datetime, int], *, share: float, scene: Scene) -> tuple[float, float] | None:
    """Return the first and the last count along the trend; None where there is no more than noise."""
    at_s, sizes = _binned(counts)
    if len(sizes) < LEAST_BINS or np.ptp(sizes) == 0:
        return None
    if kendalltau(at_s, sizes).pvalue > P_VALUE:
        return None
    slope = theilslopes(sizes, at_s)
    ends = slope.intercept + slope.slope * at_s[[0, -1]]
    first, last = (max(0.0, float(end)) for end in ends)
    noise = math.sqrt((first + last) * (1.0 - min(share, 1.0)))
    least = max(scene.thresholds.trend_min_change, SIGMAS * noise, LEAST_SHARE * min(first, last))
    return (first, last) if abs(last - first) >= least else None


def _binned(counts: dict[datetime, int]) -> tuple[FloatArray, FloatArray]:
    """Return the middles of the bins that have looks, in seconds, and the median count of each."""
    if not counts:
        return np.empty(0), np.empty(0)
    start_s = min(counts).timestamp()
    bins: defaultdict[int, list[int]] = defaultdict(list)
    for at, number in counts.items():
        bins[int((at.timestamp() - start_s) // BIN_S)].append(number)
    numbers = sorted(bins)
    return (np.array(numbers) + 0.5) * BIN_S, np.array([float(np.median(bins[n])) for n in numbers])
