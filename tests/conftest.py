"""What tests of every room share: samples, a simulated flight, and a pipeline in a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outwatch.domain.types import Event, EventKind, GeoPoint, GroundFix
from outwatch.pipeline import wiring
from outwatch.settings import Settings, load_settings
from outwatch.simulate import SimulatedFlight, load_scenario, simulate

SEEN_AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)


@pytest.fixture(scope="session")
def samples() -> Path:
    """Return the folder of real samples, or skip where this machine has none."""
    folder = os.environ.get("OUTWATCH_SAMPLES")
    if not folder:
        pytest.skip("OUTWATCH_SAMPLES is not set: real samples are not part of the project")
    return Path(folder)


@pytest.fixture(scope="session")
def gathering_flight(tmp_path_factory: pytest.TempPathFactory) -> SimulatedFlight:
    """Return the demo's gathering, cut to the half minute that holds its event, rendered once."""
    scenario = load_scenario("demo_gathering")
    return simulate(replace(scenario, duration_s=26.0), tmp_path_factory.mktemp("flight"))


@pytest.fixture
def settings(tmp_path: Path, gathering_flight: SimulatedFlight, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the embedded defaults in a folder of the test's own, with the simulated flight's outposts."""
    for name in [name for name in os.environ if name.startswith("OUTWATCH_") and name != "OUTWATCH_SAMPLES"]:
        monkeypatch.delenv(name)
    return load_settings(home=tmp_path / "home", outposts=gathering_flight.outposts)


@pytest.fixture
def pipeline(settings: Settings) -> Iterator[wiring.Pipeline]:
    """Return a pipeline on the embedded defaults."""
    with wiring.open_pipeline(settings) as built:
        yield built


@pytest.fixture
def gathering() -> Event:
    """Return a gathering of 13 with one still."""
    return Event(
        id="event-1",
        kind=EventKind.GATHERING_NEAR_OUTPOST,
        clip_id="clip-1",
        outpost_id="sample-post",
        started_at=SEEN_AT,
        ended_at=SEEN_AT + timedelta(seconds=25),
        peak_at=SEEN_AT + timedelta(seconds=10),
        peak_frame_index=300,
        fix=GroundFix(
            at=SEEN_AT,
            point=GeoPoint(33.58662, 71.44410),
            error_ellipse=None,
            error_radius_m=12.3,
            method="flat_ground",
        ),
        distance_m=66.0,
        bearing_deg=52.0,
        p_inside=0.93,
        count_low=10,
        count=13,
        count_high=16,
        in_view=21,
        confidence=0.71,
        model_id="model-1",
        rule_version="1",
        evidence_keys=("evidence/dt=2026-03-14/event-1/still.jpg",),
    )
