"""Give telemetry the camera's angles where the camera is fixed to its airframe, and say what is missing else.

Belongs here: how a declared mount and the aircraft's attitude make the camera's. Not here: gimbals, which
report their own angles (one module a format), and rotations themselves (``outwatch/domain/attitude.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import compress

import numpy as np
import numpy.typing as npt

from ingest.telemetry.track import missing_fields
from outwatch.domain.attitude import angles_of, rotation
from outwatch.domain.types import MountAngles, Telemetry, TelemetrySample

MIN_COURSE_SPEED_M_S = 2.0
"""Slower than this an aircraft's way says little of its nose: position noise of 1 m over ``COURSE_OVER_S``
turns it by 30 degrees, and multirotors hover and fly sideways."""
COURSE_OVER_S = 1.0
"""The way is taken from at least half this time before to half after."""
MAX_COURSE_GAP_S = 10.0
"""Positions further apart may lie on two sides of a turn."""
DOUBTS = ("level_assumed", "heading_from_course")
_M_PER_DEG = 111_195.0
"""Metres in a degree of latitude on a sphere of the Earth's mean radius: within 0.6 % anywhere."""

FloatArray = npt.NDArray[np.float64]


def apply_mount(telemetry: Telemetry, mount: MountAngles) -> Telemetry:
    """Return telemetry with the angles of a camera that is fixed to the airframe.

    Samples that have camera angles keep them. Without the aircraft's pitch and roll it is taken as level
    (warning ``level_assumed``); without its heading, the way it flies stands for it where it flies fast
    enough (warning ``heading_from_course``), else the camera's heading stays unknown.
    """
    open_rows = [row for row, sample in enumerate(telemetry.samples) if not _has_angles(sample)]
    if not open_rows:
        return telemetry
    bare = [telemetry.samples[row] for row in open_rows]
    course_deg = _courses(telemetry.samples)[open_rows]
    written_deg = _floats(sample.airframe_heading_deg for sample in bare)
    pitch_deg, roll_deg = (
        _floats(getattr(sample, name) for sample in bare)
        for name in ("airframe_pitch_deg", "airframe_roll_deg")
    )
    heading_deg = np.where(np.isnan(written_deg), course_deg, written_deg)
    holds = (
        np.isnan([pitch_deg, roll_deg]).any(),
        (np.isnan(written_deg) & ~np.isnan(course_deg)).any(),
    )
    camera = _camera_angles(
        np.column_stack([heading_deg, np.nan_to_num(pitch_deg), np.nan_to_num(roll_deg)]), mount=mount
    )
    samples = list(telemetry.samples)
    for row, (camera_heading_deg, camera_pitch_deg, camera_roll_deg) in zip(open_rows, camera, strict=True):
        samples[row] = replace(
            samples[row],
            heading_deg=camera_heading_deg,
            pitch_deg=camera_pitch_deg,
            roll_deg=camera_roll_deg,
        )
    return replace(
        telemetry,
        samples=tuple(samples),
        missing=tuple(name for name in telemetry.missing if name != "gimbal"),
        warnings=(*telemetry.warnings, *compress(DOUBTS, holds)),
    )


def change_mount(telemetry: Telemetry, before: MountAngles | None, mount: MountAngles | None) -> Telemetry:
    """Return telemetry with a camera fixed anew; angles that a gimbal reported stay.

    Args:
        telemetry: as ``apply_mount`` left it for ``before``.
        before: how the camera was thought to be fixed, None where nothing was declared.
        mount: how it is fixed.
    """
    if before is not None and before != mount:
        telemetry = _without(telemetry, before)
    return apply_mount(telemetry, mount) if mount is not None else telemetry


def _without(telemetry: Telemetry, mount: MountAngles) -> Telemetry:
    """Return telemetry without the camera angles that a mount gave; these follow from the airframe's."""
    bare = tuple(
        replace(sample, heading_deg=None, pitch_deg=None, roll_deg=None) for sample in telemetry.samples
    )
    given = apply_mount(replace(telemetry, samples=bare), mount).samples
    samples = tuple(
        none if (sample.pitch_deg, sample.roll_deg) == (angles.pitch_deg, angles.roll_deg) else sample
        for sample, none, angles in zip(telemetry.samples, bare, given, strict=True)
    )
    return replace(
        telemetry,
        samples=samples,
        missing=missing_fields(samples),
        warnings=tuple(word for word in telemetry.warnings if word not in DOUBTS),
    )


def not_georeferenced(telemetry: Telemetry) -> str | None:
    """Return why nothing in a clip with this telemetry can be located, None where something can."""
    if telemetry.georeferenced:
        return None
    samples = telemetry.samples
    if not any(sample.point for sample in samples):
        return "not georeferenced: the telemetry has no position"
    if not any(sample.pitch_deg is not None for sample in samples):
        return (
            "not georeferenced: the telemetry has no gimbal angles; if the camera is fixed, declare"
            " mount_pitch_deg"
        )
    if not any(sample.heading_deg is not None for sample in samples):
        return (
            "not georeferenced: the telemetry does not tell where the camera looks: it has no heading, and"
            " the aircraft moves too slowly for its way to show one"
        )
    return "not georeferenced: the telemetry never has position and camera angles at one moment"


def _has_angles(sample: TelemetrySample) -> bool:
    return not sample.heading_deg is sample.pitch_deg is sample.roll_deg is None


def _camera_angles(
    airframe: FloatArray, *, mount: MountAngles
) -> Iterator[tuple[float | None, float | None, float | None]]:
    """Yield the camera's heading, pitch and roll for attitudes of the airframe.

    Args:
        airframe: heading (NaN where unknown), pitch and roll in degrees, shape (n, 3).
        mount: the camera's angles on the airframe.
    """
    heading_deg, pitch_deg, roll_deg = airframe.T
    fixed = rotation(mount.heading_deg, mount.pitch_deg, mount.roll_deg)
    # Pitch and roll do not depend on the heading, which turns about the vertical after all else.
    camera = angles_of(rotation(np.nan_to_num(heading_deg), pitch_deg, roll_deg) @ fixed)
    for known, heading, pitch, roll in zip(
        ~np.isnan(heading_deg), *(angle.tolist() for angle in camera), strict=True
    ):
        yield heading if known else None, pitch, roll


def _courses(samples: Sequence[TelemetrySample]) -> FloatArray:
    """Return the bearing of each sample's way over ground in degrees, NaN where it is slow or not known."""
    placed = [sample for sample in samples if sample.point is not None]
    courses = np.full(len(samples), np.nan)
    if not placed:
        return courses
    own_s = np.array([sample.offset_s for sample in placed])
    lat_deg, lon_deg = np.array([(s.point.lat_deg, s.point.lon_deg) for s in placed if s.point]).T
    half_s = COURSE_OVER_S / 2
    before = np.maximum(np.searchsorted(own_s, own_s - half_s, side="right") - 1, 0)
    after = np.minimum(np.searchsorted(own_s, own_s + half_s), len(own_s) - 1)
    span_s = own_s[after] - own_s[before]
    north_m = (lat_deg[after] - lat_deg[before]) * _M_PER_DEG
    turn_deg = (lon_deg[after] - lon_deg[before] + 180) % 360 - 180
    east_m = turn_deg * _M_PER_DEG * np.cos(np.radians(lat_deg))
    moving = (
        (span_s > 0)
        & (span_s <= MAX_COURSE_GAP_S)
        & (np.hypot(north_m, east_m) >= MIN_COURSE_SPEED_M_S * span_s)
    )
    rows = [row for row, sample in enumerate(samples) if sample.point is not None]
    courses[rows] = np.where(moving, np.degrees(np.arctan2(east_m, north_m)) % 360, np.nan)
    return courses


def _floats(values: Iterator[float | None]) -> FloatArray:
    return np.array([np.nan if value is None else value for value in values])
