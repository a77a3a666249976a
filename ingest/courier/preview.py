"""A clip's preview: one small picture of some of its moments, made where the clip is.

Belongs here: choosing moments and drawing the sheet. Not here: decoding, which the confined decoder does
(``ingest/video.py``), and when a preview is made (``pack.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ingest.confinement import Limits
from ingest.video import read_frames
from outwatch.domain.errors import CorruptClip
from outwatch.domain.types import Image

TILES_PER_SIDE = 3
TILE_WIDTH_PX, TILE_HEIGHT_PX = 320, 180
MAX_PREVIEW_BYTES = 100_000
"""Ten seconds on a link of 80 kbit/s: a look at the clip long before the clip."""
BUDGET_S = 20.0
"""Decoding time for one preview on the station's machine; a long clip shows what was reached by then."""
INTERVAL_S = 2.0
"""Between the moments first looked at; it doubles as the clip turns out to be long."""
QUALITIES = (75, 60, 45, 30, 15)


def contact_sheet(path: Path, *, limits: Limits, clock: Callable[[], float] = time.monotonic) -> bytes:
    """Return a JPEG of at most 100 kB with nine moments of a clip, in order, row by row.

    Raises:
        CorruptClip: nothing can be decoded, or the file breaks the decoder.
        UnsupportedFormat: it is not one of the formats, codecs and sizes.
        FeedTimeout: the decoder went silent.
    """
    sheet = _sheet(_moments(path, limits=limits, deadline_s=clock() + BUDGET_S, clock=clock))
    for quality in QUALITIES:
        done, data = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if done and len(data) <= MAX_PREVIEW_BYTES:
            return data.tobytes()
    raise CorruptClip(f"{path.name}: no preview of at most {MAX_PREVIEW_BYTES} bytes can be made")


def _moments(path: Path, *, limits: Limits, deadline_s: float, clock: Callable[[], float]) -> list[Image]:
    """Return up to nine tiles, evenly spaced over what was decoded in time."""
    wanted = TILES_PER_SIDE**2
    tiles: list[Image] = []
    stride = 1
    frames = read_frames(path, limits=limits, sample_fps=1 / INTERVAL_S)
    for number, frame in enumerate(frames):
        if number % stride == 0:
            tiles.append(_tile(frame.image))
        if len(tiles) == 2 * wanted:
            tiles, stride = tiles[::2], stride * 2
        if clock() > deadline_s:
            break
    frames.close()  # type: ignore[attr-defined]  # a generator: ends the decoder now, not when collected
    chosen = np.linspace(0, len(tiles) - 1, min(wanted, len(tiles))).round().astype(int)
    return [tiles[index] for index in chosen]


def _tile(image: Image) -> Image:
    """Return an image shrunk to fit a tile, on black, (180, 320, 3)."""
    height, width = image.shape[:2]
    scale = min(TILE_WIDTH_PX / width, TILE_HEIGHT_PX / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    tile = np.zeros((TILE_HEIGHT_PX, TILE_WIDTH_PX, 3), dtype=np.uint8)
    top, left = (TILE_HEIGHT_PX - size[1]) // 2, (TILE_WIDTH_PX - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    return tile


def _sheet(tiles: list[Image]) -> Image:
    """Return the tiles in rows of three."""
    blank = np.zeros((TILE_HEIGHT_PX, TILE_WIDTH_PX, 3), dtype=np.uint8)
    tiles = tiles + [blank] * (-len(tiles) % TILES_PER_SIDE)
    rows = [
        np.hstack(tiles[start : start + TILES_PER_SIDE]) for start in range(0, len(tiles), TILES_PER_SIDE)
    ]
    return np.vstack(rows)
