"""Hill-shade and contours for the map's ground, from an elevation model.

Belongs here: heights to shades. Not here: reading heights (``detection/terrain.py``). Slopes by central
differences and the usual north-west light at 45 degrees (Horn 1981, Hill shading and the reflectance map).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from PIL import Image as Pictures

from detection.evidence.sheet import Sheet
from detection.evidence.style import round_length
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.ports import Terrain

GRID = 100
"""Heights along each side: finer than any free elevation model over a map of some kilometres."""
LIGHT_AZIMUTH_DEG, LIGHT_HEIGHT_DEG = 315.0, 45.0
CONTOURS = 8
"""About so many contours cross a map."""
LEAST_RELIEF_M = 2.0
"""Flatter ground has no contours: they would show the model's noise."""
_DARK, _BRIGHT, _LINE = 20.0, 88.0, 36
"""Grey of a slope in full shade and in full light, and what a contour adds: signs must stand out from it."""


def draw_relief(sheet: Sheet, frame: LocalFrame, terrain: Terrain) -> float | None:
    """Cover a sheet with hill-shade and contours.

    Args:
        sheet: in metres of the frame.
        frame: where its metres count from.
        terrain: heights, NaN where unknown.

    Returns:
        Metres between contours; None where the ground is flat or unknown.
    """
    (west, south), (east, north) = sheet.corners()
    x, y = np.meshgrid(np.linspace(west, east, GRID), np.linspace(north, south, GRID))
    heights_m = terrain.heights_m(*frame.to_geo(x, y))
    known = np.isfinite(heights_m)
    if not known.any():
        return None
    filled = np.where(known, heights_m, np.nanmean(heights_m)).astype(np.float32)
    shade = _shade(filled, spacing_m=sheet.side_m / (GRID - 1))
    size = (sheet.fine_px, sheet.fine_px)
    grey = cv2.resize(shade.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    relief_m = float(filled.max() - filled.min())
    step_m = None
    if relief_m >= LEAST_RELIEF_M:
        step_m = round_length(2 * relief_m / CONTOURS)
        fine_m = cv2.resize(filled, size, interpolation=cv2.INTER_CUBIC)
        grey = np.where(_contours(fine_m, step_m), grey + _LINE, grey)
    levels = np.clip(grey, 0, 255).astype(np.uint8)
    sheet.cover(Pictures.fromarray(np.repeat(levels[:, :, None], 3, axis=2)))
    return step_m


def _shade(heights_m: np.ndarray, *, spacing_m: float) -> np.ndarray:
    """Return the grey of each height, shape as given: rows from north to south."""
    down, right = np.gradient(heights_m, spacing_m)
    slope, aspect = np.arctan(np.hypot(right, down)), np.arctan2(-right, down)
    height, azimuth = math.radians(LIGHT_HEIGHT_DEG), math.radians(LIGHT_AZIMUTH_DEG)
    light = math.sin(height) * np.cos(slope) + math.cos(height) * np.sin(slope) * np.cos(azimuth - aspect)
    shade: np.ndarray = _DARK + (_BRIGHT - _DARK) * np.clip(light, 0, 1)
    return shade


def _contours(heights_m: np.ndarray, step_m: float) -> np.ndarray:
    """Return where a multiple of the step lies between a height and its neighbour to the right or below."""
    band = np.floor(heights_m / step_m)
    edge = np.zeros(band.shape, bool)
    edge[:, :-1] |= band[:, :-1] != band[:, 1:]
    edge[:-1] |= band[:-1] != band[1:]
    return edge
