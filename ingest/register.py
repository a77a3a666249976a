"""Turn what was learnt of a landed file into a registered clip, or into a refusal.

Belongs here: pure decisions: which files belong together, which clock to believe, what to flag, what
a refused file is told. Not here: reading files, and keys (``storage/keys.py``): both are passed in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from ingest.align import clip_start, clock_doubt
from ingest.video import PHOTO_SUFFIXES, ProbedVideo
from outwatch.domain.errors import (
    CorruptClip,
    OutwatchError,
    TelemetryInvalid,
    TransientError,
    UnsupportedFormat,
)
from outwatch.domain.types import Camera, Clip, ClockSource, Modality, Telemetry, TelemetryClock, require_utc

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg")
)
MANIFEST_SUFFIX = ".outwatch.json"
"""``<clip name without ending>.outwatch.json`` beside a clip declares what an operator knows of it."""
SUBTITLE_SUFFIXES = frozenset({".srt"})
LOG_SUFFIXES = frozenset((".klv", ".bin", ".ulg", ".tlog", ".gpx", ".kml", ".csv", ".log"))
"""Logs of an aircraft or a ground station. What they hold is told by their content; the suffix only says
that they are worth a look."""
SIDECAR_SUFFIXES = SUBTITLE_SUFFIXES | LOG_SUFFIXES
RAW_PHOTO_SUFFIXES = frozenset({".dng"})
CLOCK_UNCERTAINTY_S = {
    # Where the telemetry itself says no better.
    ClockSource.EMBEDDED_GPS: 1.0,
    # Set from satellites, written once a record, in a zone that is known.
    ClockSource.TELEMETRY: 2.0,
    # Meant as UTC, but many cameras write local time there: the widest zone is UTC+14.
    ClockSource.CONTAINER: 14 * 3600.0,
    # A file's time survives some copies and not others: it says the day at best.
    ClockSource.FILE: 24 * 3600.0,
}
"""Half-width in seconds of the interval that is thought to hold the true start, by source."""
RECEIPT_TOLERANCE = timedelta(minutes=5)
"""A capture later than its receipt by more than this has a wrong clock; less is drift of either one."""

_ADVICE: tuple[tuple[type[OutwatchError], str], ...] = (
    (
        TelemetryInvalid,
        "Hand the clip in again with the telemetry file of the same recording, or without any.",
    ),
    (UnsupportedFormat, "Hand in the original recording, or convert it to MP4 with H.264 and hand that in."),
    (CorruptClip, "Copy the file again from the aircraft's card, check that it plays, and hand it in again."),
    (TransientError, "Nothing is wrong with the file as far as is known: it will be tried again."),
)


@dataclass(frozen=True, slots=True)
class Group:
    """A video file and the telemetry that lies beside it under the same name."""

    video: str
    sidecars: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload's files, sorted; ``others`` belong to no video."""

    groups: tuple[Group, ...]
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clock:
    """When a clip starts, who says so, and how far that may be off."""

    started_at: datetime
    source: ClockSource
    uncertainty_s: float
    flags: tuple[str, ...] = ()


def sort_upload(names: Iterable[str]) -> Upload:
    """Return videos with their sidecars, found by name without regard to case, and all other files.

    Two videos of one name (a thermal and an RGB one of the same moment) share a sidecar, and all videos
    share the logs that are named after none of them: such a log is of the whole flight. A photo is a clip
    of its own, whose telemetry lies inside it.
    """
    ordered = sorted(set(names))
    videos = [name for name in ordered if _suffix(name) in VIDEO_SUFFIXES]
    sidecars = [name for name in ordered if _suffix(name) in SIDECAR_SUFFIXES]
    stems = {stem(video) for video in videos}
    shared = tuple(name for name in sidecars if _suffix(name) in LOG_SUFFIXES and stem(name) not in stems)
    groups = (
        *(
            Group(video, (*(name for name in sidecars if stem(name) == stem(video)), *shared))
            for video in videos
        ),
        *(Group(name) for name in ordered if _suffix(name) in PHOTO_SUFFIXES),
    )
    taken = {name for group in groups for name in (group.video, *group.sidecars)}
    return Upload(groups=groups, others=tuple(name for name in ordered if name not in taken))


def left_over(name: str) -> UnsupportedFormat:
    """Return why a file that belongs to no clip is refused."""
    if _suffix(name) in RAW_PHOTO_SUFFIXES:
        why = "is a raw photo, which is not read: hand in the JPEG that the camera wrote beside it"
    else:
        why = "is not footage, and no clip of its name came with it"
    return UnsupportedFormat(f"{name} {why}")


def settle_clock(
    video: ProbedVideo,
    telemetry: Telemetry | None,
    *,
    file_time: datetime,
    received_at: datetime,
    container_uncertainty_s: float | None = None,
) -> Clock:
    """Return when a clip starts: telemetry before container before file time.

    Args:
        video: the probed clip; its container's time is of the start of the recording.
        telemetry: the clip's own telemetry, if it has any.
        file_time: when the file was last written, the end of the recording.
        received_at: when the file was handed in.
        container_uncertainty_s: how far the container's time may be from UTC, where its source knows.
    """
    require_utc(file_time, name="file_time")
    by_telemetry = clip_start(telemetry) if telemetry else None
    if telemetry is not None and by_telemetry is not None:
        by_satellites = telemetry.clock is TelemetryClock.GPS
        started_at = by_telemetry
        source = ClockSource.EMBEDDED_GPS if by_satellites else ClockSource.TELEMETRY
    elif video.created_at is not None:
        started_at, source = video.created_at, ClockSource.CONTAINER
    else:
        started_at, source = file_time - timedelta(seconds=video.recorded_s), ClockSource.FILE
    after_receipt = started_at > require_utc(received_at, name="received_at") + RECEIPT_TOLERANCE
    between_clocks = clock_doubt(telemetry, video.created_at) if telemetry else None
    told = telemetry.clock_uncertainty_s if telemetry and by_telemetry else None
    if source is ClockSource.CONTAINER:
        told = container_uncertainty_s
    return Clock(
        started_at=started_at,
        source=source,
        uncertainty_s=CLOCK_UNCERTAINTY_S[source] if told is None else told,
        flags=("clock_after_receipt",) * after_receipt + ((between_clocks,) if between_clocks else ()),
    )


def build_clip(
    video: ProbedVideo,
    telemetry: Telemetry | None,
    *,
    clock: Clock,
    clip_id: str,
    sha256: str,
    object_key: str,
    file_name: str,
    size_bytes: int,
    platform: str,
    camera: Camera | None = None,
    flags: tuple[str, ...] = (),
) -> Clip:
    """Return the registered clip; equal arguments give an equal clip.

    Args:
        video: the probed file.
        telemetry: its own telemetry, if it has any.
        clock: from ``settle_clock``.
        clip_id: from ``storage.keys.clip_id``, as the object key is.
        sha256: the file's digest.
        object_key: where the file is kept.
        file_name: the name it came under.
        size_bytes: the file's.
        platform: what carried the camera, as the operator calls it.
        camera: decides the modality where it is known, else the pixels do.
        flags: doubts found before, such as those of ``align.fit_to_clip``.
    """
    found = {"no_telemetry": telemetry is None, "incomplete": not video.completeness.complete}
    all_flags = (*clock.flags, *flags, *(name for name, holds in found.items() if holds))
    return Clip(
        id=clip_id,
        flight_id=flight_id(platform, clip_id=clip_id),
        platform=platform,
        camera=camera,
        modality=camera.modality if camera else Modality(video.modality),
        started_at=clock.started_at,
        clock_source=clock.source,
        clock_uncertainty_s=clock.uncertainty_s,
        duration_s=video.duration_s,
        frame_count=video.completeness.frames_read,
        width_px=video.width_px,
        height_px=video.height_px,
        frame_rate_hz=video.frame_rate_hz,
        codec=video.codec,
        object_key=object_key,
        sha256=sha256,
        completeness=video.completeness,
        file_name=file_name,
        size_bytes=size_bytes,
        telemetry_format=telemetry.format if telemetry else None,
        telemetry_missing=telemetry.missing if telemetry else (),
        flags=tuple(dict.fromkeys(all_flags)),
    )


def flight_id(platform: str, *, clip_id: str) -> str:
    """Return the id of the flight of a clip that is registered alone: its platform's name and its id."""
    name = re.sub(r"[^a-z0-9]+", "-", platform.lower()).strip("-") or "unknown"
    return f"{name}-{clip_id}"


def refusal(error: OutwatchError, *, file_name: str, sha256: str) -> dict[str, str]:
    """Return what ``reason.json`` says beside a refused file, for the person who handed it in."""
    advice = (text for kind, text in _ADVICE if isinstance(error, kind))
    return {
        "file": file_name,
        "sha256": sha256,
        "what": type(error).__name__,
        "why": str(error),
        "what_to_do": next(advice, "Ask whoever runs this station, and name the reason above."),
    }


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def stem(name: str) -> str:
    """Return what a clip and the files beside it are both called: without ending, without regard to case."""
    return str(PurePosixPath(name).with_suffix("")).casefold()
