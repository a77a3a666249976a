"""Single things followed over the ground, and how what is around them seems to move meanwhile.

Belongs here: chaining one thing's detections through a clip by its track and its place, and telling its own
motion from the camera's. Not here: what a motion means (the rules beside this module).

A camera that turns without its telemetry saying so makes all that stands seem to drive: on a sample flight
parked cars run at 30 m/s over the map. So a motion is only believed where it shows twice: over the map, and
against the things around it. A thing with nothing around it must move by more than its fix may be wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np

from detection.labels import PERSON, group_of
from detection.sightings import FloatArray, by_look, place_of
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.types import Detection

SAME_PLACE_M = 4.0
"""How far the box of one parked car moves between looks: half a car and the jitter of its edges. Not the
error of the fix, which neighbouring looks share, and within which false boxes can be anywhere."""
STRAY_M_S = 1.5
"""How much farther, for each second between two looks, a thing may be from where its motion would have it:
what a person walks (1.3 m/s, Bohannon 1997) and a car changes its speed by in a second of city traffic."""
TOP_SPEED_M_S = 40.0
"""Faster than any vehicle on a valley road (144 km/h): a track that jumps farther has changed its thing."""
_PACE_S = 2.0
"""A thing's speed is taken over its last two seconds: two looks alone are mostly jitter."""
STRAYS = 2
"""Looks in a row that must show a thing elsewhere before it has left its place."""
NEIGHBOURS, LEAST_NEIGHBOURS = 5, 2
"""A turning camera moves far things more than near ones, so the nearest few tell best; one alone may itself
be moving."""


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """One thing followed through a clip, at most one detection a look, in order of time."""

    detections: tuple[Detection, ...]
    at_s: FloatArray
    """Seconds since 1970, shape (n,)."""
    places_m: FloatArray
    """Metres east and north in the clip's own frame, shape (n, 2)."""

    @property
    def duration_s(self) -> float:
        """Return the seconds from its first detection to its last."""
        return float(self.at_s[-1] - self.at_s[0])

    @property
    def error_m(self) -> float:
        """Return the largest radius of error of its fixes."""
        return max(detection.fix.error_radius_m or 0.0 for detection in self.detections)


@dataclass(slots=True)
class _Chain:
    group: str
    detections: list[Detection] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    places_m: list[tuple[float, float]] = field(default_factory=list)

    def add(self, detection: Detection, place_m: tuple[float, float]) -> None:
        self.detections.append(detection)
        self.at_s.append(detection.at.timestamp())
        self.places_m.append(place_m)

    def expected_m(self, at_s: float) -> tuple[float, float]:
        """Return where the thing would be by now: vehicles go on as they went, people may turn any time."""
        east_m, north_m = self.places_m[-1]
        first = len(self.at_s) - 1
        while first > 0 and self.at_s[-1] - self.at_s[first - 1] <= _PACE_S:
            first -= 1
        over_s = self.at_s[-1] - self.at_s[first]
        if self.group == PERSON or over_s < _PACE_S / 2:
            return east_m, north_m
        ahead = (at_s - self.at_s[-1]) / over_s
        start_m = self.places_m[first]
        return east_m + ahead * (east_m - start_m[0]), north_m + ahead * (north_m - start_m[1])


class Paths:
    """The paths of all things in a clip that have a place."""

    def __init__(self, detections: Sequence[Detection], *, gap: timedelta) -> None:
        self.all: list[Path] = list(_follow(detections, gap_s=gap.total_seconds()))
        self._at: defaultdict[int, dict[int, FloatArray]] = defaultdict(dict)
        for number, path in enumerate(self.all):
            for detection, place_m in zip(path.detections, path.places_m, strict=True):
                self._at[detection.frame_index][number] = place_m

    def of(self, labels: Collection[str], *, min_duration: timedelta) -> list[Path]:
        """Return the paths of things of some labels that are followed for long enough."""
        least_s = min_duration.total_seconds()
        return [
            path for path in self.all if path.detections[0].label in labels and path.duration_s >= least_s
        ]

    def moves_of(self, path: Path, *, without: Collection[Path] = ()) -> list[FloatArray]:
        """Return how far a thing has gone since its first look, shape (n, 2), each way in which that shows.

        First over the map; then against what is around it, where enough is. Both must show a motion.

        Args:
            path: one of these paths.
            without: paths that are no part of what is around it, as they may move with it.
        """
        over_map_m = path.places_m - path.places_m[0]
        around_m = self._drift_m(path, without={id(other) for other in (path, *without)})
        return [over_map_m] if around_m is None else [over_map_m, over_map_m - around_m]

    def _drift_m(self, path: Path, *, without: set[int]) -> FloatArray | None:
        """Return how far what is around a path seems to have moved, shape (n, 2); None where little is."""
        steps_m = np.zeros((len(path.detections), 2))
        known = 0
        for index in range(1, len(path.detections)):
            before = self._at[path.detections[index - 1].frame_index]
            now = self._at[path.detections[index].frame_index]
            others = [n for n in before.keys() & now.keys() if id(self.all[n]) not in without]
            if len(others) < LEAST_NEIGHBOURS:
                continue
            stood_m = np.array([before[number] for number in others])
            moved_m = np.array([now[number] for number in others]) - stood_m
            nearest = np.hypot(*(stood_m - path.places_m[index - 1]).T).argsort(kind="stable")[:NEIGHBOURS]
            steps_m[index] = np.median(moved_m[nearest], axis=0)
            known += 1
        if 2 * known < len(path.detections) - 1 or known == 0:
            return None
        drift_m: FloatArray = np.cumsum(steps_m, axis=0)
        return drift_m

    def went_m(self, path: Path, *, first: int, last: int) -> float:
        """Return how far a thing surely went between two of its looks, by the way that shows least of it.

        Where nothing around it tells the camera's motion, what its fix may be wrong by at both is taken off.
        """
        moves = self.moves_of(path)
        doubt_m = 2 * path.error_m if len(moves) == 1 else 0.0
        return min(float(np.hypot(*(move[last] - move[first]))) for move in moves) - doubt_m


def _follow(detections: Sequence[Detection], *, gap_s: float) -> Iterator[Path]:
    """Yield the paths: a track goes on as its number says, over a break where only one can be it."""
    looks = by_look(detections)
    if not looks:
        return
    frame = LocalFrame.at(place_of(looks[0][0].fix))
    live: list[_Chain] = []
    for look in looks:
        points = [place_of(detection.fix) for detection in look]
        east_m, north_m = frame.to_local([p.lat_deg for p in points], [p.lon_deg for p in points])
        at_s = look[0].at.timestamp()
        yield from (_path(chain) for chain in live if at_s - chain.at_s[-1] > gap_s)
        live = [chain for chain in live if at_s - chain.at_s[-1] <= gap_s]
        live += _extended(live, look, list(zip(east_m.tolist(), north_m.tolist(), strict=True)))
    yield from (_path(chain) for chain in live)


def _path(chain: _Chain) -> Path:
    return Path(tuple(chain.detections), np.array(chain.at_s), np.array(chain.places_m))


def _extended(
    live: Sequence[_Chain], look: Sequence[Detection], places_m: Sequence[tuple[float, float]]
) -> list[_Chain]:
    """Add a look's detections to the chains that they go on with; return the chains that start."""
    at_s = look[0].at.timestamp()
    by_track = {
        (chain.group, track_id): chain
        for chain in live
        if (track_id := chain.detections[-1].track_id) is not None
    }
    left: list[int] = []
    taken: set[int] = set()
    for index, detection in enumerate(look):
        track_id = detection.track_id
        chain = None if track_id is None else by_track.get((group_of(detection.label), track_id))
        if chain is None or id(chain) in taken or not _can_reach(chain, places_m[index], at_s=at_s):
            left.append(index)
        else:
            taken.add(id(chain))
            chain.add(detection, places_m[index])
    idle = [chain for chain in live if id(chain) not in taken]
    started = []
    for group in sorted({group_of(look[index].label) for index in left}):
        chains = [chain for chain in idle if chain.group == group]
        things = [index for index in left if group_of(look[index].label) == group]
        partner = _partners(chains, [places_m[index] for index in things], at_s=at_s)
        for place, index in enumerate(things):
            chain = partner.get(place)
            if chain is None:
                chain = _Chain(group)
                started.append(chain)
            chain.add(look[index], places_m[index])
    return started


def _can_reach(chain: _Chain, place_m: tuple[float, float], *, at_s: float) -> bool:
    away_m = float(np.hypot(place_m[0] - chain.places_m[-1][0], place_m[1] - chain.places_m[-1][1]))
    return away_m <= SAME_PLACE_M + TOP_SPEED_M_S * (at_s - chain.at_s[-1])


def _partners(
    chains: Sequence[_Chain], places_m: Sequence[tuple[float, float]], *, at_s: float
) -> dict[int, _Chain]:
    """Return by the index of a place the chain that alone can go on there, and nowhere else."""
    if not chains or not places_m:
        return {}
    expected_m = np.array([chain.expected_m(at_s) for chain in chains])
    reach_m = np.array([SAME_PLACE_M + STRAY_M_S * (at_s - chain.at_s[-1]) for chain in chains])
    gaps_m = np.linalg.norm(expected_m[:, None] - np.array(places_m)[None], axis=2)
    can = gaps_m <= reach_m[:, None]
    alone = can & (can.sum(axis=0) == 1)[None] & (can.sum(axis=1) == 1)[:, None]
    return {int(place): chains[int(chain)] for chain, place in zip(*np.nonzero(alone), strict=True)}


def stays(at_s: FloatArray, places_m: FloatArray, *, radius_m: float) -> list[tuple[int, int]]:
    """Return the stretches of a path, first and last index, that stay near where they begin, in order.

    A stretch ends where the thing is farther than ``radius_m`` from its beginning for two looks in a row: one
    may be jitter. The work is linear in the looks.

    Args:
        at_s: times in order, shape (n,).
        places_m: metres east and north, shape (n, 2).
        radius_m: how far from its first place a stretch may stray.
    """
    found: list[tuple[int, int]] = []
    first, last, strayed = 0, 0, 0
    for index in range(1, len(at_s)):
        near = float(np.hypot(*(places_m[index] - places_m[first]))) <= radius_m
        strayed = 0 if near else strayed + 1
        if near:
            last = index
        elif strayed == STRAYS:
            found.append((first, last))
            first = last = last + 1
            strayed = 0
    return [*found, (first, last)] if len(at_s) else []
