"""Read the logs of PX4 autopilots (ULog).

Belongs here: which of a log's topics say what, in all versions of PX4 since 1.6. Not here: the format
(``ulog.py``), and making samples of it (``flight_log.py``).

Sources: docs.px4.io, "ULog File Format" and the uORB message reference; the topics' fields were renamed in
PX4 1.14 (``lat`` in 1e-7 degrees became ``latitude_deg``).
"""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from ingest.telemetry import flight_log, series
from ingest.telemetry.flight_log import Clock, FlightLog
from ingest.telemetry.series import NOTHING, Series
from ingest.telemetry.ulog import MAGIC, Topic, read_ulog
from outwatch.domain.types import Telemetry, TelemetryClock

FORMAT = "px4_ulog"
GPS_UNCERTAINTY_S = 0.5
"""A receiver's message reaches the autopilot 0.1-0.3 s after the moment that it tells; a camera's and an
autopilot's idea of "now" differ by as much again."""
_TOPICS = (
    *("vehicle_global_position", "vehicle_gps_position", "sensor_gps", "vehicle_attitude"),
    *("vehicle_local_position", "home_position", "gimbal_device_attitude_status", "mount_orientation"),
)


class Px4ULog:
    """Telemetry of PX4 autopilots."""

    format = FORMAT

    def recognises(self, head: bytes) -> bool:
        """Tell by the format's magic bytes."""
        return head.startswith(MAGIC)

    def read(self, data: bytes, *, zone: ZoneInfo) -> Telemetry:  # noqa: ARG002 - its times are UTC
        """Return the telemetry in a log; see ``TelemetrySource.read``.

        Raises:
            TelemetryInvalid: it is no such log, or nothing in it can be read.
        """
        with np.errstate(all="ignore"):  # damaged numbers are left out once they are seen
            return flight_log.to_telemetry(_flight_log(data))


def _flight_log(data: bytes) -> FlightLog:
    log = read_ulog(data, _TOPICS)
    topics = log.topics
    gps = topics.get("vehicle_gps_position") or topics.get("sensor_gps")
    position = topics.get("vehicle_global_position")
    airframe = _airframe(topics.get("vehicle_attitude"))
    fused = _places(position)
    best, written = (fused, position) if len(fused) else (_places(gps), gps)
    alt_m = _heights(written, "alt", "altitude_msl_m")
    home = _home(topics.get("home_position"))
    height_agl_m, from_origin = series.above(alt_m, home), False
    if not len(height_agl_m):
        height_agl_m = _above_origin(topics.get("vehicle_local_position"))
        from_origin = len(height_agl_m) > 0
    gimbal, commanded = _gimbal(topics, airframe)
    doubts = {
        "log_dropouts": log.dropouts > 0,
        "height_from_local_origin": from_origin,
        "gimbal_angles_commanded": commanded,
    }
    return FlightLog(
        format=FORMAT,
        places=best,
        alt_m=alt_m,
        ellipsoid_height_m=_heights(written, "alt_ellipsoid", "altitude_ellipsoid_m"),
        height_agl_m=height_agl_m,
        airframe=airframe,
        gimbal=gimbal,
        fixes=series.of(_times(gps), gps["fix_type"]) if gps and "fix_type" in gps else NOTHING,
        home=home,
        clock=_clock(gps),
        skipped=log.damaged,
        warnings=tuple(name for name, holds in doubts.items() if holds),
    )


def _times(topic: Topic) -> npt.NDArray[np.float64]:
    return topic["timestamp"].astype(np.float64) / 1e6


def _column(topic: Topic, name: str, later: str, *, per_unit: float) -> npt.NDArray[np.float64]:
    """Return a field by its name since PX4 1.14, or by its earlier one, where whole numbers are scaled."""
    if later in topic:
        return topic[later].astype(np.float64)
    values = topic[name]
    return values.astype(np.float64) / (per_unit if np.issubdtype(values.dtype, np.integer) else 1.0)


def _places(topic: Topic | None) -> Series:
    if not topic or not ({"lat", "lon"} <= topic.keys() or {"latitude_deg", "longitude_deg"} <= topic.keys()):
        return NOTHING
    lat_deg = _column(topic, "lat", "latitude_deg", per_unit=1e7)
    return series.places(_times(topic), lat_deg, _column(topic, "lon", "longitude_deg", per_unit=1e7))


def _heights(topic: Topic | None, name: str, later: str) -> Series:
    if not topic or not {name, later} & topic.keys():
        return NOTHING
    return series.heights(_times(topic), _column(topic, name, later, per_unit=1e3))


def _airframe(topic: Topic | None) -> Series:
    if not topic or "q[3]" not in topic:
        return NOTHING
    return series.quaternions(_times(topic), *(topic[f"q[{i}]"] for i in range(4)))


def _home(topic: Topic | None) -> Series:
    if not topic or not {"lat", "lon", "alt"} <= topic.keys():
        return NOTHING
    known = np.ones(len(topic["lat"]), dtype=bool)
    for flag in ("valid_hpos", "valid_alt"):
        known &= topic[flag] != 0 if flag in topic else True
    return series.places(_times(topic)[known], *(topic[name][known] for name in ("lat", "lon", "alt")))


def _above_origin(topic: Topic | None) -> Series:
    """Return heights above where the estimator started: on the ground, in all but restarts in flight."""
    if not topic or not {"z", "z_valid"} <= topic.keys():
        return NOTHING
    valid = topic["z_valid"] != 0
    return series.heights(_times(topic)[valid], -topic["z"][valid].astype(np.float64))


def _gimbal(topics: Mapping[str, Topic], airframe: Series) -> tuple[Series, bool]:
    """Return the camera's attitude, and whether it is only what a gimbal was told that does not report."""
    if (told := topics.get("gimbal_device_attitude_status")) and {"q[3]", "device_flags"} <= told.keys():
        q = [told[f"q[{i}]"] for i in range(4)]
        return series.gimbal_device(_times(told), told["device_flags"], q, airframe=airframe), False
    asked = topics.get("mount_orientation")
    if not asked or "attitude_euler_angle[2]" not in asked:
        return NOTHING, False
    roll, pitch, yaw = (np.degrees(asked[f"attitude_euler_angle[{i}]"].astype(np.float64)) for i in range(3))
    return series.turned(series.angles(_times(asked), yaw, pitch, roll), airframe), True


def _clock(gps: Topic | None) -> Clock:
    if not gps or not {"time_utc_usec", "fix_type"} <= gps.keys():
        return Clock()
    fixed = gps["fix_type"] >= flight_log.HAS_FIX
    told = flight_log.clock(
        _times(gps)[fixed],
        gps["time_utc_usec"][fixed].astype(np.float64) / 1e6,
        source=TelemetryClock.GPS,
        uncertainty_s=GPS_UNCERTAINTY_S,
    )
    return told or Clock()
