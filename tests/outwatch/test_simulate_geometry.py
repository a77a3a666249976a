"""The simulator's projection, terrain and truth cases, against figures worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod
from rasterio import Affine

from outwatch.domain.errors import ConfigInvalid
from outwatch.simulate import PoseNoise, ground_cases
from outwatch.simulate.terrain import FlatSurface, GridSurface, invent_relief, read_dem, write_dem
from outwatch.simulate.view import Pose, Site, View

HFOV_DEG = math.degrees(2 * math.atan(640 * 0.017 / 2 / 25))
"""The XT2's: 640 pixels of 17 µm behind 25 mm."""
EXACT = PoseNoise(position_sigma_m=0, height_sigma_m=0, heading_sigma_deg=0, tilt_sigma_deg=0, jitter=0)


def view_of(pose: Pose) -> View:
    """Return a pose through the XT2."""
    return View(pose, 640, 512, HFOV_DEG)


def pixel_of(view: View, east_m: float, north_m: float, up_m: float = 0.0) -> tuple[float, float]:
    """Return where a local point falls."""
    pixels, _ = view.project(np.array([[east_m, north_m, up_m]]))
    return tuple(pixels[0].tolist())


def test_up_in_the_image_is_north_at_nadir_with_heading_zero() -> None:
    """Straight down from 60 m facing north, 5 m north is 5/60 focal lengths above the middle."""
    view = view_of(Pose(0, 0, 60, 0, -90))
    focal_px = 320 / math.tan(math.radians(HFOV_DEG / 2))
    assert pixel_of(view, 0, 5) == pytest.approx((320, 256 - focal_px * 5 / 60), abs=1e-9)
    assert pixel_of(view, 5, 0) == pytest.approx((320 + focal_px * 5 / 60, 256), abs=1e-9)


@pytest.mark.parametrize(
    ("heading_deg", "east", "north"), [(0, 0, 1), (90, 1, 0), (180, 0, -1), (270, -1, 0)]
)
def test_the_axis_meets_the_ground_ahead(heading_deg: float, east: float, north: float) -> None:
    """Tilted down by 30 degrees from 80 m, the middle of the frame lies 80 / tan 30 m ahead."""
    view = view_of(Pose(10, -20, 80, heading_deg, -30))
    ahead_m = 80 / math.tan(math.radians(30))
    assert pixel_of(view, 10 + east * ahead_m, -20 + north * ahead_m) == pytest.approx((320, 256), abs=1e-6)


def test_the_frame_is_as_wide_as_the_field_of_view() -> None:
    """The rays through the outer edges of the middle row enclose the horizontal field of view."""
    left, right = view_of(Pose(0, 0, 50, 77, -41)).rays(np.array([(0.0, 256.0), (640.0, 256.0)]))
    cosine = left @ right / np.linalg.norm(left) / np.linalg.norm(right)
    assert math.degrees(math.acos(cosine)) == pytest.approx(HFOV_DEG)


def test_roll_is_right_side_down() -> None:
    """With the right side down, a point to the right of the axis appears higher in the image."""
    level = pixel_of(view_of(Pose(0, 0, 60, 0, -60, 0)), 5, 35)
    rolled = pixel_of(view_of(Pose(0, 0, 60, 0, -60, 10)), 5, 35)
    assert rolled[1] < level[1]


@given(
    heading_deg=st.floats(0, 360),
    pitch_deg=st.floats(-90, -20),
    roll_deg=st.floats(-20, 20),
    x_px=st.floats(0, 640),
    y_px=st.floats(256, 512),
)
def test_projection_undoes_the_ray(
    heading_deg: float, pitch_deg: float, roll_deg: float, x_px: float, y_px: float
) -> None:
    """The ground point that a pixel's ray meets projects back to that pixel."""
    view = view_of(Pose(3, 4, 70, heading_deg, pitch_deg, roll_deg))
    ray = view.rays(np.array([[x_px, y_px]]))
    depth = FlatSurface().depths_m(view.pose.position_m, ray)
    if not np.isfinite(depth[0]) or depth[0] > 1e4:
        return
    point = view.pose.position_m + depth[:, None] * ray
    pixels, depths = view.project(point)
    assert point[0, 2] == pytest.approx(0, abs=1e-6)
    assert pixels[0] == pytest.approx((x_px, y_px), abs=1e-5)
    assert depths[0] == pytest.approx(depth[0])


@given(east_m=st.floats(-1000, 1000), north_m=st.floats(-1000, 1000))
def test_local_metres_agree_with_geodesics(east_m: float, north_m: float) -> None:
    """Within 1 km the flat map is as far from the take-off point as the ellipsoid says, to 0.2 m."""
    site = Site(34.0, 71.5, 400.0)
    point = site.to_geo(east_m, north_m, 12.0)
    _, _, distance_m = Geod(ellps="WGS84").inv(71.5, 34.0, point.lon_deg, point.lat_deg)
    assert distance_m == pytest.approx(math.hypot(east_m, north_m), abs=0.2)
    assert site.to_local(point.lat_deg, point.lon_deg) == pytest.approx((east_m, north_m), abs=1e-6)
    assert point.alt_m == 412.0


def test_rays_meet_a_slope_where_the_formula_says() -> None:
    """On ground rising 1 in 10 to the north, a ray down at 45 degrees from 55 m meets it 50 m ahead."""
    rise = np.repeat(np.arange(500, -510, -10.0)[:, None] / 10, 101, axis=1)
    slope = GridSurface(rise, west_m=-500, north_m=500, step_east_m=10, step_north_m=10)
    depth = slope.depths_m(np.array([0.0, 0.0, 55.0]), np.array([[0.0, 1.0, -1.0], [0.0, 1.0, 0.5]]))
    assert depth[0] == pytest.approx(50, abs=1e-6)
    assert depth[1] == math.inf


def test_a_ridge_hides_what_lies_behind_it() -> None:
    """A ray stops at the first rise it meets, not at the lower ground beyond."""
    heights = np.zeros((101, 101))
    heights[40, :] = 30.0
    ridge = GridSurface(heights, west_m=-500, north_m=500, step_east_m=10, step_north_m=10)
    depth = ridge.depths_m(np.array([0.0, 0.0, 40.0]), np.array([[0.0, 1.0, -0.2]]))
    assert 90 < depth[0] < 100


def test_invented_relief_is_zero_at_take_off_and_survives_its_geotiff(tmp_path: Path) -> None:
    """The DEM written beside a flight gives back the heights that the flight was rendered over."""
    surface, site = invent_relief(relief_m=120, scale_m=400, seed=3), Site(35.1, 72.5, 1480.0)
    write_dem(tmp_path / "dem.tif", site=site, surface=surface)
    read_site, again = read_dem(tmp_path / "dem.tif", lat_deg=35.1, lon_deg=72.5)
    east, north = np.array([0.0, 120.0, -340.0]), np.array([0.0, -75.0, 410.0])
    assert surface.heights_m(east, north)[0] == pytest.approx(0, abs=1e-9)
    assert read_site.alt_m == pytest.approx(1480, abs=1e-3)
    assert again.heights_m(east, north) == pytest.approx(surface.heights_m(east, north), abs=1e-3)
    assert np.ptp(surface.heights) == pytest.approx(120)


def test_a_dem_elsewhere_is_refused(tmp_path: Path) -> None:
    """A take-off point outside the DEM is an error that names the point and the file."""
    path = tmp_path / "elsewhere.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=8, height=8, count=1, dtype="float32", crs="EPSG:4326",
        transform=Affine(0.001, 0, 10, 0, -0.001, 20),
    ) as file:  # fmt: skip
        file.write(np.zeros((8, 8), np.float32), 1)
    with pytest.raises(ConfigInvalid, match=r"origin 34\.00000, 71\.00000 is outside the DEM .*elsewhere"):
        read_dem(path, lat_deg=34.0, lon_deg=71.0)
    with pytest.raises(ConfigInvalid, match=r"missing\.tif cannot be read"):
        read_dem(tmp_path / "missing.tif", lat_deg=34.0, lon_deg=71.0)


@pytest.mark.parametrize("depression_deg", [90, 60, 45, 30])
def test_boxes_of_cases_stand_on_their_true_point(depression_deg: float) -> None:
    """With exact poses, the foot of each person's box lies at the projection of the true point."""
    for case in ground_cases(depression_deg=depression_deg, count=20, seed=1, noise=EXACT):
        pose, home = case.reported, case.reported.home
        assert pose.point is not None
        assert home is not None
        site = Site(home.lat_deg, home.lon_deg, home.alt_m or 0.0)
        east, north = site.to_local(pose.point.lat_deg, pose.point.lon_deg)
        view = view_of(Pose(east, north, pose.height_agl_m or 0, pose.heading_deg or 0, pose.pitch_deg or 0))
        foot = pixel_of(view, *site.to_local(case.true_point.lat_deg, case.true_point.lon_deg))
        left, top, right, bottom = case.box_xyxy_px
        assert left < foot[0] < right
        assert top < foot[1] < bottom
        assert pose.pitch_deg == -depression_deg


def test_reported_poses_scatter_as_told() -> None:
    """Over many cases the reported height scatters by its sigma about the true one."""
    noise = PoseNoise(position_sigma_m=0, height_sigma_m=3, heading_sigma_deg=0, tilt_sigma_deg=0)
    cases = ground_cases(depression_deg=60, count=400, seed=2, height_agl_m=90, noise=noise)
    heights = np.array([case.reported.height_agl_m for case in cases])
    assert heights.mean() == pytest.approx(90, abs=0.5)
    assert heights.std() == pytest.approx(3, abs=0.4)


def test_cases_on_a_dem_stand_on_its_ground(tmp_path: Path) -> None:
    """The true point of a case over a DEM has the DEM's height there."""
    path = tmp_path / "relief.tif"
    surface = invent_relief(relief_m=90, scale_m=500, seed=8)
    write_dem(path, site=Site(35.0, 72.0, 900.0), surface=surface)
    for case in ground_cases(depression_deg=45, count=10, seed=4, dem=path):
        point = case.true_point
        site, ground = read_dem(path, lat_deg=point.lat_deg, lon_deg=point.lon_deg)
        assert ground.heights_m(np.zeros(1), np.zeros(1))[0] == pytest.approx(0, abs=1e-6)
        assert site.alt_m == pytest.approx(point.alt_m, abs=0.01)


def test_cases_are_the_same_for_a_seed() -> None:
    """A seed names its cases."""
    first, again = (ground_cases(depression_deg=60, count=3, seed=9) for _ in range(2))
    other = ground_cases(depression_deg=60, count=3, seed=10)
    assert first == again
    assert first != other
