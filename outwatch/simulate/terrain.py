"""The ground under a simulated flight: flat, invented or read from a DEM.

Belongs here: heights, and where a ray meets the ground. Not here: what the ground looks like.
Heights are metres above the take-off point's ground, positions local metres (``view.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import rasterio
from rasterio import Affine
from rasterio.errors import RasterioIOError
from rasterio.vrt import WarpedVRT

from outwatch.domain.errors import ConfigInvalid
from outwatch.simulate.view import Floats, Site

_REACH_M = 3000.0
"""Ground read around the take-off point: beyond what a camera tilted 15 degrees sees from 600 m."""
_RELIEF_STEP_M = 30.0
"""Grid of invented relief: that of the common 1-arc-second models."""
_BISECTIONS = 40
"""Halve a step of up to a hundred metres to far under a millimetre."""


class Surface(Protocol):
    """A ground that can be stood on and looked at."""

    def heights_m(self, east_m: Floats, north_m: Floats) -> Floats:
        """Return heights at positions, NaN outside the known ground."""
        ...

    def depths_m(self, position_m: Floats, rays: Floats) -> Floats:
        """Return how far along each ray (N, 3) from a position (3,) the ground is first met, inf if never."""
        ...


@dataclass(frozen=True, slots=True)
class FlatSurface:
    """Ground of one height everywhere, that of the take-off point unless told otherwise."""

    height_m: float = 0.0

    def heights_m(self, east_m: Floats, north_m: Floats) -> Floats:
        """Return the height in the shape of the positions."""
        return np.full(np.broadcast(east_m, north_m).shape, self.height_m)

    def depths_m(self, position_m: Floats, rays: Floats) -> Floats:
        """Return where the rays fall through the ground."""
        with np.errstate(divide="ignore"):
            return np.where(rays[:, 2] < 0, (self.height_m - position_m[2]) / rays[:, 2], np.inf)


@dataclass(frozen=True, slots=True)
class GridSurface:
    """Bilinear ground through a grid of heights; rows run south, columns east."""

    heights: Floats
    west_m: float
    north_m: float
    """Centre of the first cell."""
    step_east_m: float
    step_north_m: float

    def heights_m(self, east_m: Floats, north_m: Floats) -> Floats:
        """Return bilinear heights, NaN outside the grid or beside a cell without data."""
        rows, columns = self.heights.shape
        column = (east_m - self.west_m) / self.step_east_m
        row = (self.north_m - north_m) / self.step_north_m
        inside = (column >= 0) & (row >= 0) & (column <= columns - 1) & (row <= rows - 1)
        j = np.clip(np.nan_to_num(column).astype(np.intp), 0, columns - 2)
        i = np.clip(np.nan_to_num(row).astype(np.intp), 0, rows - 2)
        x, y = column - j, row - i
        grid = self.heights
        top = grid[i, j] * (1 - x) + grid[i, j + 1] * x
        bottom = grid[i + 1, j] * (1 - x) + grid[i + 1, j + 1] * x
        return np.where(inside, top * (1 - y) + bottom * y, np.nan)

    def depths_m(self, position_m: Floats, rays: Floats) -> Floats:
        """March each ray by half cells until it is under the ground, then bisect that step."""
        near, far = self._span_m(position_m, rays)
        longest_m = float(np.max((far - near) * np.hypot(rays[:, 0], rays[:, 1]), initial=0.0))
        steps = int(np.clip(longest_m / (min(self.step_east_m, self.step_north_m) / 2), 8, 600)) + 1
        depth = near[:, None] + (far - near)[:, None] * np.linspace(0, 1, steps + 1)
        under = self._clearance_m(position_m, rays[:, None, :], depth) <= 0
        first = np.argmax(under, axis=1)
        hit = under.any(axis=1) & (first > 0)
        each = np.arange(len(rays))
        low, high = depth[each, np.maximum(first - 1, 0)], depth[each, first]
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            below = self._clearance_m(position_m, rays, middle) <= 0
            low, high = np.where(below, low, middle), np.where(below, middle, high)
        return np.where(hit, high, np.inf)

    def _span_m(self, position_m: Floats, rays: Floats) -> tuple[Floats, Floats]:
        """Return the depths between which a ray may meet the ground: within its heights and its reach."""
        lowest, highest = float(np.nanmin(self.heights)) - 1.0, float(np.nanmax(self.heights)) + 1.0
        with np.errstate(divide="ignore"):
            to_lowest = np.where(rays[:, 2] < 0, (lowest - position_m[2]) / rays[:, 2], np.inf)
            to_highest = np.where(rays[:, 2] < 0, (highest - position_m[2]) / rays[:, 2], 0.0)
        far = np.minimum(to_lowest, _REACH_M / np.maximum(np.hypot(rays[:, 0], rays[:, 1]), 1e-9))
        return np.clip(to_highest, 0.0, far), far

    def _clearance_m(self, position_m: Floats, rays: Floats, depth: Floats) -> Floats:
        point = position_m + rays * depth[..., None]
        return point[..., 2] - self.heights_m(point[..., 0], point[..., 1])


def invent_relief(*, relief_m: float, scale_m: float, seed: int, reach_m: float = _REACH_M) -> GridSurface:
    """Return smooth ridges and valleys, zero at the take-off point."""
    cells = 2 * int(reach_m / _RELIEF_STEP_M) + 1
    random = np.random.default_rng([seed, 1])
    heights = np.zeros((cells, cells))
    for octave, weight in enumerate((1.0, 0.35, 0.12)):
        knots = max(4, int(cells * _RELIEF_STEP_M / scale_m * 2**octave) + 3)
        coarse = random.uniform(-1, 1, (knots, knots))
        heights += weight * cv2.resize(coarse, (cells, cells), interpolation=cv2.INTER_CUBIC)
    heights *= relief_m / np.ptp(heights)
    heights -= heights[cells // 2, cells // 2]
    half = cells // 2 * _RELIEF_STEP_M
    return GridSurface(heights, -half, half, _RELIEF_STEP_M, _RELIEF_STEP_M)


def read_dem(path: Path, *, lat_deg: float, lon_deg: float) -> tuple[Site, GridSurface]:
    """Read a DEM around a take-off point.

    Returns:
        The local site with the DEM's height at the take-off point, and the surface in it.

    Raises:
        ConfigInvalid: the file cannot be read, or the take-off point is outside it.
    """
    site = Site(lat_deg, lon_deg, 0.0)
    per_lon, per_lat = site.metres_per_degree
    try:
        with rasterio.open(path) as raw, WarpedVRT(raw, crs="EPSG:4326") as dem:
            step_lon, step_lat = dem.transform.a, -dem.transform.e
            column, row = (lon_deg - dem.transform.c) / step_lon, (dem.transform.f - lat_deg) / step_lat
            columns = _around(column, reach=_REACH_M / per_lon / step_lon, size=dem.width)
            rows = _around(row, reach=_REACH_M / per_lat / step_lat, size=dem.height)
            heights = dem.read(1, window=(rows, columns), masked=True).astype(np.float64).filled(np.nan)
            first_lon = dem.transform.c + (columns[0] + 0.5) * step_lon
            first_lat = dem.transform.f - (rows[0] + 0.5) * step_lat
    except RasterioIOError as error:
        raise ConfigInvalid(f"terrain.dem {path} cannot be read: {error}") from error
    west, north = site.to_local(first_lat, first_lon)
    grid = GridSurface(heights, west, north, step_lon * per_lon, step_lat * per_lat)
    alt_m = float(grid.heights_m(np.zeros(1), np.zeros(1))[0]) if min(heights.shape) > 1 else math.nan
    if not math.isfinite(alt_m):
        raise ConfigInvalid(f"origin {lat_deg:.5f}, {lon_deg:.5f} is outside the DEM {path}")
    ground = GridSurface(heights - alt_m, west, north, grid.step_east_m, grid.step_north_m)
    return Site(lat_deg, lon_deg, alt_m), ground


def _around(middle: float, *, reach: float, size: int) -> tuple[int, int]:
    """Return the (start, stop) of at most ``reach`` cells either side that lie in the raster, maybe none."""
    start = min(size, max(0, math.floor(middle - reach)))
    return start, max(start, min(size, math.ceil(middle + reach)))


def write_dem(path: Path, *, site: Site, surface: GridSurface) -> None:
    """Write a surface as a GeoTIFF of heights above mean sea level on WGS 84, deflated float32."""
    per_lon, per_lat = site.metres_per_degree
    step_lon, step_lat = surface.step_east_m / per_lon, surface.step_north_m / per_lat
    corner = site.to_geo(surface.west_m, surface.north_m, 0.0)
    transform = Affine(
        step_lon, 0.0, corner.lon_deg - step_lon / 2, 0.0, -step_lat, corner.lat_deg + step_lat / 2
    )
    rows, columns = surface.heights.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=rows,
        width=columns,
        count=1,
        dtype="float32",
        crs="EPSG:4326",
        transform=transform,
        compress="deflate",
        predictor=3,
    ) as file:
        file.write((surface.heights + site.alt_m).astype(np.float32), 1)
