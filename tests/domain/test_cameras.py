"""A clip's field of view comes from a name, a lens that can be told, or nowhere."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outwatch.domain.cameras import camera_named, camera_names, resolve_camera
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import Camera, Modality


def resolve(
    *,
    name: str | None = None,
    modality: Modality = Modality.THERMAL,
    size_px: tuple[int, int] = (640, 512),
    focal_length_mm: float | None = None,
) -> Camera | None:
    """Resolve with the defaults of the thermal samples."""
    return resolve_camera(
        name=name,
        modality=modality,
        width_px=size_px[0],
        height_px=size_px[1],
        focal_length_mm=focal_length_mm,
    )


def test_the_sample_flights_are_told_by_their_lens() -> None:
    """640 px at 17 µm behind 25 mm: 2 atan(10.88 / 50) = 24.55 degrees."""
    camera = resolve(focal_length_mm=25.00)
    assert camera is not None
    assert camera.name == "DJI XT2 25 mm"
    assert math.degrees(2 * math.atan(640 * 0.017 / 2 / 25)) == pytest.approx(camera.hfov_deg)
    assert pytest.approx(camera.hfov_deg, abs=0.01) == 24.55
    assert "17 µm" in camera.source


@pytest.mark.parametrize("name", ["dji xt2 25 mm", "XT2 25mm", "  DJI  XT2-25MM "])
def test_names_are_forgiving(name: str) -> None:
    """Case, spaces, hyphens and the maker's name do not matter."""
    assert camera_named(name).name == "DJI XT2 25 mm"


def test_an_unknown_name_lists_near_ones() -> None:
    """A slip is mended from the message; a name like no other lists the whole table."""
    with pytest.raises(ConfigInvalid, match="'DJI XT2 25 mm'"):
        camera_named("XT2 26 mm")
    with pytest.raises(ConfigInvalid) as caught:
        camera_named("###")
    assert all(name in str(caught.value) for name in camera_names())


def test_a_declared_name_wins() -> None:
    """The operator knows what the telemetry does not say."""
    camera = resolve(name="Mavic 3T thermal", focal_length_mm=25.0)
    assert camera is not None
    assert camera.name == "DJI Mavic 3T thermal"


@pytest.mark.parametrize(
    "focal_length_mm",
    [None, math.nan, 9.0, 13.0, 26.0],
)
def test_a_lens_that_cannot_be_told_gives_no_camera(focal_length_mm: float | None) -> None:
    """9 and 13 mm exist over 12 and 17 µm pixels, 16 and 13 degrees apart: no guess is made."""
    assert resolve(focal_length_mm=focal_length_mm) is None


def test_a_thermal_crop_gives_no_camera() -> None:
    """Only the sensor's own shape says how wide the picture is."""
    assert resolve(size_px=(640, 480), focal_length_mm=25.0) is None
    assert resolve(size_px=(960, 768), focal_length_mm=25.0) is None


@pytest.mark.parametrize(
    ("size_px", "focal_length_mm", "name"),
    [
        ((1280, 1024), 25.0, "DJI XT2 25 mm"),
        ((1280, 1024), 24.0, "DJI Zenmuse H30T thermal"),
        ((2560, 2048), 24.0, "DJI Zenmuse H30T thermal"),
    ],
)
def test_super_resolution_shows_the_same_angle(
    size_px: tuple[int, int], focal_length_mm: float, name: str
) -> None:
    """Twice the pixels each way are the same sensor behind the same lens."""
    assert resolve(size_px=size_px, focal_length_mm=focal_length_mm) == camera_named(name)


@pytest.mark.parametrize("size_px", [(640, 512), (1280, 1024)])
def test_false_colours_are_no_rgb_camera(size_px: tuple[int, int]) -> None:
    """A coloured picture of a thermal sensor's size is no RGB one, so its focal length is no equivalent."""
    assert resolve(modality=Modality.RGB, size_px=size_px, focal_length_mm=25.0) is None
    assert resolve(modality=Modality.RGB, size_px=(1280, 720), focal_length_mm=25.0) is not None


@pytest.mark.parametrize(
    ("size_px", "taken"), [((640, 512), True), ((640, 528), False), ((656, 512), True), ((640, 480), False)]
)
def test_declared_camera_must_have_the_shape_of_the_frames(size_px: tuple[int, int], taken: bool) -> None:
    """A name that cannot be the clip's is refused with both shapes; a codec's rounding is not."""
    if taken:
        assert resolve(name="XT2 25 mm", size_px=size_px) == camera_named("XT2 25 mm")
    else:
        with pytest.raises(ConfigInvalid, match=rf"'DJI XT2 25 mm'.*640x512.*{size_px[0]}x{size_px[1]}"):
            resolve(name="XT2 25 mm", size_px=size_px)


def test_declared_rgb_camera_may_record_any_shape() -> None:
    """The video mode, not the sensor, decides an RGB frame's shape."""
    assert resolve(name="Mavic 3 wide", modality=Modality.RGB, size_px=(3840, 2160)) is not None


def test_twins_with_one_lens_are_one_camera() -> None:
    """Mavic 3T and Matrice 30T write 40 mm and share sensor and lens, so either serves."""
    camera = resolve(focal_length_mm=40.0)
    assert camera is not None
    assert pytest.approx(camera.hfov_deg, abs=0.05) == 45.8


def test_rgb_is_read_as_equivalent_with_a_larger_sigma() -> None:
    """24 mm on a 36 mm wide frame is 73.7 degrees, less sure than a known camera."""
    camera = resolve(modality=Modality.RGB, size_px=(3840, 2160), focal_length_mm=24.0)
    assert camera is not None
    assert pytest.approx(camera.hfov_deg, abs=0.01) == 73.74
    assert camera.hfov_sigma_deg > camera_named("Mavic 3 wide").hfov_sigma_deg


@pytest.mark.parametrize("focal_length_mm", [4.5, 12.0, 280.0])
def test_rgb_outside_what_pinholes_cover_gives_no_camera(focal_length_mm: float) -> None:
    """True focal lengths, fisheyes and unscaled tenths are not taken for equivalents."""
    assert resolve(modality=Modality.RGB, size_px=(3840, 2160), focal_length_mm=focal_length_mm) is None


@pytest.mark.parametrize("name", camera_names())
def test_every_row_is_sound(name: str) -> None:
    """The computed angle lies within two standard deviations of 5 % of itself from the printed one."""
    camera = camera_named(name)
    assert 10 < camera.hfov_deg < 90
    assert 0.5 <= camera.hfov_sigma_deg < 0.11 * camera.hfov_deg
    assert "specifications" in camera.source


def test_names_are_unique() -> None:
    """No two rows answer to one name."""
    plain = {name.casefold().replace(" ", "") for name in camera_names()}
    assert len(camera_names()) == len(plain)


@given(focal_length_mm=st.floats(allow_nan=True, allow_infinity=True), modality=st.sampled_from(Modality))
def test_any_focal_length_gives_a_sane_camera_or_none(focal_length_mm: float, modality: Modality) -> None:
    """Broken telemetry never makes an angle out of nothing."""
    camera = resolve(modality=modality, focal_length_mm=focal_length_mm)
    assert camera is None or 5 < camera.hfov_deg < 91
