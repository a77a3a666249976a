"""Footage left on real servers lands once, whole, with its telemetry; what is unfinished waits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from ingest.sources.rtsp import Segment
from outwatch.cli import app
from outwatch.domain.errors import ConfigInvalid, FeedTimeout, NoRoom, StoreUnavailable
from outwatch.domain.types import Outcome
from outwatch.pipeline import pull, steps, wiring
from outwatch.settings import PullSource, Settings, load_settings
from outwatch.simulate import SimulatedFlight
from storage.pulled import PulledFile
from storage.tables import PullState

KINDS = ("folder", "sftp", "http_plain", "ftp", "s3")


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the time of every pipeline, for the test to move."""
    clock = Clock()
    monkeypatch.setattr(wiring, "utc_now", clock)
    return clock


@pytest.fixture
def station(settings: Settings) -> Callable[..., Settings]:
    """Give a function that returns settings with one source, or several."""

    def make(*sources: PullSource, min_free_bytes: int = 0) -> Settings:
        given = [source.model_dump(exclude_unset=True) for source in sources]
        ingest = {"min_free_bytes": min_free_bytes}
        return load_settings(home=settings.home_dir, pull={"sources": given}, ingest=ingest)

    return make


@contextmanager
def opened(settings: Settings, clock: Clock) -> Iterator[wiring.Pipeline]:
    """Open a pipeline whose time is the test's."""
    with wiring.open_pipeline(settings) as pipeline:
        pipeline.now = clock
        yield pipeline


def pulled(
    settings: Settings, clock: Clock, *, later: timedelta = timedelta(0), name: str = "station"
) -> Outcome:
    """Pull once, after so long."""
    clock.now += later
    with opened(settings, clock) as pipeline:
        return pull.pull_source(pipeline, name)


def states(settings: Settings, clock: Clock) -> dict[str, PulledFile]:
    """Return what is remembered, by path."""
    with opened(settings, clock) as pipeline:
        return {file.path: file for file in pull.pulled_files(pipeline)}


def counted(outcome: Outcome) -> dict[str, int]:
    """Return the counts that are not zero."""
    return {name: count for name, count in outcome.counts.items() if count}


def leave(folder: Path, *names: str) -> None:
    """Leave files of random content."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(20_000))


SETTLE = timedelta(minutes=2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flight_is_taken_once_from_each_kind_of_server(
    kind: str, place_of, station, clock: Clock, gathering_flight: SimulatedFlight
) -> None:
    """A clip and its telemetry land as one upload on the second listing, and never again."""
    place = place_of(kind)
    for path in (gathering_flight.video, gathering_flight.telemetry):
        (place.folder / "day 1").mkdir(exist_ok=True)
        shutil.copy(path, place.folder / "day 1" / path.name)  # just written: a server with a clock may tell
    settings = station(place.source(platform="M300", time_zone="Asia/Karachi"))
    assert {"listed": 2, "waiting": 2} == counted(pulled(settings, clock))
    outcome = pulled(settings, clock, later=SETTLE)
    assert {"listed": 2, "taken": 2} == counted(outcome)
    (upload_id,) = outcome.outputs
    assert {"listed": 2} == counted(pulled(settings, clock, later=SETTLE))
    with opened(settings, clock) as pipeline:
        upload = pipeline.ledger.upload(upload_id)
        assert {"platform": "M300", "time_zone": "Asia/Karachi"} == upload.declared
        hashes = {file.name: file.sha256 for file in upload.files}
        for file in pull.pulled_files(pipeline):
            assert (PullState.TAKEN, upload_id) == (file.state, file.upload_id)
            assert hashes[Path(file.path).name] == file.sha256
        steps.ingest_footage(pipeline, upload_id)
        (clip,) = pipeline.ledger.clips()
        assert gathering_flight.video.name == clip.file_name
        assert clip.telemetry_format is not None
        assert [] == [path for path in pipeline.scratch.iterdir() if path.name.startswith("pull-")]


@pytest.mark.parametrize("kind", ["folder", "sftp", "ftp", "http_plain"])
def test_a_file_that_is_being_written_waits(kind: str, place_of, station, clock: Clock) -> None:
    """A file growing between listings is left; settled, it is taken whole."""
    place = place_of(kind)
    settings = station(place.source())
    leave(place.folder, "X.jpg", "Y.mp4.part", "Y.mp4")
    pulled(settings, clock)
    for _ in range(3):
        with (place.folder / "X.jpg").open("ab") as file:
            file.write(b"more")
        outcome = pulled(settings, clock, later=SETTLE)
        assert 0 == outcome.counts["taken"]
    assert {"listed": 3, "taken": 1, "waiting": 1} == counted(pulled(settings, clock, later=SETTLE))
    kept = states(settings, clock)
    assert "part file" in kept["Y.mp4"].reason
    (place.folder / "Y.mp4.part").unlink()
    assert {"listed": 2, "taken": 1} == counted(pulled(settings, clock, later=SETTLE))


def test_a_file_that_grows_while_it_is_fetched_waits(
    place_of, station, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change between listing and landing is found by looking again; the old bytes are dropped."""
    place = place_of("sftp")
    settings = station(place.source())
    leave(place.folder, "X.jpg")
    pulled(settings, clock)
    fetch = pull._fetched

    def fetch_then_grow(*arguments: object) -> Path:
        path = fetch(*arguments)  # type: ignore[arg-type]
        with (place.folder / "X.jpg").open("ab") as file:
            file.write(b"more")
        return path

    monkeypatch.setattr(pull, "_fetched", fetch_then_grow)
    assert {"listed": 1, "waiting": 1} == counted(pulled(settings, clock, later=SETTLE))
    assert "still being written" in states(settings, clock)["X.jpg"].reason
    monkeypatch.undo()
    assert [] == list((settings.home_dir / "scratch").glob("pull-*"))


def test_telemetry_that_comes_late_joins_its_clip(
    place_of, station, clock: Clock, gathering_flight: SimulatedFlight
) -> None:
    """A clip taken alone is fetched again with its telemetry, and is the same clip, now located."""
    place = place_of("folder")
    settings = station(place.source())
    shutil.copy2(gathering_flight.video, place.folder)
    pulled(settings, clock)
    assert {"listed": 1, "waiting": 1} == counted(pulled(settings, clock, later=SETTLE))
    assert {"listed": 1, "taken": 1} == counted(pulled(settings, clock, later=SETTLE))
    shutil.copy2(gathering_flight.telemetry, place.folder)
    pulled(settings, clock, later=SETTLE)
    outcome = pulled(settings, clock, later=SETTLE)
    assert {"listed": 2, "taken": 2} == counted(outcome)
    with opened(settings, clock) as pipeline:
        for upload_id in steps.open_subjects(pipeline, "ingest_footage"):
            steps.ingest_footage(pipeline, upload_id)
        (clip,) = pipeline.ledger.clips()
        assert clip.telemetry_format is not None


def test_a_changed_file_is_taken_again_and_content_decides(place_of, station, clock: Clock) -> None:
    """A file that was only touched is the same upload; one with other content is another."""
    place = place_of("folder")
    settings = station(place.source())
    leave(place.folder, "X.jpg")
    pulled(settings, clock)
    first = pulled(settings, clock, later=SETTLE).outputs
    os.utime(place.folder / "X.jpg", (1e9, 1e9))
    pulled(settings, clock, later=SETTLE)
    assert first == pulled(settings, clock, later=SETTLE).outputs
    leave(place.folder, "X.jpg")
    pulled(settings, clock, later=SETTLE)
    (second,) = pulled(settings, clock, later=SETTLE).outputs
    assert (second,) != first


KILLED = """
import sys
from outwatch.pipeline import pull, wiring
from outwatch.settings import load_settings
def die(*_, **__):
    print("landed", flush=True)
    sys.stdin.read()
import storage.pulled
storage.pulled.PulledFiles.settle = die
with wiring.open_pipeline(load_settings()) as pipeline:
    pull.pull_source(pipeline, "station")
"""


def test_a_pull_killed_after_landing_lands_once(place_of, station, clock: Clock) -> None:
    """A worker killed before it could say that it took a file costs another fetch at most."""
    place = place_of("folder")
    settings = station(place.source())
    leave(place.folder, "X.jpg")
    pulled(settings, clock)
    hasty = place.source(settle="PT0.001S").model_dump(
        exclude_unset=True, mode="json"
    )  # as its clock is its own
    configuration = json.dumps([hasty])
    environment = {
        **os.environ,
        "OUTWATCH_HOME": str(settings.home_dir),
        "OUTWATCH_PULL__SOURCES": configuration,
        "OUTWATCH_INGEST__MIN_FREE_BYTES": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert "landed\n" == process.stdout.readline()
    with opened(settings, clock) as pipeline:
        assert ("another pull of this source is under way",) == pull.pull_source(pipeline, "station").notes
    process.kill()
    process.communicate()
    outcome = pulled(settings, clock, later=2 * SETTLE)
    assert {"listed": 1, "taken": 1} == counted(outcome)
    with opened(settings, clock) as pipeline:
        assert list(outcome.outputs) == [upload.id for upload in pipeline.ledger.uploads()]


def test_one_bad_file_stops_no_other(place_of, station, clock: Clock) -> None:
    """Files too large, ill-named or gone are told each, and the rest is taken."""
    place = place_of("sftp")
    leave(place.folder, "good.jpg", "evil\u202egpj.jpg")
    (place.folder / "large.jpg").write_bytes(bytes(50_000))
    settings = station(place.source(max_file_bytes=30_000))
    pulled(settings, clock)
    outcome = pulled(settings, clock, later=SETTLE)
    assert {"listed": 3, "taken": 1, "refused": 2} == counted(outcome)
    kept = states(settings, clock)
    assert "max_file_bytes" in kept["large.jpg"].reason
    raised = station(place.source(max_file_bytes=90_000))
    assert {"listed": 3, "refused": 1} == counted(pulled(raised, clock, later=SETTLE))
    with opened(raised, clock) as pipeline:
        assert 2 == pull.reopen_refused(pipeline, "station")
    assert {"listed": 3, "refused": 1, "taken": 1} == counted(pulled(raised, clock, later=SETTLE))


def test_a_file_that_vanishes_before_its_fetch_is_told(
    place_of, station, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as failed, is named, and stops no other."""
    place = place_of("sftp")
    settings = station(place.source())
    leave(place.folder, "a.jpg", "b.jpg")
    pulled(settings, clock)
    real = pull.plan

    def plan_then_lose(*arguments: object, **options: object) -> object:
        (place.folder / "a.jpg").unlink()
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pull, "plan", plan_then_lose)
    with capture_logs() as logs:
        outcome = pulled(settings, clock, later=SETTLE)
    assert {"listed": 2, "taken": 1, "failed": 1} == counted(outcome)
    assert any("a.jpg" in note for note in outcome.notes)
    assert ["pull_failed"] == [entry["event"] for entry in logs if entry["log_level"] == "warning"]


def test_a_source_that_falls_silent_is_left_for_the_next_run(
    place_of, station, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was taken before stays taken; the rest waits, with the reason."""
    place = place_of("folder")
    settings = station(place.source())
    leave(place.folder, "a.jpg", "b.jpg", "c.jpg")
    pulled(settings, clock)
    real = pull._fetched

    def silent(files: object, file: object, folder: Path) -> Path:
        if file.path != "a.jpg":  # type: ignore[attr-defined]
            monkeypatch.setattr("ingest.sources.tree.TreeSource.stat", fail)
            raise FeedTimeout("the link is down")
        return real(files, file, folder)  # type: ignore[arg-type]

    def fail(*_: object) -> None:
        raise FeedTimeout("the link is down")

    monkeypatch.setattr(pull, "_fetched", silent)
    outcome = pulled(settings, clock, later=SETTLE)
    assert {"listed": 3, "taken": 1, "failed": 1, "waiting": 1} == counted(outcome)


def test_a_name_that_is_too_long_stops_no_other(place_of, station, clock: Clock) -> None:
    """It is refused by name; 240 bytes, as 118 Urdu letters have, are taken."""
    place = place_of("folder")
    leave(place.folder, "x" * 237 + ".jpg", "\u06ba" * 118 + ".jpg", "b.jpg")
    settings = station(place.source())
    pulled(settings, clock)
    assert {"listed": 3, "taken": 2, "refused": 1} == counted(pulled(settings, clock, later=SETTLE))


def test_a_run_takes_no_more_than_it_may(place_of, station, clock: Clock) -> None:
    """More files than a run takes wait for the next."""
    place = place_of("folder")
    settings = station(place.source(max_files_per_run=2))
    leave(place.folder, "a.jpg", "b.jpg", "c.jpg")
    pulled(settings, clock)
    assert {"listed": 3, "taken": 2, "waiting": 1} == counted(pulled(settings, clock, later=SETTLE))
    assert {"listed": 3, "taken": 1} == counted(pulled(settings, clock))


def test_a_full_disk_refuses_and_loses_nothing(place_of, station, clock: Clock) -> None:
    """Below the least free space nothing is pulled, in words that name the setting."""
    place = place_of("folder")
    leave(place.folder, "a.jpg")
    settings = station(place.source(), min_free_bytes=10**18)
    with pytest.raises(NoRoom, match="min_free_bytes"):
        pulled(settings, clock)
    pulled(station(place.source()), clock)
    assert 1 == pulled(station(place.source()), clock, later=SETTLE).counts["taken"]


def test_a_source_that_is_not_there_is_named(place_of, station, clock: Clock) -> None:
    """An unknown name, a switched-off source and a wrong declaration are told apart."""
    place = place_of("folder")
    settings = station(
        place.source(), place.source(name="off", enabled=False), place.source(name="odd", camera="?")
    )
    with opened(settings, clock) as pipeline:
        assert ["station", "odd"] == pull.source_names(pipeline)
        with pytest.raises(ConfigInvalid, match="expected one of station"):
            pull.pull_source(pipeline, "other")
        with pytest.raises(ConfigInvalid, match="camera"):
            pull.pull_source(pipeline, "odd")


def test_a_camera_gives_a_clip(
    camera: Callable[..., str], station, clock: Clock, gathering_flight: SimulatedFlight
) -> None:
    """A segment from a real RTSP server lands and is registered as a clip with the time of recording."""
    url = camera(gathering_flight.video)
    settings = station(PullSource(name="gate", url=url, segment_s=2, timeout_s=5, platform="mast"))
    began = datetime.now(UTC)
    outcome = pulled(settings, clock, name="gate")
    assert {"listed": 1, "taken": 1} == counted(outcome)
    with opened(settings, clock) as pipeline:
        steps.ingest_footage(pipeline, outcome.outputs[0])
        (clip,) = pipeline.ledger.clips()
    assert "mast" == clip.platform
    assert abs(clip.started_at - began) < timedelta(seconds=10)
    assert 1 < clip.duration_s < 3
    assert 2 == clip.clock_uncertainty_s


def test_a_segment_that_cannot_land_is_kept_for_the_next_run(
    station, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera has no second copy: neither a silent store nor a killed run loses what was recorded."""

    def recorded(_: str, *, out: Path, **__: object) -> Segment:
        out.write_bytes(os.urandom(1000))
        return Segment(out, clock.now, packets=1, ended_early=None)

    def silent(*_: object, **__: object) -> None:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(pull, "record_segment", recorded)
    settings = station(PullSource(name="gate", url="rtsp://gate/1", segment_s=2))
    with monkeypatch.context() as away:
        away.setattr(pull, "land", silent)
        with pytest.raises(StoreUnavailable):
            pulled(settings, clock, name="gate")
    later = timedelta(minutes=5)
    assert {"listed": 2, "taken": 2} == counted(pulled(settings, clock, later=later, name="gate"))
    assert {"listed": 1, "taken": 1} == counted(pulled(settings, clock, later=later, name="gate"))


def test_the_command_pulls_and_tells(
    place_of, station, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`outwatch pull` shows what happened, `--list` how each file stands; one bad source stops no other."""
    place = place_of("folder")
    leave(place.folder, "a.jpg")
    bad = place.source(name="bad", url=(place.folder / "missing").as_uri())
    sources = [source.model_dump(exclude_unset=True) for source in (bad, place.source())]
    monkeypatch.setenv("OUTWATCH_HOME", str(settings.home_dir))
    monkeypatch.setenv("OUTWATCH_PULL__SOURCES", json.dumps(sources))
    monkeypatch.setenv("OUTWATCH_INGEST__MIN_FREE_BYTES", "0")
    run = CliRunner()
    told = run.invoke(app, ["pull"])
    assert 1 == told.exit_code
    assert "ObjectMissing" in told.output
    told = run.invoke(app, ["pull", "station", "--json"])
    assert (0, 1) == (told.exit_code, json.loads(told.stdout)[0]["counts"]["waiting"])
    told = run.invoke(app, ["pull", "station", "--list", "--json"])
    (row,) = json.loads(told.stdout)
    assert ("a.jpg", "waiting") == (row["path"], row["state"])
    assert "a.jpg" in run.invoke(app, ["pull", "--list"]).output
