"""From a probed file to a clip or a refusal."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ingest.register import Clock, Group, build_clip, flight_id, refusal, settle_clock, sort_upload
from ingest.video import ProbedVideo
from outwatch.domain.errors import (
    ConfigInvalid,
    CorruptClip,
    FeedTimeout,
    OutwatchError,
    TelemetryInvalid,
    UnsupportedFormat,
)
from outwatch.domain.types import (
    Camera,
    ClockSource,
    Completeness,
    Modality,
    Telemetry,
    TelemetrySample,
)

START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
VIDEO = ProbedVideo(
    container="mov,mp4,m4a,3gp,3g2,mj2",
    codec="h264",
    width_px=640,
    height_px=512,
    frame_rate_hz=30.0,
    created_at=START + timedelta(seconds=1),
    duration_s=39.0,
    modality=Modality.RGB,
    completeness=Completeness(1170, 1170, 0, 39.0, 39.0),
    subtitles=None,
)
TELEMETRY = Telemetry(
    "dji_srt", (TelemetrySample(0.5, START + timedelta(seconds=0.5), None, 60.0),), missing=("gimbal",)
)
WRITTEN = START + timedelta(minutes=10)
RECEIVED = START + timedelta(hours=3)


def clock(video: ProbedVideo, telemetry: Telemetry | None, *, received_at: datetime = RECEIVED) -> Clock:
    """Settle the clock of a file last written ten minutes after ``START``."""
    return settle_clock(video, telemetry, file_time=WRITTEN, received_at=received_at)


def test_upload_is_sorted_into_videos_with_their_sidecars() -> None:
    """Sidecars are found by name in any case; two videos of one name share one; the rest is left over."""
    upload = sort_upload(
        [
            "a/DJI_1.MP4",
            "a/dji_1.srt",
            "b/DJI_1.mov",
            "DJI_2.mp4",
            "DJI_2.SRT",
            "dji_2.MOV",
            "x.SRT",
            "notes.txt",
        ]
    )
    assert upload.groups == (
        Group("DJI_2.mp4", ("DJI_2.SRT",)),
        Group("a/DJI_1.MP4", ("a/dji_1.srt",)),
        Group("b/DJI_1.mov"),
        Group("dji_2.MOV", ("DJI_2.SRT",)),
    )
    assert upload.others == ("notes.txt", "x.SRT")


def test_a_source_may_vouch_for_the_containers_time() -> None:
    """Its word holds for the container's time alone."""
    settled = settle_clock(VIDEO, None, file_time=WRITTEN, received_at=RECEIVED, container_uncertainty_s=2.0)
    assert (ClockSource.CONTAINER, 2.0) == (settled.source, settled.uncertainty_s)
    untimed = replace(VIDEO, created_at=None)
    settled = settle_clock(
        untimed, None, file_time=WRITTEN, received_at=RECEIVED, container_uncertainty_s=2.0
    )
    assert (ClockSource.FILE, 24 * 3600.0) == (settled.source, settled.uncertainty_s)


def test_telemetry_says_the_time_before_container_and_file() -> None:
    """Each source is used where those before it are silent, with its own uncertainty."""
    silent = replace(TELEMETRY, samples=(TelemetrySample(0.0, None, None, 60.0),))
    no_container = replace(VIDEO, created_at=None)
    clocks = [clock(VIDEO, TELEMETRY), clock(VIDEO, silent), clock(VIDEO, None), clock(no_container, None)]
    assert [(found.source, found.started_at) for found in clocks] == [
        (ClockSource.TELEMETRY, START),
        (ClockSource.CONTAINER, START + timedelta(seconds=1)),
        (ClockSource.CONTAINER, START + timedelta(seconds=1)),
        (ClockSource.FILE, WRITTEN - timedelta(seconds=39)),
    ]
    uncertainties_s = [found.uncertainty_s for found in clocks]
    assert uncertainties_s == sorted(uncertainties_s)


@pytest.mark.parametrize(
    ("later", "flags"), [(timedelta(hours=-5), ("clock_after_receipt",)), (timedelta(0), ())]
)
def test_capture_after_receipt_is_flagged(later: timedelta, flags: tuple[str, ...]) -> None:
    """A clip from the future has a wrong clock; it is said, not mended."""
    found = clock(VIDEO, TELEMETRY, received_at=START + later)
    assert (found.flags, found.started_at) == (flags, START)


@pytest.mark.parametrize(
    ("difference", "flags"),
    [
        (timedelta(hours=5), ("clock_zone_suspect",)),
        (timedelta(hours=-5, seconds=-40), ("clock_zone_suspect",)),
        (timedelta(hours=5, minutes=30, seconds=3), ("clock_zone_suspect",)),
        (timedelta(hours=14), ("clock_zone_suspect",)),
        (timedelta(seconds=3), ()),
        (timedelta(seconds=-119), ()),
        (timedelta(minutes=3), ("clock_disagrees",)),
        (timedelta(minutes=-17), ("clock_disagrees",)),
        (timedelta(hours=2, minutes=15), ("clock_disagrees",)),
        (timedelta(hours=20), ("clock_disagrees",)),
    ],
)
def test_clocks_apart_are_told_as_zone_or_disagreement(difference: timedelta, flags: tuple[str, ...]) -> None:
    """Whole half hours are two zones; what no zone explains, and more than 14 h, is a disagreement."""
    found = clock(replace(VIDEO, created_at=START + difference), TELEMETRY)
    assert found.flags == flags


def test_clip_carries_what_was_found() -> None:
    """Camera, clock, telemetry and doubts are all in the clip."""
    camera = Camera("xt2-25mm", Modality.THERMAL, 24.6, 0.5, "data sheet")
    damaged = replace(VIDEO, completeness=replace(VIDEO.completeness, frames_read=900, reason="cut"))
    clip = build_clip(
        damaged,
        TELEMETRY,
        clock=Clock(START, ClockSource.TELEMETRY, 2.0, ("clock_zone_suspect",)),
        clip_id="ab" * 8,
        sha256="ab" * 32,
        object_key="footage/dt=2026-03-14/abababababababab/source.mp4",
        file_name="night.mp4",
        size_bytes=1000,
        platform="DJI M200 V2",
        camera=camera,
        flags=("telemetry_ends_early",),
    )
    assert clip.flags == ("clock_zone_suspect", "telemetry_ends_early", "incomplete")
    assert (clip.modality, clip.frame_count, clip.flight_id) == (
        Modality.THERMAL,
        900,
        "dji-m200-v2-" + "ab" * 8,
    )
    assert (clip.telemetry_format, clip.telemetry_missing) == ("dji_srt", ("gimbal",))


def test_clip_without_camera_or_telemetry_says_so() -> None:
    """The pixels decide the modality, and missing telemetry is a flag."""
    clip = build_clip(
        VIDEO,
        None,
        clock=clock(VIDEO, None),
        clip_id="ab" * 8,
        sha256="ab" * 32,
        object_key="k",
        file_name="traffic.mp4",
        size_bytes=1000,
        platform="",
    )
    assert (clip.modality, clip.flags, clip.telemetry_format) == (Modality.RGB, ("no_telemetry",), None)


def test_flight_id_is_the_same_each_time_and_safe_in_a_key() -> None:
    """Platform and clip decide it; any name gives a plain one."""
    assert flight_id("../ڈرون Ä 3", clip_id="0f" * 8) == flight_id("3", clip_id="0f" * 8) == "3-" + "0f" * 8


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (CorruptClip("x.mp4: cut"), "Copy the file again"),
        (UnsupportedFormat("x.mp4: text"), "original recording"),
        (TelemetryInvalid("another flight"), "telemetry file of the same recording"),
        (FeedTimeout("silent"), "tried again"),
        (ConfigInvalid("zone"), "Ask whoever runs this station"),
    ],
)
def test_refusal_says_what_why_and_what_to_do(error: OutwatchError, word: str) -> None:
    """A person who reads it knows the next step; the same error gives the same text."""
    reason = refusal(error, file_name="x.mp4", sha256="ab" * 32)
    assert (reason["what"], reason["why"]) == (type(error).__name__, str(error))
    assert word in reason["what_to_do"]
    assert reason == refusal(error, file_name="x.mp4", sha256="ab" * 32)
