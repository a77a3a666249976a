"""Which events are one happening: seen in overlapping flights, in consecutive clips and by sensors.

Belongs here: the gate in time and place, and the joining; both pure. Not here: which events are looked at and
where the result is kept (``storage/incidents.py``, ``outwatch/pipeline/incidents.py``).

**Gate.** Two events may be one happening where their kinds go together (people with people, vehicles with
vehicles, sensors and what may be either with both), where their times are no further apart than ``max_gap``
and the doubt in both clocks, and where the squared Mahalanobis distance of their places is below
the 0.99 quantile of chi-square with two degrees of freedom. Its covariance is the sum of both fixes' and of
both things' own extent: what was seen of a crowd has another centre each time, and what trips a sensor is
anywhere within its reach.

**One clip.** All places of a clip share the clip's pose error, so within one clip the fixes' covariances
say nothing and the extent alone decides. Two events of one kind in one clip that it parts are
two things by construction: they are never one incident, neither directly nor through a third.
Between two clips things are paired off one to one, as many as can be and then as near as can be
(``scipy.optimize.linear_sum_assignment``): a shift that all things of a clip share then does not pair
each with its neighbour's. Where a third would have fitted elsewhere too, its membership says so.

**Order.** The answer is a function of the set of events: they are taken in order of id, links in order
of distance. A chain of events that lasts longer than ``longest`` is cut at fixed marks, multiples of
``longest`` since 1970, so that where it is cut never depends on which of its events were known first.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from scipy.spatial import cKDTree  # type: ignore[import-untyped]

from outwatch.domain.geometry import CHI2_2DOF_P90
from outwatch.domain.incidents import Account, Joined, Membership, Ruling
from outwatch.domain.types import EventKind

RULE_VERSION = "incidents-1"
CHI2_2DOF_P99 = -2.0 * math.log(0.01)
"""9.210: square of the Mahalanobis distance that holds 0.99 of a 2-D Gaussian (its closed form)."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PEOPLE = frozenset(
    {
        EventKind.GATHERING_NEAR_OUTPOST,
        EventKind.GATHERING_GROWING,
        EventKind.GATHERING_DISPERSING,
        EventKind.LOITERING,
    }
)
_VEHICLES = frozenset({EventKind.VEHICLE_NEAR_OUTPOST, EventKind.STOPPED_VEHICLE, EventKind.CONVOY})
_MOVING = frozenset({EventKind.APPROACH, EventKind.CONVOY})
_EITHER, _PERSON, _VEHICLE = 0, 1, 2
_APART = 1e9
"""Cost of what may not be paired: far above any sum of squared distances that passed the gate."""
_DIGITS = 6
"""Decimals of a squared distance: what is equal must not differ by how an array happened to be cut up."""
_SEMI_MAJOR_M, _FLATTENING = 6_378_137.0, 1 / 298.257223563
"""WGS 84 (NGA.STND.0036)."""

_Floats = npt.NDArray[np.float64]
_Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRules:
    """When events are one happening; names and meanings are those of the settings' ``incidents``."""

    max_gap: timedelta
    longest: timedelta
    clock_doubt_at_most: timedelta
    furthest_m: float
    people_extent_m: float
    vehicle_extent_m: float
    moving_extent_m: float
    sensor_reach_m: float

    @property
    def reach(self) -> timedelta:
        """Return how far apart in time two events that are linked can be."""
        return self.max_gap + 2 * self.clock_doubt_at_most

    def extent_m(self, kind: EventKind) -> float:
        """Return the radius around where a thing was seen that holds its true place with probability 0.9."""
        if kind is EventKind.SENSOR_TRIP:
            return self.sensor_reach_m
        if kind in _MOVING:
            return self.moving_extent_m
        return self.vehicle_extent_m if kind in _VEHICLES else self.people_extent_m


@dataclass(frozen=True, slots=True)
class _Link:
    """Two events, by number, that may be one happening; ``by`` where a person said that they are."""

    one: int
    other: int
    mahalanobis2: float = 0.0
    distance_m: float | None = None
    gap_s: float | None = None
    by: str = RULE_VERSION

    @property
    def by_person(self) -> bool:
        """Return whether a person said so."""
        return self.by != RULE_VERSION

    @property
    def order(self) -> tuple[float, float, int, int]:
        """Return the nearest first; of equals the lower ids."""
        return self.mahalanobis2, self.gap_s or 0.0, self.one, self.other


def join(
    accounts: Iterable[Account], *, rules: JoinRules, rulings: Sequence[Ruling] = ()
) -> tuple[Joined, ...]:
    """Return the incidents that events are, in order of their earliest event.

    The same events give the same incidents in whatever order they are given.

    Args:
        accounts: of events, each once.
        rules: the gate.
        rulings: what people said of pairs of them; pairs with an event that is not there are left out.
    """
    events = sorted(accounts, key=lambda item: item.event_id)
    number = {item.event_id: index for index, item in enumerate(events)}
    told, parted = _told(rulings, number)
    links = [*told, *_links(events, rules)]
    parts = _parts(events, links, told=told, longest=rules.longest)
    part_of = {index: place for place, part in enumerate(parts) for index in part}
    inside: dict[int, list[_Link]] = defaultdict(list)
    for link in links:
        if part_of[link.one] == part_of[link.other]:
            inside[part_of[link.one]].append(link)
    apart: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for one, other in parted:
        if part_of[one] == part_of[other]:
            apart[part_of[one]].append((one, other))
    incidents = [
        incident
        for place, part in enumerate(parts)
        for incident in _join_part(events, _Groups(events, part, apart=apart[place]), links=inside[place])
    ]
    return tuple(sorted(incidents, key=lambda item: _start(events[number[item.event_ids[0]]])))


def _start(event: Account) -> tuple[datetime, str]:
    return event.started_at, event.event_id


def _told(rulings: Sequence[Ruling], number: dict[str, int]) -> tuple[list[_Link], list[tuple[int, int]]]:
    """Return what people joined, and what they separated; of a pair the last word counts."""
    last = {
        (min(number[r.one], number[r.other]), max(number[r.one], number[r.other])): r
        for r in rulings
        if r.one in number and r.other in number and r.one != r.other
    }
    told = [_Link(*pair, by=ruling.by) for pair, ruling in last.items() if ruling.verdict == "join"]
    return told, [pair for pair, ruling in last.items() if ruling.verdict == "separate"]


def _links(events: Sequence[Account], rules: JoinRules) -> list[_Link]:
    """Return every pair of events that passes the gate, events by their number."""
    located = np.array([index for index, item in enumerate(events) if item.point is not None], dtype=np.int64)
    if not len(located):
        return []
    at = _Located([events[index] for index in located], rules)
    near = cKDTree(at.places_m).query_pairs(rules.furthest_m, output_type="ndarray")
    pairs = near[np.lexsort((near[:, 1], near[:, 0]))].astype(np.int64)
    pairs = pairs[at.fit_in_kind_and_time(pairs, rules)]
    mahalanobis2, distance_m = at.distances(pairs)
    passed = mahalanobis2 <= CHI2_2DOF_P99
    gaps_s = at.gaps_s(pairs)
    return [
        _Link(int(located[one]), int(located[other]), float(squared), float(metres), float(gap_s))
        for (one, other), squared, metres, gap_s in zip(
            pairs[passed], mahalanobis2[passed], distance_m[passed], gaps_s[passed], strict=True
        )
    ]


class _Located:
    """Events with a place as arrays: shape (n,) each, ``places_m`` (n, 3) from the middle of the Earth."""

    def __init__(self, events: Sequence[Account], rules: JoinRules) -> None:
        points = [item.point for item in events if item.point is not None]
        self._lat = np.radians([point.lat_deg for point in points])
        self._lon = np.radians([point.lon_deg for point in points])
        self.places_m = _earth_centred_m(self._lat, self._lon)
        self._family = np.array([_family(item.kind) for item in events])
        clips: dict[str, int] = {}
        self._clip = np.array(
            [-1 - n if e.clip_id is None else clips.setdefault(e.clip_id, n) for n, e in enumerate(events)]
        )
        self._start_s = np.array([(item.started_at - _EPOCH).total_seconds() for item in events])
        self._end_s = np.array([(item.ended_at - _EPOCH).total_seconds() for item in events])
        most_s = rules.clock_doubt_at_most.total_seconds()
        self._doubt_s = np.minimum([item.clock_doubt_s for item in events], most_s)
        extent_m = np.array([rules.extent_m(item.kind) for item in events])
        self._extent_m2 = np.square(extent_m) / CHI2_2DOF_P90
        self._fix_m2 = np.array([item.covariance_m2 for item in events])

    def fit_in_kind_and_time(self, pairs: _Pairs, rules: JoinRules) -> npt.NDArray[np.bool_]:
        """Return which pairs are of kinds that go together, and near enough in time."""
        one, other = pairs.T
        doubt_s = np.where(
            self._clip[one] == self._clip[other], 0.0, self._doubt_s[one] + self._doubt_s[other]
        )
        in_time = self.gaps_s(pairs) <= rules.max_gap.total_seconds() + doubt_s
        fitting: npt.NDArray[np.bool_] = in_time & (
            self._family[one] * self._family[other] != _PERSON * _VEHICLE
        )
        return fitting

    def _same_clip(self, pairs: _Pairs) -> npt.NDArray[np.bool_]:
        same: npt.NDArray[np.bool_] = self._clip[pairs[:, 0]] == self._clip[pairs[:, 1]]
        return same

    def gaps_s(self, pairs: _Pairs) -> _Floats:
        """Return the seconds between the two of each pair, 0 where they overlap."""
        one, other = pairs.T
        first_end_s = np.minimum(self._end_s[one], self._end_s[other])
        gaps_s: _Floats = np.maximum(0.0, np.maximum(self._start_s[one], self._start_s[other]) - first_end_s)
        return gaps_s

    def distances(self, pairs: _Pairs) -> tuple[_Floats, _Floats]:
        """Return the squared Mahalanobis distance and the distance in metres of each pair."""
        one, other = pairs.T
        lat, lon = (self._lat[one] + self._lat[other]) / 2, (self._lon[one] + self._lon[other]) / 2
        step_m = self.places_m[other] - self.places_m[one]
        east_m = -np.sin(lon) * step_m[:, 0] + np.cos(lon) * step_m[:, 1]
        outward_m = np.cos(lon) * step_m[:, 0] + np.sin(lon) * step_m[:, 1]
        north_m = np.cos(lat) * step_m[:, 2] - np.sin(lat) * outward_m
        # Within a clip the pose error is shared and moves both alike.
        shared = self._same_clip(pairs)[:, None]
        ee, en, nn = np.where(shared, 0.0, self._fix_m2[one] + self._fix_m2[other]).T
        extent_m2 = self._extent_m2[one] + self._extent_m2[other]
        ee, nn = ee + extent_m2, nn + extent_m2
        squared = (nn * east_m**2 - 2 * en * east_m * north_m + ee * north_m**2) / (ee * nn - en**2)
        return np.round(squared, _DIGITS), np.hypot(east_m, north_m)


def _family(kind: EventKind) -> int:
    return _PERSON if kind in _PEOPLE else _VEHICLE if kind in _VEHICLES else _EITHER


def _earth_centred_m(lat: _Floats, lon: _Floats) -> _Floats:
    """Return places on the WGS 84 ellipsoid in metres from its middle, shape (n, 3); angles in radians."""
    eccentricity2 = _FLATTENING * (2 - _FLATTENING)
    normal_m = _SEMI_MAJOR_M / np.sqrt(1 - eccentricity2 * np.sin(lat) ** 2)
    across_m = normal_m * np.cos(lat)
    up_m = normal_m * (1 - eccentricity2) * np.sin(lat)
    return np.column_stack([across_m * np.cos(lon), across_m * np.sin(lon), up_m])


def _parts(
    events: Sequence[Account], links: Sequence[_Link], *, told: Sequence[_Link], longest: timedelta
) -> list[list[int]]:
    """Return events that hang together in any way, chains of more than ``longest`` cut at marks.

    What a person joined is cut together: it lies where its earliest event does.
    """
    first_of: dict[int, datetime] = {}
    for group in _connected(len(events), told):
        start = min(events[index].started_at for index in group)
        first_of |= dict.fromkeys(group, start)
    parts: list[list[int]] = []
    for group in _connected(len(events), links):
        span = max(events[index].ended_at for index in group) - min(events[i].started_at for i in group)
        marks: dict[int, list[int]] = defaultdict(list)
        for index in group:
            marks[(first_of[index] - _EPOCH) // longest if span > longest else 0].append(index)
        parts += marks.values()
    return parts


def _connected(count: int, links: Iterable[_Link]) -> list[list[int]]:
    roots = _Roots(range(count))
    for link in links:
        roots.unite(link.one, link.other)
    return list(roots.members.values())


class _Roots:
    """Sets that grow together (union by size); ``members`` has each set under its root."""

    def __init__(self, items: Iterable[int]) -> None:
        self.members = {item: [item] for item in items}
        self._root = {item: item for item in self.members}

    def of(self, item: int) -> int:
        """Return the set that an item is in."""
        return self._root[item]

    def unite(self, one: int, other: int) -> tuple[int, int]:
        """Make one set of those of two items, and return the root that stays and the one that went."""
        keep, drop = self._root[one], self._root[other]
        if keep != drop:
            if (len(self.members[keep]), -keep) < (len(self.members[drop]), -drop):
                keep, drop = drop, keep
            for item in self.members[drop]:
                self._root[item] = keep
            self.members[keep] += self.members.pop(drop)
        return keep, drop


class _Groups:
    """The growing incidents of one part: which may still become one."""

    def __init__(
        self, events: Sequence[Account], part: Sequence[int], *, apart: Sequence[tuple[int, int]]
    ) -> None:
        self.sets = _Roots(part)
        self._families = {index: {_family(events[index].kind)} - {_EITHER} for index in part}
        self._apart: dict[int, set[int]] = {index: set() for index in part}
        self.part(apart)

    def part(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Keep the sets of two events apart from now on."""
        for one, other in pairs:
            first, second = self.sets.of(one), self.sets.of(other)
            if first != second:
                self._apart[first].add(second)
                self._apart[second].add(first)

    def unite(self, link: _Link) -> bool:
        """Make one set of a link's two, and return whether they are one now."""
        one, other = self.sets.of(link.one), self.sets.of(link.other)
        if one == other:
            return False
        mixed = len(self._families[one] | self._families[other]) > 1
        if other in self._apart[one] or (mixed and not link.by_person):
            return False
        keep, drop = self.sets.unite(one, other)
        self._families[keep] |= self._families.pop(drop)
        for third in self._apart.pop(drop):
            self._apart[third].discard(drop)
            self._apart[third].add(keep)
            self._apart[keep].add(third)
        return True


def _join_part(events: Sequence[Account], groups: _Groups, *, links: Sequence[_Link]) -> list[Joined]:
    """Return the incidents of one part: what people said first, then each clip's things, then the nearest."""
    taken = [link for link in links if link.by_person and groups.unite(link)]
    in_clip = [link for link in links if not link.by_person and _one_clip(events, link)]
    across = [link for link in links if not link.by_person and not _one_clip(events, link)]
    taken += [link for link in sorted(in_clip, key=lambda link: link.order) if groups.unite(link)]
    groups.part(_two_of_a_kind(events, groups))
    paired = _paired_off(events, groups, across)
    taken += [link for link in sorted(paired, key=lambda link: link.order) if groups.unite(link)]
    doubtful = _doubtful(groups, across)
    by_event: dict[int, _Link] = {}
    for link in taken:  # what people said stands first, the nearest before the rest
        by_event.setdefault(link.one, link)
        by_event.setdefault(link.other, link)
    return [
        Joined(
            tuple(
                _membership(events, index, link=by_event.get(index), doubt=doubtful.get(index))
                for index in sorted(members, key=lambda index: _start(events[index]))
            )
        )
        for members in groups.sets.members.values()
    ]


def _one_clip(events: Sequence[Account], link: _Link) -> bool:
    clip = events[link.one].clip_id
    return clip is not None and clip == events[link.other].clip_id


def _two_of_a_kind(events: Sequence[Account], groups: _Groups) -> Iterable[tuple[int, int]]:
    """Yield the pairs of things of one kind that one clip shows apart."""
    seen: dict[tuple[str, EventKind], list[int]] = defaultdict(list)
    for root, members in groups.sets.members.items():
        for clip_id, kind in {(events[i].clip_id, events[i].kind) for i in members}:
            if clip_id is not None:
                seen[clip_id, kind].append(root)
    for roots in seen.values():
        for place, one in enumerate(roots):
            yield from ((one, other) for other in roots[place + 1 :])


def _paired_off(events: Sequence[Account], groups: _Groups, links: Sequence[_Link]) -> list[_Link]:
    """Return the links between clips that pair their things off one to one, and all links of sensors."""
    kept, between = [], defaultdict(list)
    for link in links:
        clips = events[link.one].clip_id, events[link.other].clip_id
        if None in clips:
            kept.append(link)
        else:
            between[tuple(sorted(map(str, clips)))].append(link)
    for (first_clip, _), found in between.items():
        best: dict[tuple[int, int], _Link] = {}
        for link in sorted(found, key=lambda link: link.order, reverse=True):
            inward = events[link.one].clip_id == first_clip
            ends = (link.one, link.other) if inward else (link.other, link.one)
            best[groups.sets.of(ends[0]), groups.sets.of(ends[1])] = link
        rows, columns = ({key: n for n, key in enumerate(sorted({e[side] for e in best}))} for side in (0, 1))
        cost = np.full((len(rows), len(columns)), _APART)
        for (one, other), link in best.items():
            cost[rows[one], columns[other]] = link.mahalanobis2
        chosen = set(zip(*(side.tolist() for side in linear_sum_assignment(cost)), strict=True))
        kept += [link for (one, other), link in best.items() if (rows[one], columns[other]) in chosen]
    return kept


def _doubtful(groups: _Groups, links: Sequence[_Link]) -> dict[int, tuple[int, _Link]]:
    """Return by event the nearest event of another incident that it would have fitted, with the link."""
    found: dict[int, tuple[int, _Link]] = {}
    for link in sorted(links, key=lambda link: link.order):
        if groups.sets.of(link.one) != groups.sets.of(link.other):
            found.setdefault(link.one, (link.other, link))
            found.setdefault(link.other, (link.one, link))
    return found


def _membership(
    events: Sequence[Account], index: int, *, link: _Link | None, doubt: tuple[int, _Link] | None
) -> Membership:
    note = None
    if doubt is not None:
        other, refused = doubt
        note = (
            f"event {events[other].event_id}, {refused.distance_m:.0f} m away, would fit too but is of "
            "another incident: each went to the nearest it could"
        )
    if link is None:
        return Membership(events[index].event_id, RULE_VERSION, note=note)
    near = link.other if link.one == index else link.one
    return Membership(
        event_id=events[index].event_id,
        by=link.by,
        near_event_id=events[near].event_id,
        distance_m=link.distance_m,
        mahalanobis=None if link.distance_m is None else math.sqrt(link.mahalanobis2),
        gap_s=link.gap_s,
        note=note,
    )


def same_place(one: Account, others: Sequence[Account], *, rules: JoinRules) -> list[bool]:
    """Return which of several events lie where one does, whenever and of whatever kind they are.

    Args:
        one: has a place, as all have.
        others: events to compare.
        rules: the gate.
    """
    if not others:
        return []
    at = _Located([one, *others], rules)
    pairs = np.column_stack([np.zeros(len(others), np.int64), np.arange(1, len(others) + 1)])
    mahalanobis2, distance_m = at.distances(pairs)
    agree: list[bool] = ((mahalanobis2 <= CHI2_2DOF_P99) & (distance_m <= rules.furthest_m)).tolist()
    return agree
