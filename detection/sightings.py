"""What single looks show near an outpost, and which sightings belong to one happening.

Belongs here: places around an outpost, the odds of being near it, and the chaining of sightings
over time. Not here: what is counted and what is an event (``detection/rules``).

Looks come irregularly: about one a second where nothing was found, several where something was. So each
look weighs by the time that it stands for, not by being one.

Everything in a frame shares the error of that frame's pose, and frames share most of it too, so
errors do not average out: wherever several fixes stand for one place, the most central of them is
taken with its own ellipse, never a mean with a smaller one.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import shapely

from outwatch.domain.geometry import LocalFrame, centre, p_within
from outwatch.domain.types import Coverage, Detection, GeoPoint, GroundFix, Outpost

FloatArray = npt.NDArray[np.float64]

MIN_LOOKS = 3
"""Looks that must agree: a false detection rarely comes three times at one place."""
LOOK_REACH_S = 1.0
"""A look stands for the time to half way to its neighbours, at most this either side: keyframes are looked at
once in one or two seconds, and of a longer pause nobody knows."""
CERTAIN_RADII = 3.0
"""A 0.9 radius is 2.1 sigma of the worst axis: three of them, 6.4 sigma, are beyond doubt."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one look shows of a kind near an outpost; the place is in metres around the outpost."""

    members: tuple[Detection, ...]
    fix: GroundFix
    place_m: tuple[float, float]

    @property
    def at(self) -> datetime:
        """Return the look's time."""
        return self.members[0].at

    @property
    def confidence(self) -> float:
        """Return the members' mean confidence."""
        return math.fsum(member.confidence for member in self.members) / len(self.members)


class Watch:
    """An outpost with the map around it and the looks of one clip."""

    def __init__(self, outpost: Outpost, looks: Sequence[Coverage]) -> None:
        self.outpost = outpost
        self.centre = centre(outpost.geometry)
        self._frame = LocalFrame.at(self.centre)
        self._local = self._frame.project(outpost.geometry)
        located = [look for look in looks if look.footprint is not None]
        self._times = [look.at for look in located]
        self._blind = [frozenset(look.blind_to) for look in located]
        self._footprints = np.array([look.footprint for look in located], dtype=object)

    def places_m(self, fixes: Sequence[GroundFix]) -> FloatArray:
        """Return the fixes' places in metres east and north of the outpost, shape (n, 2)."""
        points = [place_of(fix) for fix in fixes]
        return np.column_stack(self._frame.to_local([p.lat_deg for p in points], [p.lon_deg for p in points]))

    def p_inside(self, fixes: Sequence[GroundFix]) -> FloatArray:
        """Return the probability that each fix's true place is within the watch radius, shape (n,)."""
        if not fixes:
            return np.empty(0)
        gaps_m = shapely.distance(shapely.points(self.places_m(fixes)), self._local)
        gaps_m -= self.outpost.watch_radius_m
        doubts_m = np.array([CERTAIN_RADII * (fix.error_radius_m or 0.0) for fix in fixes])
        odds = np.where(gaps_m <= 0, 1.0, 0.0)
        for index in np.flatnonzero(abs(gaps_m) <= doubts_m).tolist():
            odds[index] = p_within(
                place_of(fixes[index]),
                fixes[index].error_ellipse,
                geometry=self.outpost.geometry,
                radius_m=self.outpost.watch_radius_m,
            )
        return odds

    def could_reach(self, fixes: Sequence[GroundFix]) -> bool:
        """Return whether any fix may be near, cheaply and never wrongly no."""
        points = [place_of(fix) for fix in fixes]
        lats, lons = [p.lat_deg for p in points], [p.lon_deg for p in points]
        around = self._frame.project(shapely.box(min(lons), min(lats), max(lons), max(lats)))
        doubt_m = CERTAIN_RADII * max(fix.error_radius_m or 0.0 for fix in fixes)
        return bool(self._local.distance(around) <= self.outpost.watch_radius_m + doubt_m)

    def sighting(self, members: Sequence[Detection]) -> Sighting:
        """Return what one look shows; the most central member says where."""
        places_m = self.places_m([member.fix for member in members])
        index = _medoid(places_m)
        east_m, north_m = places_m[index].tolist()
        return Sighting(tuple(members), members[index].fix, (east_m, north_m))

    def distances_m(self, places_m: FloatArray) -> FloatArray:
        """Return how far places around the outpost, shape (n, 2), are from it in metres, shape (n,)."""
        distances_m: FloatArray = shapely.distance(shapely.points(places_m), self._local)
        return distances_m

    def covering(self, place: GeoPoint, *, radius_m: float) -> set[datetime]:
        """Return the times of the looks whose view holds a place and, as far as 8 points tell, a circle."""
        east_m, north_m = self._frame.to_local(place.lat_deg, place.lon_deg)
        turns = np.linspace(0, 2 * math.pi, 8, endpoint=False)
        lats, lons = self._frame.to_geo(east_m + radius_m * np.sin(turns), north_m + radius_m * np.cos(turns))
        held = np.ones(len(self._times), bool)
        for lat_deg, lon_deg in zip(lats.tolist(), lons.tolist(), strict=True):
            held &= shapely.contains_xy(self._footprints, lon_deg, lat_deg)
        return {at for at, inside in zip(self._times, held.tolist(), strict=True) if inside}

    def presence(self, sightings: Sequence[Sighting], *, start: datetime, end: datetime) -> float:
        """Return the share of the time looked at their place, from start to end, that shows them."""
        seen, looked = self._seen_and_looked(sightings)
        return _Clock(looked, only=seen).between(start, end) / _Clock(looked).between(start, end)

    def looked(self, run: Sequence[Sighting]) -> dict[datetime, float]:
        """Return the looks that cover a run's place, from its start to its end, in seconds each."""
        seen, looked = self._seen_and_looked(run)
        during = looked[bisect_left(looked, min(seen)) : bisect_right(looked, max(seen))]
        return dict(zip(during, weights_s(during), strict=True))

    def lasts(self, run: Sequence[Sighting], *, min_duration: timedelta, min_presence: float) -> bool:
        """Return whether a run has a part of the least duration that is dense enough."""
        seen, looked = self._seen_and_looked(run)
        shown, all_told, last = _Clock(looked, only=seen), _Clock(looked), max(seen)
        return any(
            shown.between(start, start + min_duration)
            >= min_presence * all_told.between(start, start + min_duration)
            for start in sorted(seen)
            if start + min_duration <= last
        )

    def _seen_and_looked(self, sightings: Sequence[Sighting]) -> tuple[set[datetime], list[datetime]]:
        """Return the times of the looks that show the sightings, and of all that cover their place in order.

        A look that is blind to all that the sightings show did not look for it.
        """
        place = place_of(most_central(sightings).fix)
        labels = {member.label for sighting in sightings for member in sighting.members}
        seen = {sighting.at for sighting in sightings}
        if not self._times:
            return seen, sorted(seen)
        covered = shapely.contains_xy(self._footprints, place.lon_deg, place.lat_deg)
        looked = {
            at
            for at, inside, blind in zip(self._times, covered.tolist(), self._blind, strict=True)
            if inside and not labels <= blind
        }
        return seen, sorted(seen | looked)


class _Clock:
    """How much time looks stand for, of all or of some of them."""

    def __init__(self, looked: Sequence[datetime], *, only: Iterable[datetime] | None = None) -> None:
        weights = dict(zip(looked, weights_s(looked), strict=True))
        self._times = list(looked) if only is None else sorted(only)
        self._until_s = np.concatenate([[0.0], np.cumsum([weights[at] for at in self._times])])

    def between(self, start: datetime, end: datetime) -> float:
        """Return the seconds that the looks from start to end, themselves included, stand for."""
        first, after = bisect_left(self._times, start), bisect_right(self._times, end)
        return float(self._until_s[after] - self._until_s[first])


def weights_s(times: Sequence[datetime]) -> list[float]:
    """Return how many seconds each look stands for: half way to its neighbours (``LOOK_REACH_S``).

    The first and the last look stand for as much on their open side as on the other.
    """
    if len(times) < 2:  # noqa: PLR2004  with one look there is no interval
        return [LOOK_REACH_S] * len(times)
    gaps_s = np.diff([at.timestamp() for at in times])
    halves_s = np.minimum(gaps_s / 2, LOOK_REACH_S)
    both_s = np.concatenate([halves_s[:1], halves_s]) + np.concatenate([halves_s, halves_s[-1:]])
    weights: list[float] = np.maximum(both_s, 1e-6).tolist()
    return weights


def link(
    sightings: Sequence[Sighting], *, gap: timedelta, reach_m: float, speed_m_s: float = 0.0
) -> list[list[Sighting]]:
    """Chain sightings, in order of time: each joins the nearest chain that is recent and near enough.

    Args:
        sightings: in order of time.
        gap: longest time between two links of a chain.
        reach_m: farthest distance between two links.
        speed_m_s: how much farther for every second between them.
    """
    chains: list[list[Sighting]] = []
    live: list[list[Sighting]] = []
    for sighting in sightings:
        live = [chain for chain in live if sighting.at - chain[-1].at <= gap]
        away_m = [(math.dist(chain[-1].place_m, sighting.place_m), index) for index, chain in enumerate(live)]
        within = [
            (distance_m, index)
            for distance_m, index in away_m
            if distance_m <= reach_m + speed_m_s * (sighting.at - live[index][-1].at).total_seconds()
        ]
        if within:
            live[min(within)[1]].append(sighting)
        else:
            live.append([sighting])
            chains.append(live[-1])
    return chains


def merge(runs: Sequence[list[Sighting]], *, gap: timedelta, reach_m: float) -> list[list[list[Sighting]]]:
    """Bring together runs: each joins the first others that it follows, or accompanies, near enough.

    Near is measured from its start to where the other is at that time, or was last.
    """
    merged: list[list[list[Sighting]]] = []
    for run in sorted(runs, key=lambda run: run[0].at):
        for others in merged:
            if any(_follows(run[0], other, gap=gap, reach_m=reach_m) for other in others):
                others.append(run)
                break
        else:
            merged.append([run])
    return merged


def _follows(start: Sighting, run: Sequence[Sighting], *, gap: timedelta, reach_m: float) -> bool:
    index = max(0, bisect_right(run, start.at, key=lambda sighting: sighting.at) - 1)
    away_m = math.dist(run[index].place_m, start.place_m)
    return start.at - run[-1].at <= gap and away_m <= reach_m


def largest_by_look(sightings: Sequence[Sighting]) -> list[Sighting]:
    """Return the largest sighting of each look, the first of equals, in order of time."""
    largest: dict[datetime, Sighting] = {}
    for sighting in sightings:
        held = largest.setdefault(sighting.at, sighting)
        if len(sighting.members) > len(held.members):
            largest[sighting.at] = sighting
    return [largest[at] for at in sorted(largest)]


def most_central(sightings: Sequence[Sighting]) -> Sighting:
    """Return the sighting nearest to the median place."""
    return sightings[_medoid(np.array([sighting.place_m for sighting in sightings]))]


def by_look(detections: Sequence[Detection]) -> list[list[Detection]]:
    """Return the detections of each look, in order of time and box."""
    looks: defaultdict[int, list[Detection]] = defaultdict(list)
    for detection in sorted(detections, key=lambda d: (d.frame_index, d.box_xyxy_px, d.label)):
        looks[detection.frame_index].append(detection)
    return list(looks.values())


def place_of(fix: GroundFix) -> GeoPoint:
    """Return a fix's place.

    Raises:
        ValueError: it has none.
    """
    if fix.point is None:
        raise ValueError(f"a place is needed, found a fix without one: {fix.reason_if_none}")
    return fix.point


def _medoid(places_m: FloatArray) -> int:
    """Return the row, of shape (n, 2), that is nearest to the median of each column."""
    return int(np.hypot(*(places_m - np.median(places_m, axis=0)).T).argmin())
