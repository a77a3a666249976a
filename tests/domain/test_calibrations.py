"""What a calibration file must hold, and which camera follows."""

from __future__ import annotations

import tomllib

import pytest

from outwatch.domain.calibrations import calibrated, lens_at, parse_calibrations
from outwatch.domain.cameras import camera_named
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import Lens

FILE = """
["xt2 25mm"]
focal = 1.1489
k1 = -0.21
k2 = 0.08
p1 = 0.001
centre_x = 0.507
source = "chessboard, 24 views, OpenCV, rms 0.3 px, 2026-03-02"
"""


def test_a_table_becomes_the_named_camera_with_its_lens() -> None:
    """The name is the camera table's; the field of view follows from the focal length."""
    (camera,) = parse_calibrations(tomllib.loads(FILE), file="lenses.toml").values()

    assert (camera.name, camera.lens) == (
        "DJI XT2 25 mm",
        Lens(k1=-0.21, k2=0.08, p1=0.001, centre_x=0.507),
    )
    assert camera.hfov_deg == pytest.approx(47.04, abs=0.01)
    assert camera.source.startswith("calibrated: chessboard")


def test_only_the_calibrated_camera_changes() -> None:
    """Others stay the table's; no camera stays none."""
    calibrations = parse_calibrations(tomllib.loads(FILE), file="lenses.toml")
    other = camera_named("DJI XT2 19 mm")

    assert calibrated(other, calibrations) is other
    assert calibrated(None, calibrations) is None
    assert calibrated(camera_named("DJI XT2 25 mm"), calibrations) is calibrations["DJI XT2 25 mm"]


def test_a_zoomed_picture_is_a_pinhole() -> None:
    """Coefficients hold for the field of view they were measured at, give or take its rounding."""
    (camera,) = parse_calibrations(tomllib.loads(FILE), file="lenses.toml").values()

    assert lens_at(camera, 47.0) is camera.lens
    assert lens_at(camera, 23.5) is None
    assert lens_at(None, 47.0) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("focal = 1.1489", "focal: expected the focal length in widths"),
        ("k1 = -0.21", "k1: expected a number, found 'x'"),
        ("source", "source: expected text"),
    ],
)
def test_what_is_wrong_is_named(change: str, words: str) -> None:
    """File, camera, field, what was expected and what was found."""
    key = change.split(" ", maxsplit=1)[0]
    data = tomllib.loads(FILE)
    data["xt2 25mm"][key] = "x" if key != "source" else 3

    with pytest.raises(ConfigInvalid, match=r"lenses.toml, camera 'xt2 25mm'") as refused:
        parse_calibrations(data, file="lenses.toml")
    assert words in str(refused.value)


def test_unknown_fields_and_cameras_are_refused() -> None:
    """A misspelt name must not pass for a pinhole."""
    data = tomllib.loads(FILE)
    with pytest.raises(ConfigInvalid, match="K1 is no field"):
        parse_calibrations({"xt2 25mm": {**data["xt2 25mm"], "K1": 0.1}}, file="f")
    with pytest.raises(ConfigInvalid, match="not in the camera table"):
        parse_calibrations({"Kodak": data["xt2 25mm"]}, file="f")
    with pytest.raises(ConfigInvalid, match="expected a table"):
        parse_calibrations({"xt2 25mm": 3}, file="f")


def test_a_lens_that_folds_its_picture_is_refused() -> None:
    """Coefficients that no ray through the corner satisfies are another convention's."""
    data = {"xt2 25mm": {"focal": 0.6, "k1": -0.9, "source": "mistyped"}}

    with pytest.raises(ConfigInvalid, match="folds back on itself"):
        parse_calibrations(data, file="f")
