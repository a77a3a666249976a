"""Simulated flights through the whole pipeline, judged by rules a little stricter and a little softer.

Belongs here: rendering what a suite draws, once, and what is to be expected of each flight. Not here: what
is drawn (``outwatch/simulate/suite.py``), matching and figures (``events.py``).

Near a threshold either answer is right. So the truth's rules are asked three times: with every
threshold harder by ``MARGIN`` for what must be found, as they are for what is true of it, and softer by
``MARGIN`` for what may be found. Actors smaller in the picture than a claim is made of (and the margin)
do not count for what must be found.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

import outwatch.simulate
from outwatch.domain.types import GeoPoint, Modality
from outwatch.evaluation.clips import MARGIN, Progress, model_of
from outwatch.evaluation.events import ClipResult, Expected, by_condition, event_figures
from outwatch.evaluation.locations import evaluate_locations
from outwatch.evaluation.runs import run_clip
from outwatch.simulate import Scenario, simulate
from outwatch.simulate.flight import ground_of
from outwatch.simulate.render import Seen
from outwatch.simulate.suite import SuiteFlight, flights
from outwatch.simulate.truth import TruthEvent, TruthFrame, TruthRules, derive_events
from outwatch.simulate.view import Pose, Site

LEAST_PX = 10.0
"""A person whose box has no side so long is not claimed, and said not to be."""
CASES = 3000
"""Looks without pictures: a share of 0.9 is then measured to within 0.011."""
CONDITIONS = ("altitude", "angle", "terrain", "weather", "pose")
_NOT_RENDERING = frozenset({"suite.py", "cases.py"})
"""Modules of the simulator on which a rendered flight does not depend."""
_POSE = Pose(0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Rendered:
    """The files of one flight of a suite, as the cache keeps them."""

    video: Path
    truth: Path
    outposts: Path
    dem: Path | None


def evaluate_simulated(
    count: int,
    *,
    seed: int,
    cache: Path,
    cases: int = CASES,
    dem: Path | None = None,
    weights: Mapping[Modality, Path] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the figures of a suite of flights, overall and by what they were drawn under.

    Args:
        count: how many flights.
        seed: of the suite.
        cache: folder for rendered flights; the same flight by the same simulator is rendered once.
        cases: looks without pictures, to measure the locator by; see ``locations.py``.
        dem: a GeoTIFF over which some of the flights and half of the looks are.
        weights: of the models to use by what a camera sees; None: those of the settings.
        progress: told how it goes on.

    Raises:
        ConfigInvalid: the DEM cannot be used.
    """
    located = evaluate_locations(cases, seed=seed, dem=dem)
    results = []
    for number, flight in enumerate(flights(count, seed=seed, dem=dem)):
        if progress is not None:
            progress(f"{flight.scenario.name}: {flight.story}", number, count)
        results.append(judge_flight(flight, cache=cache, weights=weights))
    setup = {"flights": count, "seed": seed, "dem": dem.name if dem else None, "cases": cases}
    return simulated_report(results, setup=setup, located=located)


def simulated_report(
    results: Sequence[ClipResult], *, setup: Mapping[str, Any], located: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the figures of judged flights and of looks without pictures as one report."""
    return {
        "kind": "simulated",
        "setup": dict(setup),
        "model": model_of(results),
        **event_figures(results),
        "by": {name: by_condition(results, name) for name in (*CONDITIONS, "story")},
        "locations": located,
    }


def judge_flight(
    flight: SuiteFlight, *, cache: Path, weights: Mapping[Modality, Path] | None = None
) -> ClipResult:
    """Render a flight or take it from the cache, run it, and return it as expected and as found."""
    rendered = render(flight.scenario, cache=cache)
    run = run_clip(rendered.video, outposts=rendered.outposts, dem=rendered.dem, weights=weights)
    return ClipResult(
        flight.scenario.name,
        expectations(flight, json.loads(rendered.truth.read_text(encoding="utf-8"))),
        run.events,
        conditions={"story": flight.story, **flight.conditions},
        failures=run.failures,
        clock_slack=run.clock_uncertainty,
        clock_error=run.started_at - flight.true_start if run.started_at else None,
    )


def render(scenario: Scenario, *, cache: Path) -> _Rendered:
    """Return the files of a scenario, rendered unless the cache holds them."""
    folder = cache / _digest(scenario)
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="rendering-", dir=cache) as work:
            simulate(scenario, Path(work) / "flight")
            # a folder is there whole or not at all; who comes second throws his own away
            if not folder.is_dir():
                shutil.move(Path(work) / "flight", folder)
    dem = folder / f"{scenario.name}.dem.tif"
    return _Rendered(
        video=folder / f"{scenario.name}.mp4",
        truth=folder / f"{scenario.name}.truth.json",
        outposts=folder / "outposts.geojson",
        dem=scenario.terrain.dem or (dem if dem.is_file() else None),
    )


def expectations(flight: SuiteFlight, truth: Mapping[str, Any]) -> tuple[Expected, ...]:
    """Return what must and what may be found of a flight, in order of start."""
    frames = read_frames(truth, ground_of(flight.scenario)[0])
    must = _events(flight.scenario, _large(frames), hardness=1 + MARGIN)
    true = _events(flight.scenario, frames, hardness=1.0)
    may = _events(flight.scenario, frames, hardness=1 - MARGIN)
    return tuple(
        _expected(
            next((item for item in true if _same(item, event)), event),
            flight,
            must=any(_same(item, event) for item in must),
            inside=any(_same(item, event) for item in true),
        )
        for event in may
    )


def read_frames(truth: Mapping[str, Any], site: Site) -> list[TruthFrame]:
    """Return the frames of a truth file with every actor's place; their poses are left out."""
    return [
        TruthFrame(
            frame["index"],
            frame["offset_s"],
            _POSE,
            _POSE,
            tuple(
                Seen(
                    actor["label"],
                    np.array([*site.to_local(actor["lat_deg"], actor["lon_deg"]), 0.0]),
                    tuple(actor["box_xyxy_px"]) if actor["box_xyxy_px"] else None,
                    actor["visible_fraction"],
                )
                for actor in frame["actors"]
            ),
        )
        for frame in truth["frames"]
    ]


def _large(frames: Sequence[TruthFrame]) -> list[TruthFrame]:
    """Leave out the actors that are too small in the picture to have to be found."""
    least_px = LEAST_PX * (1 + MARGIN)

    def large(seen: Seen) -> bool:
        if seen.box_xyxy_px is None:
            return False
        left, top, right, bottom = seen.box_xyxy_px
        return max(right - left, bottom - top) >= least_px

    return [replace(frame, seen=tuple(seen for seen in frame.seen if large(seen))) for frame in frames]


def _events(scenario: Scenario, frames: Sequence[TruthFrame], *, hardness: float) -> tuple[TruthEvent, ...]:
    """Return the true events were every threshold so many times as hard to reach."""
    rules = TruthRules()
    harder = replace(
        rules,
        gathering_min_people=int(np.ceil(rules.gathering_min_people * hardness)),
        gathering_link_m=rules.gathering_link_m / hardness,
        gathering_min_duration_s=rules.gathering_min_duration_s * hardness,
        vehicle_min_duration_s=rules.vehicle_min_duration_s * hardness,
    )
    posts = tuple(replace(post, watch_radius_m=post.watch_radius_m / hardness) for post in scenario.outposts)
    posed = replace(scenario, outposts=posts)
    return derive_events(posed, frames=frames, site=ground_of(scenario)[0], rules=harder)


def _same(one: TruthEvent, other: TruthEvent) -> bool:
    overlap_s = min(one.end_s, other.end_s) - max(one.start_s, other.start_s)
    return (one.kind, one.outpost_id) == (other.kind, other.outpost_id) and overlap_s >= 0


def _expected(event: TruthEvent, flight: SuiteFlight, *, must: bool, inside: bool) -> Expected:
    return Expected(
        kind=event.kind,
        start=flight.true_start + timedelta(seconds=event.start_s),
        end=flight.true_start + timedelta(seconds=event.end_s),
        count=event.count,
        must=must,
        outpost_id=event.outpost_id,
        point=GeoPoint(event.lat_deg, event.lon_deg),
        inside=inside,
    )


def _digest(scenario: Scenario) -> str:
    """Return a hash of all that a rendered flight depends on: scenario, DEM and the simulator."""
    digest = hashlib.sha256(TypeAdapter(Scenario).dump_json(scenario))
    if scenario.terrain.dem is not None:
        digest.update(scenario.terrain.dem.read_bytes())
    for path in sorted(Path(outwatch.simulate.__file__).parent.glob("*.py")):
        if path.name not in _NOT_RENDERING:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
