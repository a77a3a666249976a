"""From clips' coverage and events to a candidate, a person's word, and what the rules are given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import shapely
from typer.testing import CliRunner

from outwatch.cli import app
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.incidents import Account
from outwatch.domain.types import (
    Clip,
    ClockSource,
    Completeness,
    Coverage,
    EventKind,
    GeoPoint,
    Modality,
)
from outwatch.pipeline import baseline, wiring
from outwatch.settings import load_settings
from storage import keys, schemas

FIRST = datetime(2026, 3, 14, 9, 0, tzinfo=UTC)
PLACE = LocalFrame(33.4431, 71.3127)


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[wiring.Pipeline]:
    """Give a pipeline in a folder of its own."""
    monkeypatch.setenv("OUTWATCH_HOME", str(tmp_path / "home"))
    with wiring.open_pipeline(load_settings()) as pipeline:
        yield pipeline


def fly(pipeline: wiring.Pipeline, number: int, *, hours: float, cars: int | None = 1) -> int:
    """Enter a flight that saw a place, with or without what stands there; return the candidates it leaves."""
    start = FIRST + timedelta(hours=hours)
    clip = Clip(
        id=f"{number:016x}",
        flight_id=f"flight-{number}",
        platform="M30T",
        camera=None,
        modality=Modality.RGB,
        started_at=start,
        clock_source=ClockSource.TELEMETRY,
        clock_uncertainty_s=2.0,
        duration_s=10.0,
        frame_count=100,
        width_px=1920,
        height_px=1080,
        frame_rate_hz=10.0,
        codec="h264",
        object_key="footage/x",
        sha256="0" * 64,
        completeness=Completeness(100, 100, 0, 10.0, 10.0),
        file_name="x.mp4",
        size_bytes=1,
    )
    lat_deg, lon_deg = PLACE.to_geo([-50, 50, 50, -50], [-50, -50, 50, 50])
    ground = shapely.Polygon(zip(lon_deg.tolist(), lat_deg.tolist(), strict=True))
    looks = [
        Coverage(clip.id, start + timedelta(seconds=offset), float(offset), offset, ground)
        for offset in range(6)
    ]
    table = schemas.coverage_table(looks)
    pipeline.lake.write("coverage", table, dt=keys.dt_of(start), name=clip.id, metadata={})
    account = Account(
        event_id=f"event-{number}",
        subject=clip.id,
        kind=EventKind.VEHICLE_NEAR_OUTPOST,
        outpost_id="post",
        started_at=start,
        ended_at=start + timedelta(seconds=5),
        clock_doubt_s=2.0,
        point=GeoPoint(PLACE.lat_deg, PLACE.lon_deg),
        covariance_m2=(9.0, 0.0, 9.0),
        count=cars or 0,
    )
    pipeline.incident_book.take(clip.id, [account] if cars else [])
    return baseline.find_candidates(pipeline, clip)


def test_confirmed_place_is_given_to_the_rules_until_it_is_removed(station: wiring.Pipeline) -> None:
    """Three flights make a candidate; the person's reason and the usual number go with the place."""
    assert [fly(station, number, hours=hours) for number, hours in enumerate((0, 2, 26))] == [0, 0, 1]
    (row,) = baseline.place_rows(station)
    assert (row["state"], row["flights"]) == ("candidate", ["flight-0", "flight-1", "flight-2"])
    assert baseline.baseline_places(station) == []
    shell = CliRunner()
    words = ["baseline", "confirm", row["id"], "--why", "the post's own pick-up", "--who", "afridi"]
    assert shell.invoke(app, words).exit_code == 0
    (place,) = baseline.baseline_places(station)
    assert (place.kind, place.at_most, place.radius_m) == (EventKind.VEHICLE_NEAR_OUTPOST, 1, 10.0)
    assert "confirmed by afridi" in place.reason
    assert "the post's own pick-up" in place.reason
    fly(station, 3, hours=30, cars=None)
    (listed,) = json.loads(shell.invoke(app, ["baseline", "list", "--json"]).stdout)
    assert (listed["state"], listed["absent_flight"]) == ("confirmed", "flight-3")
    assert shell.invoke(app, ["baseline", "remove", row["id"], "--why", "sold"]).exit_code == 0
    assert baseline.baseline_places(station) == []


def test_flight_that_saw_the_place_empty_withdraws_the_candidate(station: wiring.Pipeline) -> None:
    """Also where its clip comes late; the place keeps its id."""
    for number, hours in enumerate((0, 2, 26)):
        fly(station, number, hours=hours)
    (before,) = station.baseline_book.places()
    assert fly(station, 9, hours=12, cars=None) == 0
    (after,) = station.baseline_book.places()
    assert after == replace(before, state=after.state, absent_flight="flight-9")
    assert after.state == "withdrawn"


def test_count_is_what_a_second_flight_bears_out(station: wiring.Pipeline) -> None:
    """Once there were three: that is no part of what always stands there."""
    for number, (hours, cars) in enumerate(((0, 2), (2, 3), (26, 1))):
        fly(station, number, hours=hours, cars=cars)
    (place,) = station.baseline_book.places()
    assert place.count == 2
