"""Say what a telemetry file holds, or why it is of no use: for people who must know before they hand it in.

Belongs here: reading one file by hand and describing it. Not here: the formats (``ingest/telemetry``),
and joining telemetry with a clip (``registration.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ingest.register import VIDEO_SUFFIXES
from ingest.telemetry.misb_klv import read_packets
from ingest.telemetry.mount import apply_mount, not_georeferenced
from ingest.telemetry.sources import HEAD_BYTES, read_telemetry, recognise
from ingest.video import probe_video
from outwatch.domain.errors import OutwatchError, TelemetryInvalid
from outwatch.domain.types import GeoPoint, MountAngles, Telemetry
from outwatch.pipeline.wiring import decoder_limits
from outwatch.settings import Settings


def inspect(path: Path, *, settings: Settings, mount: MountAngles | None = None) -> dict[str, Any]:
    """Return what a file of telemetry, a video or a photo tells of the camera's way, as JSON values.

    A file that cannot be used has the key ``refused`` with the reason, and no samples.

    Args:
        path: the file.
        settings: the declared zone and what a decoder may cost.
        mount: how the camera is fixed, where it has no gimbal.
    """
    form = None
    try:
        form = _format(path)
        telemetry = _read(path, settings=settings, zone=ZoneInfo(settings.ingest.time_zone))
    except OutwatchError as error:
        return {"file": path.name, "format": form, "samples": 0, "refused": str(error)}
    except OSError as error:
        why = f"{path.name} cannot be read: {error.strerror}"
        return {"file": path.name, "format": None, "samples": 0, "refused": why}
    return describe(apply_mount(telemetry, mount) if mount else telemetry, name=path.name)


def describe(telemetry: Telemetry, *, name: str) -> dict[str, Any]:
    """Return what telemetry holds and lacks, as JSON values."""
    samples = telemetry.samples
    times = [sample.at for sample in samples if sample.at is not None]
    points = [sample.point for sample in samples if sample.point is not None]
    return {
        "file": name,
        "format": telemetry.format,
        "samples": len(samples),
        "skipped": telemetry.skipped,
        "duration_s": round(samples[-1].offset_s - samples[0].offset_s, 3),
        "offsets_from": telemetry.time_base.value,
        "first_at": times[0].isoformat() if times else None,
        "last_at": times[-1].isoformat() if times else None,
        "clock": telemetry.clock.value,
        "zone": telemetry.zone,
        "clock_uncertainty_s": telemetry.clock_uncertainty_s,
        "first_position": _position(points[0]) if points else None,
        "last_position": _position(points[-1]) if points else None,
        "missing": list(telemetry.missing),
        "warnings": list(telemetry.warnings),
        "not_georeferenced": not_georeferenced(telemetry),
    }


def _read(path: Path, *, settings: Settings, zone: ZoneInfo) -> Telemetry:
    limits = decoder_limits(settings)
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return read_telemetry(path, zone=zone, limits=limits)
    video = probe_video(path, limits=limits)
    if video.klv:
        return read_packets(video.klv)
    if video.subtitles is None:
        raise TelemetryInvalid(f"{path.name} is a video without telemetry inside: name the file beside it")
    return read_telemetry(video.subtitles.encode(), zone=zone, limits=limits)


def _format(path: Path) -> str | None:
    """Return what a file that cannot be used set out to be."""
    with path.open("rb") as file:
        source = recognise(file.read(HEAD_BYTES))
    return source.format if source else None


def _position(point: GeoPoint) -> dict[str, float | None]:
    return {"lat_deg": point.lat_deg, "lon_deg": point.lon_deg, "alt_m": point.alt_m}
