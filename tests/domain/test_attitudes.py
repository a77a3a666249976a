"""Attitudes as rotations: one convention of angles, and how two of them join."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outwatch.domain.attitude import angles_of, rotation

HEADINGS, PITCHES, ROLLS = st.floats(0, 359.999), st.floats(-89.9, 89.9), st.floats(-179.9, 179.9)


def turn(a_deg: float, b_deg: float) -> float:
    """Return the short way between two angles."""
    return abs((a_deg - b_deg + 180) % 360 - 180)


@given(HEADINGS, PITCHES, ROLLS)
def test_angles_come_back(heading: float, pitch: float, roll: float) -> None:
    """A rotation gives the angles it was made of."""
    found = angles_of(rotation(heading, pitch, roll))
    assert [turn(a, b) for a, b in zip(found, (heading, pitch, roll), strict=True)] == pytest.approx(
        [0, 0, 0], abs=1e-6
    )


@given(HEADINGS, HEADINGS, PITCHES, ROLLS)
def test_on_a_level_airframe_angles_add_up(heading: float, azimuth: float, pitch: float, roll: float) -> None:
    """Without pitch and roll of the airframe the camera's heading is the sum of both."""
    found = angles_of(rotation(heading, 0, 0) @ rotation(azimuth, pitch, roll))
    assert turn(found[0], heading + azimuth) == pytest.approx(0, abs=1e-6)
    assert [float(found[1]), float(found[2])] == pytest.approx([pitch, roll], abs=1e-6)


def test_pitch_of_the_airframe_is_roll_of_a_camera_that_looks_right() -> None:
    """Angles are not summed: nose up, a camera that looks right has its right side down."""
    heading, pitch, roll = angles_of(rotation(0, 5, 0) @ rotation(90, 0, 0))
    assert [float(heading), float(pitch), float(roll)] == pytest.approx([90, 0, 5], abs=1e-9)


def test_right_side_down_is_positive_roll() -> None:
    """The right-hand axis of a rolled body points below the horizon."""
    assert rotation(0, 0, 10)[:, 1] == pytest.approx([0, np.cos(np.radians(10)), np.sin(np.radians(10))])


@given(HEADINGS, ROLLS)
def test_straight_down_all_turn_is_heading(heading: float, roll: float) -> None:
    """Where heading and roll turn about one axis the roll is 0, and the rotation is kept."""
    matrix = rotation(heading, -90, roll)
    found = angles_of(matrix)
    assert float(found[2]) == 0.0
    assert rotation(*found) == pytest.approx(matrix, abs=1e-9)


def test_whole_series_are_turned_at_once() -> None:
    """Arrays of angles give arrays of rotations."""
    headings = np.array([10.0, 350.0])
    assert rotation(headings, 0, 0).shape == (2, 3, 3)
    assert angles_of(rotation(headings, 0, 0))[0] == pytest.approx(headings)
