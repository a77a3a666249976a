"""What a camera sees besides actors: textured ground, roads, walled compounds, trees.

Belongs here: the picture of the ground in local metres and the solids that stand on it. Not here:
anything that the truth counts (``actors.py``) and the tones of things (``palette.py``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from outwatch.simulate.palette import Palette, Tone, palette_of, tone_array
from outwatch.simulate.scenario import Compound, Scenario
from outwatch.simulate.shapes import Part, outline, placed, prism
from outwatch.simulate.terrain import Surface
from outwatch.simulate.view import Floats

Levels = npt.NDArray[np.float32]

_FINEST_TEXEL_M = 0.06
_MOST_TEXELS = 4096
_OCTAVES = ((60.0, 16.0), (18.0, 9.0), (5.0, 6.0), (1.2, 4.5), (0.4, 4.0), (0.15, 3.0))
"""Wavelength in metres and amplitude in grey levels of bare ground."""
_FIELD_M = (26.0, 17.0)
_LEAVES_PER_M, _CLUMP_M, _CROWN_LEVELS = 70, (0.16, 0.36), (104.0, 128.0)
"""Clumps of leaves for a metre of a crown's radius, their own radii, and grey levels of crowns at night."""
_TREE_CLEARANCE_M = 6.0
"""Trees keep this far from roads, yards and actors, so that the truth stays visible from above."""


@dataclass(frozen=True, slots=True)
class GroundPicture:
    """The ground, row 0 in the north; ``levels`` is (height, width) of grey, (height, width, 3) of colour."""

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
    palette = palette_of(scenario.camera.modality)
    levels = np.full((*shape, *tone_array(palette.base).shape), palette.base, np.float32)
    levels += _fields(shape, texel_m=texel_m, random=random, palette=palette)
    ground = GroundPicture(levels, west, north, texel_m)
    for compound in scenario.scenery.compounds:
        _fill(ground, _yard(compound), palette.yard)
    for road in scenario.scenery.roads:
        path = np.array(road.path)
        strokes = ((1.5, palette.verge), (0.5, palette.kerb), (0.0, palette.road), (-1.8, palette.lane))
        for width_m, level in strokes:
            if road.width_m + width_m > 0:
                _stroke(ground, path, width_m=road.width_m + width_m, level=level)
    for wavelength_m, amplitude in _OCTAVES:
        rough = _noise(shape, cell_px=wavelength_m / texel_m, random=random)
        levels += _spread(palette.roughness * amplitude * rough, levels)
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
    palette = palette_of(scenario.camera.modality)
    solids = [
        solid for compound in scenario.scenery.compounds for solid in _compound(compound, surface, palette)
    ]
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


def _spread(values: Levels, over: Levels) -> Levels:
    """Return values (height, width) as what is added to, or multiplied with, a picture of as many or 3."""
    return values.reshape(values.shape + (1,) * (over.ndim - values.ndim))


def _fields(
    shape: tuple[int, int], *, texel_m: float, random: np.random.Generator, palette: Palette
) -> Levels:
    """Return a turned patchwork of fields: crops and fallow of different tone, with dry bunds between."""
    cells, fine = 48, 16
    patches = random.choice(np.array(palette.fields), (cells, cells)).astype(np.float32)
    patchwork = cv2.resize(patches, (cells * fine, cells * fine), interpolation=cv2.INTER_NEAREST)
    patchwork[::fine, :] = patchwork[:, ::fine] = palette.bund
    angle = random.uniform(0, math.pi)
    east, north = (fine / size_m * texel_m for size_m in _FIELD_M)
    cosine, sine = math.cos(angle), math.sin(angle)
    middle = cells * fine / 2
    to_patch = np.array([[cosine * east, -sine * east, middle], [sine * north, cosine * north, middle]])
    # bent by a metre or two, as fields on slopes are
    rows, columns = np.indices(shape, np.float32)
    bend_px = 2.5 / texel_m
    columns += bend_px * _noise(shape, cell_px=25 / texel_m, random=random)
    rows += bend_px * _noise(shape, cell_px=25 / texel_m, random=random)
    map_x, map_y = ((row[0] * columns + row[1] * rows + row[2]).astype(np.float32) for row in to_patch)
    bent = cv2.remap(patchwork, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    drawn = np.asarray(bent, np.float32)
    weeds = 1 + 0.3 * _noise(shape, cell_px=0.8 / texel_m, random=random)
    grown = np.clip(4 * _noise(shape, cell_px=70 / texel_m, random=random) + 1, 0, 1)
    return np.asarray(drawn * _spread(weeds, drawn) * _spread(grown, drawn), np.float32)


def _texel_points(ground: GroundPicture, points_m: Floats) -> npt.NDArray[np.int32]:
    columns, rows = ground.texels(points_m[:, 0].astype(np.float32), points_m[:, 1].astype(np.float32))
    return np.round(np.column_stack([columns, rows]) * 16).astype(np.int32)


def _fill(ground: GroundPicture, corners_m: Floats, level: Tone) -> None:
    cv2.fillPoly(ground.levels, [_texel_points(ground, corners_m)], level, cv2.LINE_8, 4)


def _stroke(ground: GroundPicture, path_m: Floats, *, width_m: float, level: Tone) -> None:
    thickness = max(1, round(width_m / ground.texel_m))
    cv2.polylines(ground.levels, [_texel_points(ground, path_m)], False, level, thickness, cv2.LINE_8, 4)


def _yard(compound: Compound) -> Floats:
    half = compound.size_m / 2
    corners = np.array([(-half, -half), (half, -half), (half, half), (-half, half)])
    angle = math.radians(compound.heading_deg)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.asarray(corners @ turn + [compound.east_m, compound.north_m])


def _compound(compound: Compound, surface: Surface, palette: Palette) -> list[Solid]:
    """Return the house and the walls, in pieces short enough to be drawn in order of distance."""
    half, gate = compound.size_m / 2, 4.0
    house = outline(back_m=0.1 * half, front_m=0.9 * half, width_m=1.1 * half)
    house[:, 0] -= 0.35 * half
    tank = outline(back_m=0.5 * half, front_m=0.5 * half + 1.6, width_m=1.6)
    tank[:, 0] -= 0.6 * half
    parts = [
        *prism(house, low_m=-1, high_m=3.6, sides=palette.wall, lid=palette.roof),
        *prism(tank, low_m=3.6, high_m=4.8, sides=palette.wall, lid=palette.tank),
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
        for piece in _wall_pieces(np.array(start), np.array(end), palette)
    ]
    return [_stand(group, compound, surface) for group in (parts, *walls)]


def _wall_pieces(start: Floats, end: Floats, palette: Palette) -> Iterable[list[Part]]:
    count = max(1, round(float(np.hypot(*(end - start))) / 4))
    along = (end - start) / np.hypot(*(end - start)) * 0.15
    aside = np.array([along[1], -along[0]])
    for number in range(count):
        a = start + (end - start) * number / count
        b = start + (end - start) * (number + 1) / count
        base = np.array([a + aside, b + aside, b - aside, a - aside])
        yield prism(base, low_m=-1, high_m=2.2, sides=palette.fence, lid=palette.coping)


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
        _tree(np.append(place, height), random, palette_of(scenario.camera.modality))
        for place, height in zip(places[free], heights[free], strict=True)
    ]


def _distance_to_line_m(places: Floats, path: Floats) -> Floats:
    nearest = np.full(len(places), np.inf)
    for start, end in itertools.pairwise(path):
        leg = end - start
        share = np.clip((places - start) @ leg / (leg @ leg), 0, 1)
        nearest = np.minimum(nearest, np.hypot(*(places - start - share[:, None] * leg).T))
    return nearest


def _tree(foot_m: Floats, random: np.random.Generator, palette: Palette) -> Solid:
    """Return a closed crown of small clumps of leaves, low ones first.

    At night leaves keep near the air's temperature while open ground under a clear sky cools below it
    (Monteith and Unsworth, *Principles of Environmental Physics*): no crown is darker than what is around.
    """
    radius = random.uniform(1.2, 3.0)
    count = int(_LEAVES_PER_M * radius)
    directions = random.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    reach = random.uniform(0, 1, (count, 1)) ** (1 / 3) * random.uniform(0.8, 1.0, (count, 1))
    offsets = directions * reach * [radius, radius, 0.55 * radius]
    offsets[:, 2] += radius + 1.5
    tone = random.uniform(*_CROWN_LEVELS)
    parts = [
        Part(
            (foot_m + offset)[None],
            np.array([random.uniform(*_CLUMP_M)]),
            palette.leaf(tone + 14 * rank / count + random.uniform(-9, 9)),
        )
        for rank, offset in enumerate(offsets[np.argsort(offsets[:, 2])])
    ]
    return Solid(parts, foot_m + np.array([0.0, 0.0, radius]), 2.5 * radius + 1.5)
