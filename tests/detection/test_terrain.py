"""The port Terrain and its two adapters."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio import Affine

from detection.terrain import DemTerrain, FlatTerrain, Geoid
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.ports import Terrain

UTM43 = "EPSG:32643"
NODATA = -32768


def height_m(east_m: np.ndarray, north_m: np.ndarray) -> np.ndarray:
    """Return a tilted plane, which bilinear interpolation must reproduce exactly."""
    return 1000 + 0.1 * (east_m - 500_000) + 0.2 * (north_m - 3_700_000)


def write_dem(path: Path, *, crs: str | None = UTM43, holes: bool = False) -> Path:
    """Write a raster of 300 x 280 cells of 30 m, larger than one cached window."""
    rows, columns = np.mgrid[0:280, 0:300]
    heights = height_m(500_000 + 30 * (columns + 0.5), 3_700_000 - 30 * (rows + 0.5)).astype(np.float32)
    if holes:
        heights[100:110, 100:110] = NODATA
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "nodata": NODATA, "crs": crs}
    transform = Affine(30, 0, 500_000, 0, -30, 3_700_000)
    with rasterio.open(path, "w", height=280, width=300, transform=transform, **profile) as dataset:
        dataset.write(heights, 1)
    return path


def geo(east_m: float, north_m: float) -> tuple[float, float]:
    """Return latitude and longitude of a place in UTM zone 43."""
    lon, lat = Transformer.from_crs(UTM43, "EPSG:4326", always_xy=True).transform(east_m, north_m)
    return lat, lon


@pytest.fixture(params=["flat", "dem"])
def terrain(request: pytest.FixtureRequest, tmp_path: Path) -> Terrain:
    return FlatTerrain(1234.0) if request.param == "flat" else DemTerrain(write_dem(tmp_path / "dem.tif"))


def test_heights_keep_the_shape_of_the_input(terrain: Terrain) -> None:
    """Any shape of places gives heights of that shape, as float64."""
    lat, lon = geo(503_000, 3_697_000)

    found = terrain.heights_m(np.full((2, 3), lat), np.full((2, 3), lon))

    assert found.shape == (2, 3)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()


def test_a_place_that_is_nan_has_no_height(terrain: Terrain) -> None:
    """Unknown in, unknown out."""
    assert np.isnan(terrain.heights_m([math.nan], [71.0])).all()


def test_no_places_have_no_heights(terrain: Terrain) -> None:
    """An empty list is no error."""
    assert terrain.heights_m([], []).shape == (0,)


def test_terrain_names_its_method_and_spacing(terrain: Terrain) -> None:
    """The method is one a ground fix may carry, and the spacing is a positive length."""
    assert terrain.method in {"flat_ground", "dem"}
    assert terrain.spacing_m > 0


def test_bilinear_heights_are_exact_on_a_plane_in_another_projection(tmp_path: Path) -> None:
    """Between cell centres, across windows and projections, a plane comes back to the centimetre."""
    dem = DemTerrain(write_dem(tmp_path / "dem.tif"))
    rng = np.random.default_rng(0)
    east, north = rng.uniform(500_050, 508_900, 500), rng.uniform(3_691_700, 3_699_900, 500)
    lat, lon = geo(east, north)  # type: ignore[arg-type]

    assert height_m(east, north) == pytest.approx(dem.heights_m(lat, lon), abs=0.01)
    assert dem.spacing_m == pytest.approx(30, abs=0.1)


def test_outside_and_no_data_have_no_height(tmp_path: Path) -> None:
    """Beyond the raster, and where any of the four cells is empty, nothing is claimed."""
    dem = DemTerrain(write_dem(tmp_path / "dem.tif", holes=True))
    places = [
        geo(499_000, 3_699_000),
        geo(503_150, 3_696_850),
        geo(502_990, 3_696_850),
        geo(502_950, 3_696_850),
    ]

    found = dem.heights_m(*zip(*places, strict=True))

    assert np.isnan(found).tolist() == [True, True, True, False]


@pytest.mark.parametrize("content", [b"", b"not a raster", None])
def test_a_file_that_is_no_raster_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    """Empty, foreign and missing files are a configuration error that names the file."""
    path = tmp_path / "heights.tif"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigInvalid, match=r"heights\.tif"):
        DemTerrain(path)


def test_a_cut_off_raster_is_refused_when_read(tmp_path: Path) -> None:
    """A raster whose data end early opens, but no height is made up from it."""
    path = write_dem(tmp_path / "dem.tif")
    path.write_bytes(path.read_bytes()[:100_000])
    lat, lon = geo(503_000, 3_692_500)

    with pytest.raises(ConfigInvalid, match=r"damaged|expected a GeoTIFF"):
        DemTerrain(path).heights_m([lat], [lon])


def test_a_raster_without_projection_is_refused(tmp_path: Path) -> None:
    """Heights that do not say where they are cannot be used."""
    with pytest.raises(ConfigInvalid, match="where it lies"):
        DemTerrain(write_dem(tmp_path / "dem.tif", crs=None))


def test_real_mountains_have_their_heights() -> None:
    """The sample of the Baltoro region spans 3,197 to 8,569 m, and its spacing is three arc seconds."""
    if "OUTWATCH_SAMPLES" not in os.environ:
        pytest.skip("needs real elevation data: set OUTWATCH_SAMPLES to the samples' folder")
    dem = DemTerrain(Path(os.environ["OUTWATCH_SAMPLES"]) / "dem" / "baltoro_srtm_clip.tif")
    lat, lon = np.meshgrid(np.linspace(35.58, 35.92, 200), np.linspace(76.06, 76.76, 200))

    heights = dem.heights_m(lat, lon)

    assert heights.min() == pytest.approx(3200, abs=60)
    assert 8200 < heights.max() <= 8569
    assert dem.spacing_m == pytest.approx(75.4, abs=0.5)


NGA_POINTS = [
    (38.6281550, 269.7791550, -31.628),
    (-14.6212170, 305.0211140, -2.969),
    (46.8743190, 102.4487290, -43.575),
    (-23.6174460, 133.8747120, 15.871),
    (38.6254730, 359.9995000, 50.066),
    (-0.4667440, 0.0023000, 17.329),
]
"""Latitude, longitude east and height of the geoid: the test points of NGA's own program, F477."""


@pytest.mark.parametrize(("lat", "lon", "expected_m"), NGA_POINTS)
def test_the_geoid_is_nga_s(lat: float, lon: float, expected_m: float) -> None:
    """NGA's program interpolates more smoothly: ours is within 0.3 m of it."""
    east = (lon + 180) % 360 - 180

    assert float(Geoid().undulation_m(lat, east)) == pytest.approx(expected_m, abs=0.3)


def test_heights_go_from_the_ellipsoid_to_the_sea_by_the_geoid_s_height() -> None:
    """In Pakistan the geoid lies 17 to 55 m below the ellipsoid, so heights above the sea are larger."""
    lat, lon = np.meshgrid(np.linspace(24, 37, 9), np.linspace(61, 77, 9))
    geoid = Geoid()

    above_sea = geoid.above_sea_m(1000.0, lat, lon)

    assert above_sea == pytest.approx(1000 - geoid.undulation_m(lat, lon))
    assert above_sea.min() == pytest.approx(1017, abs=1)
    assert above_sea.max() == pytest.approx(1055, abs=1)


def test_an_elevation_model_above_the_ellipsoid_gives_heights_above_the_sea(tmp_path: Path) -> None:
    """Two files of one ground in two datums agree once the geoid is told."""
    path, geoid = write_dem(tmp_path / "dem.tif"), Geoid()
    sea, ellipsoid = DemTerrain(path), DemTerrain(path, above_ellipsoid=geoid)
    lat, lon = geo(503_000, 3_697_000)

    assert ellipsoid.heights_m(lat, lon) + geoid.undulation_m(lat, lon) == pytest.approx(
        sea.heights_m(lat, lon)
    )
