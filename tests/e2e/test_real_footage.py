"""Real footage that the model was never trained on, through the whole pipeline, with the defaults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outwatch.domain.types import Event, EventKind
from outwatch.pipeline import landing, queries, runner, steps, wiring
from outwatch.settings import load_settings


@pytest.fixture
def real(tmp_path: Path, samples: Path) -> Iterator[wiring.Pipeline]:
    settings = load_settings(home=tmp_path, outposts=samples / "outposts.geojson", samples=samples)
    with wiring.open_pipeline(settings) as pipeline:
        yield pipeline


def events_of(pipeline: wiring.Pipeline, path: Path) -> list[Event]:
    landing.land(pipeline, [path], declared={})
    assert runner.run_open_work(pipeline).failures == []
    return queries.events(pipeline)


@pytest.mark.slow
def test_night_gathering_is_one_gathering(real: wiring.Pipeline, samples: Path) -> None:
    """About 13 people in a group, 21 in view, drifting camera: exactly one gathering that holds both."""
    (event,) = events_of(real, samples / "footage" / "night_gathering.mp4")
    assert event.kind is EventKind.GATHERING_NEAR_OUTPOST
    assert event.outpost_id == "sample-post"
    assert event.count_low <= 13 <= event.count_high


@pytest.mark.slow
def test_night_walkers_are_no_event(real: wiring.Pipeline, samples: Path) -> None:
    """Fifteen people spread out under a turning camera are no gathering."""
    assert events_of(real, samples / "footage" / "night_walkers.mp4") == []


@pytest.mark.slow
def test_night_vehicles_are_one_event(real: wiring.Pipeline, samples: Path) -> None:
    """Eight parked cars that leave the view and return are one event whose interval holds eight."""
    (event,) = events_of(real, samples / "footage" / "night_vehicles.mp4")
    assert event.kind is EventKind.VEHICLE_NEAR_OUTPOST
    assert event.count_low <= 8 <= event.count_high


@pytest.mark.slow
def test_footage_without_telemetry_is_kept_and_says_why(real: wiring.Pipeline, samples: Path) -> None:
    """Aerial RGB traffic without telemetry is detected, gives no located event, and says why."""
    pytest.importorskip("ultralytics", reason="RGB weights run on the extra [ultralytics]")
    assert events_of(real, samples / "footage" / "aerial_traffic.mp4") == []
    (clip,) = real.ledger.clips()
    assert real.store.head(clip.object_key).size_bytes > 0
    detected = [work for work in real.ledger.work(step="detect_clips") if work.subject == clip.id]
    assert [work.state for work in detected] == ["done"]
    assert any("no telemetry" in note for note in steps.clip_notes(real, clip))
