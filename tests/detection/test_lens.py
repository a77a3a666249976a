"""Rays through lenses: against OpenCV's projection, which is computed apart."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.lens import distort, undistort
from detection.rays import HFOV, border_directions, pixels_of, ray_directions
from outwatch.domain.types import Lens

WIDTH, HEIGHT = 640, 512
PIXELS = np.array([(x, y) for x in np.linspace(0, WIDTH, 7) for y in np.linspace(0, HEIGHT, 7)])
lenses = st.builds(
    Lens,
    k1=st.floats(-0.15, 0.2),
    k2=st.floats(0.0, 0.1),
    p1=st.floats(-0.003, 0.003),
    p2=st.floats(-0.003, 0.003),
    k3=st.floats(0.0, 0.02),
    centre_x=st.floats(0.47, 0.53),
    centre_y=st.floats(0.47, 0.53),
)
poses = st.builds(
    lambda *values: np.array([[*values, 0.0, 0.0]]),
    *[st.floats(-100, 100)] * 3,
    st.floats(0, 360),
    st.floats(-90, -15),
    st.floats(-20, 20),
    st.floats(15, 50),
)


@settings(max_examples=25, deadline=None)
@given(lens=lenses, pose=poses)
def test_a_ray_meets_the_pixel_that_opencv_gives_its_points(lens: Lens, pose: np.ndarray) -> None:
    """Points along rays, seen by OpenCV through the same lens, fall on the rays' pixels to 0.01 px."""
    rays = ray_directions(pose, PIXELS, width_px=WIDTH, height_px=HEIGHT, lens=lens)[0]
    forward, right, down = (
        ray_directions(pose, at, width_px=2, height_px=2)[0, 0] for at in axis_pixels(pose)
    )
    right, down = (axis - forward * (axis @ forward) for axis in (right, down))
    turn = np.stack([right / np.linalg.norm(right), down / np.linalg.norm(down), forward])
    focal = WIDTH / 2 / math.tan(math.radians(pose[0, HFOV] / 2))
    matrix = np.array([[focal, 0, lens.centre_x * WIDTH], [0, focal, lens.centre_y * HEIGHT], [0, 0, 1]])
    shown, _ = cv2.projectPoints(
        (rays @ turn.T) * 80.0,
        np.zeros(3),
        np.zeros(3),
        matrix,
        np.array([lens.k1, lens.k2, lens.p1, lens.p2, lens.k3]),
    )

    assert shown[:, 0] == pytest.approx(PIXELS, abs=0.01)


def axis_pixels(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pixels of a frame of 2 by 2 that lie ahead, to the right and below of the axis."""
    return np.array([[1.0, 1.0]]), np.array([[2.0, 1.0]]), np.array([[1.0, 2.0]])


@settings(max_examples=25, deadline=None)
@given(lens=st.none() | lenses, pose=poses)
def test_pixels_of_undoes_rays(lens: Lens | None, pose: np.ndarray) -> None:
    """A place along a pixel's ray is seen at that pixel."""
    rays = ray_directions(pose, PIXELS, width_px=WIDTH, height_px=HEIGHT, lens=lens)[0]
    places = pose[0, :3] + 120.0 * rays

    assert pixels_of(pose, places, width_px=WIDTH, height_px=HEIGHT, lens=lens)[0] == pytest.approx(
        PIXELS, abs=1e-4
    )


def test_what_is_behind_the_camera_has_no_pixel() -> None:
    """A point at its back is NaN, not a mirrored pixel."""
    pose = np.array([[0.0, 0, 80, 0, -45, 0, 25, 0, 0]])

    assert np.isnan(pixels_of(pose, np.array([[0.0, -500.0, 0.0]]), width_px=WIDTH, height_px=HEIGHT)).all()


def test_where_no_ray_belongs_there_is_none() -> None:
    """Past the fold of a barrel the inverse is NaN; before it, it is exact."""
    barrel = Lens(k1=-0.3)
    x = np.array([0.4, 0.9])
    ideal, _ = undistort(x, np.zeros(2), barrel)

    assert distort(ideal[:1], np.zeros(1), barrel)[0] == pytest.approx(x[:1])
    assert np.isnan(ideal[1])


def test_a_border_bent_inwards_claims_no_ground_that_no_pixel_shows() -> None:
    """Every ray of a barrel lens' border falls inside the frame."""
    pose = np.array([0.0, 0, 100, 30, -60, 3, 60, 0, 0])
    lens = Lens(k1=-0.2)
    border = border_directions(pose, width_px=WIDTH, height_px=HEIGHT, min_depression_deg=15.0, lens=lens)
    shown = pixels_of(pose[None], pose[:3] + 50 * border, width_px=WIDTH, height_px=HEIGHT, lens=lens)[0]

    assert len(border) > 20
    assert (shown >= -0.5).all()
    assert (shown <= [WIDTH + 0.5, HEIGHT + 0.5]).all()
