"""What a camera sees besides actors: textured ground, roads, walled compounds, trees.

Belongs here: the picture of the ground in local metres and the solids that stand on it. Not here:
anything that the truth counts (``actors.py``). Grey levels are those of HIT-UAV's night images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from outwatch.simulate.scenario import Compound, Scenario
from outwatch.simulate.shapes import Part, outline, placed, prism
from outwatch.simulate.terrain import Surface
from outwatch.simulate.view import Floats

Levels = npt.NDArray[np.float32]

_FINEST_TEXEL_M = 0.06
_MOST_TEXELS = 4096
_BASE = 122.0
_OCTAVES = ((60.0, 16.0), (18.0, 8.0), (5.0, 5.0), (1.2, 3.5), (0.3, 2.5))
"""Wavelength in metres and amplitude in grey levels of bare ground."""
_ROAD, _KERB, _YARD = 142.0, 163.0, 132.0
_ROOF, _WALL, _TANK = 58.0, 128.0, 92.0
_FIELD_M = (34.0, 22.0)
_TREE_CLEARANCE_M = 6.0
"""Trees keep this far from roads, yards and actors, so that the truth stays visible from above."""


@dataclass(frozen=True, slots=True)
class GroundPicture:
    """Grey levels of the ground, row 0 in the north; ``levels`` is (height, width) float32."""

    levels: Levels
    west_m: float
    north_m: float
    texel_m: float

    def texels(self, east_m: Levels, north_m: Levels) -> tuple[Levels, Levels]:
        """Return column and row of places, as ``cv2.remap`` takes them."""
        return (east_m - self.west_m) / self.texel_m - 0.5, (self.north_m - north_m) / self.texel_m - 0.5


@dataclass(frozen=True, slots=True)
class Solid:
    """Something that stands still: its parts in local metres and its middle (3,)."""

    parts: list[Part]
    middle_m: Floats
    reach_m: float
    """No part of it is farther from the middle."""


def paint_ground(scenario: Scenario, *, bounds_m: tuple[float, float, float, float]) -> GroundPicture:
    """Return the ground within (west, south, east, north), at most 4096 texels a side."""
    west, south, east, north = bounds_m
    texel_m = max(_FINEST_TEXEL_M, (east - west) / _MOST_TEXELS, (north - south) / _MOST_TEXELS)
    shape = (math.ceil((north - south) / texel_m) + 1, math.ceil((east - west) / texel_m) + 1)
    random = np.random.default_rng([scenario.seed, 4])
    levels = np.full(shape, _BASE, np.float32)
    levels += _fields(shape, texel_m=texel_m, random=random)
    ground = GroundPicture(levels, west, north, texel_m)
    for compound in scenario.scenery.compounds:
        _fill(ground, _yard(compound), _YARD)
    for road in scenario.scenery.roads:
        _stroke(ground, np.array(road.path), width_m=road.width_m + 0.6, level=_KERB)
        _stroke(ground, np.array(road.path), width_m=road.width_m, level=_ROAD)
    for wavelength_m, amplitude in _OCTAVES:
        levels += amplitude * _noise(shape, cell_px=wavelength_m / texel_m, random=random)
    return ground


def solids_of(
    scenario: Scenario,
    *,
    surface: Surface,
    bounds_m: tuple[float, float, float, float],
    keep_clear_m: Floats,
) -> list[Solid]:
    """Return compounds and trees; no tree stands near the places (N, 2) of ``keep_clear_m``."""
    random = np.random.default_rng([scenario.seed, 5])
    solids = [solid for compound in scenario.scenery.compounds for solid in _compound(compound, surface)]
    return solids + _trees(
        scenario, surface=surface, bounds_m=bounds_m, keep_clear_m=keep_clear_m, random=random
    )


def _noise(shape: tuple[int, int], *, cell_px: float, random: np.random.Generator) -> Levels:
    """Return smooth noise of unit amplitude with features of ``cell_px``."""
    cell_px = max(cell_px, 1.0)
    knots = (math.ceil(shape[0] / cell_px) + 3, math.ceil(shape[1] / cell_px) + 3)
    coarse = random.uniform(-1, 1, knots).astype(np.float32)
    size = (math.ceil(knots[1] * cell_px), math.ceil(knots[0] * cell_px))
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)[: shape[0], : shape[1]])


def _fields(shape: tuple[int, int], *, texel_m: float, random: np.random.Generator) -> Levels:
    """Return a turned patchwork of fields with their bunds, fading into bare ground."""
    cells = 64
    patches = random.uniform(-26, 8, (cells, cells)).astype(np.float32)
    scale = 8  # patches are drawn small: bunds stay one texel wide of 1/8 field
    patchwork = cv2.resize(patches, (cells * scale, cells * scale), interpolation=cv2.INTER_NEAREST)
    patchwork[::scale, :] += 14
    patchwork[:, ::scale] += 14
    angle = random.uniform(0, math.pi)
    step = np.array([_FIELD_M[0], _FIELD_M[1]]) / scale / texel_m
    cosine, sine = math.cos(angle), math.sin(angle)
    to_patch = np.array(
        [
            [cosine / step[0], -sine / step[0], cells * scale / 2],
            [sine / step[1], cosine / step[1], cells * scale / 2],
        ]
    )
    drawn = cv2.warpAffine(
        patchwork,
        to_patch,
        (shape[1], shape[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    grown = np.clip(3 * _noise(shape, cell_px=70 / texel_m, random=random), 0, 1)
    return np.asarray(drawn * grown)


def _texel_points(ground: GroundPicture, points_m: Floats) -> npt.NDArray[np.int32]:
    columns, rows = ground.texels(points_m[:, 0].astype(np.float32), points_m[:, 1].astype(np.float32))
    return np.round(np.column_stack([columns, rows]) * 16).astype(np.int32)


def _fill(ground: GroundPicture, corners_m: Floats, level: float) -> None:
    cv2.fillPoly(ground.levels, [_texel_points(ground, corners_m)], level, cv2.LINE_8, 4)


def _stroke(ground: GroundPicture, path_m: Floats, *, width_m: float, level: float) -> None:
    thickness = max(1, round(width_m / ground.texel_m))
    cv2.polylines(ground.levels, [_texel_points(ground, path_m)], False, level, thickness, cv2.LINE_8, 4)


def _yard(compound: Compound) -> Floats:
    half = compound.size_m / 2
    corners = np.array([(-half, -half), (half, -half), (half, half), (-half, half)])
    angle = math.radians(compound.heading_deg)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.asarray(corners @ turn + [compound.east_m, compound.north_m])


def _compound(compound: Compound, surface: Surface) -> list[Solid]:
    """Return the house and the walls, in pieces short enough to be drawn in order of distance."""
    half, gate = compound.size_m / 2, 4.0
    house = outline(back_m=0.1 * half, front_m=0.9 * half, width_m=1.1 * half)
    house[:, 0] -= 0.35 * half
    tank = outline(back_m=0.5 * half, front_m=0.5 * half + 1.6, width_m=1.6)
    tank[:, 0] -= 0.6 * half
    parts = [
        *prism(house, low_m=-1, high_m=3.6, sides=_WALL, lid=_ROOF),
        *prism(tank, low_m=3.6, high_m=4.8, sides=_WALL, lid=_TANK),
    ]
    walls = [
        piece
        for start, end in (
            ((half, -half), (half, half)),
            ((half, half), (-half, half)),
            ((-half, half), (-half, -half)),
            ((-half, -half), (-gate / 2, -half)),
            ((gate / 2, -half), (half, -half)),
        )
        for piece in _wall_pieces(np.array(start), np.array(end))
    ]
    return [_stand(group, compound, surface) for group in (parts, *walls)]


def _wall_pieces(start: Floats, end: Floats) -> Iterable[list[Part]]:
    count = max(1, round(float(np.hypot(*(end - start))) / 4))
    along = (end - start) / np.hypot(*(end - start)) * 0.15
    aside = np.array([along[1], -along[0]])
    for number in range(count):
        a = start + (end - start) * number / count
        b = start + (end - start) * (number + 1) / count
        base = np.array([a + aside, b + aside, b - aside, a - aside])
        yield prism(base, low_m=-1, high_m=2.2, sides=_WALL - 8, lid=_KERB)


def _stand(parts: list[Part], compound: Compound, surface: Surface) -> Solid:
    place = np.array([compound.east_m, compound.north_m, 0.0])
    turned = placed(parts, place_m=place, heading_rad=math.radians(compound.heading_deg))
    corners = np.concatenate([part.centres_m for part in turned])
    middle = corners.mean(axis=0)
    up = float(surface.heights_m(middle[:1], middle[1:2])[0])
    lifted = placed(turned, place_m=np.array([0.0, 0.0, up]), heading_rad=0.0)
    reach = float(np.linalg.norm(corners - middle, axis=1).max())
    return Solid(lifted, middle + np.array([0.0, 0.0, up]), reach)


def _trees(
    scenario: Scenario,
    *,
    surface: Surface,
    bounds_m: tuple[float, float, float, float],
    keep_clear_m: Floats,
    random: np.random.Generator,
) -> list[Solid]:
    west, south, east, north = bounds_m
    count = int(scenario.scenery.trees_per_hectare * (east - west) * (north - south) / 10_000)
    places = np.column_stack([random.uniform(west, east, count), random.uniform(south, north, count)])
    free = np.full(count, True)
    for road in scenario.scenery.roads:
        free &= _distance_to_line_m(places, np.array(road.path)) > road.width_m / 2 + _TREE_CLEARANCE_M
    for compound in scenario.scenery.compounds:
        middle = np.array([compound.east_m, compound.north_m])
        free &= np.hypot(*(places - middle).T) > 0.75 * compound.size_m + _TREE_CLEARANCE_M
    for clear in keep_clear_m:
        free &= np.hypot(*(places - clear).T) > _TREE_CLEARANCE_M
    heights = surface.heights_m(places[:, 0], places[:, 1])
    free &= np.isfinite(heights)
    return [
        _tree(np.append(place, height), random)
        for place, height in zip(places[free], heights[free], strict=True)
    ]


def _distance_to_line_m(places: Floats, path: Floats) -> Floats:
    nearest = np.full(len(places), np.inf)
    for start, end in itertools.pairwise(path):
        leg = end - start
        share = np.clip((places - start) @ leg / (leg @ leg), 0, 1)
        nearest = np.minimum(nearest, np.hypot(*(places - start - share[:, None] * leg).T))
    return nearest


def _tree(foot_m: Floats, random: np.random.Generator) -> Solid:
    """Return a crown as clumps of leaves, dim above and warmer below."""
    radius = random.uniform(1.2, 3.0)
    count = 16
    offsets = random.normal(0, 0.45, (count, 3)) * [radius, radius, 0.6 * radius]
    offsets[:, 2] += radius + 1.5
    order = np.argsort(offsets[:, 2])
    tone = random.uniform(84, 112)
    parts = [
        Part(
            (foot_m + offsets[index])[None],
            np.array([radius * random.uniform(0.22, 0.45)]),
            tone + random.uniform(-10, 10),
        )
        for index in order
    ]
    return Solid(parts, foot_m + np.array([0.0, 0.0, radius]), 2.5 * radius + 1.5)
