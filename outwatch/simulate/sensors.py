"""What a camera makes of a scene: blur, gain, noise.

Belongs here: one class a kind of camera. Not here: the scene (``render.py``).
"""

from __future__ import annotations

import math
from typing import Protocol

import cv2
import numpy as np

from outwatch.domain.types import Image, Modality
from outwatch.simulate.scenario import CameraModel
from outwatch.simulate.scenery import Levels

# The thermal sensor, read off HIT-UAV night images: grain of 1.4 levels that is alike in neighbouring
# pixels (autocorrelation 0.76, 0.44, 0.19 at 1, 2, 3 px), edges sharpened to dark rims, dim corners.
_LENS_BLUR_PX = 0.85
_SHARPEN, _SHARPEN_RADIUS_PX = 0.8, 1.8
_GRAIN, _GRAIN_BLUR_PX, _GRAIN_TILES = 1.4, 0.9, 8
_COLUMNS = 0.7
_VIGNETTE = 9.0
_GAIN_DRIFT, _GAIN_PERIOD_S = 0.02, 31.0

# By day: a sharper lens, and the grain of a small sensor in good light.
_DAY_BLUR_PX = 0.6
_DAY_GRAIN, _DAY_SHIFT_PX = 2.0, 64


class Sensor(Protocol):
    """Turns a scene into a frame."""

    def expose(self, scene: Levels, *, index: int, time_s: float) -> Image:
        """Return the frame (height, width, 3) of a scene, whose tones go from 0 to 255."""
        ...


def sensor_of(camera: CameraModel, *, seed: int) -> Sensor:
    """Return what stands behind a camera's lens."""
    kind = Daylight if camera.modality is Modality.RGB else Thermal
    return kind(width_px=camera.width_px, height_px=camera.height_px, seed=seed)


class Thermal:
    """The sensor: blur, sharpening, slow gain, vignette, column noise and grain."""

    def __init__(self, *, width_px: int, height_px: int, seed: int) -> None:
        random = np.random.default_rng([seed, 6])
        shape = (height_px, width_px)
        rows, columns = np.mgrid[-1 : 1 : height_px * 1j, -1 : 1 : width_px * 1j]
        fixed = -_VIGNETTE * ((rows**2 + columns**2) / 2) ** 2
        fixed += random.normal(0, _COLUMNS, (1, width_px))
        self._fixed = fixed.astype(np.float32)
        tiles = random.standard_normal((_GRAIN_TILES, *shape)).astype(np.float32)
        blurred = [cv2.GaussianBlur(tile, (0, 0), _GRAIN_BLUR_PX) for tile in tiles]
        self._grain = [np.asarray(_GRAIN / tile.std() * tile) for tile in blurred]
        self._seed = seed

    def expose(self, scene: Levels, *, index: int, time_s: float) -> Image:
        """Return the frame (height, width, 3) that the sensor makes of grey levels (height, width)."""
        blurred = cv2.GaussianBlur(scene, (0, 0), _LENS_BLUR_PX)
        wide = cv2.GaussianBlur(blurred, (0, 0), _SHARPEN_RADIUS_PX)
        gain = 1 + _GAIN_DRIFT * math.sin(2 * math.pi * time_s / _GAIN_PERIOD_S)
        levels = gain * ((1 + _SHARPEN) * blurred - _SHARPEN * wide) + self._fixed
        random = np.random.default_rng([self._seed, 7, index])
        tile = self._grain[random.integers(_GRAIN_TILES)]
        down, right = (int(shift) for shift in random.integers(0, 64, 2))
        levels += np.roll(tile, (down, right), axis=(0, 1))
        grey = np.clip(levels, 0, 255).astype(np.uint8)
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))


class Daylight:
    """The sensor: blur and grain."""

    def __init__(self, *, width_px: int, height_px: int, seed: int) -> None:
        random = np.random.default_rng([seed, 6])
        shape = (height_px + _DAY_SHIFT_PX, width_px + _DAY_SHIFT_PX, 1)
        self._grain = (_DAY_GRAIN * random.standard_normal(shape, np.float32)).astype(np.float32)
        self._seed = seed

    def expose(self, scene: Levels, *, index: int, time_s: float) -> Image:  # noqa: ARG002 daylight does not drift
        """Return the frame (height, width, 3) that the sensor makes of colours (height, width, 3)."""
        height, width = scene.shape[:2]
        blurred = cv2.GaussianBlur(scene, (0, 0), _DAY_BLUR_PX)
        random = np.random.default_rng([self._seed, 7, index])
        down, right = (int(shift) for shift in random.integers(0, _DAY_SHIFT_PX, 2))
        colours = blurred + self._grain[down : down + height, right : right + width]
        return np.asarray(np.clip(colours, 0, 255), np.uint8)
