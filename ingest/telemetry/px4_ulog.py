"""Read the logs of PX4 autopilots (ULog), by pyulog.

Belongs here: which of a log's topics say what, in all versions of PX4 since 1.6. Not here: making samples of
it (``flight_log.py``), and the wall around the library (``confined.py``).

Sources: docs.px4.io, "ULog File Format" and the uORB message reference; the topics' fields were renamed in
PX4 1.14 (``lat`` in 1e-7 degrees became ``latitude_deg``).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from ingest.telemetry import flight_log
from ingest.telemetry.flight_log import NOTHING, Clock, FlightLog, Series
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import Telemetry, TelemetryClock

FORMAT = "px4_ulog"
MAGIC = b"ULog\x01\x12\x35"
GPS_UNCERTAINTY_S = 0.5
"""A receiver's message reaches the autopilot 0.1-0.3 s after the moment that it tells; a camera's and an
autopilot's idea of "now" differ by as much again."""
_TOPICS = (
    *("vehicle_global_position", "vehicle_gps_position", "sensor_gps", "vehicle_attitude"),
    *("vehicle_local_position", "home_position", "gimbal_device_attitude_status", "mount_orientation"),
)

Topic = Mapping[str, npt.NDArray[Any]]


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
        try:
            return flight_log.to_telemetry(_flight_log(data))
        except TelemetryInvalid:
            raise
        except Exception as error:
            # The library was not written for hostile files and fails in ways that it does not name.
            raise TelemetryInvalid(
                f"ULog cannot be read ({type(error).__name__}: {str(error)[:100]}): copy it again from the"
                " autopilot's card, or leave it out"
            ) from error


def _flight_log(data: bytes) -> FlightLog:
    from pyulog import ULog

    with redirect_stdout(io.StringIO()):  # it prints what it doubts
        log = ULog(io.BytesIO(data), list(_TOPICS))
    topics: dict[str, Topic] = {}
    for part in log.data_list:
        topics.setdefault(part.name, part.data)  # the first instance of each: they are sorted
    gps = topics.get("vehicle_gps_position") or topics.get("sensor_gps")
    position = topics.get("vehicle_global_position")
    airframe = _airframe(topics.get("vehicle_attitude"))
    fused = _places(position)
    best, written = (fused, position) if len(fused) else (_places(gps), gps)
    alt_m = _heights(written, "alt", "altitude_msl_m")
    home = _home(topics.get("home_position"))
    height_agl_m, from_origin = flight_log.above(alt_m, home), False
    if not len(height_agl_m):
        height_agl_m = _above_origin(topics.get("vehicle_local_position"))
        from_origin = len(height_agl_m) > 0
    gimbal, commanded = _gimbal(topics, airframe)
    doubts = {
        "log_damaged": log.file_corruption,
        "log_dropouts": bool(log.dropouts),
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
        fixes=flight_log.series(_times(gps), gps["fix_type"]) if gps and "fix_type" in gps else NOTHING,
        home=home,
        clock=_clock(gps),
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
    return flight_log.places(_times(topic), lat_deg, _column(topic, "lon", "longitude_deg", per_unit=1e7))


def _heights(topic: Topic | None, name: str, later: str) -> Series:
    if not topic or not {name, later} & topic.keys():
        return NOTHING
    return flight_log.heights(_times(topic), _column(topic, name, later, per_unit=1e3))


def _airframe(topic: Topic | None) -> Series:
    if not topic or "q[3]" not in topic:
        return NOTHING
    return flight_log.quaternions(_times(topic), *(topic[f"q[{i}]"] for i in range(4)))


def _home(topic: Topic | None) -> Series:
    if not topic or not {"lat", "lon", "alt"} <= topic.keys():
        return NOTHING
    known = np.ones(len(topic["lat"]), dtype=bool)
    for flag in ("valid_hpos", "valid_alt"):
        known &= topic[flag] != 0 if flag in topic else True
    return flight_log.places(_times(topic)[known], *(topic[name][known] for name in ("lat", "lon", "alt")))


def _above_origin(topic: Topic | None) -> Series:
    """Return heights above where the estimator started: on the ground, in all but restarts in flight."""
    if not topic or not {"z", "z_valid"} <= topic.keys():
        return NOTHING
    valid = topic["z_valid"] != 0
    return flight_log.heights(_times(topic)[valid], -topic["z"][valid].astype(np.float64))


def _gimbal(topics: Mapping[str, Topic], airframe: Series) -> tuple[Series, bool]:
    """Return the camera's attitude, and whether it is only what a gimbal was told that does not report."""
    if (told := topics.get("gimbal_device_attitude_status")) and {"q[3]", "device_flags"} <= told.keys():
        q = [told[f"q[{i}]"] for i in range(4)]
        return flight_log.gimbal_device(_times(told), told["device_flags"], q, airframe=airframe), False
    asked = topics.get("mount_orientation")
    if not asked or "attitude_euler_angle[2]" not in asked:
        return NOTHING, False
    roll, pitch, yaw = (np.degrees(asked[f"attitude_euler_angle[{i}]"].astype(np.float64)) for i in range(3))
    return flight_log.turned(flight_log.angles(_times(asked), yaw, pitch, roll), airframe), True


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
