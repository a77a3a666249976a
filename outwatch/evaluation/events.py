"""Expected events against found ones: who is whose, and the figures that follow.

Belongs here: matching by kind, outpost and time, and every figure about events. Not here: where
expectations come from (``clips.py``, ``simulated.py``) and running the pipeline (``runs.py``).

An expectation is one of two kinds. What *must* be found counts for recall. What *may* be found lies so
near to a threshold that either answer is right: it is no miss where it is not found, and not wrong where
it is. Precision counts the found events that no expectation covers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from outwatch.domain.geometry import CHI2_2DOF_P90, LocalFrame, covariance_from_ellipse
from outwatch.domain.types import Event, EventKind, GeoPoint, GroundFix
from outwatch.evaluation.bootstrap import share_interval

JUDGED = frozenset({EventKind.GATHERING_NEAR_OUTPOST, EventKind.VEHICLE_NEAR_OUTPOST})
"""The kinds that every truth speaks of; events of other kinds are told, not judged."""
P_BINS = (0.0, 0.5, 0.7, 0.9, 1.0)
"""Edges of the groups in which stated probabilities are compared with what came true."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What is true of a clip."""

    kind: EventKind
    start: datetime
    end: datetime
    count: int
    must: bool
    """Whether it must be found; else it may be."""
    outpost_id: str | None = None
    """None where the truth knows of no outposts: one event at any of them is right."""
    point: GeoPoint | None = None
    inside: bool | None = None
    """Whether its true place lies within the outpost's watch radius."""

    @property
    def words(self) -> str:
        """Return it in a few words."""
        return f"{self.kind.value} of {self.count} at {self.outpost_id or 'any outpost'}"


@dataclass(frozen=True, slots=True)
class ClipResult:
    """One clip as expected and as found."""

    name: str
    expected: tuple[Expected, ...]
    found: tuple[Event, ...]
    conditions: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    """Steps that failed, with the reason: a clip that cannot be processed finds nothing."""
    clock_slack: timedelta = timedelta(0)
    """How far the clip's clock may be off, as it states itself."""
    clock_error: timedelta | None = None
    """How far it was off; None where the truth does not say."""

    @property
    def judged(self) -> tuple[Event, ...]:
        """Return the found events of the kinds that the truth speaks of."""
        return tuple(event for event in self.found if event.kind in JUDGED)

    def pairs(self) -> list[tuple[Expected, Event]]:
        """Return who is whose: most common time first, then nearest; each event and expectation once."""
        options = [
            (-overlap_s, _away_m(expected, event), i, j)
            for i, expected in enumerate(self.expected)
            for j, event in enumerate(self.judged)
            if expected.kind is event.kind
            and expected.outpost_id in {None, event.outpost_id}
            and (overlap_s := self._overlap_s(expected, event)) >= 0
        ]
        taken: list[tuple[Expected, Event]] = []
        used_expected, used_found = set[int](), set[int]()
        for _, _, i, j in sorted(options):
            if i not in used_expected and j not in used_found:
                used_expected.add(i)
                used_found.add(j)
                taken.append((self.expected[i], self.judged[j]))
        return taken

    def missed(self) -> list[Expected]:
        """Return what must have been found and was not."""
        found = [id(expected) for expected, _ in self.pairs()]
        return [item for item in self.expected if item.must and id(item) not in found]

    def wrong(self) -> list[Event]:
        """Return the found events that nothing expected covers."""
        explained = {event.id for _, event in self.pairs()}
        return [event for event in self.judged if event.id not in explained]

    def _overlap_s(self, expected: Expected, event: Event) -> float:
        slack = self.clock_slack
        start = max(expected.start - slack, event.started_at)
        return (min(expected.end + slack, event.ended_at) - start).total_seconds()


def event_figures(results: Sequence[ClipResult]) -> dict[str, Any]:
    """Return every figure about events over many clips; one that cannot be said is None."""
    pairs = [pair for result in results for pair in result.pairs()]
    return {
        **detection_figures(results),
        "count": _count_figures(pairs),
        "time_to_detect": _delay_figures(results),
        "location": _location_figures(pairs),
        "p_inside": _p_inside_figures(pairs),
        "clock": _clock_figures(results),
        "by_kind": {
            kind.value: detection_figures([_of_kind(result, kind) for result in results])
            for kind in sorted(JUDGED)
        },
        "not_judged": _not_judged(results),
        "failed": [f"{result.name}: {reason}" for result in results for reason in result.failures],
        "mistakes": [row for result in results for row in _mistakes(result)],
    }


def detection_figures(results: Sequence[ClipResult]) -> dict[str, Any]:
    """Return precision and recall with Wilson intervals, and the numbers behind them."""
    must = sum(item.must for result in results for item in result.expected)
    hits = must - sum(len(result.missed()) for result in results)
    found = sum(len(result.judged) for result in results)
    wrong = sum(len(result.wrong()) for result in results)
    may_pairs = [1 for result in results for expected, _ in result.pairs() if not expected.must]
    return {
        "clips": len(results),
        "must": must,
        "must_found": hits,
        "may": sum(not item.must for result in results for item in result.expected),
        "may_found": len(may_pairs),
        "found": found,
        "wrong": wrong,
        "recall": _share(hits, must),
        "recall_ci": share_interval(hits, must),
        "precision": _share(found - wrong, found),
        "precision_ci": share_interval(found - wrong, found),
    }


def by_condition(results: Sequence[ClipResult], name: str) -> dict[str, Any]:
    """Return precision, recall and location of each group of clips that share a condition."""
    groups: dict[str, list[ClipResult]] = {}
    for result in results:
        if name in result.conditions:
            groups.setdefault(result.conditions[name], []).append(result)
    return {
        value: detection_figures(group)
        | {"location": _location_figures([pair for result in group for pair in result.pairs()])}
        for value, group in sorted(groups.items(), key=lambda item: _sortable(item[0]))
    }


def offset_m(fix: GroundFix, truth: GeoPoint) -> npt.NDArray[np.float64]:
    """Return where the truth lies from a fix that has a place: (east, north) in metres.

    Raises:
        ValueError: the fix has no place.
    """
    if fix.point is None:
        raise ValueError("a fix without a place is not off by anything")
    east, north = LocalFrame.at(fix.point).to_local([truth.lat_deg], [truth.lon_deg])
    return np.array([float(east[0]), float(north[0])])


def holds(fix: GroundFix, truth: GeoPoint) -> bool:
    """Return whether the 0.9 ellipse of a fix holds the truth; one without an ellipse holds nothing."""
    if fix.error_ellipse is None:
        return False
    off_m = offset_m(fix, truth)
    return float(off_m @ np.linalg.solve(covariance_from_ellipse(fix.error_ellipse), off_m)) <= CHI2_2DOF_P90


def _away_m(expected: Expected, event: Event) -> float:
    if expected.point is None or event.fix.point is None:
        return 0.0
    return float(np.hypot(*offset_m(event.fix, expected.point)))


def _count_figures(pairs: Sequence[tuple[Expected, Event]]) -> dict[str, Any]:
    errors = [event.count - expected.count for expected, event in pairs]
    held = sum(event.count_low <= expected.count <= event.count_high for expected, event in pairs)
    shares = [abs(error) / expected.count for error, (expected, _) in zip(errors, pairs, strict=True)]
    return {
        "events": len(pairs),
        "mean_abs_error": _rounded(np.mean(np.abs(errors))) if errors else None,
        "mean_error": _rounded(np.mean(errors)) if errors else None,
        "mean_abs_share": _rounded(np.mean(shares)) if shares else None,
        "interval_holds": _share(held, len(pairs)),
        "interval_holds_ci": share_interval(held, len(pairs)),
        "points": [
            [expected.count, event.count_low, event.count, event.count_high] for expected, event in pairs
        ],
    }


def _delay_figures(results: Sequence[ClipResult]) -> dict[str, Any]:
    """Return seconds from an event's true start to its first look, by the clip's own clock."""
    delays = [
        (event.started_at - expected.start - (result.clock_error or timedelta(0))).total_seconds()
        for result in results
        for expected, event in result.pairs()
    ]
    return {"p50_s": _quantile(delays, 0.5), "p95_s": _quantile(delays, 0.95)}


def _location_figures(pairs: Sequence[tuple[Expected, Event]]) -> dict[str, Any]:
    placed = [(expected.point, event.fix) for expected, event in pairs if expected.point and event.fix.point]
    errors_m = [float(np.hypot(*offset_m(fix, point))) for point, fix in placed]
    held = sum(holds(fix, point) for point, fix in placed)
    return {
        "events": len(placed),
        "p50_m": _quantile(errors_m, 0.5),
        "p95_m": _quantile(errors_m, 0.95),
        "ellipse_holds": _share(held, len(placed)),
        "ellipse_holds_ci": share_interval(held, len(placed)),
    }


def _p_inside_figures(pairs: Sequence[tuple[Expected, Event]]) -> dict[str, Any]:
    said = [
        (event.p_inside, float(expected.inside)) for expected, event in pairs if expected.inside is not None
    ]
    return reliability(said)


def reliability(said: Sequence[tuple[float, float]], *, edges: Sequence[float] = P_BINS) -> dict[str, Any]:
    """Return the Brier score of stated probabilities, and in bins what was said and what came true.

    Args:
        said: pairs of the probability and 1 or 0, for what came true and what did not.
        edges: of the bins, ascending; the last holds its upper edge.
    """
    bins = []
    for low, high in itertools.pairwise(edges):
        inside = [(p, came) for p, came in said if low <= p < high or (high == edges[-1] == p)]
        hits = sum(came for _, came in inside)
        bins.append(
            {
                "from": low,
                "to": high,
                "events": len(inside),
                "said": _rounded(np.mean([p for p, _ in inside])) if inside else None,
                "came_true": _share(int(hits), len(inside)),
                "came_true_ci": share_interval(int(hits), len(inside)),
            }
        )
    score = _rounded(np.mean([(p - came) ** 2 for p, came in said])) if said else None
    return {"events": len(said), "brier": score, "bins": bins}


def _clock_figures(results: Iterable[ClipResult]) -> dict[str, Any]:
    known = [result for result in results if result.clock_error is not None]
    held = sum(abs(result.clock_error or timedelta(0)) <= result.clock_slack for result in known)
    return {"clips": len(known), "uncertainty_holds": _share(held, len(known))}


def _of_kind(result: ClipResult, kind: EventKind) -> ClipResult:
    return ClipResult(
        result.name,
        tuple(item for item in result.expected if item.kind is kind),
        tuple(event for event in result.found if event.kind is kind),
        clock_slack=result.clock_slack,
    )


def _not_judged(results: Iterable[ClipResult]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for result in results:
        for event in result.found:
            if event.kind not in JUDGED:
                counts[event.kind.value] = counts.get(event.kind.value, 0) + 1
    return counts


def _mistakes(result: ClipResult) -> list[dict[str, Any]]:
    """Return a row for each missed, wrong and mislocated event."""
    about = {"clip": result.name, **result.conditions}
    rows = [{"mistake": "missed", "what": item.words, **about} for item in result.missed()]
    rows += [
        {
            "mistake": "wrong",
            "what": f"{event.kind.value} of {event.count} at {event.outpost_id}, {event.started_at:%H:%M:%S} "
            f"to {event.ended_at:%H:%M:%S}, p_inside {event.p_inside:.2f}, {event.distance_m:.0f} m away",
            **about,
        }
        for event in result.wrong()
    ]
    for expected, event in result.pairs():
        if not event.count_low <= expected.count <= event.count_high:
            what = (
                f"{event.kind.value}: {expected.count} are not within {event.count_low} to {event.count_high}"
            )
            rows.append({"mistake": "count", "what": what, **about})
        if expected.point and event.fix.point and not holds(event.fix, expected.point):
            off_m, radius_m = _away_m(expected, event), event.fix.error_radius_m or 0.0
            what = f"{event.kind.value}: {off_m:.1f} m off, radius {radius_m:.1f} m"
            rows.append({"mistake": "ellipse", "what": what, **about})
    return rows


def _sortable(words: str) -> tuple[float, str]:
    """Sort "under 70 m" before "70 to 100 m" before "100 m and more", and words by themselves."""
    first = words.removeprefix("under ").split(" ", 1)[0]
    low = (
        -math.inf if words.startswith("under ") else float(first) if first.replace(".", "").isdigit() else 0.0
    )
    return low, words


def _share(hits: int, of: int) -> float | None:
    return _rounded(hits / of) if of else None


def _quantile(values: Sequence[float], share: float) -> float | None:
    return _rounded(np.quantile(values, share)) if values else None


def _rounded(value: float | np.floating[Any]) -> float:
    return round(float(value), 4)
