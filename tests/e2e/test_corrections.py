"""What operators get wrong and put right, what others put into landing, and work that keeps failing."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from outwatch.domain.errors import PermanentError, StoreUnavailable
from outwatch.pipeline import housekeeping, landing, registration, runner, steps, wiring
from outwatch.simulate import SimulatedFlight
from storage.tables import FileState, WorkState


def hand_in(pipeline: wiring.Pipeline, *files: Path, **declared: str) -> runner.Report:
    landed = landing.land(pipeline, files, declared=declared)
    assert [item.error for item in landed] == [None] * len(landed)
    return runner.run_open_work(pipeline)


def keys_under(pipeline: wiring.Pipeline, prefix: str) -> set[str]:
    return {info.key for info in pipeline.store.list(prefix)}


def settle(pipeline: wiring.Pipeline) -> None:
    """Let everything in landing count as settled."""
    later = pipeline.settings.ingest.landing_settle + timedelta(minutes=1)
    pipeline.now = lambda: wiring.utc_now() + later


def test_same_clip_under_another_ending_keeps_its_telemetry(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight, tmp_path: Path
) -> None:
    """A clip that comes again under another ending, with telemetry, is one clip with all its objects."""
    alone = tmp_path / "flight.mov"
    shutil.copy(gathering_flight.video, alone)
    hand_in(pipeline, alone)
    report = hand_in(pipeline, gathering_flight.video)
    assert report.failures == []
    names = {key.rsplit("/", 1)[1] for key in keys_under(pipeline, "footage/")}
    assert names == {"source.mp4", "telemetry.parquet", "manifest.json"}


def test_corrected_time_zone_moves_the_clip(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight
) -> None:
    """The same files with another declared zone register the clip anew, and leave nothing of the old date."""
    hand_in(pipeline, gathering_flight.video)
    (before,) = pipeline.ledger.clips()
    hand_in(pipeline, gathering_flight.video, time_zone="Pacific/Auckland")
    (after,) = pipeline.ledger.clips()
    assert before.started_at - after.started_at == timedelta(hours=8)
    assert {key.split("/")[1] for key in keys_under(pipeline, "lake/detections/")} == {"detections"}
    assert len(keys_under(pipeline, "lake/detections/")) == 1
    hand_in(pipeline, gathering_flight.video)
    assert pipeline.ledger.clips() == [after], "an upload that declares nothing undoes no declaration"


def test_refused_file_is_tried_again_when_handed_in_again(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip refused for a setting is taken once the setting is mended and it is handed in again."""
    small = pipeline.settings.ingest.model_copy(update={"max_pixels": 1000})
    whole = pipeline.settings
    pipeline.settings = whole.model_copy(update={"ingest": small})
    hand_in(pipeline, gathering_flight.video)
    assert pipeline.ledger.clips() == []
    pipeline.settings = whole
    hand_in(pipeline, gathering_flight.video)
    assert len(pipeline.ledger.clips()) == 1


def test_files_put_straight_into_landing_are_adopted_once_settled(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight
) -> None:
    """Another client's files wait until they no longer change; then they are an upload like any other."""
    pipeline.store.upload("landing/cam1/flight.SRT", gathering_flight.telemetry)
    pipeline.store.upload("landing/cam1/flight.mp4", gathering_flight.video)
    assert housekeeping.sweep(pipeline).counts["adopted"] == 0
    settle(pipeline)
    assert housekeeping.sweep(pipeline).counts["adopted"] == 1
    assert runner.run_open_work(pipeline).failures == []
    (clip,) = pipeline.ledger.clips()
    assert clip.telemetry_format is not None
    assert keys_under(pipeline, "landing/") == set()


def test_sweep_never_removes_what_was_not_registered(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight
) -> None:
    """A new file under an adopted key stays; strays and telemetry without a clip are counted, not fatal."""
    pipeline.store.upload("landing/cam1/latest.mp4", gathering_flight.video)
    settle(pipeline)
    hand_in(pipeline)
    pipeline.store.put("landing/cam1/latest.mp4", b"the next flight")
    pipeline.store.put("landing/.DS_Store", b"junk")
    pipeline.store.put("landing/cam2/lonely.SRT", b"1")
    counts = housekeeping.sweep(pipeline).counts
    assert (counts["landing_strays"], counts["landing_waiting"], counts["landing_cleared"]) == (1, 1, 0)
    assert pipeline.store.get("landing/cam1/latest.mp4") == b"the next flight"


def test_one_bad_set_never_stops_the_others(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight, tmp_path: Path
) -> None:
    """A missing file and a wrong manifest are told; the clip beside them is handed in."""
    bad = tmp_path / "bad.mp4"
    shutil.copy(gathering_flight.video, bad)
    (tmp_path / "bad.outwatch.json").write_text('{"camera": "no such camera"}')
    landed = landing.land(pipeline, [tmp_path / "missing.mp4", bad, gathering_flight.video], declared={})
    errors = {item.names[0]: item.error for item in landed}
    assert "not a file" in str(errors["missing.mp4"])
    assert "no such camera" in str(errors["bad.mp4"])
    assert errors[gathering_flight.video.name] is None


def test_work_that_keeps_failing_waits_for_a_person(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some tries work is failed, says so when asked for, and is open again after a retry."""
    landing.land(pipeline, [gathering_flight.video], declared={})

    def unreachable(*_: object) -> None:
        raise StoreUnavailable("the store does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.store, "download", unreachable)
        for _ in range(steps.MAX_ATTEMPTS):
            assert runner.run_open_work(pipeline).failures[0].step == "ingest_footage"
    (work,) = pipeline.ledger.work()
    assert (work.state, work.attempts) == (WorkState.FAILED, steps.MAX_ATTEMPTS)
    with pytest.raises(PermanentError, match="does not answer"):
        steps.ingest_footage(pipeline, work.subject)
    assert runner.reopen_failed(pipeline) == 1
    assert runner.run_open_work(pipeline).failures == []


def test_fault_in_one_piece_of_work_never_stops_the_rest(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that is not ours is told and the other steps go on; the work stays open for another try."""
    landing.land(pipeline, [gathering_flight.video], declared={})

    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("outwatch.pipeline.detection.look_through", broken)
        report = runner.run_open_work(pipeline)
    assert [failure.step for failure in report.failures] == ["detect_clips"]
    assert report.outcomes[-1].step == "deliver_alerts"
    (file,) = [f for u in pipeline.ledger.uploads() for f in u.files if f.name.endswith(".mp4")]
    assert file.outcome is FileState.ACCEPTED
    assert runner.run_open_work(pipeline).failures == []


def test_places_set_later_give_their_events(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight
) -> None:
    """Without places a clip says why it has no event; set later, the rules are asked again."""
    with_places = pipeline.settings
    pipeline.settings = with_places.model_copy(update={"outposts": None})
    hand_in(pipeline, gathering_flight.video)
    (clip,) = pipeline.ledger.clips()
    assert "no places are set" in steps.clip_notes(pipeline, clip)[0]
    pipeline.settings = with_places
    del pipeline.outposts
    assert runner.reopen_events(pipeline) == 1
    assert runner.run_open_work(pipeline).failures == []
    assert len(registration.standing_events(pipeline, clip)) == 1
