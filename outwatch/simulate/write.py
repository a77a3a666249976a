"""The files of a simulated flight: video, subtitles, truth, outposts.

Belongs here: encodings. Not here: what is in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import av

from outwatch.domain.types import Image
from outwatch.simulate.scenario import Scenario
from outwatch.simulate.view import Pose, Site

_CRF = "24"
"""About the bit rate of the real thermal footage (0.5 Mbit/s at 640x512)."""


class VideoWriter(Protocol):
    """Takes frames in order."""

    def __call__(self, image: Image) -> None:
        """Append a frame."""
        ...


@contextmanager
def open_video(path: Path, *, scenario: Scenario) -> Iterator[VideoWriter]:
    """Open an H.264 MP4 with a keyframe a second, one encoder thread and the scenario's clock.

    One thread and no dates but the scenario's make the bytes the same every time.
    """
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["creation_time"] = scenario.start_utc.isoformat()
        stream = container.add_stream(
            "libx264", rate=scenario.fps, options={"crf": _CRF, "preset": "veryfast", "sc_threshold": "0"}
        )
        stream.width, stream.height = scenario.camera.width_px, scenario.camera.height_px
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = scenario.fps
        stream.codec_context.thread_count = 1
        stream.time_base = Fraction(1, scenario.fps)
        count = 0

        def write(image: Image) -> None:
            nonlocal count
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = count, Fraction(1, scenario.fps)
            container.mux(stream.encode(frame))
            count += 1

        yield write
        container.mux(stream.encode(None))


def srt_block(index: int, pose: Pose, *, scenario: Scenario, site: Site) -> str:
    """Return the subtitle of one frame in the layout of DJI aircraft, with local time and no zone."""
    start_s, end_s = index / scenario.fps, (index + 1) / scenario.fps
    local = scenario.start_utc.astimezone(ZoneInfo(scenario.time_zone)) + timedelta(seconds=start_s)
    point = site.to_geo(pose.east_m, pose.north_m, 0.0)
    return (
        f"{index + 1}\n"
        f"{_srt_time(start_s)} --> {_srt_time(end_s)}\n"
        f'<font size="28">FrameCnt: {index + 1}, DiffTime: {1000 // scenario.fps}ms\n'
        f"{_milliseconds(local)}\n"
        f"[focal_len: {scenario.camera.focal_length_mm:.2f}] "
        f"[latitude: {point.lat_deg:.6f}] [longitude: {point.lon_deg:.6f}] "
        f"[rel_alt: {pose.up_m:.3f} abs_alt: {site.alt_m + pose.up_m:.3f}] "
        f"[gb_yaw: {pose.heading_deg:.1f} gb_pitch: {pose.pitch_deg:.1f} gb_roll: {pose.roll_deg:.1f}] "
        "</font>\n"
    )


def _srt_time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d},{rest % 1000:03d}"


def _milliseconds(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"


def outposts_geojson(scenario: Scenario, site: Site) -> dict[str, Any]:
    """Return the scenario's outposts as the GeoJSON that Outwatch is set up with."""
    features = []
    for outpost in scenario.outposts:
        point = site.to_geo(outpost.east_m, outpost.north_m, 0.0)
        features.append(
            {
                "type": "Feature",
                "properties": {
                    "id": outpost.id,
                    "name": outpost.name,
                    "name_ur": outpost.name_ur,
                    "kind": str(outpost.kind),
                    "watch_radius_m": outpost.watch_radius_m,
                    "control_room": outpost.control_room,
                },
                "geometry": {
                    "type": "Point",
                    "coordinates": [round(point.lon_deg, 7), round(point.lat_deg, 7)],
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write readable JSON with Urdu as it is."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
