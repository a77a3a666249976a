"""What tests of every room share: samples, a simulated flight, and a pipeline in a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from outwatch.pipeline import wiring
from outwatch.settings import Settings, load_settings
from outwatch.simulate import SimulatedFlight, load_scenario, simulate


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
