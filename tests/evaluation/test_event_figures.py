"""Expected and found events are matched fairly, and figures say what they claim to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from outwatch.domain.geometry import LocalFrame, ellipse_from_covariance
from outwatch.domain.types import Event, EventKind, GeoPoint, GroundFix
from outwatch.evaluation.events import ClipResult, Expected, by_condition, event_figures, holds, reliability

START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
PLACE = GeoPoint(33.5866, 71.4441)
GATHERING, VEHICLE = EventKind.GATHERING_NEAR_OUTPOST, EventKind.VEHICLE_NEAR_OUTPOST


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def expected(
    start_s: float = 0, end_s: float = 20, *, kind: EventKind = GATHERING, must: bool = True, count: int = 12
) -> Expected:
    return Expected(kind, at(start_s), at(end_s), count, must, outpost_id="post", point=PLACE, inside=True)


@pytest.fixture
def seen(gathering: Event) -> Event:
    """Return a gathering of 13, 10 to 16, from 1 s to 21 s, with an ellipse of 10 m around the true place."""
    fix = GroundFix(START, PLACE, ellipse_from_covariance(np.eye(2) * 100 / 4.605), 10.0, "flat_ground")
    return replace(gathering, outpost_id="post", started_at=at(1), ended_at=at(21), fix=fix)


def test_an_event_at_its_time_and_place_is_found(seen: Event) -> None:
    """Kind, outpost and an overlap in time make a pair; delay, count and place are measured on it."""
    figures = event_figures([ClipResult("clip", (expected(),), (seen,))])
    assert (figures["recall"], figures["precision"]) == (1.0, 1.0)
    assert figures["time_to_detect"]["p50_s"] == 1.0
    assert (figures["count"]["mean_error"], figures["count"]["interval_holds"]) == (1.0, 1.0)
    assert (figures["location"]["p50_m"], figures["location"]["ellipse_holds"]) == (0.0, 1.0)
    assert figures["mistakes"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"kind": VEHICLE},
        {"outpost_id": "another"},
        {"started_at": at(60), "ended_at": at(80)},
    ],
)
def test_an_event_of_another_kind_place_or_time_is_wrong(seen: Event, change: dict[str, object]) -> None:
    """It finds nothing, and is listed by name beside what was missed."""
    result = ClipResult("clip", (expected(),), (replace(seen, **change),))
    figures = event_figures([result])
    assert (figures["recall"], figures["precision"]) == (0.0, 0.0)
    assert sorted(row["mistake"] for row in figures["mistakes"]) == ["missed", "wrong"]


def test_a_clock_within_its_own_uncertainty_is_no_miss(seen: Event) -> None:
    """An event may lie as far from the truth as its clip says that its clock may."""
    late = replace(seen, started_at=at(21.5), ended_at=at(30))
    assert ClipResult("clip", (expected(),), (late,)).missed() == [expected()]
    assert ClipResult("clip", (expected(),), (late,), clock_slack=timedelta(seconds=2)).missed() == []


def test_either_answer_is_right_near_a_threshold(seen: Event) -> None:
    """What may be found is no miss where it is not found, and nothing wrong where it is."""
    perhaps = expected(must=False)
    found, not_found = (event_figures([ClipResult("clip", (perhaps,), events)]) for events in ((seen,), ()))
    assert (found["precision"], found["recall"], found["may_found"]) == (1.0, None, 1)
    assert (not_found["wrong"], not_found["must"], not_found["mistakes"]) == (0, 0, [])


def test_one_event_cannot_be_found_twice(seen: Event) -> None:
    """Two events on one expectation are one right and one wrong, and the longer overlap is the right one."""
    short = replace(seen, id="event-2", ended_at=at(3))
    result = ClipResult("clip", (expected(),), (short, seen))
    assert [event.id for _, event in result.pairs()] == ["event-1"]
    assert [event.id for event in result.wrong()] == ["event-2"]


def test_kinds_without_a_truth_are_told_and_not_judged(seen: Event) -> None:
    """Nobody can be wrong about what the truth says nothing of."""
    figures = event_figures([ClipResult("clip", (), (replace(seen, kind=EventKind.LOITERING),))])
    assert (figures["found"], figures["not_judged"]) == (0, {"loitering": 1})


def test_a_clip_that_fails_misses_everything() -> None:
    """Its failure is told, and its events count as missed."""
    figures = event_figures([ClipResult("clip", (expected(),), (), failures=("detect_clips: no model",))])
    assert (figures["recall"], figures["failed"]) == (0.0, ["clip: detect_clips: no model"])


def test_counts_beyond_their_interval_and_places_beyond_their_ellipse_are_listed(seen: Event) -> None:
    """Each is a row with the clip's name."""
    lat, lon = LocalFrame.at(PLACE).to_geo(30.0, 0.0)
    away = replace(expected(count=20), point=GeoPoint(float(lat), float(lon)))
    rows = event_figures([ClipResult("clip", (away,), (seen,))])["mistakes"]
    assert [(row["mistake"], row["clip"]) for row in rows] == [("count", "clip"), ("ellipse", "clip")]


def test_groups_are_those_of_the_conditions(seen: Event) -> None:
    """Bands sort by number, and each has the figures of its own clips."""
    results = [
        ClipResult("a", (expected(),), (seen,), {"altitude": "100 m and more"}),
        ClipResult("b", (expected(),), (), {"altitude": "70 to 100 m"}),
        ClipResult("c", (expected(),), (seen,), {"altitude": "under 70 m"}),
    ]
    groups = by_condition(results, "altitude")
    assert list(groups) == ["under 70 m", "70 to 100 m", "100 m and more"]
    assert [row["recall"] for row in groups.values()] == [1.0, 0.0, 1.0]


def test_an_ellipse_holds_nine_in_ten_of_what_is_drawn_from_it() -> None:
    """Places drawn from a Gaussian lie within its 0.9 ellipse nine times in ten, however it is turned."""
    covariance = np.array([[90.0, 40.0], [40.0, 30.0]])
    drawn = np.random.default_rng(5).multivariate_normal([0, 0], covariance, 3000)
    frame = LocalFrame.at(PLACE)
    fix = GroundFix(START, PLACE, ellipse_from_covariance(covariance), None, "flat_ground")
    lats, lons = frame.to_geo(drawn[:, 0], drawn[:, 1])
    inside = [holds(fix, GeoPoint(float(lat), float(lon))) for lat, lon in zip(lats, lons, strict=True)]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.02)


def test_reliability_compares_what_was_said_with_what_came() -> None:
    """Every answer falls into one bin, certainty into the last, and the Brier score is the mean square."""
    figures = reliability([(0.0, 0.0), (0.5, 1.0), (0.6, 0.0), (1.0, 1.0)])
    assert [row["events"] for row in figures["bins"]] == [1, 2, 0, 1]
    assert figures["bins"][1]["came_true"] == 0.5
    assert figures["brier"] == pytest.approx((0.25 + 0.36) / 4, abs=1e-4)
