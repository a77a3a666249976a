"""Suites of flights are the same every time, cover what they say, and expect only what is clear."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import EventKind
from outwatch.evaluation.simulated import expectations, render
from outwatch.simulate.flight import ground_of
from outwatch.simulate.render import Seen
from outwatch.simulate.scenario import Scenario
from outwatch.simulate.suite import ALTITUDES_M, ANGLES_DEG, STORIES, SuiteFlight, flights
from outwatch.simulate.truth import TruthFrame, truth_json
from outwatch.simulate.view import Pose
from outwatch.simulate.weather import WEATHERS, Weather

POSE = Pose(0, 0, 60, 0, -90)


@pytest.fixture(scope="module")
def suite() -> list[SuiteFlight]:
    return flights(40, seed=7)


def test_a_flight_depends_on_seed_and_number_only(suite: list[SuiteFlight]) -> None:
    """A shorter suite is the beginning of a longer one; another seed gives others."""
    assert flights(3, seed=7) == suite[:3]
    assert flights(3, seed=8)[0].scenario != suite[0].scenario


def test_a_suite_covers_what_it_says(suite: list[SuiteFlight]) -> None:
    """Every story, weather, pose and both terrains come; altitude and angle reach over their ranges."""
    assert Counter(flight.story for flight in suite) == dict.fromkeys(STORIES, 4)
    for name, values in (("weather", set(WEATHERS)), ("pose", {"half", "stated", "worse"})):
        assert {flight.conditions[name] for flight in suite} == values
    assert {flight.conditions["terrain"] for flight in suite} == {"flat", "relief"}
    above = [flight.scenario.orbit or flight.scenario.waypoints[0] for flight in suite]
    level = [
        pose.height_m
        for pose, flight in zip(above, suite, strict=True)
        if not flight.scenario.terrain.relief_m
    ]
    assert min(level) >= ALTITUDES_M[0]
    assert max(level) <= ALTITUDES_M[1]
    assert np.ptp(level) > 0.8 * (ALTITUDES_M[1] - ALTITUDES_M[0])
    pitches = [-flight.scenario.waypoints[0].pitch_deg for flight in suite if flight.scenario.waypoints]
    assert ANGLES_DEG[0] <= min(pitches) < max(pitches) <= ANGLES_DEG[1]


def test_the_aircrafts_clock_is_off_by_less_than_it_claims(suite: list[SuiteFlight]) -> None:
    """Errors are there, and within the two seconds that such clocks are given."""
    errors = [flight.scenario.start_utc - flight.true_start for flight in suite]
    assert max(map(abs, errors)) < timedelta(seconds=2.5)
    assert np.std([error.total_seconds() for error in errors]) == pytest.approx(0.7, abs=0.2)


def test_flights_over_a_dem_see_the_place_they_are_about(samples: Path) -> None:
    """No ridge of the Karakoram stands between the camera and the story."""
    dem = samples / "dem" / "baltoro_srtm_clip.tif"
    over = [flight for flight in flights(12, seed=7, dem=dem) if flight.conditions["terrain"] == "dem"]
    assert over
    for flight in over:
        site, surface = ground_of(flight.scenario)
        assert site.alt_m > 3000
        start = flight.scenario.waypoints[0]
        ground_m = surface.heights_m(np.array([start.east_m]), np.array([start.north_m]))
        assert start.height_m > ground_m[0]


def test_a_dem_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The error names the file."""
    path = tmp_path / "none.tif"
    with pytest.raises(ConfigInvalid, match=re.escape(str(path))):
        flights(40, seed=7, dem=path)


def group(
    count: int, *, spacing_m: float = 2.0, seconds: float = 30.0, size_px: float = 20.0
) -> list[TruthFrame]:
    """Return people in a row for so long, seen twice a second, in boxes of that size."""
    people = tuple(
        Seen("person", np.array([spacing_m * i, 0.0, 0.0]), (0.0, 0.0, size_px / 2, size_px), 1.0)
        for i in range(count)
    )
    return [TruthFrame(i, i / 2, POSE, POSE, people) for i in range(int(seconds * 2))]


def judged(flight: SuiteFlight, frames: list[TruthFrame]) -> list[tuple[int, bool]]:
    """Return count and whether it must be found of the gatherings expected near the origin."""
    post = replace(flight.scenario.outposts[0], east_m=20.0, north_m=0.0)
    scenario = replace(flight.scenario, outposts=(post,))
    site, _ = ground_of(scenario)
    truth = json.loads(json.dumps(truth_json(scenario, frames=frames, events=(), site=site)))
    found = expectations(replace(flight, scenario=scenario), truth)
    assert {item.kind for item in found} <= {EventKind.GATHERING_NEAR_OUTPOST}
    return [(item.count, item.must) for item in found]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (group(12), [(12, True)]),
        (group(9), [(9, False)]),
        (group(7), [(7, False)]),
        (group(6), []),
        (group(12, spacing_m=4.6), [(12, False)]),
        (group(12, spacing_m=5.5), [(12, False)]),
        (group(12, spacing_m=7.0), []),
        (group(12, seconds=16), [(12, False)]),
        (group(12, seconds=10), []),
        (group(12, size_px=11.0), [(12, False)]),
    ],
)
def test_only_what_is_clear_of_every_threshold_must_be_found(
    suite: list[SuiteFlight], frames: list[TruthFrame], expected: list[tuple[int, bool]]
) -> None:
    """Number, distance, duration and size in the picture each have a margin of 15 % either way."""
    assert judged(suite[0], frames) == expected


def test_a_flight_is_rendered_once(suite: list[SuiteFlight], tmp_path: Path) -> None:
    """The same scenario is taken from the cache; weather alone makes it another."""
    short = replace(suite[0].scenario, duration_s=1.0)
    first = render(short, cache=tmp_path)
    changed_at = first.video.stat().st_mtime_ns
    assert render(short, cache=tmp_path).video.stat().st_mtime_ns == changed_at
    assert render(replace(short, weather=Weather(blur_px=2.0)), cache=tmp_path).video != first.video
    names = {"outposts.geojson", *(f"{short.name}{end}" for end in (".SRT", ".mp4", ".truth.json"))}
    assert {path.name for path in first.video.parent.iterdir()} == names


def test_weather_takes_contrast_and_adds_grain_the_same_way_each_time() -> None:
    """Clear weather changes nothing; the others do what their names say, and do it again."""
    image = np.full((64, 64, 3), 100, np.uint8)
    image[:, 32:] = 200
    assert Weather().apply(image, seed=1, index=0) is image
    flat = Weather(contrast=0.5).apply(image, seed=1, index=0)
    assert (int(flat[0, 0, 0]), int(flat[0, 63, 0])) == (125, 175)
    hazy = Weather(haze=0.8).apply(image, seed=1, index=0)
    assert np.ptp(hazy[0].astype(int)) < np.ptp(hazy[-1].astype(int)) == 100
    grainy = Weather(grain=6.0)
    assert grainy.apply(image, seed=1, index=0).std() > image.std()
    assert (grainy.apply(image, seed=1, index=0) == grainy.apply(image, seed=1, index=0)).all()
    assert (grainy.apply(image, seed=1, index=0) != grainy.apply(image, seed=1, index=1)).any()


def test_a_scenario_file_can_ask_for_weather() -> None:
    """Weather is a part of the scenario, checked like the rest."""
    assert Scenario.__dataclass_fields__["weather"].default == Weather()
