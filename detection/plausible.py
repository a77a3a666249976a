"""Whether a box can be what it is called, by its length on the ground.

A model judges by the look of a few pixels: someone seen from low down may look like a car seen from high up.
The telemetry knows better how large a pixel is. Belongs here: lengths of things and of boxes. Not here: what
is too small to be looked for (``detection/tiling.py``) and where boxes stand (``detection/ground.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from detection.ground import LocatedBox
from detection.labels import PERSON, VEHICLE_LABELS
from detection.poses import View
from detection.rays import HFOV, UP
from outwatch.domain.types import Box

LEAST_VEHICLE_M = 2.0
"""Of the longer side of a vehicle's box. Of the 4,700 labelled cars of the thermal flights 1.5 % are shorter,
of the people three in four."""
MOST_PERSON_M = 4.0
"""Of a person's box: 0.1 % of the 6,652 labelled people are longer."""
MOST_VEHICLE_M = 25.0
"""Of a vehicle's: lorries with trailers are 18.75 m long at most (European Union, Directive 96/53/EC)."""
EDGE_PX = 2.0
"""What reaches the frame's edge so nearly may go on beyond it: nothing is too short there."""


def plausible(boxes: Sequence[Box], places: Sequence[LocatedBox], *, view: View) -> list[bool]:
    """Return for each box whether its length on the ground is one that such a thing can have.

    Args:
        boxes: in pixels of the frame.
        places: one of each box; a box without a place is taken as it is.
        view: the pose that the frame was taken from.
    """
    return [_fits(box, place, view) for box, place in zip(boxes, places, strict=True)]


def length_m(box: Box, place: LocatedBox, view: View) -> float | None:
    """Return a box's longer side in metres at its place, across the view; None without a place."""
    if place.east_m is None or place.north_m is None or place.fix.point is None:
        return None
    ground_m = place.fix.point.alt_m if place.fix.method == "dem" else 0.0
    range_m = np.hypot(math.hypot(place.east_m, place.north_m), view.parameters[UP] - (ground_m or 0.0))
    metres_per_px = 2 * range_m * math.tan(math.radians(view.parameters[HFOV] / 2)) / view.width_px
    left, top, right, bottom = box.box_xyxy_px
    return float(max(right - left, bottom - top) * metres_per_px)


def _fits(box: Box, place: LocatedBox, view: View) -> bool:
    length = length_m(box, place, view)
    if length is None:
        return True
    if box.label in VEHICLE_LABELS:
        return length <= MOST_VEHICLE_M and (length >= LEAST_VEHICLE_M or _at_edge(box, view))
    return box.label != PERSON or length <= MOST_PERSON_M


def _at_edge(box: Box, view: View) -> bool:
    left, top, right, bottom = box.box_xyxy_px
    return min(left, top, view.width_px - right, view.height_px - bottom) <= EDGE_PX
