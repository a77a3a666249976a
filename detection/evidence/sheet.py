"""A square of ground to draw on, in metres: twice as fine while drawn, so that lines come out smooth.

Belongs here: from metres to pixels, and translucent shapes. Not here: what a map shows (``place_map.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import shapely
from PIL import Image as Pictures
from PIL import ImageDraw
from shapely.geometry.base import BaseGeometry

Place = tuple[float, float]
Colour = tuple[int, int, int]
Tint = tuple[int, int, int, int]
FINER = 2
_GROUND = (38, 42, 47)


class Sheet:
    """A square of ground, north up; widths and radii are in pixels of the finished picture."""

    def __init__(self, side_px: int, *, east_m: float, north_m: float, side_m: float) -> None:
        """Take the picture's side and the ground's middle and side in metres."""
        self.side_px, self.side_m = side_px, side_m
        self.px_per_m = side_px / side_m
        self._west_m, self._north_m = east_m - side_m / 2, north_m + side_m / 2
        self.box = shapely.box(self._west_m, self._north_m - side_m, self._west_m + side_m, self._north_m)
        self._picture = Pictures.new("RGB", (side_px * FINER, side_px * FINER), _GROUND)
        # Drawn shapes far outside would cost memory and time, and lines need room to leave the picture.
        self._reach = self.box.buffer(0.1 * side_m)

    @property
    def fine_px(self) -> int:
        """Return the side of the picture while it is drawn."""
        return self.side_px * FINER

    def corners(self) -> tuple[Place, Place]:
        """Return the south-west and the north-east corner in metres."""
        west, south, east, north = self.box.bounds
        return (west, south), (east, north)

    def px(self, place: Place) -> Place:
        """Return where a place is in the finished picture."""
        return (place[0] - self._west_m) * self.px_per_m, (self._north_m - place[1]) * self.px_per_m

    def cover(self, picture: Pictures.Image) -> None:
        """Put a picture of ``fine_px`` on all of the ground."""
        self._picture.paste(picture)

    def area(
        self, shape: BaseGeometry, *, fill: Tint | None, outline: Colour | None, width_px: int = 1
    ) -> None:
        """Draw the polygons of a shape; their holes stay open."""
        for polygon in _polygons(shapely.intersection(shape, self._reach)):
            if fill is not None:
                self._tint(polygon, fill)
            if outline is not None:
                for ring in (polygon.exterior, *polygon.interiors):
                    self.line(list(ring.coords), colour=(*outline, 255), width_px=width_px)

    def line(self, places: Sequence[Place], *, colour: Tint, width_px: int) -> None:
        """Draw a line through places."""
        if len(places) > 1:
            pen = ImageDraw.Draw(self._picture, "RGBA")
            pen.line([self._fine(at) for at in places], fill=colour, width=width_px * FINER, joint="curve")

    def dot(self, place: Place, *, radius_px: float, fill: Tint) -> None:
        """Draw a disc."""
        x, y = self._fine(place)
        radius = radius_px * FINER
        ImageDraw.Draw(self._picture, "RGBA").ellipse(
            (x - radius, y - radius, x + radius, y + radius), fill=fill
        )

    def cross(self, place: Place, *, colour: Colour, arm_px: float) -> None:
        """Draw an upright cross."""
        x, y = self._fine(place)
        arm, pen = arm_px * FINER, ImageDraw.Draw(self._picture)
        for ends in ((x - arm, y, x + arm, y), (x, y - arm, x, y + arm)):
            pen.line(ends, fill=colour, width=2 * FINER)

    def finished(self) -> Pictures.Image:
        """Return the picture at its own size."""
        return self._picture.resize((self.side_px, self.side_px), Pictures.Resampling.LANCZOS)

    def _tint(self, polygon: shapely.Polygon, fill: Tint) -> None:
        mask = Pictures.new("L", self._picture.size, 0)
        pen = ImageDraw.Draw(mask)
        pen.polygon([self._fine(at) for at in polygon.exterior.coords], fill=fill[3])
        for hole in polygon.interiors:
            pen.polygon([self._fine(at) for at in hole.coords], fill=0)
        self._picture.paste(fill[:3], mask=mask)

    def _fine(self, place: Sequence[float]) -> Place:
        x, y = self.px((place[0], place[1]))
        return x * FINER, y * FINER


def _polygons(shape: BaseGeometry) -> list[shapely.Polygon]:
    """Return the polygons in a shape; points and lines have no area."""
    parts = shape.geoms if hasattr(shape, "geoms") else [shape]
    return [part for part in parts if isinstance(part, shapely.Polygon) and not part.is_empty]
