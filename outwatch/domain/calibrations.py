"""Calibrations: what somebody measured of a camera's lens, in place of the maker's figures.

Belongs here: what a table of a calibration file must hold, and which camera and lens follow. Not here: the
camera table (``cameras.py``), reading files, and what a lens does to a picture (``detection/lens.py``).

Makers publish no distortion, so it is known of cameras that were calibrated: a chessboard and OpenCV do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace

from outwatch.domain.cameras import camera_named
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.geojson import is_number, is_text
from outwatch.domain.types import Camera, Lens

CALIBRATED_SIGMA_DEG = 0.1
"""Of a calibrated field of view whose file does not say: what repeated chessboard calibrations scatter by."""
LENS_ZOOM_SHARE = 0.02
"""Telemetry may state the calibrated field of view with so much rounding; a larger difference is zoom, for
which the coefficients were not measured."""
_FOCAL_RANGE = (0.2, 20.0)
"""Focal lengths in widths of the picture: fields of view from 136 to 3 degrees."""
_CORNER_WIDTHS = math.hypot(0.5, 0.375)
"""From the middle to the corner of a 4:3 picture, in widths."""
_COEFFICIENTS = tuple(field.name for field in fields(Lens))
_EXPECTED = {
    "source": "text: who measured it, when and how",
    "focal": f"the focal length in widths of the picture, {_FOCAL_RANGE[0]:g} to {_FOCAL_RANGE[1]:g}",
    "hfov_sigma_deg": "a number, 0 or more",
}


def parse_calibrations(data: Mapping[str, object], *, file: str) -> Mapping[str, Camera]:
    """Return calibrated cameras by name, from a parsed TOML file with one table a camera.

    ``focal`` is the focal length in widths of the picture (OpenCV's fx over the width), ``source`` says
    who measured it and when; ``k1 k2 p1 p2 k3``, ``centre_x`` and ``centre_y`` are ``Lens``'s, and
    ``hfov_sigma_deg`` the field of view's standard deviation.

    Raises:
        ConfigInvalid: a camera is not in the camera table, or a value is missing, unknown or impossible.
    """
    return {camera_named(name).name: _calibrated(name, body, file=file) for name, body in data.items()}


def calibrated(camera: Camera | None, calibrations: Mapping[str, Camera]) -> Camera | None:
    """Return a camera as it was calibrated, or as it is where it was not."""
    return camera and calibrations.get(camera.name, camera)


def lens_at(camera: Camera | None, hfov_deg: float) -> Lens | None:
    """Return a camera's lens where a field of view is the one it was calibrated at, else None: a pinhole."""
    if camera is None or abs(hfov_deg / camera.hfov_deg - 1) > LENS_ZOOM_SHARE:
        return None
    return camera.lens


def _calibrated(name: str, body: object, *, file: str) -> Camera:
    where = f"calibrations {file}, camera {name!r}"
    if not isinstance(body, Mapping):
        raise ConfigInvalid(f'{where}: expected a table as in ["{name}"], found {body!r:.60}')
    known = sorted({*_EXPECTED, *_COEFFICIENTS})
    if strange := sorted(set(body) - set(known)):
        raise ConfigInvalid(f"{where}: {strange[0]} is no field, expected {', '.join(known)}")
    for key in ("focal", "source", *body):
        if not _is_possible(key, value := body.get(key)):
            raise ConfigInvalid(
                f"{where}, {key}: expected {_EXPECTED.get(key, 'a number')}, found {value!r:.60}"
            )
    focal = float(body["focal"])
    lens = Lens(**{key: float(body[key]) for key in _COEFFICIENTS if key in body})
    if not _reaches_the_corner(lens, focal=focal):
        raise ConfigInvalid(
            f"{where}: with k1 {lens.k1:g}, k2 {lens.k2:g}, k3 {lens.k3:g} the picture folds back on itself"
            " before its corner: give the coefficients as OpenCV writes them (k1, k2, p1, p2, k3)"
        )
    return replace(
        camera_named(name),
        hfov_deg=math.degrees(2 * math.atan(0.5 / focal)),
        hfov_sigma_deg=float(body.get("hfov_sigma_deg", CALIBRATED_SIGMA_DEG)),
        source=f"calibrated: {body['source']}",
        lens=lens,
    )


def _is_possible(key: str, value: object) -> bool:
    if key == "source":
        return is_text(value)
    if not is_number(value):
        return False
    if key == "focal":
        return _FOCAL_RANGE[0] <= value <= _FOCAL_RANGE[1]
    return key != "hfov_sigma_deg" or value >= 0


def _reaches_the_corner(lens: Lens, *, focal: float) -> bool:
    """Tell whether a lens spreads its picture, ever farther out for flatter rays, as far as the corner."""
    corner = _CORNER_WIDTHS / focal
    shown = 0.0
    for step in range(1, 301):
        r2 = (corner * step / 100) ** 2
        now = math.sqrt(r2) * (1 + r2 * (lens.k1 + r2 * (lens.k2 + r2 * lens.k3)))
        if now >= corner:
            return True
        if now <= shown:
            return False
        shown = now
    return False
