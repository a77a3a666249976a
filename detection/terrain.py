"""The height of the ground: a constant, or a digital elevation model; and the geoid, which joins datums.

Belongs here: the adapters of the port ``Terrain``, and the raster files they read. Not here: where a ray
meets the ground (``detection/rays.py``).

Heights of the port are above mean sea level, by which the EGM96 geoid is meant: SRTM and most aircraft use
it. What is above the WGS 84 ellipsoid (some KLV, some elevation models) is brought there by the geoid's own
height above the ellipsoid: height above sea = height above ellipsoid - undulation.
"""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import rasterio
from pyproj import CRS, Transformer
from rasterio.errors import RasterioError
from rasterio.windows import Window

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.geometry import LocalFrame

FloatArray = npt.NDArray[np.float64]

_BLOCK_PX = 256
"""Side of the cached windows: 0.25 MB each as float32, and a flight touches a handful."""
_MAX_BLOCKS = 256
"""Windows kept: 64 MB, more than any one flight needs; all are dropped when there are more."""
_WGS84 = CRS.from_epsg(4326)


class FlatTerrain:
    """Ground of one height everywhere."""

    method: Literal["flat_ground"] = "flat_ground"
    spacing_m = math.inf

    def __init__(self, height_m: float) -> None:
        self._height_m = height_m

    def heights_m(self, lat_deg: npt.ArrayLike, lon_deg: npt.ArrayLike) -> FloatArray:
        """Return the one height for every place, NaN where a coordinate is NaN."""
        known = np.isfinite(np.asarray(lat_deg, float) + np.asarray(lon_deg, float))
        return np.where(known, self._height_m, np.nan)


class Geoid:
    """How far the EGM96 geoid, taken as mean sea level, lies above the WGS 84 ellipsoid."""

    def __init__(self) -> None:
        """Open the shipped grid (``detection/grids/CARD.md``)."""
        self._grid = Raster(Path(str(files("detection") / "grids" / "egm96_15min.tif")))

    def undulation_m(self, lat_deg: npt.ArrayLike, lon_deg: npt.ArrayLike) -> FloatArray:
        """Return the geoid's height above the ellipsoid in metres, of the input's shape.

        Interpolated between nodes every quarter of a degree: within 1 m, mostly 0.1 m.
        """
        return self._grid.values(lat_deg, lon_deg)

    def above_sea_m(
        self, ellipsoid_height_m: npt.ArrayLike, lat_deg: npt.ArrayLike, lon_deg: npt.ArrayLike
    ) -> FloatArray:
        """Return heights above mean sea level (EGM96) of heights above the WGS 84 ellipsoid."""
        return np.asarray(ellipsoid_height_m, float) - self.undulation_m(lat_deg, lon_deg)


class DemTerrain:
    """Heights from a single-band raster, in metres above mean sea level (EGM96).

    A place outside the raster, or beside a cell without data, has no height.
    """

    method: Literal["dem"] = "dem"

    def __init__(self, path: Path, *, above_ellipsoid: Geoid | None = None) -> None:
        """Open the raster.

        Args:
            path: heights in metres in any projection, at the centres of the cells.
            above_ellipsoid: given where the file's heights are above the WGS 84 ellipsoid; the geoid by
                which they become heights above mean sea level. None: they are that already.

        Raises:
            ConfigInvalid: the file is missing, is no raster, or has no projection.
        """
        self._raster = Raster(path)
        self._geoid = above_ellipsoid

    @property
    def spacing_m(self) -> float:
        """Return the shorter side of a cell at the raster's centre in metres."""
        return self._raster.spacing_m

    def heights_m(self, lat_deg: npt.ArrayLike, lon_deg: npt.ArrayLike) -> FloatArray:
        """Return interpolated heights in metres above mean sea level (EGM96), NaN where unknown.

        Args:
            lat_deg: latitudes on WGS 84, any shape.
            lon_deg: longitudes of the same shape.

        Raises:
            ConfigInvalid: the raster is damaged where it had to be read.
        """
        heights_m = self._raster.values(lat_deg, lon_deg)
        return heights_m if self._geoid is None else self._geoid.above_sea_m(heights_m, lat_deg, lon_deg)


class Raster:
    """A single-band raster in any projection: cell centres hold values, bilinear between four of them.

    A place outside it, or with no data in one of its four cells, has no value. Windows are read when
    first needed and kept; an instance belongs to one thread.
    """

    def __init__(self, path: Path) -> None:
        """Open the raster.

        Raises:
            ConfigInvalid: the file is missing, is no raster, or has no projection.
        """
        self._path = path
        try:
            self._dataset = rasterio.open(path)
        except RasterioError as error:
            raise ConfigInvalid(f"elevation model {path}: expected a GeoTIFF of heights, {error}") from error
        if self._dataset.crs is None or self._dataset.transform.is_identity:
            self._dataset.close()
            raise ConfigInvalid(
                f"elevation model {path} does not say where it lies: give it a CRS, e.g. by gdal_edit"
            )
        self._crs = CRS.from_user_input(self._dataset.crs)
        self._to_raster = None
        if not self._crs.equals(_WGS84, ignore_axis_order=True):
            self._to_raster = Transformer.from_crs(_WGS84, self._crs, always_xy=True)
        self._scale, self._offset = self._dataset.scales[0], self._dataset.offsets[0]
        self._blocks: dict[tuple[int, int], npt.NDArray[np.float32]] = {}
        self._spacing_m = self._measure_spacing()

    @property
    def spacing_m(self) -> float:
        """Return the shorter side of a cell at the raster's centre in metres."""
        return self._spacing_m

    def values(self, lat_deg: npt.ArrayLike, lon_deg: npt.ArrayLike) -> FloatArray:
        """Return interpolated values in the file's unit, NaN where unknown.

        Args:
            lat_deg: latitudes on WGS 84, any shape.
            lon_deg: longitudes of the same shape.

        Raises:
            ConfigInvalid: the raster is damaged where it had to be read.
        """
        lat, lon = np.asarray(lat_deg, float), np.asarray(lon_deg, float)
        column, row = self._pixel(lat.ravel(), lon.ravel())
        left, top = np.floor(column), np.floor(row)
        inside = (
            (left >= 0) & (top >= 0) & (left < self._dataset.width - 1) & (top < self._dataset.height - 1)
        )
        heights = np.full(column.shape, np.nan)
        x, y = left[inside].astype(np.intp), top[inside].astype(np.intp)
        right_share, low_share = column[inside] - x, row[inside] - y
        cells = self._cells(np.stack([x, x + 1, x, x + 1]), np.stack([y, y, y + 1, y + 1]))
        upper = cells[0] * (1 - right_share) + cells[1] * right_share
        lower = cells[2] * (1 - right_share) + cells[3] * right_share
        heights[inside] = upper * (1 - low_share) + lower * low_share
        return np.asarray(heights.reshape(lat.shape) * self._scale + self._offset)

    def _pixel(self, lat_deg: FloatArray, lon_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return fractional (column, row) counted from the first cell's centre."""
        x, y = lon_deg, lat_deg
        if self._to_raster is not None:
            x, y = self._to_raster.transform(lon_deg, lat_deg)
        to_pixel = ~self._dataset.transform
        column = to_pixel.a * x + to_pixel.b * y + to_pixel.c - 0.5
        row = to_pixel.d * x + to_pixel.e * y + to_pixel.f - 0.5
        return column, row

    def _cells(self, column: npt.NDArray[np.intp], row: npt.NDArray[np.intp]) -> FloatArray:
        """Return the stored values of cells, of the input's shape, NaN where there is no data."""
        heights = np.empty(column.shape)
        blocks_across = self._dataset.width // _BLOCK_PX + 1
        block_ids = row // _BLOCK_PX * blocks_across + column // _BLOCK_PX
        for block_id in np.unique(block_ids):
            here = block_ids == block_id
            block = self._block(block_id % blocks_across, block_id // blocks_across)
            heights[here] = block[row[here] % _BLOCK_PX, column[here] % _BLOCK_PX]
        return heights

    def _block(self, column: int, row: int) -> npt.NDArray[np.float32]:
        """Return one window, read from the file the first time."""
        if (column, row) not in self._blocks:
            window = Window(column * _BLOCK_PX, row * _BLOCK_PX, _BLOCK_PX, _BLOCK_PX)
            try:
                masked = self._dataset.read(1, window=window, masked=True)
            except RasterioError as error:
                raise ConfigInvalid(
                    f"elevation model {self._path} is damaged: {error}; get it again"
                ) from error
            if len(self._blocks) >= _MAX_BLOCKS:
                self._blocks.clear()
            self._blocks[column, row] = masked.astype(np.float32).filled(np.nan)
        return self._blocks[column, row]

    def _measure_spacing(self) -> float:
        """Return the shorter side of the cell at the raster's centre in metres."""
        middle = self._dataset.width // 2, self._dataset.height // 2
        corners = [
            self._dataset.xy(middle[1] + down, middle[0] + right) for down, right in ((0, 0), (0, 1), (1, 0))
        ]
        x, y = zip(*corners, strict=True)
        lon, lat = Transformer.from_crs(self._crs, _WGS84, always_xy=True).transform(x, y)
        east, north = LocalFrame(lat[0], lon[0]).to_local(lat[1:], lon[1:])
        return float(np.hypot(east, north).min())
