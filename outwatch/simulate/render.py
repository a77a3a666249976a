"""Draws what a camera sees from a pose, with every actor's exact box.

Belongs here: projection of ground, parts and their shadows, order of drawing. Not here: what is drawn
(``actors.py``, ``scenery.py``, ``palette.py``), the camera (``sensors.py``) and files (``write.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from outwatch.domain.types import Image
from outwatch.simulate.actors import Actor, Stance
from outwatch.simulate.palette import Tone
from outwatch.simulate.scenery import GroundPicture, Levels, Solid
from outwatch.simulate.sensors import Sensor
from outwatch.simulate.shapes import Part, placed
from outwatch.simulate.terrain import Surface
from outwatch.simulate.view import Floats, View

BoxPx = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

_GRID_PX = 16
"""The ground is met in every 16th pixel; inverse depth, which is linear on a plane, fills the rest."""
_FAR_M = 5000.0
_CIRCLE = np.stack(
    [
        np.cos(np.linspace(0, 2 * math.pi, 12, endpoint=False)),
        np.sin(np.linspace(0, 2 * math.pi, 12, endpoint=False)),
    ],
    axis=1,
)
_SUPERSAMPLING = 4
_LARGE_PX = 1_000_000
"""What covers more of the frame than this is drawn without: its edges are few, its memory is not."""
_SUBPIXEL_BITS = 4
_FAR_PX = 20_000
"""cv2 counts in sixteenths of a pixel: farther corners would overflow."""
_BEYOND_PX = 200
"""Bodies are drawn this far past the frame's edge, to know how much of them is cut off."""
_COVERED = 0.5
"""A pixel belongs to the body that covers at least half of it."""
_RIM_PX = 1.0
"""The lens spreads a hot body by about a pixel all round, and boxes are drawn around what shows."""
_NEAREST_M = 1.0
_SHADE = 0.55
"""How much of the light a cast shadow takes: the rest comes from the sky."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An actor in one frame: its place, its whole box in pixels and how much of it shows."""

    label: str
    place_m: Floats
    box_xyxy_px: BoxPx | None
    """Clipped to the frame; None where nothing of it is in view."""
    visible_fraction: float


@dataclass(frozen=True, slots=True)
class _Drawable:
    distance_m: float
    polygons: list[tuple[Floats, Tone]]
    number: int | None
    """Index of the actor, None for scenery."""
    shadow: Floats | None = None
    """Its outline on the ground, (n, 2); None where no sun shines."""


@dataclass(frozen=True, slots=True)
class Renderer:
    """Everything that is drawn, frame after frame."""

    surface: Surface
    ground: GroundPicture
    solids: list[Solid]
    actors: list[Actor]
    sensor: Sensor
    sky: Tone
    sunlight: Floats | None = None
    """Where the light goes, a unit vector (3,); None at night."""

    def frame(self, view: View, *, index: int, time_s: float) -> tuple[Image, list[Seen]]:
        """Return one frame and every actor as seen in it, in order of the actors."""
        canvas = self._ground_levels(view)
        owner = np.full(canvas.shape[:2], -1, np.int16)
        stances = [actor.stance(time_s) for actor in self.actors]
        places = self._places(stances)
        middles = places + np.array([[0.0, 0.0, actor.height_m / 2] for actor in self.actors]).reshape(-1, 3)
        hidden = self._hidden(view, middles)
        drawables = [self._drawable(view, solid.parts, solid.middle_m) for solid in self._solids_in(view)]
        boxes: list[BoxPx | None] = [None] * len(self.actors)
        for number in np.flatnonzero(~hidden):
            stance = stances[number]
            body = self.actors[number].body(stance)
            parts = placed(body, place_m=places[number], heading_rad=stance.heading_rad)
            drawable = self._drawable(view, parts, middles[number], number=int(number))
            boxes[number] = _clipped_box(view, drawable)
            if boxes[number] is not None:
                drawables.append(drawable)
        _shade(canvas, [drawable.shadow for drawable in drawables if drawable.shadow is not None])
        areas = [0] * len(self.actors)
        for drawable in sorted(drawables, key=lambda item: -item.distance_m):
            area = _paint(canvas, owner, drawable)
            if drawable.number is not None:
                areas[drawable.number] = area
        shown = np.bincount(owner[owner >= 0], minlength=len(self.actors))
        seen = [
            Seen(actor.label, place, box, min(1.0, shown[number] / areas[number]) if areas[number] else 0.0)
            for number, (actor, place, box) in enumerate(zip(self.actors, places, boxes, strict=True))
        ]
        return self.sensor.expose(canvas, index=index, time_s=time_s), seen

    def _places(self, stances: list[Stance]) -> Floats:
        """Return where the actors stand, (N, 3)."""
        ground = np.array([[stance.east_m, stance.north_m] for stance in stances]).reshape(-1, 2)
        return np.column_stack([ground, self.surface.heights_m(ground[:, 0], ground[:, 1])])

    def _drawable(
        self, view: View, parts: list[Part], middle_m: Floats, *, number: int | None = None
    ) -> _Drawable:
        drawable = _drawable(view, parts, middle_m, number=number)
        if self.sunlight is None:
            return drawable
        ground_m = float(self.surface.heights_m(middle_m[:1], middle_m[1:2])[0])
        return replace(drawable, shadow=_shadow(view, parts, ground_m=ground_m, sunlight=self.sunlight))

    def _solids_in(self, view: View) -> list[Solid]:
        middles = np.array([solid.middle_m for solid in self.solids]).reshape(-1, 3)
        reach = np.array([solid.reach_m for solid in self.solids])
        pixels, depth = view.project(middles)
        margin = view.focal_px * reach / np.maximum(depth, _NEAREST_M)
        far_off = np.maximum(-pixels, pixels - [view.width_px, view.height_px]).max(axis=1, initial=-np.inf)
        inside = np.flatnonzero((depth > reach + _NEAREST_M) & (far_off < margin))
        hidden = self._hidden(view, middles[inside])
        return [self.solids[index] for index in inside[~hidden]]

    def _hidden(self, view: View, points_m: Floats) -> npt.NDArray[np.bool_]:
        """Return which points (N, 3) lie behind a rise of the ground."""
        rays = points_m - view.pose.position_m
        return self.surface.depths_m(view.pose.position_m, rays) < 1

    def _ground_levels(self, view: View) -> Levels:
        depth = 1 / _inverse_depths(view, self.surface)
        columns, rows = (
            (np.arange(size, dtype=np.float32) + 0.5 - size / 2) / view.focal_px
            for size in (view.width_px, view.height_px)
        )
        right, down, forward = view.axes.astype(np.float32)
        position = view.pose.position_m.astype(np.float32)
        east, north = (
            position[axis]
            + depth * (forward[axis] + right[axis] * columns[None, :] + down[axis] * rows[:, None])
            for axis in (0, 1)
        )
        map_x, map_y = self.ground.texels(east, north)
        levels = cv2.remap(
            self.ground.levels,
            map_x.astype(np.float32),
            map_y.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        levels[depth >= _FAR_M] = self.sky
        return np.asarray(levels, np.float32)


def _inverse_depths(view: View, surface: Surface) -> Levels:
    """Return one over the depth of the ground in each pixel, (height, width) float32."""
    columns, rows = (
        (np.arange(-1, math.ceil(size / _GRID_PX) + 1) + 0.5) * _GRID_PX
        for size in (view.width_px, view.height_px)
    )
    pixels = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    met = surface.depths_m(view.pose.position_m, view.rays(pixels))
    inverse = (1 / np.clip(met, _NEAREST_M, _FAR_M)).reshape(len(rows), len(columns)).astype(np.float32)
    size = (len(columns) * _GRID_PX, len(rows) * _GRID_PX)
    whole = cv2.resize(inverse, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(whole[_GRID_PX:, _GRID_PX:][: view.height_px, : view.width_px])


def _drawable(view: View, parts: list[Part], middle_m: Floats, *, number: int | None = None) -> _Drawable:
    """Project parts to polygons in pixels, without the faces that look away."""
    position = view.pose.position_m
    facing = [
        part
        for part in parts
        if part.normal is None or float(part.normal @ (position - part.centres_m[0])) > 0
    ]
    distance = float(np.linalg.norm(middle_m - position))
    if not facing:
        return _Drawable(distance, [], number)
    pixels, depth = view.project(np.concatenate([part.centres_m for part in facing]))
    radii = view.focal_px * np.concatenate([part.radii_m for part in facing]) / np.maximum(depth, 1e-3)
    polygons: list[tuple[Floats, Tone]] = []
    start = 0
    for part in facing:
        stop = start + len(part.radii_m)
        if depth[start:stop].min() > _NEAREST_M:
            polygons.append((_hull(pixels[start:stop], radii[start:stop]), part.level))
        start = stop
    return _Drawable(distance, polygons, number)


def _shadow(view: View, parts: list[Part], *, ground_m: float, sunlight: Floats) -> Floats | None:
    """Return the outline in pixels of what parts shade of level ground, None where it cannot be drawn."""
    points = np.concatenate([part.centres_m for part in parts])
    fallen = points + sunlight * (np.maximum(points[:, 2:] - ground_m, 0) / -sunlight[2])
    fallen[:, 2] = ground_m
    pixels, depth = view.project(fallen)
    if depth.min() <= _NEAREST_M:
        return None
    radii = view.focal_px * np.concatenate([part.radii_m for part in parts]) / depth
    rims = (pixels[:, None, :] + radii[:, None, None] * _CIRCLE).reshape(-1, 2)
    return np.asarray(cv2.convexHull(rims.astype(np.float32))[:, 0], np.float64)


def _shade(canvas: Levels, shadows: list[Floats]) -> None:
    """Darken the ground once where any shadow falls."""
    if not shadows:
        return
    mask = np.zeros(canvas.shape[:2], np.uint8)
    for outline in shadows:
        reach = np.clip(outline - 0.5, -_FAR_PX, _FAR_PX)
        corners = np.round(reach * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillConvexPoly(mask, corners, 255.0, cv2.LINE_AA, _SUBPIXEL_BITS)
    canvas *= (1 - _SHADE / 255 * mask.astype(np.float32))[..., None]


def _hull(pixels: Floats, radii: Floats) -> Floats:
    if not radii.any():
        return pixels
    rims = (pixels[:, None, :] + radii[:, None, None] * _CIRCLE).reshape(-1, 2)
    return rims if len(pixels) == 1 else np.asarray(cv2.convexHull(rims.astype(np.float32))[:, 0])


def _clipped_box(view: View, drawable: _Drawable) -> BoxPx | None:
    if not drawable.polygons:
        return None
    points = np.concatenate([polygon for polygon, _ in drawable.polygons])
    left, top = np.maximum(points.min(axis=0) - _RIM_PX, 0)
    right, bottom = np.minimum(points.max(axis=0) + _RIM_PX, [view.width_px, view.height_px])
    if left >= right or top >= bottom:
        return None
    return float(left), float(top), float(right), float(bottom)


def _paint(canvas: Levels, owner: npt.NDArray[np.int16], drawable: _Drawable) -> int:
    """Draw polygons over the canvas and return the size of their silhouette in pixels."""
    height, width = canvas.shape[:2]
    if not drawable.polygons:
        return 0
    points = np.concatenate([polygon for polygon, _ in drawable.polygons])
    left, top = np.maximum(np.floor(points.min(axis=0)), -_BEYOND_PX).astype(int)
    right, bottom = np.minimum(np.ceil(points.max(axis=0)), [width + _BEYOND_PX, height + _BEYOND_PX]).astype(
        int
    )
    if left >= right or top >= bottom:
        return 0
    finer = 1 if (right - left) * (bottom - top) > _LARGE_PX else _SUPERSAMPLING
    patch = np.zeros(((bottom - top) * finer, (right - left) * finer, *canvas.shape[2:]), np.uint8)
    for polygon, level in drawable.polygons:
        # cv2 counts from pixel centres, we from corners: hence the half
        fine = (polygon - [left, top]) * finer - 0.5
        corners = np.round(fine * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        # zero stands for what is not covered
        ink = np.clip(np.atleast_1d(level), 1.0, 255.0).tolist()
        cv2.fillConvexPoly(patch, corners, ink, cv2.LINE_8, _SUBPIXEL_BITS)
    size = (int(right - left), int(bottom - top))
    drawn = patch.reshape(*patch.shape[:2], -1)[..., 0] > 0
    cover = cv2.resize(drawn.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    light = cv2.resize(patch.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    silhouette = cover > _COVERED
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if x0 < x1 and y0 < y1:
        inside = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        target = np.s_[y0:y1, x0:x1]
        uncovered = (1 - cover[inside]).reshape(*cover[inside].shape, *(1,) * (canvas.ndim - 2))
        canvas[target] = canvas[target] * uncovered + light[inside]
        owner[target][silhouette[inside]] = -1 if drawable.number is None else drawable.number
    return int(silhouette.sum())
