"""Whole memory cards, photos, previews, split recordings and fixed cameras, through registration."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from outwatch.domain.errors import NoRoom
from outwatch.domain.types import ClockSource
from outwatch.pipeline import landing, registration, runner, wiring
from outwatch.simulate import SimulatedFlight, load_scenario, simulate

ClipWriter = Callable[..., Path]


def hand_in(pipeline: wiring.Pipeline, *paths: Path, **declared: str) -> None:
    landing.land(pipeline, paths, declared=declared)
    assert runner.run_open_work(pipeline).failures == []


def outcomes(pipeline: wiring.Pipeline) -> dict[str, str]:
    return {file.name: file.outcome.value for upload in pipeline.ledger.uploads() for file in upload.files}


def gpx(points: str) -> str:
    root = '<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1">'
    return f"{root}<trk><trkseg>{points}</trkseg></trk></gpx>"


def test_every_file_of_a_card_is_accounted_for(
    pipeline: wiring.Pipeline, clip: ClipWriter, tmp_path: Path
) -> None:
    """Footage is registered, companions are set aside by name, and what nobody knows is kept and refused."""
    card = tmp_path / "card"
    folder = card / "DCIM" / "100MEDIA"
    folder.mkdir(parents=True)
    shutil.move(clip(), folder / "DJI_0001.MP4")
    for name in ("DJI_0001.LRF", "DJI_0001.THM", "notes.xyz"):
        (folder / name).write_bytes(b"anything " + name.encode())
    (card / "Thumbs.db").write_bytes(b"anything")
    (card / "FLY001.DAT").write_bytes(b"\x00\x01\x02 encrypted")
    hand_in(pipeline, card)
    found = outcomes(pipeline)
    assert found == {
        "DJI_0001.MP4": "accepted",
        "DCIM/100MEDIA/DJI_0001.LRF": "set_aside",
        "DCIM/100MEDIA/DJI_0001.THM": "set_aside",
        "Thumbs.db": "set_aside",
        "FLY001.DAT": "set_aside",
        "notes.xyz": "refused",
    }
    reasons = [file.reason for upload in pipeline.ledger.uploads() for file in upload.files]
    assert all(reasons[index] for index, outcome in enumerate(found.values()) if outcome != "accepted")


def test_card_handed_in_twice_adds_nothing(
    pipeline: wiring.Pipeline, clip: ClipWriter, tmp_path: Path
) -> None:
    """The same card again gives the same rows and no new clip."""
    card = tmp_path / "card"
    card.mkdir()
    shutil.move(clip(), card / "DJI_0001.MP4")
    (card / "DJI_0001.LRF").write_bytes(b"copy")
    hand_in(pipeline, card)
    before = pipeline.ledger.uploads()
    hand_in(pipeline, card)
    assert pipeline.ledger.uploads() == before


def test_split_recording_is_one_flight_in_whatever_order_its_files_come(
    pipeline: wiring.Pipeline, clip: ClipWriter
) -> None:
    """Three files that go on without losing a frame are one flight, named after the first."""
    times = ("16:40:00.250000", "16:40:02.250000", "16:40:04.250000")
    files = [
        clip(
            f"DJI_{number:04}.MP4",
            metadata={"creation_time": f"2026-03-14T{time}Z", "comment": str(number)},
        )
        for number, time in enumerate(times, start=7)
    ]
    for index in (2, 0, 1):
        hand_in(pipeline, files[index], platform="Mavic 3T No. 2")
    clips = pipeline.ledger.clips()
    assert [item.file_name for item in clips] == [path.name for path in files]
    assert {item.flight_id for item in clips} == {f"mavic-3t-no-2-{clips[0].id}"}
    for item in clips:
        key = f"footage/dt=2026-03-14/{item.id}/manifest.json"
        assert json.loads(pipeline.store.get(key))["clip"]["flight_id"] == item.flight_id


def test_preview_goes_with_its_clip(pipeline: wiring.Pipeline, clip: ClipWriter, tmp_path: Path) -> None:
    """A contact sheet beside a clip is kept beside it, and is no photo."""
    video = clip("DJI_0001.MP4")
    video.with_name("DJI_0001.preview.jpg").write_bytes(b"\xff\xd8\xff a picture")
    hand_in(pipeline, video)
    (registered,) = pipeline.ledger.clips()
    keys = [info.key for info in pipeline.store.list(f"footage/dt={registered.started_at:%Y-%m-%d}/")]
    assert [key.rsplit("/", 1)[1] for key in keys] == ["manifest.json", "preview.jpg", "source.mp4"]
    assert outcomes(pipeline) == {"DJI_0001.MP4": "accepted", "DJI_0001.preview.jpg": "accepted"}


def test_photo_is_a_clip_of_one_frame_with_its_own_telemetry(
    pipeline: wiring.Pipeline, samples: Path
) -> None:
    """A drone's photo is registered by its EXIF and XMP: place, gimbal, time."""
    hand_in(pipeline, samples / "telemetry" / "dji_photo" / "DJI_XT2.jpg")
    (photo,) = pipeline.ledger.clips()
    assert (photo.frame_count, photo.duration_s, photo.telemetry_format) == (1, 0.0, "photo")
    assert photo.clock_source in {ClockSource.EMBEDDED_GPS, ClockSource.TELEMETRY}
    (sample,) = registration.stored_telemetry(pipeline, photo).samples
    assert sample.point is not None
    assert sample.pitch_deg is not None


def test_log_of_a_whole_flight_serves_each_of_its_clips(
    pipeline: wiring.Pipeline, clip: ClipWriter, tmp_path: Path
) -> None:
    """A GPX named after no clip gives its part to both clips; a fixed mount makes them georeferenced."""
    track_points = "".join(
        f'<trkpt lat="33.6" lon="{71.4 + second * 1e-4:.6f}"><ele>700</ele>'
        f"<time>2026-03-14T16:{40 + second // 60:02}:{second % 60:02}Z</time></trkpt>"
        for second in range(120)
    )
    videos = [
        clip(
            f"DJI_000{number}.MP4",
            metadata={"creation_time": f"2026-03-14T16:4{number}:10Z", "comment": str(number)},
        )
        for number in (0, 1)
    ]
    card = tmp_path / "card"
    card.mkdir()
    for video in videos:
        shutil.move(video, card / video.name)
    track = card / "morning flight.gpx"
    track.write_text(gpx(track_points))
    hand_in(pipeline, card, mount_pitch_deg="-90", time_zone="UTC")
    clips = pipeline.ledger.clips()
    assert [item.telemetry_format for item in clips] == ["gpx", "gpx"]
    for item in clips:
        telemetry = registration.stored_telemetry(pipeline, item)
        assert telemetry.georeferenced
        assert telemetry.samples[0].offset_s <= 0 <= telemetry.samples[-1].offset_s - item.duration_s


def test_full_disk_refuses_new_work_and_loses_nothing(
    pipeline: wiring.Pipeline,
    clip: ClipWriter,
) -> None:
    """Where too little room would be left the files stay where they are, and the error says what to do."""
    tight = pipeline.settings.ingest.model_copy(update={"min_free_bytes": 10**18})
    pipeline.settings = pipeline.settings.model_copy(update={"ingest": tight})
    video = clip()
    with pytest.raises(NoRoom, match="make room"):
        landing.land(pipeline, [video], declared={})
    assert video.is_file()
    assert pipeline.ledger.uploads() == []


def test_flight_log_of_another_day_is_refused_by_name(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight, tmp_path: Path
) -> None:
    """A log that does not cover the clip is kept apart with the reason; the clip keeps its own telemetry."""
    for path in (gathering_flight.video, gathering_flight.telemetry):
        shutil.copy(path, tmp_path / path.name)
    track = tmp_path / f"{gathering_flight.video.stem}.gpx"
    points = "".join(
        f'<trkpt lat="33.6" lon="71.4"><time>2019-01-01T10:00:{second:02}Z</time></trkpt>'
        for second in range(30)
    )
    track.write_text(gpx(points))
    hand_in(pipeline, tmp_path / gathering_flight.video.name)
    found = outcomes(pipeline)
    assert found[track.name] == "refused"
    assert found[gathering_flight.video.name] == found[gathering_flight.telemetry.name] == "accepted"


def test_flight_log_of_none_of_a_cards_clips_is_set_aside_and_kept(
    pipeline: wiring.Pipeline, clip: ClipWriter, tmp_path: Path
) -> None:
    """A log that was only tried, and is of another day, is no one's fault: it is kept with the reason."""
    card = tmp_path / "card"
    card.mkdir()
    video = clip("DJI_0001.MP4", metadata={"creation_time": "2026-03-14T16:40:10Z"})
    shutil.move(video, card / video.name)
    points = "".join(
        f'<trkpt lat="33.6" lon="71.4"><time>2019-01-01T10:00:{second:02}Z</time></trkpt>'
        for second in range(30)
    )
    (card / "last year.gpx").write_text(gpx(points))
    hand_in(pipeline, card)
    (log,) = (
        file for upload in pipeline.ledger.uploads() for file in upload.files if file.name == "last year.gpx"
    )
    assert log.outcome == "set_aside"
    assert log.reason
    assert pipeline.store.get(f"quarantine/{log.sha256}/last year.gpx") == gpx(points).encode()


def test_log_laid_on_a_clip_by_the_clips_own_clock_is_no_satellites_time(
    pipeline: wiring.Pipeline, clip: ClipWriter
) -> None:
    """What put the clip on the log was the container's clock, and its source and doubt say so."""
    video = clip("DJI_0001.MP4", metadata={"creation_time": "2026-03-14T16:40:10Z"})
    points = "".join(
        f'<trkpt lat="33.6" lon="{71.4 + second * 1e-4:.6f}">'
        f"<time>2026-03-14T16:40:{second:02}Z</time></trkpt>"
        for second in range(60)
    )
    video.with_suffix(".gpx").write_text(gpx(points))
    hand_in(pipeline, video, time_zone="UTC")
    (registered,) = pipeline.ledger.clips()
    assert (registered.telemetry_format, registered.clock_source) == ("gpx", ClockSource.TELEMETRY)
    assert registered.clock_uncertainty_s > 2.0


def test_flight_with_klv_inside_gives_the_same_event_as_with_subtitles(
    pipeline: wiring.Pipeline, tmp_path: Path
) -> None:
    """A transport stream with MISB telemetry is placed, timed by its satellites, and raises its gathering."""
    scenario = replace(load_scenario("demo_gathering"), duration_s=26.0)
    flight = simulate(scenario, tmp_path, telemetry_kind="klv")
    hand_in(pipeline, flight.video)
    (registered,) = pipeline.ledger.clips()
    assert (registered.telemetry_format, registered.clock_source) == ("misb_klv", ClockSource.EMBEDDED_GPS)
    (event,) = registration.standing_events(pipeline, registered)
    (truth,) = flight.events
    assert event.outpost_id == truth.outpost_id
    assert event.count_low <= truth.count <= event.count_high
    assert event.distance_m == pytest.approx(truth.distance_m, abs=event.fix.error_radius_m)
