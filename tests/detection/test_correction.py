"""A flight's heading and height from known points, against the simulator's camera, computed apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from detection.correction import (
    MAX_HEADING_SIGMA_DEG,
    MIN_APART_M,
    Click,
    FlightCorrection,
    solve_correction,
)
from detection.ground import ErrorBudget, GroundLocator
from detection.terrain import FlatTerrain
from outwatch.domain.cameras import camera_named
from outwatch.domain.errors import CorrectionRefused
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.types import GeoPoint, TelemetrySample
from outwatch.simulate import PoseNoise
from outwatch.simulate.path import Reporter
from outwatch.simulate.view import Floats, Pose, Site, View

CAMERA = camera_named("DJI XT2 25 mm")
WIDTH, HEIGHT = 640, 512
SITE = Site(33.5869, 71.4429, 500.0)
BUDGET = ErrorBudget(2.5, 2.0, 2.5, 0.7, 15.0, 3.0)
LOCATOR = GroundLocator(None, BUDGET)
AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
OVER = Pose(0.0, 0.0, 80.0, 40.0, -40.0)
ACROSS = Pose(-20.0, 30.0, 80.0, 75.0, -40.0)
COMPASS_DEG, BAROMETER_M = 4.0, 6.0


def told(pose: Pose, *, heading_deg: float = COMPASS_DEG, up_m: float = BAROMETER_M) -> TelemetrySample:
    """Return what an aircraft with these errors says of a pose."""
    return TelemetrySample(
        offset_s=0.0,
        at=None,
        point=SITE.to_geo(pose.east_m, pose.north_m, pose.up_m + up_m),
        height_agl_m=pose.up_m + up_m,
        heading_deg=(pose.heading_deg + heading_deg) % 360,
        pitch_deg=pose.pitch_deg,
        roll_deg=pose.roll_deg,
        home=SITE.to_geo(0.0, 0.0, 0.0),
    )


def seen(pose: Pose, pixels: Sequence[tuple[float, float]]) -> Floats:
    """Return the ground (east, north, 0) that a pose shows at pixels."""
    rays = View(pose, WIDTH, HEIGHT, CAMERA.hfov_deg).rays(np.array(pixels))
    return pose.position_m - rays * (pose.up_m / rays[:, 2:])


def clicks(pose: Pose, pixels: Sequence[tuple[float, float]], said: TelemetrySample) -> list[Click]:
    """Return exact clicks on ground points that a pose shows."""
    return [
        Click(0.0, pixel, SITE.to_geo(float(place[0]), float(place[1]), 0.0), said, CAMERA, WIDTH, HEIGHT)
        for pixel, place in zip(pixels, seen(pose, pixels), strict=True)
    ]


TWO = [(90.0, 420.0), (560.0, 110.0)]


def gathering_errors_m(correction: FlightCorrection | None) -> list[float]:
    """Return how far from the truth each of 13 people of a gathering is put."""
    pixels = [(250.0 + 12 * (i % 5), 200.0 + 15 * (i // 5)) for i in range(13)]
    pose, locator = told(OVER), LOCATOR
    if correction is not None:
        pose, locator = correction.pose(pose) or pose, LOCATOR.with_budget(correction.budget(BUDGET))
    boxes = [(x, y, x, y) for x, y in pixels]
    located = locator.locate(boxes, at=AT, pose=pose, camera=CAMERA, width_px=WIDTH, height_px=HEIGHT)
    errors_m = []
    for box, place in zip(located, seen(OVER, pixels), strict=True):
        assert box.fix.point is not None
        truth = SITE.to_geo(float(place[0]), float(place[1]), 0.0)
        away = LocalFrame.at(truth).to_local(box.fix.point.lat_deg, box.fix.point.lon_deg)
        errors_m.append(float(np.hypot(*away)))
    return errors_m


def test_two_points_put_a_gathering_where_it_is() -> None:
    """A compass off by 4 degrees and a barometer by 6 m: from more than 5 m to less than 2 m."""
    correction = solve_correction(clicks(OVER, TWO, told(OVER)), locator=LOCATOR)

    assert (correction.heading_offset_deg, correction.height_offset_m) == pytest.approx(
        (-COMPASS_DEG, -BAROMETER_M), abs=0.05
    )
    assert min(gathering_errors_m(None)) > 5
    assert max(gathering_errors_m(correction)) < 2


def test_points_in_several_frames_are_one_flight_s() -> None:
    """Points seen from two poses solve as well as points of one frame, better where they are more."""
    both = clicks(OVER, TWO, told(OVER)) + clicks(ACROSS, TWO, told(ACROSS))
    one = solve_correction(both[:2], locator=LOCATOR)
    across = solve_correction([both[0], both[3]], locator=LOCATOR)
    all_four = solve_correction(both, locator=LOCATOR)

    assert across.heading_offset_deg == pytest.approx(-COMPASS_DEG, abs=0.05)
    assert all_four.heading_sigma_deg < one.heading_sigma_deg
    assert all_four.points == 4


def test_stated_sigmas_are_what_flights_scatter_by() -> None:
    """Over flights with every error of the budget, the offsets are off by the sigmas that are stated."""
    random = np.random.default_rng(5)
    off = []
    for _ in range(150):
        biased = Reporter.of(PoseNoise(heading_sigma_deg=0, height_sigma_m=0, jitter=0.0), random).report(
            OVER
        )
        exact = clicks(OVER, TWO, told(biased))
        noisy = [
            replace(
                click,
                pixel=(click.pixel[0] + random.normal(0, 2), click.pixel[1] + random.normal(0, 2)),
                camera=replace(CAMERA, hfov_deg=CAMERA.hfov_deg + random.normal(0, CAMERA.hfov_sigma_deg)),
                point=moved(click.point, *random.normal(0, [1, 1, 3])),
            )
            for click in exact
        ]
        found = solve_correction(noisy, locator=LOCATOR)
        off.append(
            (
                (found.heading_offset_deg + COMPASS_DEG) / found.heading_sigma_deg,
                (found.height_offset_m + BAROMETER_M) / found.height_sigma_m,
            )
        )

    # 150 flights: a standard deviation is measured to within a fifth (three of its sigmas).
    assert np.std(off, axis=0) == pytest.approx([1, 1], abs=0.2)


def moved(point: GeoPoint, east_m: float, north_m: float, up_m: float) -> GeoPoint:
    lat_deg, lon_deg = LocalFrame.at(point).to_geo(east_m, north_m)
    return GeoPoint(float(lat_deg), float(lon_deg), (point.alt_m or 0.0) + up_m)


def test_a_point_above_the_ground_counts_by_its_height() -> None:
    """The top of a mast is where its height puts it, on flat ground and on a terrain."""
    view = View(OVER, WIDTH, HEIGHT, CAMERA.hfov_deg)
    ground = clicks(OVER, TWO, told(OVER))
    foot = seen(OVER, [(320.0, 256.0)])[0]
    (top,), _ = view.project((foot + np.array([0, 0, 12.0]))[None])
    mast = replace(ground[0], pixel=(float(top[0]), float(top[1])))
    mast = replace(mast, point=SITE.to_geo(float(foot[0]), float(foot[1]), 12.0))

    # Flat ground takes its altitude from the telemetry, whose error cancels in the difference of heights.
    for locator in (LOCATOR, GroundLocator(FlatTerrain(500.0), BUDGET)):
        found = solve_correction([*ground, mast], locator=locator)
        assert found.heading_offset_deg == pytest.approx(-COMPASS_DEG, abs=0.1)
        assert found.height_offset_m == pytest.approx(-BAROMETER_M, abs=0.1)


def test_a_correction_goes_wherever_a_pose_states_a_height_or_heading() -> None:
    """Both altitudes and the height move together; what is not stated stays so, and north is passed."""
    correction = FlightCorrection(10.0, -3.0, 0.5, 1.0, 0.0, 2)
    pose = TelemetrySample(0.0, None, GeoPoint(33.0, 71.0, 600.0), 80.0, 355.0, ellipsoid_height_m=560.0)
    silent = TelemetrySample(0.0, None, GeoPoint(33.0, 71.0), None)

    found = correction.pose(pose)

    assert found is not None
    assert found.point is not None
    assert (found.point.alt_m, found.height_agl_m, found.ellipsoid_height_m) == (597.0, 77.0, 557.0)
    assert found.heading_deg == pytest.approx(5.0)
    assert correction.pose(silent) == silent
    assert correction.pose(None) is None


def test_a_corrected_flight_s_ellipses_shrink() -> None:
    """What is known better is stated better: at 40 degrees the compass was a large part of the error."""
    correction = solve_correction(
        clicks(OVER, TWO, told(OVER)) + clicks(ACROSS, TWO, told(ACROSS)), locator=LOCATOR
    )
    radii = []
    for locator in (LOCATOR, LOCATOR.with_budget(correction.budget(BUDGET))):
        (box,) = locator.locate(
            [[320, 256, 320, 256]], at=AT, pose=told(OVER), camera=CAMERA, width_px=WIDTH, height_px=HEIGHT
        )
        assert box.fix.error_ellipse is not None
        radii.append(box.fix.error_ellipse.semi_major_m * box.fix.error_ellipse.semi_minor_m)

    assert radii[1] < radii[0]


def refusal(found: Sequence[Click]) -> str:
    with pytest.raises(CorrectionRefused) as refused:
        solve_correction(found, locator=LOCATOR)
    return str(refused.value)


def test_one_point_is_too_few_and_two_beside_each_other_are_one() -> None:
    """Two points or more, at least ten metres apart."""
    good = clicks(OVER, TWO, told(OVER))

    assert "two known points or more, found 1" in refusal(good[:1])
    assert f"at least {MIN_APART_M:g} m are needed" in refusal(
        clicks(OVER, [(300, 250), (340, 250)], told(OVER))
    )


def test_a_point_behind_the_camera_is_refused() -> None:
    """Latitude and longitude of another place: said as such."""
    good, other = clicks(OVER, TWO, told(OVER))
    behind = replace(other, point=SITE.to_geo(-400.0, -400.0, 0.0))

    assert "lies behind the camera" in refusal([good, behind])


def test_points_that_contradict_each_other_are_refused_with_the_worst_named() -> None:
    """One click of three on the wrong corner, 70 pixels off, is found out and named."""
    good = clicks(OVER, [*TWO, (320.0, 256.0)], told(OVER))
    wrong = replace(good[2], pixel=(250.0, 256.0))

    assert "contradict each other" in refusal([*good[:2], wrong])
    assert "most at point 3 of 3" in refusal([*good[:2], wrong])


def test_offsets_that_no_instrument_has_are_refused() -> None:
    """A compass that is off by 70 degrees is another flight's."""
    said = told(OVER, heading_deg=70.0)

    assert "more than any instrument is off" in refusal(clicks(OVER, TWO, said))


def test_points_that_do_not_determine_the_heading_are_refused() -> None:
    """Straight below the camera, positions that are off by metres hide any heading."""
    low = Pose(0.0, 0.0, 25.0, 40.0, -90.0)
    found = refusal(clicks(low, [(20.0, 20.0), (620.0, 490.0)], told(low, up_m=0.0)))

    assert "leave the heading uncertain" in found
    assert f"at most {MAX_HEADING_SIGMA_DEG:g}" in found


def test_without_a_pose_there_is_no_correction() -> None:
    """A clip without telemetry cannot be corrected, and the reason is the locator's own."""
    good = clicks(OVER, TWO, told(OVER))

    assert "no telemetry for this moment" in refusal([good[0], replace(good[1], pose=None)])


@pytest.mark.parametrize("heading_deg", [-20.0, 0.0, 12.0])
@pytest.mark.parametrize("up_m", [-15.0, 9.0])
def test_offsets_of_any_size_are_found(heading_deg: float, up_m: float) -> None:
    """From a start at zero, with exact clicks, the solution is the offset itself."""
    said = told(OVER, heading_deg=heading_deg, up_m=up_m)

    found = solve_correction(clicks(OVER, TWO, said), locator=LOCATOR)

    assert (found.heading_offset_deg, found.height_offset_m) == pytest.approx((-heading_deg, -up_m), abs=0.05)
    assert found.residual_px == pytest.approx(0, abs=0.5)
    assert math.isfinite(found.heading_sigma_deg)
