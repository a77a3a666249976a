"""A simulated flight through every step: events, evidence, alert, and what a second run changes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb
import geopandas
import pytest
from pyarrow import parquet

from outwatch.domain.types import EventKind
from outwatch.pipeline import landing, queries, runner, steps, wiring
from outwatch.settings import Settings
from outwatch.simulate import SimulatedFlight


def objects(store: Path) -> dict[str, str]:
    """Return the SHA-256 of every object in a local store, by key; what a killed writer left is no object."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file() and ".partial" not in path.parts
    }


def lasting(store: Path) -> dict[str, str]:
    """Return what follows from its inputs alone: revisions of incidents say when they were made."""
    return {key: value for key, value in objects(store).items() if not key.startswith("lake/incidents/")}


def run_all(pipeline: wiring.Pipeline, *files: Path) -> runner.Report:
    landing.land(pipeline, files, declared={})
    return runner.run_open_work(pipeline)


def test_flight_gives_event_evidence_and_alert(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight
) -> None:
    """One simulated gathering gives one event that holds the truth, one still, and one delivered alert."""
    report = run_all(pipeline, gathering_flight.video)
    truth = json.loads(gathering_flight.truth.read_text())["events"]
    found = queries.events(pipeline)
    assert report.failures == []
    assert [event.kind for event in found] == [EventKind.GATHERING_NEAR_OUTPOST]
    event, (expected,) = found[0], [item for item in truth if item["kind"] == "gathering_near_outpost"]
    assert event.outpost_id == expected["outpost_id"]
    assert event.count_low <= expected["count"] <= event.count_high
    still, *_, record = (pipeline.store.get(key) for key in event.evidence_keys)
    assert still.startswith(b"\xff\xd8")
    assert json.loads(record)["outputs"]["still.jpg"] == hashlib.sha256(still).hexdigest()
    (alert,) = pipeline.alert_book.alerts()
    assert alert.event_ids == (event.id,)
    assert [delivery.state for delivery in pipeline.alert_book.deliveries(alert.id)] == ["delivered"]


def test_second_run_writes_nothing_new(pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight) -> None:
    """The same files again, and the same steps again, give the same keys with the same bytes."""
    run_all(pipeline, gathering_flight.video)
    store = Path(pipeline.store.url.removeprefix("file://"))
    before = objects(store)
    for work in pipeline.ledger.work():
        if work.step in {"detect_clips", "publish_events", "send_alerts"}:
            pipeline.ledger.reopen(work.step, work.subject)
    run_all(pipeline, gathering_flight.video)
    assert objects(store) == before
    assert len(pipeline.alert_book.alerts()) == 1


def test_outside_reader_sees_valid_geoparquet(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight
) -> None:
    """GeoPandas finds geometry, CRS and bbox in every table; DuckDB reads the same events."""
    run_all(pipeline, gathering_flight.video)
    store = Path(pipeline.store.url.removeprefix("file://"))
    for table in ("detections", "tracks", "coverage", "events"):
        (path,) = (store / "lake" / table).rglob("*.parquet")
        frame = geopandas.read_parquet(path)
        assert frame.crs.equals("OGC:CRS84"), table
        assert len(frame) > 0, table
        assert "bbox" in parquet.read_schema(path).names, table
        west, south, east, north = frame.total_bounds
        assert len(geopandas.read_parquet(path, bbox=(west, south, east, north))) > 0, table
        assert len(geopandas.read_parquet(path, bbox=(0.0, 0.0, 1.0, 1.0))) == 0, table
    rows = duckdb.sql(f"SELECT event_id FROM '{store}/lake/events/*/*.parquet'").fetchall()
    assert rows == [(event.id,) for event in queries.events(pipeline)]


def test_hostile_files_are_kept_with_their_reason_and_the_rest_goes_on(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight, tmp_path: Path
) -> None:
    """A text, a playlist and an empty file named .mp4 are quarantined; the good clip beside them passes."""
    folder = tmp_path / "card"
    folder.mkdir()
    (folder / "text.mp4").write_text("not a video")
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n")
    (folder / "empty.mp4").write_bytes(b"")
    whole = gathering_flight.video.read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    for path in (gathering_flight.video, gathering_flight.telemetry):
        shutil.copy(path, folder / path.name)
    report = run_all(pipeline, *sorted(folder.glob("*.mp4")))
    assert report.failures == []
    files = {file.name: file for upload in pipeline.ledger.uploads() for file in upload.files}
    refused = {name for name, file in files.items() if file.outcome == "refused"}
    assert {"text.mp4", "playlist.mp4", "empty.mp4"} <= refused
    for name in refused:
        reason = json.loads(pipeline.store.get(f"quarantine/{files[name].sha256}/reason.json"))
        assert reason["what_to_do"], name
        assert (
            pipeline.store.head(f"quarantine/{files[name].sha256}/{name}").size_bytes
            == files[name].size_bytes
        )
    assert files[gathering_flight.video.name].outcome == "accepted"
    assert len(queries.events(pipeline)) == 1
    assert list(pipeline.store.list("landing/")) == []


def test_telemetry_of_another_flight_is_refused_and_the_clip_kept(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight, tmp_path: Path
) -> None:
    """A subtitle file of three days later is quarantined; the clip stands, unlocated, and says so."""
    folder = tmp_path / "card"
    folder.mkdir()
    video = folder / "flight.mp4"
    shutil.copy(gathering_flight.video, video)
    own = gathering_flight.telemetry.read_text()
    dates = set(re.findall(r"\d{4}-\d\d-\d\d", own))
    assert len(dates) == 1
    day = dates.pop()
    (folder / "flight.SRT").write_text(own.replace(day, str(date.fromisoformat(day) + timedelta(days=3))))
    run_all(pipeline, video)
    (clip,) = pipeline.ledger.clips()
    files = {file.name: file for upload in pipeline.ledger.uploads() for file in upload.files}
    assert files["flight.mp4"].outcome == "accepted"
    assert files["flight.SRT"].outcome == "refused"
    assert clip.telemetry_format is None
    assert queries.events(pipeline) == []
    assert any("telemetry" in note for note in steps.clip_notes(pipeline, clip))


def test_better_telemetry_later_replaces_what_stood(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight, tmp_path: Path
) -> None:
    """A clip handed in alone and again with its telemetry is one clip, then located, with one event."""
    alone = tmp_path / gathering_flight.video.name
    shutil.copy(gathering_flight.video, alone)
    run_all(pipeline, alone)
    assert queries.events(pipeline) == []
    run_all(pipeline, gathering_flight.video)
    (clip,) = pipeline.ledger.clips()
    assert clip.telemetry_format is not None
    assert len(queries.events(pipeline)) == 1
    assert {info.key.split("/")[2] for info in pipeline.store.list("footage/")} == {clip.id}


ROUNDS = int(os.environ.get("OUTWATCH_CRASH_ROUNDS", "4"))
"""How many runs are killed; 20 take some minutes."""


@pytest.mark.slow
def test_killed_at_random_moments_then_run_again(
    settings: Settings, gathering_flight: SimulatedFlight, tmp_path: Path
) -> None:
    """kill -9 at random moments, then one run to the end: the same objects and alerts as without."""

    def command(home: Path) -> tuple[list[str], dict[str, str]]:
        environment = {
            **os.environ,
            "OUTWATCH_HOME": str(home),
            "OUTWATCH_OUTPOSTS": str(gathering_flight.outposts),
        }
        return [sys.executable, "-m", "outwatch.cli", "ingest", str(gathering_flight.video)], environment

    def finish(home: Path) -> None:
        argv, environment = command(home)
        subprocess.run(argv, env=environment, check=True, capture_output=True, timeout=300)

    clean = tmp_path / "clean"
    began = time.monotonic()
    finish(clean)
    whole_s = time.monotonic() - began
    expected = lasting(clean / "store")
    moments = random.Random(20261122)
    for round_number in range(ROUNDS):
        home = tmp_path / f"killed{round_number}"
        argv, environment = command(home)
        child = subprocess.Popen(
            argv,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(moments.uniform(0.1, 1.0) * whole_s)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for path in (home / "store").rglob("*.parquet"):
            if ".partial" not in path.parts:
                geopandas.pd.read_parquet(path)
        finish(home)
        assert lasting(home / "store") == expected, f"round {round_number}"
        with wiring.open_pipeline(settings.model_copy(update={"home": home})) as pipeline:
            assert len(pipeline.alert_book.alerts()) == 1
            assert all(work.state == "done" for work in pipeline.ledger.work())
