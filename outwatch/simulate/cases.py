"""Single looks at single points, without pictures, to measure the locator against exact truth.

Belongs here: random poses, points and boxes. Not here: the locator; this module shares no code with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from rasterio.warp import transform_bounds

from outwatch.domain.cameras import camera_named
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import Camera, GeoPoint, TelemetrySample
from outwatch.simulate.actors import Stance, person_parts
from outwatch.simulate.palette import Look
from outwatch.simulate.path import Reporter
from outwatch.simulate.scenario import CameraModel, PoseNoise
from outwatch.simulate.shapes import placed
from outwatch.simulate.terrain import FlatSurface, Surface, read_dem
from outwatch.simulate.view import Floats, Pose, Site, View

XT2_25MM = replace(camera_named("DJI XT2 25 mm"), hfov_sigma_deg=0.0, source="simulated: exact")
_KOHAT = (33.5869, 71.4429)
_KOHAT_ALT_M = 500.0
_EDGE_PX = 60.0
"""Points keep this far from the frame's edge, so that a whole person fits."""
_FARTHEST_M = 500.0
"""A person farther away is lower than five pixels, which no detector finds."""
_TRIES = 200
"""How often to look for a place in a DEM where the camera sees ground, before giving up."""


@dataclass(frozen=True, slots=True)
class GroundCase:
    """A person's box in a frame, what telemetry says of the camera, and where the person stands."""

    reported: TelemetrySample
    camera: Camera
    width_px: int
    height_px: int
    box_xyxy_px: tuple[float, float, float, float]
    true_point: GeoPoint


def ground_cases(
    *,
    depression_deg: float,
    count: int,
    seed: int,
    height_agl_m: float = 80.0,
    dem: Path | None = None,
    noise: PoseNoise | None = None,
    dem_error_sigma_m: float = 0.0,
) -> list[GroundCase]:
    """Return random looks at people on the ground, each with a pose error of its own.

    The camera hangs ``height_agl_m`` above the take-off point, with any heading, tilted down by
    ``depression_deg``; the person stands anywhere in the site. In a DEM the place is random too.

    Args:
        depression_deg: how far the camera's axis is below the horizon.
        count: how many looks.
        seed: the same gives the same looks.
        height_agl_m: above the take-off point.
        dem: ground of real shape; None is flat ground.
        noise: of reported poses.
        dem_error_sigma_m: how far the true ground is off what is thought of it: each height of the DEM
            by an error of its own; flat ground as a whole about the take-off point's.

    Raises:
        ConfigInvalid: the DEM cannot be read, or from hardly any place in it is ground in view.
    """
    random = np.random.default_rng(seed)
    return [
        _case(
            random,
            depression_deg=depression_deg,
            height_agl_m=height_agl_m,
            dem=dem,
            noise=noise or PoseNoise(),
            dem_error_sigma_m=dem_error_sigma_m,
        )
        for _ in range(count)
    ]


def _case(
    random: np.random.Generator,
    *,
    depression_deg: float,
    height_agl_m: float,
    dem: Path | None,
    noise: PoseNoise,
    dem_error_sigma_m: float,
) -> GroundCase:
    for _ in range(_TRIES):
        site, surface = _somewhere(dem, random, error_sigma_m=dem_error_sigma_m)
        pose = Pose(0.0, 0.0, height_agl_m, float(random.uniform(0, 360)), -depression_deg)
        lens = CameraModel()
        view = View(pose, lens.width_px, lens.height_px, XT2_25MM.hfov_deg)
        pixel = random.uniform(_EDGE_PX, [lens.width_px - _EDGE_PX, lens.height_px - _EDGE_PX])
        depth = float(surface.depths_m(pose.position_m, view.rays(pixel[None]))[0])
        if depth < _FARTHEST_M:
            foot = pose.position_m + depth * view.rays(pixel[None])[0]
            reported = Reporter.of(replace(noise, jitter=0.0), random).report(pose)
            return GroundCase(
                reported=_sample(reported, site, lens),
                camera=XT2_25MM,
                width_px=lens.width_px,
                height_px=lens.height_px,
                box_xyxy_px=_person_box(view, foot, heading_rad=random.uniform(0, 6.28)),
                true_point=site.to_geo(*(float(value) for value in foot)),
            )
    raise ConfigInvalid(f"terrain {dem}: no ground in view at {depression_deg} degrees from {_TRIES} places")


def _somewhere(
    dem: Path | None, random: np.random.Generator, *, error_sigma_m: float
) -> tuple[Site, Surface]:
    """Return a take-off point and the true ground around it, zero at the take-off point."""
    if dem is None:
        ground_m = error_sigma_m * float(random.standard_normal())
        return Site(*_KOHAT, _KOHAT_ALT_M), FlatSurface(ground_m)
    with rasterio.open(dem) as file:
        west, south, east, north = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    lat, lon = (
        low + (high - low) * float(random.uniform(0.1, 0.9)) for low, high in ((south, north), (west, east))
    )
    site, mapped = read_dem(dem, lat_deg=lat, lon_deg=lon)
    if error_sigma_m == 0:
        return site, mapped
    true = replace(
        mapped, heights=mapped.heights + error_sigma_m * random.standard_normal(mapped.heights.shape)
    )
    home_m = float(true.heights_m(np.zeros(1), np.zeros(1))[0])
    return replace(site, alt_m=site.alt_m + home_m), replace(true, heights=true.heights - home_m)


def _person_box(view: View, foot_m: Floats, *, heading_rad: float) -> tuple[float, float, float, float]:
    """Return the outline of a standing person of 1.70 m."""
    stance = Stance(float(foot_m[0]), float(foot_m[1]), heading_rad, 0.0, False)
    body = person_parts(stance, height_m=1.70, build=1.0, look=Look())
    parts = placed(body, place_m=foot_m, heading_rad=heading_rad)
    pixels, depth = view.project(np.concatenate([part.centres_m for part in parts]))
    radii = view.focal_px * np.concatenate([part.radii_m for part in parts]) / depth
    left, top = (pixels - radii[:, None]).min(axis=0)
    right, bottom = (pixels + radii[:, None]).max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _sample(pose: Pose, site: Site, lens: CameraModel) -> TelemetrySample:
    return TelemetrySample(
        offset_s=0.0,
        at=None,
        point=site.to_geo(pose.east_m, pose.north_m, pose.up_m),
        height_agl_m=pose.up_m,
        heading_deg=pose.heading_deg,
        pitch_deg=pose.pitch_deg,
        roll_deg=pose.roll_deg,
        hfov_deg=XT2_25MM.hfov_deg,
        focal_length_mm=lens.focal_length_mm,
        home=site.to_geo(0.0, 0.0, 0.0),
    )
