"""Read the telemetry logs of ground stations (tlog): MAVLink messages, each after the time of its receipt.

Belongs here: which messages say what, and whose count. Not here: finding them (``mavlink_frames.py``), and
making samples of them (``flight_log.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo

import numpy as np

from ingest.telemetry import flight_log, series
from ingest.telemetry.flight_log import Clock, FlightLog
from ingest.telemetry.mavlink_frames import (
    ATTITUDE,
    GIMBAL_DEVICE_ATTITUDE_STATUS,
    GLOBAL_POSITION_INT,
    GPS_RAW_INT,
    HOME_POSITION,
    LAYOUTS,
    MOUNT_ORIENTATION,
    MOUNT_STATUS,
    SYSTEM_TIME,
    Found,
    messages,
)
from ingest.telemetry.series import NOTHING, Series
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import Telemetry, TelemetryClock

FORMAT = "mavlink_tlog"
LINK_UNCERTAINTY_S = 1.0
"""Messages reach a ground station up to about a second late, over links that lose and repeat."""
RECOGNISED_FROM = 2
"""Messages with a right checksum after a plausible time, by which a file is of this format."""


_FROM_AUTOPILOT = (GLOBAL_POSITION_INT, GPS_RAW_INT, ATTITUDE, SYSTEM_TIME, HOME_POSITION)
"""Messages that count only from the autopilot; the first three show which sender that is. Gimbals have an
attitude of their own, and ground stations a time."""
_AXES = ("yaw", "pitch", "roll")


class MavlinkTlog:
    """Telemetry of MAVLink aircraft, as a ground station heard it."""

    format = FORMAT

    def recognises(self, head: bytes) -> bool:
        """Tell by messages with a right checksum, each after a plausible time."""
        return sum(len(found.t_s) for found in messages(head)) >= RECOGNISED_FROM

    def read(self, data: bytes, *, zone: ZoneInfo) -> Telemetry:  # noqa: ARG002 - its times are UTC
        """Return the telemetry in a log; see ``TelemetrySource.read``.

        Raises:
            TelemetryInvalid: it is no such log, or nothing in it can be read.
        """
        with np.errstate(all="ignore"):  # damaged numbers are left out once they are seen
            return flight_log.to_telemetry(_flight_log(data))


def _flight_log(data: bytes) -> FlightLog:
    parts: dict[int, list[Found]] = {kind: [] for kind in LAYOUTS}
    for found in messages(data):
        parts[found.kind].append(found)
    reports = [part.sender for kind in _FROM_AUTOPILOT[:3] for part in parts[kind]]
    senders, counts = np.unique(np.concatenate([np.empty(0, np.int64), *reports]), return_counts=True)
    if not len(senders):
        raise TelemetryInvalid(
            "tlog has no position or attitude of an aircraft that can be read: export it again from the"
            " ground station, or leave it out"
        )
    autopilot = int(senders[counts.argmax()])
    log = {kind: _sent_by(autopilot, found) for kind, found in parts.items() if found}
    airframe = _airframe(log)
    places, alt_m = _position(log)
    position, gps = log.get(GLOBAL_POSITION_INT), log.get(GPS_RAW_INT)
    return FlightLog(
        format=FORMAT,
        places=places,
        alt_m=alt_m,
        ellipsoid_height_m=_ellipsoid_height(gps),
        height_agl_m=_metres(position, "relative_alt"),
        airframe=airframe,
        gimbal=_gimbal(log, airframe),
        fixes=series.of(gps.t_s, gps.fields["fix_type"]) if gps else NOTHING,
        home=_home(log.get(HOME_POSITION)),
        clock=_clock(log),
        skipped=sum(part.damaged for found in parts.values() for part in found),
        warnings=("several_aircraft",) if len(np.unique(senders >> 8)) > 1 else (),
    )


def _sent_by(autopilot: int, parts: list[Found]) -> Found:
    """Return messages of one kind in the order of the file: an autopilot's, or its aircraft's gimbals'."""
    at = np.concatenate([part.at for part in parts])
    sender = np.concatenate([part.sender for part in parts])
    order = np.argsort(at)
    of_aircraft = sender[order] >> 8 == autopilot >> 8
    order = order[sender[order] == autopilot if parts[0].kind in _FROM_AUTOPILOT else of_aircraft]
    return Found(
        kind=parts[0].kind,
        at=at[order],
        t_s=np.concatenate([part.t_s for part in parts])[order],
        sender=sender[order],
        fields=np.concatenate([part.fields for part in parts])[order],
        damaged=0,
    )


def _airframe(log: Mapping[int, Found]) -> Series:
    if (told := log.get(ATTITUDE)) is None:
        return NOTHING
    return series.angles(told.t_s, *(np.degrees(told.fields[name].astype(float)) for name in _AXES))


def _position(log: Mapping[int, Found]) -> tuple[Series, Series]:
    """Return places and altitudes as the autopilot estimates them, else as its receiver does."""
    for kind in (GLOBAL_POSITION_INT, GPS_RAW_INT):
        if (told := log.get(kind)) is not None:
            places = series.places(told.t_s, told.fields["lat"] / 1e7, told.fields["lon"] / 1e7)
            if len(places):
                return places, _metres(told, "alt")
    return NOTHING, NOTHING


def _metres(told: Found | None, name: str) -> Series:
    return NOTHING if told is None else series.heights(told.t_s, told.fields[name] / 1e3)


def _ellipsoid_height(gps: Found | None) -> Series:
    """Return heights above the ellipsoid, which only MAVLink 2 carries: exactly 0 is one left out."""
    written = _metres(gps, "alt_ellipsoid")
    return written.where(written.values[:, 0] != 0) if len(written) else NOTHING


def _gimbal(log: Mapping[int, Found], airframe: Series) -> Series:
    """Return what the gimbal reports, in the newest of the three messages that it does so in."""
    if told := log.get(GIMBAL_DEVICE_ATTITUDE_STATUS):
        found = series.gimbal_device(
            told.t_s, told.fields["flags"], list(told.fields["q"].T), airframe=airframe
        )
        if len(found):
            return found
    if told := log.get(MOUNT_ORIENTATION):
        yaw, pitch, roll = (told.fields[name] for name in _AXES)
        absolute = told.fields["yaw_absolute"]
        if absolute.any():  # an extension: MAVLink 1 leaves it out, which reads as north for ever
            return series.angles(told.t_s, absolute, pitch, roll)
        return series.turned(series.angles(told.t_s, yaw, pitch, roll), airframe)
    if told := log.get(MOUNT_STATUS):
        angles = series.angles(told.t_s, *(told.fields[name] / 100 for name in _AXES))
        return series.turned(angles, airframe)
    return NOTHING


def _home(told: Found | None) -> Series:
    if told is None:
        return NOTHING
    lat_deg, lon_deg = (told.fields[name] / 1e7 for name in ("lat", "lon"))
    return series.places(told.t_s, lat_deg, lon_deg, told.fields["alt"] / 1e3)


def _clock(log: Mapping[int, Found]) -> Clock:
    """Return the aircraft's own time where satellites gave it one, else that of the ground station.

    The samples stay on the times of receipt: aircraft restart, and some messages carry no time of their own.
    """
    gps, told = log.get(GPS_RAW_INT), log.get(SYSTEM_TIME)
    if gps and told and (gps.fields["fix_type"] >= flight_log.HAS_FIX).any():
        utc_s = told.fields["time_unix_usec"] / 1e6
        known = flight_log.clock(told.t_s, utc_s, source=TelemetryClock.GPS, uncertainty_s=LINK_UNCERTAINTY_S)
        if known:
            return known
    heard = np.concatenate([np.empty(0), *(found.t_s for found in log.values())])
    own = flight_log.clock(heard, heard, source=TelemetryClock.UTC, uncertainty_s=LINK_UNCERTAINTY_S)
    return own or Clock()
