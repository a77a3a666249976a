"""A frame with rulers, to read pixels off it by eye.

Belongs here: the grid and its numbers. Not here: stills of events (``detection/evidence``).
"""

from __future__ import annotations

import cv2
import numpy as np

from outwatch.domain.types import Image

_LINES = 13
"""About as many across the picture: numbers stay apart and no place is far from a line."""
_STEPS_PX = (10, 20, 50, 100, 200, 500, 1000)
_WIDEST_PX = 1280
"""Pictures narrower than half of this are enlarged, so that numbers hide little."""
_LINE, _NUMBER, _UNDER = (200, 200, 200), (255, 255, 255), (0, 0, 0)
_LINE_SHARE = 0.35
_SIZE = 0.42


def with_rulers(image: Image) -> Image:
    """Return a frame with a grid whose numbers are the frame's own pixels, small frames enlarged.

    Args:
        image: shape (height, width, 3), BGR, uint8.
    """
    height_px, width_px = image.shape[:2]
    zoom = max(1, _WIDEST_PX // width_px)
    shown = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    step_px = next((step for step in _STEPS_PX if step * _LINES >= width_px), _STEPS_PX[-1])
    across, down = range(0, width_px, step_px), range(0, height_px, step_px)
    lines = shown.copy()
    for x in across:
        cv2.line(lines, (x * zoom, 0), (x * zoom, shown.shape[0]), _LINE, 1)
    for y in down:
        cv2.line(lines, (0, y * zoom), (shown.shape[1], y * zoom), _LINE, 1)
    ruled = np.asarray(cv2.addWeighted(lines, _LINE_SHARE, shown, 1 - _LINE_SHARE, 0.0), np.uint8)
    for x in across:
        _write(ruled, str(x), (x * zoom + 3, 14))
    for y in down[1:]:
        _write(ruled, str(y), (3, y * zoom + 14))
    return ruled


def _write(image: Image, text: str, place: tuple[int, int]) -> None:
    (width_px, height_px), below_px = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, _SIZE, 1)
    x, y = place
    cv2.rectangle(image, (x - 2, y - height_px - 2), (x + width_px + 2, y + below_px), _UNDER, cv2.FILLED)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, _SIZE, _NUMBER, 1, cv2.LINE_AA)
