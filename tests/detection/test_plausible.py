"""Boxes whose length on the ground does not fit their name are told apart."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from detection.ground import ErrorBudget, GroundLocator
from detection.labels import CAR, PERSON
from detection.plausible import plausible
from outwatch.domain.types import Box, GeoPoint, TelemetrySample

LOCATOR = GroundLocator(
    None,
    ErrorBudget(
        position_sigma_m=2.5,
        height_sigma_m=2.0,
        heading_sigma_deg=2.5,
        tilt_sigma_deg=0.7,
        min_depression_deg=15.0,
        flat_ground_sigma_m=3.0,
        flat_ground_slope=0.02,
        altitude_sigma_m=12.0,
    ),
)
SIZE = {"width_px": 640, "height_px": 512}
HEIGHT_M, HFOV_DEG = 60.0, 24.6  # straight down: 4.1 cm a pixel


def fits(label: str, length_px: float, *, left_px: float = 300.0, height_m: float = HEIGHT_M) -> bool:
    """Return whether a box of a length in the middle of a look straight down is plausible."""
    pose = TelemetrySample(
        0.0, None, GeoPoint(33.5, 71.4), height_m, heading_deg=0.0, pitch_deg=-90.0, hfov_deg=HFOV_DEG
    )
    box = Box(label, 0.9, (left_px, 240.0, left_px + length_px / 2, 240.0 + length_px))
    places = LOCATOR.locate(
        [box.box_xyxy_px], at=datetime(2026, 3, 14, tzinfo=UTC), pose=pose, camera=None, **SIZE
    )
    (answer,) = plausible([box], places, view=LOCATOR.view(pose, None, **SIZE))
    return answer


@pytest.mark.parametrize(
    ("label", "length_px", "expected"),
    [(CAR, 30, False), (CAR, 110, True), (CAR, 1000, False), (PERSON, 30, True), (PERSON, 110, False)],
)
def test_length_on_the_ground_must_fit_the_name(label: str, length_px: float, expected: bool) -> None:
    """1.2 m are no car, 4.5 m no person, 41 m neither."""
    assert fits(label, length_px) is expected


def test_same_box_from_higher_up_is_a_car() -> None:
    """What is 1.2 m long from 60 m is 2.6 m long from 130 m."""
    assert fits(CAR, 30, height_m=130.0)


def test_car_that_the_frame_cuts_is_not_too_short() -> None:
    """What reaches the frame's edge may go on beyond it."""
    assert fits(CAR, 30, left_px=0.0)
