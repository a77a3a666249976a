"""Fixed mounts: the camera's angles from the airframe's, and the reasons where there are none."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.telemetry.mount import apply_mount, not_georeferenced
from outwatch.domain.attitude import rotation
from outwatch.domain.types import GeoPoint, MountAngles, Telemetry, TelemetrySample

NADIR, FORWARD = MountAngles(pitch_deg=-90), MountAngles(pitch_deg=0)
HERE = GeoPoint(33.5, 71.4, 1300.0)
HEADING, TILT = st.floats(0, 359.9), st.floats(-80, 80)
METRE_DEG = 1 / 111_195


def sample(
    t_s: float = 0.0, *, attitude: tuple[float | None, ...] = (None,) * 3, point: GeoPoint | None = HERE
):
    heading_deg, pitch_deg, roll_deg = attitude
    return TelemetrySample(
        offset_s=t_s,
        at=None,
        point=point,
        height_agl_m=60.0,
        airframe_heading_deg=heading_deg,
        airframe_pitch_deg=pitch_deg,
        airframe_roll_deg=roll_deg,
    )


def log(*samples: TelemetrySample) -> Telemetry:
    return Telemetry(format="log", samples=samples, missing=("gimbal",), warnings=("log_dropouts",))


def mounted(attitude: tuple[float | None, ...], mount: MountAngles) -> TelemetrySample:
    return apply_mount(log(sample(attitude=attitude)), mount).samples[0]


def northward(speed_m_s: float, *, every_s: float = 0.1, seconds: float = 5.0) -> list[TelemetrySample]:
    """Fly due north without an attitude."""
    return [
        sample(i * every_s, point=GeoPoint(33.5 + i * every_s * speed_m_s * METRE_DEG, 71.4))
        for i in range(round(seconds / every_s) + 1)
    ]


@given(HEADING, TILT, st.floats(-180, 180))
def test_a_forward_mount_has_the_airframes_angles(heading: float, pitch: float, roll: float) -> None:
    """Along the nose the camera turns as the aircraft does."""
    found = mounted((heading, pitch, roll), FORWARD)
    expected = rotation(heading, pitch, roll)
    np.testing.assert_allclose(
        rotation(found.heading_deg, found.pitch_deg, found.roll_deg), expected, atol=1e-9
    )


@given(HEADING)
def test_a_nadir_mount_on_a_level_aircraft_looks_straight_down(heading: float) -> None:
    """The picture's top is then where the nose points."""
    found = mounted((heading, 0.0, 0.0), NADIR)
    assert (-90.0, 0.0) == pytest.approx((found.pitch_deg, found.roll_deg), abs=1e-6)
    assert 0 == pytest.approx(math.sin(math.radians(found.heading_deg - heading)), abs=1e-6)


@given(HEADING, st.floats(1, 60))
def test_a_banked_aircrafts_floor_looks_the_other_way(heading: float, bank: float) -> None:
    """Right side down turns a nadir camera to the left of the way by the bank."""
    found = mounted((heading, 0.0, bank), NADIR)
    assert bank - 90 == pytest.approx(found.pitch_deg, abs=1e-6)
    assert -1 == pytest.approx(math.sin(math.radians(found.heading_deg - heading)), abs=1e-6)


@given(HEADING, TILT, st.floats(-60, 60), st.floats(-90, 0), HEADING)
def test_any_mount_keeps_its_place_on_the_airframe(
    heading: float, pitch: float, roll: float, down: float, round_: float
) -> None:
    """Seen from the airframe, the camera looks where its mount says, whatever the attitude."""
    found = mounted((heading, pitch, roll), MountAngles(pitch_deg=down, heading_deg=round_))
    airframe, camera = (
        rotation(heading, pitch, roll),
        rotation(found.heading_deg, found.pitch_deg, found.roll_deg),
    )
    np.testing.assert_allclose(airframe.T @ camera, rotation(round_, down, 0.0), atol=1e-9)


def test_written_angles_are_never_overwritten() -> None:
    """A camera that reports its angles keeps them."""
    own = replace(sample(attitude=(10.0, 0.0, 0.0)), heading_deg=200.0, pitch_deg=-30.0)
    telemetry = log(own, sample(1.0, attitude=(10.0, 0.0, 0.0)))
    first, second = apply_mount(telemetry, MountAngles(pitch_deg=-45)).samples
    assert own == first
    assert (10.0, -45.0) == pytest.approx((second.heading_deg, second.pitch_deg))
    gimballed = replace(telemetry, samples=(own,), missing=())
    assert gimballed == apply_mount(gimballed, NADIR)


def test_what_is_assumed_is_said() -> None:
    """A track without attitude is taken as level, and its way stands for its heading."""
    telemetry = apply_mount(log(*northward(10.0)), MountAngles(pitch_deg=-45, heading_deg=90))
    assert ("log_dropouts", "level_assumed", "heading_from_course") == telemetry.warnings
    assert () == telemetry.missing
    for found in telemetry.samples:
        assert (90.0, -45.0, 0.0) == pytest.approx(
            (found.heading_deg, found.pitch_deg, found.roll_deg), abs=1e-6
        )


@pytest.mark.parametrize("every_s", [0.1, 1.0, 4.0])
def test_a_slow_aircrafts_way_is_no_heading(every_s: float) -> None:
    """Below 2 m/s the heading stays unknown, at all rates of positions; pitch and roll are still given."""
    slow = apply_mount(log(*northward(1.9, every_s=every_s, seconds=12)), MountAngles(pitch_deg=-45))
    assert {(None, -45.0)} == {(found.heading_deg, round(found.pitch_deg, 6)) for found in slow.samples}
    assert ("log_dropouts", "level_assumed") == slow.warnings
    fast = apply_mount(log(*northward(2.1, every_s=every_s, seconds=12)), MountAngles(pitch_deg=-45))
    assert fast.georeferenced


def test_the_way_across_the_antimeridian_is_short() -> None:
    """Flying east over 180 degrees is flying east."""
    points = [GeoPoint(0.0, lon) for lon in (179.9998, 179.9999, -180.0, -179.9999)]
    telemetry = apply_mount(log(*(sample(float(i), point=p) for i, p in enumerate(points))), FORWARD)
    assert [90.0] * 4 == pytest.approx([found.heading_deg for found in telemetry.samples])


def test_positions_far_apart_show_no_way() -> None:
    """Over a hole of a minute an aircraft may have flown anywhere."""
    there = GeoPoint(33.6, 71.4)
    assert None is apply_mount(log(sample(0), sample(60, point=there)), FORWARD).samples[0].heading_deg


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ((sample(point=None, attitude=(1.0, 2.0, 3.0)),), "has no position"),
        (
            (sample(attitude=(1.0, 2.0, 3.0)),),
            "no gimbal angles; if the camera is fixed, declare mount_pitch_deg",
        ),
        ((replace(sample(), pitch_deg=-45.0),), "does not tell where the camera looks"),
        (
            (replace(sample(point=None), pitch_deg=-45.0, heading_deg=1.0), sample(1.0)),
            "never has position and camera angles at one moment",
        ),
    ],
)
def test_the_reason_for_no_place_is_said(samples: tuple[TelemetrySample, ...], reason: str) -> None:
    """Each lack has its own words."""
    found = not_georeferenced(log(*samples))
    assert found is not None
    assert found.startswith("not georeferenced: ")
    assert reason in found


def test_what_can_be_located_has_no_reason() -> None:
    """Position, pitch and heading at one moment are enough."""
    assert None is not_georeferenced(apply_mount(log(sample(attitude=(1.0, 2.0, 3.0))), NADIR))
