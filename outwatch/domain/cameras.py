"""The camera table: which field of view an aircraft's camera has, and how well that is known.

Belongs here: published figures, the formula that turns them into an angle, and the choice of a camera
for a clip. Not here: calibrations of single cameras (``calibrations.py``), and the ray through a pixel
(``detection/rays.py``).

Convention. ``hfov_deg`` is the horizontal angle of a pinhole camera across the full width of the video:
2 atan(w / 2f), w the sensor's width and f its focal length (Hartley and Zisserman, *Multiple View
Geometry*, section 6.1). A thermal sensor's width is its pixels times their pitch. A maker gives an RGB
camera as a "35 mm equivalent" focal length, which keeps the diagonal (CIPA DCG-001), so its width is
that of a frame with the 35 mm diagonal and the sensor's own aspect ratio. Makers also print an angle;
it disagrees by rounding and distortion, and the disagreement is taken as the standard deviation. No maker
of the table publishes distortion coefficients, so every entry is a pinhole.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import Camera, Modality

FULL_FRAME_WIDTH_MM = 36.0
FULL_FRAME_DIAGONAL_MM = math.hypot(36.0, 24.0)
FOCAL_MATCH_MM = 0.05
"""Telemetry writes focal lengths to a tenth or a hundredth of a millimetre."""
THERMAL_SIGMA_DEG = 0.5
"""Least standard deviation: makers print whole degrees."""
RGB_SIGMA_DEG = 2.0
"""Least standard deviation: video modes and electronic stabilisation crop a few per cent of the width."""
EQUIVALENT_SIGMA_DEG = 4.0
"""For an RGB camera known by its focal length alone: 4:3 and 3:2 sensors differ by 2.2 degrees at
24 mm, and the crop of the video mode is unknown on top of that."""
EQUIVALENT_RANGE_MM = (18.0, 200.0)
"""35 mm equivalents for which the pinhole formula holds: shorter are fisheyes of FPV aircraft, or true
focal lengths taken for equivalents; longer are digital zoom."""
SUPER_RESOLUTION = 2
"""Thermal cameras may record at this many times the sensor's pixels each way, over the same angle."""
ASPECT_TOLERANCE = 0.03
"""Share by which a frame's aspect ratio may differ from the sensor's: codecs round sizes to 16 pixels,
2.5 % of a width of 640."""
AMBIGUOUS_DEG = 1.0
"""Lenses of one focal length that differ by more than this cannot be told apart, so none is chosen."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One row: figures as the maker prints them."""

    name: str
    modality: Modality
    size_px: tuple[int, int] | None
    """The sensor's, which thermal cameras record whole; of RGB ones the video mode decides, so None."""
    sensor_width_mm: float
    focal_length_mm: float
    published_hfov_deg: float
    source: str
    equivalent_mm: float | None = None
    """35 mm equivalent that a thermal camera may write as its focal length."""


def _hfov_deg(sensor_width_mm: float, focal_length_mm: float) -> float:
    return math.degrees(2 * math.atan(sensor_width_mm / (2 * focal_length_mm)))


def _horizontal_deg(dfov_deg: float, *, aspect: tuple[int, int]) -> float:
    """Return the horizontal part of a diagonal angle for a sensor of the given aspect ratio."""
    share = aspect[0] / math.hypot(*aspect)
    return math.degrees(2 * math.atan(math.tan(math.radians(dfov_deg) / 2) * share))


def _equivalent_width_mm(aspect: tuple[int, int]) -> float:
    """Return the width of a frame with the 35 mm diagonal and the given aspect ratio."""
    return FULL_FRAME_DIAGONAL_MM * aspect[0] / math.hypot(*aspect)


def _thermal(
    name: str,
    *,
    focal_length_mm: float,
    pitch_um: float,
    size_px: tuple[int, int] = (640, 512),
    hfov_deg: float | None = None,
    dfov_deg: float | None = None,
    equivalent_mm: float | None = None,
) -> _Entry:
    """Return a thermal row; give the one angle the maker prints, or else the equivalent focal length."""
    if hfov_deg is not None:
        published_deg, angle = hfov_deg, f"HFOV {hfov_deg:g}°"
    elif dfov_deg is not None:
        published_deg, angle = _horizontal_deg(dfov_deg, aspect=size_px), f"DFOV {dfov_deg:g}°"
    else:
        published_deg = _hfov_deg(_equivalent_width_mm(size_px), equivalent_mm or math.nan)
        angle = f"{equivalent_mm:g} mm equivalent"
    return _Entry(
        name=name,
        modality=Modality.THERMAL,
        size_px=size_px,
        sensor_width_mm=size_px[0] * pitch_um / 1000,
        focal_length_mm=focal_length_mm,
        published_hfov_deg=published_deg,
        source=f"maker's specifications: {size_px[0]}×{size_px[1]}, {pitch_um:g} µm pixels, "
        f"{focal_length_mm:g} mm lens, {angle}",
        equivalent_mm=equivalent_mm,
    )


def _rgb(name: str, *, equivalent_mm: float, dfov_deg: float, aspect: tuple[int, int], sensor: str) -> _Entry:
    return _Entry(
        name=name,
        modality=Modality.RGB,
        size_px=None,
        sensor_width_mm=_equivalent_width_mm(aspect),
        focal_length_mm=equivalent_mm,
        published_hfov_deg=_horizontal_deg(dfov_deg, aspect=aspect),
        source=f"maker's specifications: {sensor} sensor ({aspect[0]}:{aspect[1]}), "
        f"{equivalent_mm:g} mm equivalent, DFOV {dfov_deg:g}°",
    )


_TABLE = (
    _thermal("DJI XT2 9 mm", focal_length_mm=9, pitch_um=17, hfov_deg=69),
    _thermal("DJI XT2 13 mm", focal_length_mm=13, pitch_um=17, hfov_deg=45),
    _thermal("DJI XT2 19 mm", focal_length_mm=19, pitch_um=17, hfov_deg=32),
    _thermal("DJI XT2 25 mm", focal_length_mm=25, pitch_um=17, hfov_deg=25),
    _thermal("DJI Zenmuse H20T thermal", focal_length_mm=13.5, pitch_um=12, dfov_deg=40.6, equivalent_mm=58),
    _thermal(
        "DJI Zenmuse H30T thermal",
        focal_length_mm=24,
        pitch_um=12,
        size_px=(1280, 1024),
        dfov_deg=45.2,
        equivalent_mm=52,
    ),
    _thermal("DJI Matrice 30T thermal", focal_length_mm=9.1, pitch_um=12, dfov_deg=61, equivalent_mm=40),
    _thermal("DJI Mavic 3T thermal", focal_length_mm=9.1, pitch_um=12, dfov_deg=61, equivalent_mm=40),
    _thermal("DJI Mavic 2 Enterprise Advanced thermal", focal_length_mm=9, pitch_um=12, equivalent_mm=38),
    _thermal("Autel EVO II Dual 640T thermal", focal_length_mm=13, pitch_um=12, hfov_deg=33),
    _rgb("DJI Mavic Pro", equivalent_mm=26, dfov_deg=78.8, aspect=(4, 3), sensor="1/2.3-inch"),
    _rgb("DJI Mavic 2 Pro", equivalent_mm=28, dfov_deg=77, aspect=(3, 2), sensor="1-inch"),
    _rgb("DJI Mavic 3 wide", equivalent_mm=24, dfov_deg=84, aspect=(4, 3), sensor="4/3-inch"),
    _rgb("DJI Mavic 3E wide", equivalent_mm=24, dfov_deg=84, aspect=(4, 3), sensor="4/3-inch"),
    _rgb("DJI Mavic 3T wide", equivalent_mm=24, dfov_deg=84, aspect=(4, 3), sensor="1/2-inch"),
    _rgb("DJI Matrice 30T wide", equivalent_mm=24, dfov_deg=84, aspect=(4, 3), sensor="1/2-inch"),
    _rgb("DJI Mini 3 Pro", equivalent_mm=24, dfov_deg=82.1, aspect=(4, 3), sensor="1/1.3-inch"),
    _rgb("DJI Mini 4 Pro", equivalent_mm=24, dfov_deg=82.1, aspect=(4, 3), sensor="1/1.3-inch"),
    _rgb("DJI Air 2S", equivalent_mm=22, dfov_deg=88, aspect=(3, 2), sensor="1-inch"),
    _rgb("DJI Phantom 4 Pro", equivalent_mm=24, dfov_deg=84, aspect=(3, 2), sensor="1-inch"),
)


def camera_names() -> tuple[str, ...]:
    """Return every name that ``camera_named`` knows, in order of the table."""
    return tuple(entry.name for entry in _TABLE)


def camera_named(name: str) -> Camera:
    """Return the camera of a name; case, spaces, hyphens and a leading "DJI" do not matter.

    Raises:
        ConfigInvalid: no camera has that name; the message lists the nearest, or all.
    """
    return _camera(_entry_named(name))


def _entry_named(name: str) -> _Entry:
    entries = {_plain(entry.name): entry for entry in _TABLE}
    if (entry := entries.get(_plain(name))) is not None:
        return entry
    near = difflib.get_close_matches(_plain(name), entries, n=4, cutoff=0.4)
    names = ", ".join(repr(entries[key].name) for key in near or entries)
    raise ConfigInvalid(f"camera {name!r} is not in the camera table; expected one such as {names}")


def resolve_camera(
    *, name: str | None, modality: Modality, width_px: int, height_px: int, focal_length_mm: float | None
) -> Camera | None:
    """Return the camera of a clip, or None where nothing says which it is.

    A declared name wins. A thermal clip is matched by sensor size and focal length, unless lenses of
    that length differ in angle. An RGB clip's focal length is read as a 35 mm equivalent, unless its
    frames have the size of a thermal sensor: a thermal picture in false colours is taken for RGB.

    Args:
        name: as declared by the operator or a manifest.
        modality: what the clip shows.
        width_px: width of the video.
        height_px: height of the video.
        focal_length_mm: as the telemetry says it, in millimetres (not in tenths).

    Raises:
        ConfigInvalid: the declared name is unknown, or its sensor is of another shape than the frames.
    """
    size_px = width_px, height_px
    if name is not None:
        return _camera(_of_shape(_entry_named(name), size_px=size_px))
    if focal_length_mm is None or not math.isfinite(focal_length_mm):
        return None
    # Another size than a sensor's or its super-resolution is a crop, a mosaic or a blend.
    thermal = [entry for entry in _TABLE if size_px in _recorded_sizes_px(entry)]
    if modality is Modality.THERMAL:
        return _thermal_camera(focal_length_mm, entries=thermal)
    return None if thermal else _equivalent_camera(focal_length_mm)


def _recorded_sizes_px(entry: _Entry) -> tuple[tuple[int, int], ...]:
    if entry.size_px is None:
        return ()
    width_px, height_px = entry.size_px
    return (width_px, height_px), (SUPER_RESOLUTION * width_px, SUPER_RESOLUTION * height_px)


def _of_shape(entry: _Entry, *, size_px: tuple[int, int]) -> _Entry:
    """Return the entry if its sensor, where known, has the aspect ratio of the frames."""
    if entry.size_px is None:
        return entry
    (width_px, height_px), (sensor_width_px, sensor_height_px) = size_px, entry.size_px
    ratio = (width_px * sensor_height_px) / (height_px * sensor_width_px)
    if abs(ratio - 1) > ASPECT_TOLERANCE:
        raise ConfigInvalid(
            f"camera {entry.name!r} has a sensor of {sensor_width_px}x{sensor_height_px} but the frames"
            f" are {width_px}x{height_px}, of another shape: name the camera that took the clip, or hand in"
            " the original recording if it was cropped"
        )
    return entry


def _thermal_camera(focal_length_mm: float, *, entries: Sequence[_Entry]) -> Camera | None:
    matches = [
        _camera(entry)
        for entry in entries
        if any(
            known_mm is not None and abs(known_mm - focal_length_mm) <= FOCAL_MATCH_MM
            for known_mm in (entry.focal_length_mm, entry.equivalent_mm)
        )
    ]
    angles_deg = [camera.hfov_deg for camera in matches]
    if not matches or max(angles_deg) - min(angles_deg) > AMBIGUOUS_DEG:
        return None
    return matches[0]


def _equivalent_camera(focal_length_mm: float) -> Camera | None:
    shortest_mm, longest_mm = EQUIVALENT_RANGE_MM
    if not shortest_mm <= focal_length_mm <= longest_mm:
        return None
    return Camera(
        name=f"RGB {focal_length_mm:g} mm equivalent",
        modality=Modality.RGB,
        hfov_deg=_hfov_deg(FULL_FRAME_WIDTH_MM, focal_length_mm),
        hfov_sigma_deg=EQUIVALENT_SIGMA_DEG,
        source=f"telemetry's focal length of {focal_length_mm:g} mm, read as a 35 mm equivalent",
    )


def _camera(entry: _Entry) -> Camera:
    hfov_deg = _hfov_deg(entry.sensor_width_mm, entry.focal_length_mm)
    least_deg = THERMAL_SIGMA_DEG if entry.modality is Modality.THERMAL else RGB_SIGMA_DEG
    return Camera(
        name=entry.name,
        modality=entry.modality,
        hfov_deg=hfov_deg,
        hfov_sigma_deg=max(least_deg, abs(hfov_deg - entry.published_hfov_deg)),
        source=entry.source,
    )


def _plain(name: str) -> str:
    plain = "".join(name.casefold().replace("-", "").split())
    return plain.removeprefix("dji")
