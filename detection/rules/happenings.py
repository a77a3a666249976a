"""What lasts near an outpost: sightings without a long gap, merged where they are near.

Belongs here: from sightings to happenings, and how many things each look shows of one. Not here: which
sightings a rule asks for (the rules beside this module), and chaining itself (``detection/sightings.py``).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from detection.sightings import MIN_LOOKS, Sighting, Watch, link, merge
from outwatch.domain.types import Detection

WALKING_M_S = 1.5
"""A brisk walk, so that a group on the move stays one (adults walk at 1.3 m/s, Bohannon 1997, up to 1.5)."""


@dataclass(frozen=True, slots=True)
class Lasting:
    """What sightings must be to be one happening, and to last."""

    min_duration: timedelta
    min_presence: float
    """Share of the time looked that must show it for as long as it must last."""
    max_gap: timedelta
    merge_gap: timedelta
    reach_m: float = math.inf
    """Farthest distance between two links of a chain, walking apart."""
    merge_m: float = math.inf


@dataclass(frozen=True, slots=True)
class Happening:
    """What lasted near an outpost: its parts in order of start, and how many were there for how long."""

    parts: list[list[Sighting]]
    sizes: Mapping[int, float]
    """Seconds of looks that cover it, by how many things they show there."""

    @property
    def sightings(self) -> list[Sighting]:
        """Return the sightings of all parts, in order of time."""
        return sorted((sighting for part in self.parts for sighting in part), key=lambda s: s.at)


def find_happenings(
    sightings: Sequence[Sighting], *, shown: Sequence[Sighting], watch: Watch, lasting: Lasting
) -> list[Happening]:
    """Return the happenings: sightings without a long gap that last, merged where they are near.

    Args:
        sightings: those that the rule asks for, in order of time.
        shown: all that looks show, also what is too small or too brief to be a sighting.
        watch: the outpost.
        lasting: when they are one, and last.
    """
    chains = link(sightings, gap=lasting.max_gap, reach_m=lasting.reach_m, speed_m_s=WALKING_M_S)
    parts = [
        chain
        for chain in chains
        if len({sighting.at for sighting in chain}) >= MIN_LOOKS
        and watch.lasts(chain, min_duration=lasting.min_duration, min_presence=lasting.min_presence)
    ]
    return [
        Happening(merged, _sizes(merged, shown=shown, watch=watch, reach_m=lasting.reach_m))
        for merged in merge(parts, gap=lasting.merge_gap, reach_m=lasting.merge_m)
    ]


def _sizes(
    parts: Sequence[Sequence[Sighting]], *, shown: Sequence[Sighting], watch: Watch, reach_m: float
) -> dict[int, float]:
    """Return for how long the looks that cover the parts show each number of things there, 0 for none."""
    size_at: Counter[datetime] = Counter()
    weight_s: dict[datetime, float] = {}
    for part in parts:
        weight_s |= watch.looked(part)
        at_s = [sighting.at.timestamp() for sighting in part]
        places_m = np.array([sighting.place_m for sighting in part])
        for sighting in shown:
            if not part[0].at <= sighting.at <= part[-1].at:
                continue
            moment_s = sighting.at.timestamp()
            there_m = [np.interp(moment_s, at_s, places_m[:, axis]) for axis in (0, 1)]
            if math.dist(there_m, sighting.place_m) <= reach_m:
                size_at[sighting.at] = max(size_at[sighting.at], len(sighting.members))
    sizes: defaultdict[int, float] = defaultdict(float)
    for at, weight in weight_s.items():
        sizes[size_at[at]] += weight
    return dict(sizes)


def without_flicker(
    things: Sequence[Detection], watch: Watch, *, frames: Sequence[int], same_place_m: float
) -> list[Detection]:
    """Return the things that last.

    Either the track has ``MIN_LOOKS`` hits, or so many looks in a row show a thing within ``same_place_m``: a
    camera that turns breaks tracks. Where the pose is too rough for that, none does.

    Args:
        things: of one kind.
        watch: the outpost.
        frames: the frame indices of all looks, in order.
        same_place_m: how far the box of a thing that stands moves between looks.
    """
    if not things:
        return []
    hits = Counter(thing.track_id for thing in things if thing.track_id is not None)
    order = {frame: index for index, frame in enumerate(frames)}
    things = sorted(things, key=lambda thing: thing.frame_index)
    look_of = np.array([order[thing.frame_index] for thing in things])
    places_m = watch.places_m([thing.fix for thing in things])

    def in_a_row(index: int) -> bool:
        look = int(look_of[index])
        around = slice(*np.searchsorted(look_of, [look - MIN_LOOKS + 1, look + MIN_LOOKS]).tolist())
        away_m = np.hypot(*(places_m[around] - places_m[index]).T)
        shown = set(look_of[around][away_m <= same_place_m].tolist())
        firsts = range(look - MIN_LOOKS + 1, look + 1)
        return any(shown.issuperset(range(first, first + MIN_LOOKS)) for first in firsts)

    return [
        thing
        for index, thing in enumerate(things)
        if (thing.track_id is not None and hits[thing.track_id] >= MIN_LOOKS) or in_a_row(index)
    ]
