"""From pixels to places on the ground, flat and on a terrain."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import shapely

from detection.ground import ErrorBudget, GroundLocator, LocatedBox
from detection.poses import DEM_RELATIVE_SIGMA_M
from detection.rays import pixels_of
from detection.terrain import DemTerrain, FlatTerrain, Geoid
from outwatch.domain.geometry import CHI2_2DOF_P90, LocalFrame, covariance_from_ellipse
from outwatch.domain.ports import Terrain
from outwatch.domain.types import Camera, GeoPoint, Lens, Modality, TelemetrySample
from outwatch.simulate import PoseNoise
from outwatch.simulate.path import Reporter
from outwatch.simulate.terrain import read_dem
from outwatch.simulate.view import Pose
from outwatch.simulate.view import View as SimulatedView

FloatArray = npt.NDArray[np.float64]

AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
BUDGET = ErrorBudget(
    position_sigma_m=2.5,
    height_sigma_m=2.0,
    heading_sigma_deg=2.5,
    tilt_sigma_deg=0.7,
    min_depression_deg=15.0,
    flat_ground_sigma_m=3.0,
)
CAMERA = Camera("XT2 25 mm", Modality.THERMAL, hfov_deg=24.56, hfov_sigma_deg=0.5, source="data sheet")
WIDTH, HEIGHT = 640, 512
HOME = GeoPoint(33.6, 71.4, 1000.0)
POSE = TelemetrySample(
    offset_s=0.0,
    at=None,
    point=GeoPoint(33.6, 71.4, 1100.0),
    height_agl_m=100.0,
    heading_deg=0.0,
    pitch_deg=-45.0,
)
MIDDLE = np.array([[320.0, 256.0, 320.0, 256.0]])
"""An empty box in the middle of the frame: the optical axis."""


def locate(
    boxes: npt.ArrayLike = MIDDLE,
    *,
    pose: TelemetrySample | None = POSE,
    camera: Camera | None = CAMERA,
    terrain: Terrain | None = None,
    budget: ErrorBudget = BUDGET,
) -> list[LocatedBox]:
    locator = GroundLocator(terrain, budget)
    return locator.locate(boxes, at=AT, pose=pose, camera=camera, width_px=WIDTH, height_px=HEIGHT)


class Shape:
    """A terrain given by its height as a function of the metres north of HOME."""

    method: Literal["dem"] = "dem"
    spacing_m = 5.0

    def __init__(self, height_m: Callable[[FloatArray], npt.ArrayLike]) -> None:
        self._height_m = height_m

    def heights_m(self, lat_deg: npt.ArrayLike, lon_deg: npt.ArrayLike) -> FloatArray:
        """Return the function's heights."""
        _, north_m = LocalFrame.at(HOME).to_local(lat_deg, lon_deg)
        return np.broadcast_to(np.asarray(self._height_m(north_m), float), north_m.shape)


def ridge(top_m: float) -> Shape:
    """Return ground at 1000 m with a wall between 40 and 50 m north."""
    return Shape(lambda north_m: np.where((north_m > 40) & (north_m < 50), top_m, 1000.0))


@pytest.mark.parametrize(
    ("heading", "pitch", "east_m", "north_m"),
    [(0, -90, 0, 0), (0, -45, 0, 100), (90, -45, 100, 0), (200, -30, -59.24, -162.76)],
)
def test_optical_axis_meets_flat_ground_where_trigonometry_says(
    heading: float, pitch: float, east_m: float, north_m: float
) -> None:
    """Heading turns clockwise from north, pitch falls from the horizon."""
    (box,) = locate(pose=replace(POSE, heading_deg=heading, pitch_deg=pitch))

    assert (box.east_m, box.north_m) == pytest.approx((east_m, north_m), abs=0.01)
    assert box.fix.method == "flat_ground"
    assert box.fix.point is not None
    assert LocalFrame.at(HOME).to_local(box.fix.point.lat_deg, box.fix.point.lon_deg) == pytest.approx(
        (east_m, north_m), abs=0.01
    )
    assert box.fix.point.alt_m == pytest.approx(1000.0)


def test_right_edge_lies_half_the_field_of_view_off_the_axis() -> None:
    """Straight down, the right edge of a frame that heads north is tan(hfov / 2) heights to the east."""
    (box,) = locate([[640, 256, 640, 256]], pose=replace(POSE, pitch_deg=-90.0))

    assert (box.east_m, box.north_m) == pytest.approx((100 * math.tan(math.radians(12.28)), 0), abs=0.01)


def test_right_side_down_roll_brings_the_right_edge_nearer() -> None:
    """With the right side down, the right end of the frame looks at nearer ground than the left."""
    edges = [[0, 256, 0, 256], [640, 256, 640, 256]]
    left, right = locate(edges, pose=replace(POSE, roll_deg=10.0))
    # The edge's ray is forward + tan(hfov / 2) (right cos 10 + down sin 10), meeting the plane at 100 m.
    sideways, slant = math.tan(math.radians(12.28)), math.sqrt(0.5)
    fall = slant * (1 + sideways * math.sin(math.radians(10)))
    ahead = slant * (1 - sideways * math.sin(math.radians(10)))

    assert right.north_m == pytest.approx(100 * ahead / fall, abs=0.01)
    assert left.north_m == pytest.approx(100 * fall / ahead, abs=0.01)


def test_zoom_in_the_telemetry_wins_over_the_camera_table() -> None:
    """A field of view that telemetry states is the moment's own."""
    (box,) = locate([[640, 256, 640, 256]], pose=replace(POSE, pitch_deg=-90.0, hfov_deg=10.0), camera=None)

    assert box.east_m == pytest.approx(100 * math.tan(math.radians(5)), abs=0.01)


def test_a_thing_stands_at_the_bottom_of_its_box_when_oblique_and_in_the_middle_from_above() -> None:
    """From straight above the box's centre counts; at 20 degrees the foot is in its lowest fifth."""
    tall = np.array([[310.0, 246.0, 330.0, 266.0]])
    (above,) = locate(tall, pose=replace(POSE, pitch_deg=-90.0))
    (oblique,) = locate(tall, pose=replace(POSE, pitch_deg=-20.0))
    edges = locate([[320, y, 320, y] for y in (262, 266)], pose=replace(POSE, pitch_deg=-20.0))

    assert (above.east_m, above.north_m) == pytest.approx((0, 0), abs=1e-6)
    assert edges[1].north_m is not None
    assert edges[0].north_m is not None
    assert oblique.north_m is not None
    assert edges[1].north_m < oblique.north_m < edges[0].north_m


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"point": None}, "no position"),
        ({"heading_deg": None}, "telemetry has no gimbal angles"),
        ({"pitch_deg": None}, "telemetry has no gimbal angles"),
        ({"height_agl_m": None}, "no height"),
        ({"height_agl_m": 0.0}, "height 0 m is not above"),
        ({"height_agl_m": -3.5}, "height -3.5 m is not above"),
        ({"pitch_deg": -10.0}, "10.0 degrees below the horizon, at least 15 needed"),
        ({"pitch_deg": 20.0}, "does not point below the horizon"),
    ],
)
def test_what_is_missing_is_said(change: dict[str, float | None], reason: str) -> None:
    """Without what it takes there is no point, and the reason names it with its number."""
    (box,) = locate(pose=replace(POSE, **change))  # type: ignore[arg-type]

    assert (box.fix.point, box.fix.error_radius_m, box.east_m, box.fix.method) == (None, None, None, "none")
    assert reason in str(box.fix.reason_if_none)


def test_no_telemetry_and_no_camera_are_said() -> None:
    """Neither a moment without telemetry nor an unknown lens gives a place."""
    assert "no telemetry" in str(locate(pose=None)[0].fix.reason_if_none)
    assert "field of view" in str(locate(camera=None)[0].fix.reason_if_none)
    locator = GroundLocator(None, BUDGET)
    assert "no telemetry" in str(locator.footprint(None, CAMERA, width_px=WIDTH, height_px=HEIGHT)[1])


def test_no_boxes_give_no_places() -> None:
    """An empty frame is no error."""
    assert locate(np.empty((0, 4))) == []


def test_a_frame_that_passes_the_horizon_places_only_its_steep_part() -> None:
    """Boxes below the least depression get points, the others their own reasons."""
    boxes = [[320, y, 320, y] for y in (0, 256, 511)]

    sky, flat, steep = locate(boxes, pose=replace(POSE, pitch_deg=-9.0))

    assert "does not point below" in str(sky.fix.reason_if_none)
    assert "9.0 degrees" in str(flat.fix.reason_if_none)
    assert steep.fix.point is not None


@pytest.mark.parametrize("pitch", [-90.0, -60.0, -45.0, -30.0])
def test_stated_radius_holds_the_truth_nine_times_in_ten(pitch: float) -> None:
    """Poses drawn from the error budget put the place within the stated radius in 90 % of cases."""
    rng = np.random.default_rng(7)
    (truth,) = locate(pose=replace(POSE, pitch_deg=pitch))
    assert truth.fix.point is not None
    frame, inside = LocalFrame.at(truth.fix.point), []
    for _ in range(600):
        lat, lon = LocalFrame.at(HOME).to_geo(*rng.normal(0, BUDGET.position_sigma_m, 2))
        pose = replace(
            POSE,
            point=GeoPoint(float(lat), float(lon)),
            # A ground that is higher by so much is the same as a camera that is lower.
            height_agl_m=100
            + rng.normal(0, BUDGET.height_sigma_m)
            + rng.normal(0, BUDGET.flat_ground_sigma_m),
            heading_deg=rng.normal(0, BUDGET.heading_sigma_deg),
            pitch_deg=pitch + rng.normal(0, BUDGET.tilt_sigma_deg),
            roll_deg=rng.normal(0, BUDGET.tilt_sigma_deg),
        )
        (box,) = locate(MIDDLE + np.tile(rng.normal(0, 2, 2), 2), pose=pose)
        assert box.fix.point is not None
        assert box.fix.error_radius_m is not None
        inside.append(
            math.hypot(*frame.to_local(box.fix.point.lat_deg, box.fix.point.lon_deg))
            <= box.fix.error_radius_m
        )

    # Three standard errors of 600 draws under 0.9; the circle holds more than the 0.9 ellipse in it.
    assert 0.865 <= np.mean(inside) <= 0.97


def test_error_grows_with_distance_and_points_along_the_view() -> None:
    """A flatter view is less certain, with a sure compass most of all towards and away from the camera."""
    budget = replace(BUDGET, heading_sigma_deg=0.0)
    steep, flat = (
        locate(pose=replace(POSE, pitch_deg=pitch, heading_deg=70.0), budget=budget)[0].fix
        for pitch in (-80.0, -20.0)
    )

    assert steep.error_radius_m is not None
    assert flat.error_radius_m is not None
    assert flat.error_ellipse is not None
    assert flat.error_radius_m > 3 * steep.error_radius_m
    assert flat.error_ellipse.orientation_deg == pytest.approx(70, abs=1)


def test_only_a_ground_that_is_taken_as_level_adds_its_relief_to_the_error() -> None:
    """At 45 degrees a metre of relief is a metre along the view; with a terrain it is not asked about."""
    sure = ErrorBudget(0.0, 0.0, 0.0, 0.0, 15.0, flat_ground_sigma_m=20.0)
    camera = replace(CAMERA, hfov_sigma_deg=0.0)
    (plane,) = locate(budget=sure, camera=camera)
    (rough,) = locate(budget=sure, camera=camera, terrain=FlatTerrain(1000.0))
    (level,) = locate(
        budget=replace(sure, flat_ground_sigma_m=0.0), camera=camera, terrain=FlatTerrain(1000.0)
    )

    assert plane.fix.error_radius_m == pytest.approx(20.0 * math.sqrt(CHI2_2DOF_P90), rel=0.02)
    assert rough.fix.error_radius_m == level.fix.error_radius_m


def test_flat_terrain_agrees_with_the_plane() -> None:
    """A terrain of one height gives the plane's places to the marching tolerance."""
    boxes = np.random.default_rng(0).uniform(50, 450, (20, 2)) @ np.array([[1, 0, 1, 0], [0, 1, 0, 1]])

    plane, terrain = locate(boxes), locate(boxes, terrain=FlatTerrain(1000.0))

    for expected, found in zip(plane, terrain, strict=True):
        assert (expected.east_m, expected.north_m) == pytest.approx((found.east_m, found.north_m), abs=0.03)


def test_height_is_above_the_take_off_point_where_it_is_known() -> None:
    """Over a valley, 100 m above a home 50 m up is 150 m above the ground."""
    home_hill = ridge(1050.0)
    up_north = LocalFrame.at(HOME).to_geo(0, 45)
    pose = replace(POSE, pitch_deg=-90.0, home=GeoPoint(float(up_north[0]), float(up_north[1])))

    (box,) = locate([[640, 256, 640, 256]], pose=pose, terrain=home_hill)

    assert box.east_m == pytest.approx(150 * math.tan(math.radians(12.28)), abs=0.05)
    assert box.fix.method == "dem"


def test_a_ridge_stops_the_ray_in_front_of_what_it_hides() -> None:
    """What the flat plane would put at 100 m north is the ridge at 40 m, not the ground behind it."""
    (flat,) = locate()
    (hit,) = locate(terrain=ridge(1080.0))

    assert flat.north_m == pytest.approx(100, abs=0.01)
    assert hit.north_m == pytest.approx(40, abs=0.05)
    assert hit.fix.point is not None
    assert hit.fix.point.alt_m == pytest.approx(1080, abs=1)


def test_a_ray_that_grazes_a_ridge_is_as_uncertain_as_the_jump_behind_it() -> None:
    """Where the pose's error decides between ridge and valley, the radius reaches from one to the other."""
    (grazing,) = locate(terrain=ridge(1051.0))
    (clear,) = locate(terrain=ridge(1001.0))

    assert grazing.fix.error_radius_m is not None
    assert clear.fix.error_radius_m is not None
    assert grazing.north_m is not None
    assert clear.north_m == pytest.approx(100, abs=0.1)
    assert grazing.fix.error_radius_m >= 100 - grazing.north_m
    assert clear.fix.error_radius_m < 35


def test_an_ellipse_reaches_over_a_brink_that_few_poses_pass() -> None:
    """Ground 300 m lower behind the brink, seen by one pose in fourteen, is not left to the outer tenth."""
    plateau = Shape(lambda north_m: np.where(north_m < 150, 1000.0, 700.0))
    sure = ErrorBudget(0.0, 0.0, 0.0, 0.0, 15.0, 0.0)
    pose = replace(POSE, pitch_deg=-math.degrees(math.atan2(100, 128)))

    (box,) = locate(pose=pose, terrain=plateau, budget=sure, camera=replace(CAMERA, hfov_sigma_deg=0.0))

    assert box.north_m == pytest.approx(128, abs=0.1)
    assert box.fix.error_radius_m is not None
    assert box.fix.error_radius_m > 600 - 128


def test_reasons_of_a_terrain_are_said() -> None:
    """Outside the model, below the ground, without any altitude: each has its own words."""
    outside = locate(terrain=Shape(lambda _: np.nan))
    below = locate(terrain=FlatTerrain(1150.0))
    silent = locate(pose=replace(POSE, point=GeoPoint(33.6, 71.4)), terrain=FlatTerrain(0.0))

    assert "outside the elevation model" in str(outside[0].fix.reason_if_none)
    assert "50 m below the ground" in str(below[0].fix.reason_if_none)
    assert "neither take-off point nor altitude" in str(silent[0].fix.reason_if_none)


def test_a_ray_that_leaves_the_elevation_model_gives_no_point() -> None:
    """Nothing is claimed beyond the model's edge."""
    (box,) = locate(terrain=Shape(lambda north_m: np.where(north_m > 60, np.nan, 1000.0)))

    assert box.fix.point is None
    assert "meets no ground" in str(box.fix.reason_if_none)


def footprint(pose: TelemetrySample) -> tuple[shapely.Polygon, shapely.Polygon]:
    """Return a footprint on flat ground in degrees and in metres around HOME."""
    polygon, reason = GroundLocator(None, BUDGET).footprint(pose, CAMERA, width_px=WIDTH, height_px=HEIGHT)
    assert polygon is not None, reason
    projected = LocalFrame.at(HOME).project(polygon)
    assert isinstance(projected, shapely.Polygon)
    return polygon, projected


def test_footprint_from_straight_above_is_the_frame_on_the_ground() -> None:
    """Its area is width times height at the ground sample distance, its centre below the camera."""
    polygon, local = footprint(replace(POSE, pitch_deg=-90.0))
    width_m = 200 * math.tan(math.radians(12.28))

    assert local.area == pytest.approx(width_m**2 * HEIGHT / WIDTH, rel=1e-3)
    assert local.centroid.distance(shapely.Point(0, 0)) < 0.05
    assert polygon.contains(shapely.Point(HOME.lon_deg, HOME.lat_deg))


def test_footprint_is_cut_at_the_least_depression() -> None:
    """A frame that reaches past the horizon covers ground no farther than 15 degrees reach."""
    _, local = footprint(replace(POSE, pitch_deg=-15.0))
    far_m = max(math.hypot(x, y) for x, y in local.exterior.coords)

    assert far_m == pytest.approx(100 / math.tan(math.radians(15)), rel=2e-3)


@pytest.mark.parametrize("pitch", [-80.0, -45.0, -20.0])
def test_footprint_holds_every_box_that_has_a_place_and_no_more(pitch: float) -> None:
    """Footprint and fixes agree on what can be seen."""
    pose = replace(POSE, pitch_deg=pitch, heading_deg=130.0, roll_deg=4.0)
    _, local = footprint(pose)
    rng = np.random.default_rng(0)
    xy = np.column_stack([rng.uniform(-80, 720, 400), rng.uniform(-60, 572, 400)])
    in_frame = (xy >= 0).all(axis=1) & (xy <= [WIDTH, HEIGHT]).all(axis=1)

    for inside, box in zip(in_frame, locate(np.tile(xy, 2), pose=pose), strict=True):
        if box.east_m is not None and box.north_m is not None:
            place = shapely.Point(box.east_m, box.north_m)
            # The disc's rim is a polygon: a metre of play at the far end.
            assert (
                local.buffer(1.0 if inside else -1.0).contains(place) == inside
                or local.boundary.distance(place) < 1
            )


def test_footprint_on_a_terrain_ends_at_the_ridge() -> None:
    """A wall across the view hides the ground behind it; without the wall the footprint goes on."""
    reach_m = []
    for top_m in (1090.0, 1000.0):
        locator = GroundLocator(ridge(top_m), BUDGET)
        polygon, _ = locator.footprint(POSE, CAMERA, width_px=WIDTH, height_px=HEIGHT)
        assert polygon is not None
        reach_m.append(LocalFrame.at(HOME).project(polygon).bounds[3])

    assert reach_m[0] == pytest.approx(40, abs=0.1)
    assert reach_m[1] == pytest.approx(100 / math.tan(math.radians(45 - 9.88)), rel=0.01)


def test_a_place_that_one_pose_in_ten_misses_is_not_claimed() -> None:
    """At the brink of the elevation model no radius can be stated, so there is no point."""
    brink = Shape(lambda north_m: np.where(north_m > 101, np.nan, 1000.0))

    (box,) = locate(terrain=brink)

    assert box.fix.point is None
    assert "may pass over the ground" in str(box.fix.reason_if_none)


def test_footprint_that_cannot_be_said_has_a_reason() -> None:
    """The same reasons as for boxes, and none for a frame full of sky."""
    locator = GroundLocator(None, BUDGET)

    nothing, reason = locator.footprint(
        replace(POSE, heading_deg=None), CAMERA, width_px=WIDTH, height_px=HEIGHT
    )
    sky, why = locator.footprint(replace(POSE, pitch_deg=30.0), CAMERA, width_px=WIDTH, height_px=HEIGHT)

    assert (nothing, reason) == (None, "not georeferenced: telemetry has no gimbal angles")
    assert sky is None
    assert "horizon" in str(why)


def test_thirty_boxes_take_milliseconds() -> None:
    """A frame of thirty boxes is placed far faster than it is decoded, flat and on real mountains."""
    if "OUTWATCH_SAMPLES" not in os.environ:
        pytest.skip("needs real elevation data: set OUTWATCH_SAMPLES to the samples' folder")
    dem = DemTerrain(Path(os.environ["OUTWATCH_SAMPLES"]) / "dem" / "baltoro_srtm_clip.tif")
    here = GeoPoint(35.74, 76.50)
    pose = replace(POSE, point=here, home=here, pitch_deg=-30.0)
    corners = np.random.default_rng(0).uniform(20, 480, (30, 2))
    boxes = np.hstack([corners, corners + np.array([10, 20])])

    # Ten times what an idle core takes: a busy machine passes, work box by box in Python does not.
    for terrain, limit_s in ((None, 0.015), (dem, 0.1)):
        seconds = []
        for _ in range(7):
            start = time.process_time()
            located = locate(boxes, pose=pose, terrain=terrain)
            seconds.append(time.process_time() - start)
        assert all(box.fix.point is not None for box in located)
        assert min(seconds) < limit_s


def dem_of(samples: str = "dem/baltoro_srtm_clip.tif") -> DemTerrain:
    if "OUTWATCH_SAMPLES" not in os.environ:
        pytest.skip("needs real elevation data: set OUTWATCH_SAMPLES to the samples' folder")
    return DemTerrain(Path(os.environ["OUTWATCH_SAMPLES"]) / samples)


def test_the_ground_behind_a_wall_is_no_part_of_the_footprint() -> None:
    """A wall 20 m high hides 25 m behind it from 100 m up; beyond, ground is seen again."""
    polygon, _ = GroundLocator(ridge(1020.0), BUDGET).footprint(
        POSE, CAMERA, width_px=WIDTH, height_px=HEIGHT
    )
    assert polygon is not None
    seen = LocalFrame.at(HOME).project(polygon)
    # The line of sight over the wall's far edge, 50 m away and 80 m below, meets the ground at 62.5 m.
    assert not seen.intersects(shapely.Point(0, 55))
    assert seen.contains(shapely.Point(0, 75))
    assert seen.contains(shapely.Point(0, 120))


def test_what_is_hidden_on_real_mountains_is_what_a_line_of_sight_says() -> None:
    """Well inside seen and hidden ground, places agree with a straight line to the camera."""
    dem, random = dem_of(), np.random.default_rng(4)
    locator = GroundLocator(dem, BUDGET)
    agree, hidden = [], 0
    for _ in range(24):
        here = GeoPoint(random.uniform(35.65, 35.85), random.uniform(76.2, 76.6))
        pose = replace(POSE, point=here, home=here, heading_deg=random.uniform(0, 360), pitch_deg=-22.0)
        polygon, _ = locator.footprint(pose, CAMERA, width_px=WIDTH, height_px=HEIGHT)
        assert polygon is not None
        frame = LocalFrame.at(here)
        seen = frame.project(polygon)
        inner, hull = seen.buffer(-dem.spacing_m / 4), shapely.convex_hull(seen)
        outer = seen.buffer(dem.spacing_m / 4)
        up_m = float(dem.heights_m(here.lat_deg, here.lon_deg)) + 100.0
        low, high = np.reshape(hull.bounds, (2, 2))
        for spot in random.uniform(low, high, (60, 2)):
            point = shapely.Point(spot)
            if inner.contains(point) == outer.contains(point) and is_in_frame(
                spot, dem, frame, locator, pose
            ):
                in_sight = sight_line_clears(spot, dem, frame, up_m)
                agree.append(inner.contains(point) == in_sight)
                hidden += not in_sight
    assert hidden >= 10
    assert np.mean(agree) >= 0.97


def is_in_frame(
    spot: FloatArray, dem: DemTerrain, frame: LocalFrame, locator: GroundLocator, pose: TelemetrySample
) -> bool:
    """Tell whether a place would show inside the frame, steep enough, if nothing stood before it."""
    view = locator.view(pose, CAMERA, width_px=WIDTH, height_px=HEIGHT)
    ground_m = float(dem.heights_m(*frame.to_geo(*spot)))
    place_m = np.array([*spot, ground_m])
    pixel = pixels_of(view.parameters[None], place_m[None], width_px=WIDTH, height_px=HEIGHT)[0, 0]
    flat = math.degrees(math.atan2(view.parameters[2] - ground_m, math.hypot(*spot)))
    return bool((pixel > 15).all() and (pixel < [WIDTH - 15, HEIGHT - 15]).all() and flat > 16)


def sight_line_clears(spot: FloatArray, dem: DemTerrain, frame: LocalFrame, up_m: float) -> bool:
    """Tell whether a person's middle at a place is in straight sight of the camera."""
    share = np.linspace(0.01, 0.99, 400)
    ground_m = dem.heights_m(*frame.to_geo(spot[0] * share, spot[1] * share))
    foot_m = float(dem.heights_m(*frame.to_geo(*spot))) + 1.0
    return bool((ground_m <= up_m + (foot_m - up_m) * share).all())


def test_a_camera_that_stands_still_is_asked_once() -> None:
    """The same pose at a later moment gives the very same footprint; a turn of the gimbal another."""
    locator = GroundLocator(None, BUDGET)
    first, _ = locator.footprint(POSE, CAMERA, width_px=WIDTH, height_px=HEIGHT)
    later, _ = locator.footprint(replace(POSE, offset_s=9.0), CAMERA, width_px=WIDTH, height_px=HEIGHT)
    turned, _ = locator.footprint(replace(POSE, pitch_deg=-46.0), CAMERA, width_px=WIDTH, height_px=HEIGHT)

    assert later is first
    assert turned != first


def behind_ridges(count: int) -> Iterator[tuple[TelemetrySample, FloatArray, GeoPoint]]:
    """Yield reported poses, clicked pixels and true places that lie behind a ridge, on real mountains."""
    random = np.random.default_rng(3)
    path = Path(os.environ["OUTWATCH_SAMPLES"]) / "dem" / "baltoro_srtm_clip.tif"
    found = 0
    while found < count:
        lat, lon = random.uniform(35.62, 35.88), random.uniform(76.15, 76.65)
        site, ground = read_dem(path, lat_deg=lat, lon_deg=lon)
        for _ in range(20):
            tilt_deg = -float(random.uniform(20, 35))
            true = Pose(0.0, 0.0, float(random.choice([60, 100, 150])), random.uniform(0, 360), tilt_deg)
            pixel = random.uniform(20, [WIDTH - 20, HEIGHT - 20])
            ray = SimulatedView(true, WIDTH, HEIGHT, CAMERA.hfov_deg).rays(pixel[None])
            depth_m = ground.depths_m(true.position_m, ray)[0]
            if not math.isfinite(depth_m):
                continue
            foot = true.position_m + ray[0] * depth_m
            share = np.linspace(0.02, 0.98, 200)
            slope = (ground.heights_m(foot[0] * share, foot[1] * share) - true.up_m) / share
            below_m = (np.maximum.accumulate(slope) - slope) * share
            if not (below_m > 5).any():
                continue
            found += 1
            said = Reporter.of(PoseNoise(jitter=0.0), random).report(true)
            yield (
                TelemetrySample(
                    offset_s=0.0,
                    at=None,
                    point=site.to_geo(said.east_m, said.north_m, said.up_m),
                    height_agl_m=said.up_m,
                    heading_deg=said.heading_deg,
                    pitch_deg=said.pitch_deg,
                    roll_deg=said.roll_deg,
                    home=site.to_geo(0.0, 0.0, 0.0),
                ),
                pixel + random.normal(0, 2, 2),
                site.to_geo(*(float(value) for value in foot)),
            )


def test_what_stands_behind_a_ridge_is_not_claimed_in_front_of_it() -> None:
    """At most the one ellipse in ten that is stated lies in front and leaves out a truth behind a ridge.

    Every pose errs by the budget; the other rays get no point, or an ellipse that reaches behind.
    """
    dem = dem_of()
    claimed, in_front_without = 0, 0
    for pose, pixel, truth in behind_ridges(40):
        (box,) = locate([[*pixel, *pixel]], pose=pose, terrain=dem)
        if box.fix.point is None or box.fix.error_ellipse is None:
            continue
        claimed += 1
        away = np.array(LocalFrame.at(box.fix.point).to_local(truth.lat_deg, truth.lon_deg))
        covariance = covariance_from_ellipse(box.fix.error_ellipse)
        camera = LocalFrame.at(pose.point or HOME)
        reach_m = [
            math.hypot(*camera.to_local(place.lat_deg, place.lon_deg)) for place in (box.fix.point, truth)
        ]
        outside = away @ np.linalg.inv(covariance) @ away > CHI2_2DOF_P90
        in_front_without += bool(outside and reach_m[0] < reach_m[1])

    assert claimed >= 30
    assert in_front_without / claimed <= 0.1


def test_errors_of_a_terrain_cancel_at_the_take_off_point() -> None:
    """Right below, the height above take-off is that above the ground; some cells away it is not."""
    terrain = Shape(lambda north_m: np.full_like(north_m, 1000.0))
    sure = ErrorBudget(0.0, 0.0, 0.0, 0.0, 15.0, 0.0)
    camera = replace(CAMERA, hfov_sigma_deg=0.0)
    pose = replace(POSE, home=HOME)

    (here,) = locate(pose=replace(pose, pitch_deg=-90.0), terrain=terrain, budget=sure, camera=camera)
    (away,) = locate(pose=pose, terrain=terrain, budget=sure, camera=camera)

    assert here.fix.error_radius_m is not None
    assert away.fix.error_ellipse is not None
    assert here.fix.error_radius_m < 1
    # At 45 degrees a metre of height is a metre along the view; two pixels of box error add little.
    assert away.fix.error_ellipse.semi_major_m == pytest.approx(
        DEM_RELATIVE_SIGMA_M * math.sqrt(CHI2_2DOF_P90), rel=0.02
    )


def test_flat_ground_is_less_sure_farther_from_the_take_off_point() -> None:
    """With a slope of 10 % the ground 100 m away is off by 10 m, at 45 degrees all of it along the view."""
    sure = ErrorBudget(0.0, 0.0, 0.0, 0.0, 15.0, 0.0, flat_ground_slope=0.1)

    (box,) = locate(budget=sure, camera=replace(CAMERA, hfov_sigma_deg=0.0), pose=replace(POSE, home=HOME))

    assert box.fix.error_ellipse is not None
    assert box.fix.error_ellipse.semi_major_m == pytest.approx(10 * math.sqrt(CHI2_2DOF_P90), rel=0.02)


def test_a_height_above_the_ellipsoid_is_brought_to_the_sea_by_the_geoid() -> None:
    """A pose with nothing else is placed as one with an altitude is; without a geoid it is not placed."""
    geoid = Geoid()
    undulation_m = float(geoid.undulation_m(POSE.point.lat_deg, POSE.point.lon_deg))  # type: ignore[union-attr]
    above_sea = replace(POSE, height_agl_m=None)
    above_ellipsoid = replace(
        above_sea, point=GeoPoint(HOME.lat_deg, HOME.lon_deg), ellipsoid_height_m=1100.0 + undulation_m
    )
    view = {"at": AT, "camera": CAMERA, "width_px": WIDTH, "height_px": HEIGHT}
    locator = GroundLocator(FlatTerrain(1000.0), BUDGET, geoid=geoid)

    (by_sea,) = locator.locate(MIDDLE, pose=above_sea, **view)  # type: ignore[arg-type]
    (by_ellipsoid,) = locator.locate(MIDDLE, pose=above_ellipsoid, **view)  # type: ignore[arg-type]
    (nowhere,) = locate(pose=above_ellipsoid, terrain=FlatTerrain(1000.0))

    assert undulation_m == pytest.approx(-45.3, abs=0.1)
    assert by_ellipsoid.fix.point == by_sea.fix.point
    assert "above the ellipsoid only" in str(nowhere.fix.reason_if_none)


def test_a_calibrated_camera_sees_through_its_lens() -> None:
    """A barrel lens shows at the frame's edge what a pinhole would show outside of it."""
    barrel = replace(CAMERA, lens=Lens(k1=-0.2))
    locator = GroundLocator(None, BUDGET, calibrations={CAMERA.name: barrel})
    down = replace(POSE, pitch_deg=-90.0)

    (pinhole,) = locate([[640, 256, 640, 256]], pose=down)
    (lens,) = locator.locate(
        [[640, 256, 640, 256]], at=AT, pose=down, camera=CAMERA, width_px=WIDTH, height_px=HEIGHT
    )

    assert pinhole.east_m is not None
    assert lens.east_m is not None
    x = lens.east_m / 100
    assert x * (1 - 0.2 * x * x) == pytest.approx(pinhole.east_m / 100, abs=1e-5)
