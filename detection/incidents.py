"""Which events are one happening: seen in overlapping flights, in consecutive clips and by sensors.

Belongs here: the joining, pure. Not here: the gate in kind, time and place (``incident_gate.py``), and which
events are looked at and where the result is kept (``storage/incidents.py``).

**One clip.** Two events of one kind in one clip that the gate parts are two things by construction: they are
never one incident, neither directly nor through a third. Between two clips things are paired off one to one,
as many as can be and then as near as can be (``scipy.optimize.linear_sum_assignment``): a shift that all
things of a clip share then does not pair each with its neighbour's. Where a third would have fitted elsewhere
too, its membership says so.

**Order.** The answer is a function of the set of events: they are taken in order of id, links in order
of distance. A chain of events that lasts longer than ``longest`` is cut at fixed marks, multiples of
``longest`` since 1970, so that where it is cut never depends on which of its events were known first.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from scipy.optimize import linear_sum_assignment

from detection.incident_gate import EITHER, RULE_VERSION, JoinRules, Link, family, find_links
from outwatch.domain.incidents import Account, Joined, Membership, Ruling
from outwatch.domain.types import EventKind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_APART = 1e9
"""Cost of what may not be paired: far above any sum of squared distances that passed the gate."""


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
    links = [*told, *find_links(events, rules)]
    parts = _parts(events, links, told=told, longest=rules.longest)
    part_of = {index: place for place, part in enumerate(parts) for index in part}
    inside: dict[int, list[Link]] = defaultdict(list)
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


def _told(rulings: Sequence[Ruling], number: dict[str, int]) -> tuple[list[Link], list[tuple[int, int]]]:
    """Return what people joined, and what they separated; of a pair the last word counts."""
    last = {
        (min(number[r.one], number[r.other]), max(number[r.one], number[r.other])): r
        for r in rulings
        if r.one in number and r.other in number and r.one != r.other
    }
    told = [Link(*pair, by=ruling.by) for pair, ruling in last.items() if ruling.verdict == "join"]
    return told, [pair for pair, ruling in last.items() if ruling.verdict == "separate"]


def _parts(
    events: Sequence[Account], links: Sequence[Link], *, told: Sequence[Link], longest: timedelta
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


def _connected(count: int, links: Iterable[Link]) -> list[list[int]]:
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
        self._families = {index: {family(events[index].kind)} - {EITHER} for index in part}
        self._apart: dict[int, set[int]] = {index: set() for index in part}
        self.part(apart)

    def part(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Keep the sets of two events apart from now on."""
        for one, other in pairs:
            first, second = self.sets.of(one), self.sets.of(other)
            if first != second:
                self._apart[first].add(second)
                self._apart[second].add(first)

    def unite(self, link: Link) -> bool:
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


def _join_part(events: Sequence[Account], groups: _Groups, *, links: Sequence[Link]) -> list[Joined]:
    """Return the incidents of one part: what people said first, then each clip's things, then the nearest."""
    taken = [link for link in links if link.by_person and groups.unite(link)]
    in_clip = [link for link in links if not link.by_person and _one_clip(events, link)]
    across = [link for link in links if not link.by_person and not _one_clip(events, link)]
    taken += [link for link in sorted(in_clip, key=lambda link: link.order) if groups.unite(link)]
    groups.part(_two_of_a_kind(events, groups))
    paired = _paired_off(events, groups, across)
    taken += [link for link in sorted(paired, key=lambda link: link.order) if groups.unite(link)]
    doubtful = _doubtful(groups, across)
    by_event: dict[int, Link] = {}
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


def _one_clip(events: Sequence[Account], link: Link) -> bool:
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


def _paired_off(events: Sequence[Account], groups: _Groups, links: Sequence[Link]) -> list[Link]:
    """Return the links between clips that pair their things off one to one, and all links of sensors."""
    kept, between = [], defaultdict(list)
    for link in links:
        clips = events[link.one].clip_id, events[link.other].clip_id
        if None in clips:
            kept.append(link)
        else:
            between[tuple(sorted(map(str, clips)))].append(link)
    for (first_clip, _), found in between.items():
        best: dict[tuple[int, int], Link] = {}
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


def _doubtful(groups: _Groups, links: Sequence[Link]) -> dict[int, tuple[int, Link]]:
    """Return by event the nearest event of another incident that it would have fitted, with the link."""
    found: dict[int, tuple[int, Link]] = {}
    for link in sorted(links, key=lambda link: link.order):
        if groups.sets.of(link.one) != groups.sets.of(link.other):
            found.setdefault(link.one, (link.other, link))
            found.setdefault(link.other, (link.one, link))
    return found


def _membership(
    events: Sequence[Account], index: int, *, link: Link | None, doubt: tuple[int, Link] | None
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
