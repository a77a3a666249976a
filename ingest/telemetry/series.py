"""Values over time as an autopilot logs them: each kind at its own rate, with holes and damage.

Belongs here: building clean series, turning one by another, and asking them for values at other times. Not
here: what a log makes of them (``flight_log.py``), and the formats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ingest.telemetry import attitude
from ingest.telemetry.attitude import FloatArray
from outwatch.domain.types import MAX_LAT_DEG, MAX_LON_DEG

MAX_GAP_S = 2.5
"""Nothing is said between two values further apart. Receivers report once a second at the slowest: this
bridges one lost report."""
HELD_AT_ENDS_S = 0.1
"""Series of one log begin and end within a record of each other: for so long their ends stand for what is
beyond them. An aircraft turns and moves little in a tenth of a second."""
TIME_SPIKE_S, SPIKE_WINDOW = 30.0, 5
"""A record whose time is further than this from the middle one of its neighbours' is damaged: logs are
written in order, and no buffer holds records back for so long."""
UNIT_TOLERANCE = 0.1
"""Quaternions are of length 1 but for rounding; what is further off is damage or "not known" (all zeros)."""
YAW_LOCK, YAW_IN_VEHICLE_FRAME, YAW_IN_EARTH_FRAME = 16, 32, 64
"""Of GIMBAL_DEVICE_FLAGS in MAVLink's common.xml: what a gimbal's yaw counts from."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values over time: ``t_s``, shape (n,), rising, on the log's own clock; ``values``, shape (n, k)."""

    t_s: FloatArray
    values: FloatArray

    def __len__(self) -> int:
        return len(self.t_s)

    def where(self, keep: npt.ArrayLike) -> Series:
        """Return the rows that a mask of shape (n,) names."""
        rows = np.asarray(keep, dtype=bool)
        return Series(self.t_s[rows], self.values[rows])


NOTHING = Series(np.empty(0), np.empty((0, 1)))


def of(t_s: npt.ArrayLike, *columns: npt.ArrayLike) -> Series:
    """Return columns as a series: rows that are not finite or have a damaged time are left out."""
    times = np.atleast_1d(np.asarray(t_s, dtype=np.float64))
    values = np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])
    keep = np.isfinite(times) & np.isfinite(values).all(axis=1)
    times, values = times[keep], values[keep]
    keep = ~_spikes(times)
    times, values = times[keep], values[keep]
    times, order = np.unique(times, return_index=True)
    return Series(times, values[order])


def places(t_s: npt.ArrayLike, *lat_lon_deg_and_more: npt.ArrayLike) -> Series:
    """Return places on Earth, with further columns; (0, 0) is what autopilots write before they know."""
    found = of(t_s, *lat_lon_deg_and_more)
    lat, lon = found.values.T[:2]
    return found.where(
        (np.abs(lat) <= MAX_LAT_DEG) & (np.abs(lon) <= MAX_LON_DEG) & ((lat != 0) | (lon != 0))
    )


def quaternions(t_s: npt.ArrayLike, *wxyz: npt.ArrayLike) -> Series:
    """Return attitudes from four columns of quaternions; what is not of unit length is left out."""
    found = of(t_s, *wxyz)
    length = np.linalg.norm(found.values, axis=1)
    found = found.where(np.abs(length - 1) < UNIT_TOLERANCE)
    return Series(found.t_s, found.values / np.linalg.norm(found.values, axis=1, keepdims=True))


def angles(t_s: npt.ArrayLike, *heading_pitch_roll_deg: npt.ArrayLike) -> Series:
    """Return attitudes from three columns of angles in degrees; those beyond one turn are damage."""
    found = of(t_s, *heading_pitch_roll_deg)
    found = found.where((np.abs(found.values) <= 360).all(axis=1))  # noqa: PLR2004 - a turn
    return Series(found.t_s, attitude.from_angles(*found.values.T))


def heights(t_s: npt.ArrayLike, height_m: npt.ArrayLike) -> Series:
    """Return heights in metres; what no aircraft reaches is damage."""
    found = of(t_s, height_m)
    return found.where(np.abs(found.values[:, 0]) < 100_000)  # noqa: PLR2004 - the edge of space


def above(alt_m: Series, home: Series) -> Series:
    """Return altitudes as heights above the home that held at the time."""
    at_home = held(home, alt_m.t_s)
    return of(alt_m.t_s, alt_m.values[:, 0] - at_home[:, 2]) if len(at_home) else NOTHING


def turned(gimbal: Series, airframe: Series) -> Series:
    """Return a gimbal's attitudes against north, given those against the aircraft's heading."""
    if not len(airframe) or not len(gimbal):
        return NOTHING
    body = attitudes(airframe, gimbal.t_s)
    known = np.isfinite(body).all(axis=1)
    heading_deg = attitude.to_angles(body[known])[:, 0]
    return Series(
        gimbal.t_s[known], attitude.compose(attitude.from_angles(heading_deg, 0.0, 0.0), gimbal.values[known])
    )


def gimbal_device(
    t_s: FloatArray,
    flags: npt.ArrayLike,
    wxyz: list[npt.NDArray[np.generic]],
    *,
    airframe: Series,
) -> Series:
    """Return a gimbal device's attitudes against north, whatever its yaw counts from.

    Source: GIMBAL_DEVICE_ATTITUDE_STATUS in MAVLink's common.xml, of which PX4's topic is a copy.
    """
    said = np.asarray(flags, dtype=np.int64)
    unsaid = said & (YAW_IN_EARTH_FRAME | YAW_IN_VEHICLE_FRAME) == 0
    from_north = (said & YAW_IN_EARTH_FRAME != 0) | (unsaid & (said & YAW_LOCK != 0))
    own = quaternions(t_s[from_north], *(part[from_north] for part in wxyz))
    if from_north.all():
        return own
    rest = turned(quaternions(t_s[~from_north], *(part[~from_north] for part in wxyz)), airframe)
    parts = [part for part in (own, rest) if len(part)]
    if not parts:
        return NOTHING
    t_s = np.concatenate([part.t_s for part in parts])
    return quaternions(np.sort(t_s), *np.concatenate([part.values for part in parts])[np.argsort(t_s)].T)


def _spikes(times: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which times stand out from their neighbours', in the order of the file."""
    if len(times) < SPIKE_WINDOW:
        return np.zeros(len(times), dtype=bool)
    half = SPIKE_WINDOW // 2
    around = np.lib.stride_tricks.sliding_window_view(np.pad(times, half, mode="edge"), SPIKE_WINDOW)
    return np.asarray(np.abs(times - np.median(around, axis=1)) > TIME_SPIKE_S)


def _neighbours(
    t_s: FloatArray, times: FloatArray
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], FloatArray]:
    """Return the rows before and after each time, and how far between it lies, NaN in a hole or outside."""
    ends = np.clip(times, t_s[0], t_s[-1])
    times = np.where(np.abs(ends - times) <= HELD_AT_ENDS_S, ends, times)
    after = np.searchsorted(t_s, times)
    inside = after < len(t_s)
    after = np.minimum(after, len(t_s) - 1)
    exact = t_s[after] == times
    before = np.where(exact, after, np.maximum(after - 1, 0))
    gap_s = t_s[after] - t_s[before]
    inside &= exact | ((gap_s > 0) & (gap_s <= MAX_GAP_S) & (t_s[before] <= times))
    share = np.where(inside, (times - t_s[before]) / np.where(gap_s > 0, gap_s, 1.0), np.nan)
    return before, after, share


def linear(found: Series, times: FloatArray) -> FloatArray:
    """Return a series' values at other times, shape (n, k), NaN in a hole or outside."""
    before, after, share = _neighbours(found.t_s, times)
    low, high = found.values[before], found.values[after]
    return low + (high - low) * share[:, None]


def attitudes(found: Series, times: FloatArray) -> FloatArray:
    """Return a series' quaternions at other times, shape (n, 4), NaN in a hole or outside."""
    before, after, share = _neighbours(found.t_s, times)
    return attitude.between(found.values[before], found.values[after], share=share)


def held(found: Series, times: FloatArray) -> FloatArray:
    """Return the last values before each time; before the first ones those."""
    if not len(found):
        return np.empty((0, found.values.shape[1]))
    return found.values[np.maximum(np.searchsorted(found.t_s, times, side="right") - 1, 0)]
