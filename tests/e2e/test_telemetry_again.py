"""What becomes of telemetry, and of every file's row, when clips come again, twice at once, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from outwatch.domain.types import Clip, Telemetry
from outwatch.pipeline import housekeeping, landing, registration, steps, wiring
from outwatch.pipeline.telemetry import inspect
from outwatch.simulate import SimulatedFlight
from storage.ledger import LandedFile

ClipWriter = Callable[..., Path]
SRT = (
    "1\n00:00:00,000 --> 00:00:01,000\n2026-03-14 21:40:10.000\n[latitude: 33.6] [longitude: 71.4]"
    " [rel_alt: 50.0 abs_alt: 700.0] [gb_yaw: 10.0 gb_pitch: -60.0 gb_roll: 0.0]\n\n"
    "2\n00:00:01,000 --> 00:00:02,000\n2026-03-14 21:40:11.000\n[latitude: 33.6] [longitude: 71.4]"
    " [rel_alt: 50.0 abs_alt: 700.0] [gb_yaw: 10.0 gb_pitch: -60.0 gb_roll: 0.0]\n\n"
)


def gpx(*, minute: int = 40) -> str:
    points = "".join(
        f'<trkpt lat="33.6" lon="{71.4 + second * 1e-4:.6f}"><ele>700</ele>'
        f"<time>2026-03-14T16:{minute}:{second:02}Z</time></trkpt>"
        for second in range(60)
    )
    return f'<gpx xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{points}</trkseg></trk></gpx>'


@pytest.fixture
def video(clip: ClipWriter, tmp_path: Path) -> Callable[..., Path]:
    """Write a clip of 16:40:10 (or another minute) into a folder."""

    def write(folder: str, name: str = "a.mp4", *, minute: int = 40) -> Path:
        made = clip("made.mp4", metadata={"creation_time": f"2026-03-14T16:{minute}:10Z"})
        (tmp_path / folder).mkdir(exist_ok=True, parents=True)
        return Path(shutil.move(made, tmp_path / folder / name))

    return write


def register(pipeline: wiring.Pipeline) -> None:
    for upload in steps.open_subjects(pipeline, "ingest_footage"):
        steps.ingest_footage(pipeline, upload)


def hand_in(pipeline: wiring.Pipeline, *paths: Path, **declared: str) -> None:
    landed = landing.land(pipeline, paths, declared=declared)
    assert [item.error for item in landed] == [None] * len(landed)
    register(pipeline)


def put_as_one_upload(pipeline: wiring.Pipeline, folder: Path) -> None:
    """Let files appear in landing as another program's upload."""
    for path in folder.iterdir():
        pipeline.store.put(f"landing/0123456789abcdef/{path.name}", path.read_bytes())
    later = pipeline.settings.ingest.landing_settle + timedelta(minutes=1)
    pipeline.now = lambda: wiring.utc_now() + later
    housekeeping.sweep(pipeline)
    register(pipeline)


def rows(pipeline: wiring.Pipeline) -> dict[str, LandedFile]:
    return {file.name: file for upload in pipeline.ledger.uploads() for file in upload.files}


def standing(pipeline: wiring.Pipeline) -> tuple[Clip, Telemetry]:
    (known,) = pipeline.ledger.clips()
    return known, registration.stored_telemetry(pipeline, known)


def test_one_content_under_two_names_is_one_clip(
    pipeline: wiring.Pipeline, video: Callable[..., Path]
) -> None:
    """Copies that come together are one clip, with the telemetry that lies beside either of them."""
    one = video("card")
    shutil.copy(one, one.with_name("b.mp4"))
    one.with_name("b.SRT").write_text(SRT)
    put_as_one_upload(pipeline, one.parent)
    known, telemetry = standing(pipeline)
    assert telemetry.format == "dji_srt"
    found = {name: file.outcome for name, file in rows(pipeline).items()}
    assert found == {"a.mp4": "accepted", "b.SRT": "accepted", "b.mp4": "duplicate"}
    assert rows(pipeline)["b.mp4"].clip_id == known.id


def test_refused_clip_takes_nothing_with_it_that_serves_another(
    pipeline: wiring.Pipeline, video: Callable[..., Path]
) -> None:
    """What lies beside a refused clip says so; a log that another clip could use is not refused for it."""
    good = video("card", "b.mp4")
    good.with_name("b.SRT").write_text(SRT)
    good.with_name("a.mp4").write_bytes(b"no video")
    good.with_name("a.outwatch.json").write_text(json.dumps({"platform": "X"}))
    good.with_name("flight.gpx").write_text(gpx())
    put_as_one_upload(pipeline, good.parent)
    found = rows(pipeline)
    assert {name: file.outcome for name, file in found.items()} == {
        "a.mp4": "refused",
        "a.outwatch.json": "refused",
        "b.SRT": "accepted",
        "b.mp4": "accepted",
        "flight.gpx": "duplicate",
    }
    assert found["a.outwatch.json"].reason == "a.outwatch.json: its clip a.mp4 was refused"


def test_log_that_is_only_tried_never_displaces_better_telemetry(
    pipeline: wiring.Pipeline, video: Callable[..., Path]
) -> None:
    """A clip that comes again with a flight's log, which has no camera angles, keeps what locates it."""
    first = video("first")
    first.with_suffix(".SRT").write_text(SRT)
    hand_in(pipeline, first)
    before = standing(pipeline)
    again = first.parent.parent / "again"
    again.mkdir()
    shutil.copy(first, again / "a.mp4")
    (again / "flight.gpx").write_text(gpx())
    hand_in(pipeline, again)
    assert standing(pipeline) == before
    assert rows(pipeline)["flight.gpx"].outcome == "duplicate"


def test_mount_and_zone_declared_later_hold_without_the_log(
    pipeline: wiring.Pipeline, video: Callable[..., Path]
) -> None:
    """Handing in the clip alone corrects how the camera was fixed, as often as needed."""
    first = video("first")
    first.with_name("a.gpx").write_text(gpx())
    hand_in(pipeline, first)
    alone = first.parent.parent / "alone"
    alone.mkdir()
    shutil.copy(first, alone / "a.mp4")
    for pitch_deg in (-90, -30):
        hand_in(pipeline, alone / "a.mp4", mount_pitch_deg=str(pitch_deg))
        known, telemetry = standing(pipeline)
        assert known.telemetry_missing == ("height",)
        assert {round(sample.pitch_deg or 0) for sample in telemetry.samples} == {pitch_deg}
        assert telemetry.warnings == ("level_assumed", "heading_from_course")


def test_zone_declared_later_holds_without_the_subtitles(
    pipeline: wiring.Pipeline, gathering_flight: SimulatedFlight, tmp_path: Path
) -> None:
    """The clip alone, with another zone, moves its telemetry's clock too."""
    hand_in(pipeline, gathering_flight.video)
    before, _ = standing(pipeline)
    alone = tmp_path / "alone.mp4"
    shutil.copy(gathering_flight.video, alone)
    hand_in(pipeline, alone, time_zone="Pacific/Auckland")
    after, telemetry = standing(pipeline)
    assert before.started_at - after.started_at == timedelta(hours=8)
    assert telemetry.zone == "Pacific/Auckland"


def test_logs_of_one_name_in_two_folders_are_both_tried(
    pipeline: wiring.Pipeline, video: Callable[..., Path]
) -> None:
    """Each clip of a card finds the log of its own flight, whatever folder it lies in."""
    for folder, minute in (("100", 40), ("101", 45)):
        made = video(f"card/{folder}", f"DJI_{folder}.MP4", minute=minute)
        made.with_name("flight.gpx").write_text(gpx(minute=minute))
        made.with_suffix(".outwatch.JSON").write_text(json.dumps({"platform": f"No. {folder}"}))
        made.with_suffix(".preview.jpg").write_bytes(b"\xff\xd8\xff a picture")
        made.with_name("notes.txt").write_text(folder)
    hand_in(pipeline, made.parent.parent, operator="A. Khan")
    assert [(item.platform, item.telemetry_format) for item in pipeline.ledger.clips()] == [
        ("No. 100", "gpx"),
        ("No. 101", "gpx"),
    ]
    uploads = [[file.name for file in upload.files] for upload in pipeline.ledger.uploads()]
    assert sorted(map(len, uploads)) == [1, 1, 5, 5]


def test_log_named_from_another_folder_is_tried_on_the_clip(
    pipeline: wiring.Pipeline, video: Callable[..., Path]
) -> None:
    """Files that are handed in by one command belong together, wherever they lie."""
    made = video("clips")
    log = made.parent.parent / "logs" / "flight.gpx"
    log.parent.mkdir()
    log.write_text(gpx())
    hand_in(pipeline, made, log)
    known, _ = standing(pipeline)
    assert known.telemetry_format == "gpx"


@pytest.mark.parametrize("name", ["missing.mp4", "missing.srt", "."])
def test_what_cannot_be_opened_is_told_and_never_raised(
    name: str, pipeline: wiring.Pipeline, tmp_path: Path
) -> None:
    """One wrong name among many files does not keep the others from being told of."""
    report = inspect(tmp_path / name, settings=pipeline.settings)
    assert report["format"] is None
    assert "cannot be read" in report["refused"]
