"""How a frame is looked at, given what one of its pixels covers on the ground: whole, larger, or in tiles.

Belongs here: the ground sample distance of a pose, the plan that follows from it, and carrying a plan
out. Not here: running a model (``openvino.py``, ``ultralytics.py``), joining what tiles saw
(``boxes.py``), and what becomes of boxes of labels that a plan is blind to (``detect.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from detection.boxes import join_tiles
from detection.ground import hfov_of
from detection.labels import BICYCLE, CAR, OTHER_VEHICLE, PERSON
from detection.rays import MAX_RANGE_M
from outwatch.domain.ports import Detector
from outwatch.domain.types import Box, Camera, Image, TelemetrySample

STRIDE_PX = 32
"""What sides of a model's input are multiples of, in every model of the family."""
_STRAIGHT_DOWN_DEG = -90.0


@dataclass(frozen=True, slots=True)
class _Thing:
    """An upright cylinder or box on the ground: its height and its extent away from the camera, metres."""

    height_m: float
    depth_m: float

    def seen_px(self, *, gsd_m: float, pitch_deg: float) -> float:
        """Return its extent up the picture, at the frame's middle: h cos d + w sin d (see ``ground.py``)."""
        down = math.radians(min(max(-pitch_deg, 0.0), 90.0))
        return (self.height_m * math.cos(down) + self.depth_m * math.sin(down)) / gsd_m


_THINGS: Mapping[str, _Thing] = {
    PERSON: _Thing(height_m=1.7, depth_m=0.5),
    BICYCLE: _Thing(height_m=1.1, depth_m=1.7),
    CAR: _Thing(height_m=1.5, depth_m=3.5),
    OTHER_VEHICLE: _Thing(height_m=1.5, depth_m=3.5),
}
"""The smallest that are common: a person, a bicycle, a Suzuki Alto seen end-on."""
_LONGEST_M = 12.0
"""A bus or a lorry: tiles overlap by it, so that each thing lies whole in one of them."""


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """How many pixels things need, and how much work a look may be."""

    min_person_px: float = 10.0
    """In the frame: below it a person or a bicycle is not claimed."""
    min_vehicle_px: float = 12.0
    """The same of a vehicle."""
    person_input_px: float = 20.0
    """In the model's input: what a person should have, where the frame's own pixels carry it."""
    vehicle_input_px: float = 24.0
    """The same of a vehicle."""
    longest_whole_px: int = 1280
    """Longest side to which a whole frame is scaled; beyond it tiles take over."""
    max_tiles: int = 24
    """More tiles a look are never cut: they become coarser instead."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a frame, in its pixels."""

    left_px: int
    top_px: int
    right_px: int
    bottom_px: int


@dataclass(frozen=True, slots=True)
class LookPlan:
    """How a frame is looked at."""

    input_px: int
    """Longest side to which the frame, or each tile of it, is scaled."""
    tiles: tuple[Tile, ...] = ()
    """All of one size; none where the frame is looked at whole."""
    blind_to: tuple[str, ...] = ()
    """Labels of things that would be too small to be claimed, in order of the labels."""


def gsd_of(
    pose: TelemetrySample | None,
    *,
    camera: Camera | None,
    width_px: int,
    ground_below_m: float | None = None,
) -> float | None:
    """Return what one pixel across the view covers at the frame's middle, in metres, on level ground.

    Args:
        pose: the camera's pose.
        camera: the camera; its field of view serves where the pose has none.
        width_px: width of the frame.
        ground_below_m: the camera's height above the ground below it, where a terrain tells;
            None takes the telemetry's.

    Returns:
        The distance, or None where height, pitch or field of view are unknown or the camera does not
        look down at ground within reach.
    """
    if pose is None or pose.pitch_deg is None:
        return None
    height_m = pose.height_agl_m if ground_below_m is None else ground_below_m
    hfov_deg = hfov_of(pose, camera)
    if height_m is None or height_m <= 0 or hfov_deg is None or not -180 < pose.pitch_deg < 0:
        return None
    range_m = height_m / math.sin(math.radians(-pose.pitch_deg))
    return 2 * range_m * math.tan(math.radians(hfov_deg / 2)) / width_px if range_m <= MAX_RANGE_M else None


def plan_look(
    *,
    gsd_m: float | None,
    pitch_deg: float | None,
    width_px: int,
    height_px: int,
    model_input_px: int,
    sizes: SizeLimits,
) -> LookPlan:
    """Return the cheapest look in which people and vehicles have the pixels they need.

    A frame is never enlarged beyond what the model was trained for. Where the ground sample distance
    is unknown, a frame is looked at whole, at its own size up to ``longest_whole_px``.

    Args:
        gsd_m: metres that one pixel covers, None where unknown.
        pitch_deg: of the camera; None is taken for straight down, where a person is smallest.
        width_px: width of the frame.
        height_px: height of the frame.
        model_input_px: longest side of the frames the model was trained for.
        sizes: the limits.
    """
    longest_px = max(width_px, height_px)
    if gsd_m is None:
        return LookPlan(_whole_px(min(longest_px, sizes.longest_whole_px), model_input_px))
    pitch = _STRAIGHT_DOWN_DEG if pitch_deg is None else pitch_deg
    seen_px = {label: thing.seen_px(gsd_m=gsd_m, pitch_deg=pitch) for label, thing in _THINGS.items()}
    blind_to = tuple(label for label in _THINGS if seen_px[label] < _needs(label, sizes)[0])
    scale = min(
        1.0,
        max(
            (_needs(label, sizes)[1] / seen_px[label] for label in _THINGS if label not in blind_to),
            default=0.0,
        ),
    )
    whole_px = _whole_px(math.ceil(scale * longest_px), model_input_px)
    if whole_px <= max(sizes.longest_whole_px, model_input_px):
        return LookPlan(whole_px, (), blind_to)
    overlap_px = math.ceil(_LONGEST_M / gsd_m)
    side_px = math.floor(model_input_px / scale)
    tiles = _grid(width_px, height_px, side_px=side_px, overlap_px=min(overlap_px, side_px // 4))
    if len(tiles) > sizes.max_tiles:
        return LookPlan(_whole_px(sizes.longest_whole_px, model_input_px), (), blind_to)
    return LookPlan(model_input_px, tiles, blind_to)


def _needs(label: str, sizes: SizeLimits) -> tuple[float, float]:
    """Return the pixels that a thing must have in the frame, and should have in the model's input."""
    if label in (PERSON, BICYCLE):
        return sizes.min_person_px, sizes.person_input_px
    return sizes.min_vehicle_px, sizes.vehicle_input_px


def _whole_px(wanted_px: int, model_input_px: int) -> int:
    """Return the input of a whole frame: the model's own, or what is wanted rounded up to whole strides."""
    return max(model_input_px, -(-wanted_px // STRIDE_PX) * STRIDE_PX)


def _grid(width_px: int, height_px: int, *, side_px: int, overlap_px: int) -> tuple[Tile, ...]:
    """Return the fewest tiles of one size, no side longer than ``side_px``, that cover a frame evenly."""
    (tile_width_px, lefts), (tile_height_px, tops) = (
        _spread(length_px, side_px=side_px, overlap_px=overlap_px) for length_px in (width_px, height_px)
    )
    return tuple(
        Tile(left, top, left + tile_width_px, top + tile_height_px) for top, left in product(tops, lefts)
    )


def _spread(length_px: int, *, side_px: int, overlap_px: int) -> tuple[int, list[int]]:
    """Return the length of the parts of a length and where each starts."""
    if length_px <= side_px:
        return length_px, [0]
    count = math.ceil((length_px - overlap_px) / (side_px - overlap_px))
    part_px = math.ceil((length_px + (count - 1) * overlap_px) / count)
    return part_px, [round(index * (length_px - part_px) / (count - 1)) for index in range(count)]


def detect_planned(detector: Detector, images: Sequence[Image], plan: LookPlan) -> list[list[Box]]:
    """Return the boxes of each image, in its pixels, most confident first.

    Boxes of labels that the plan is blind to are among them: who drops them must count them.

    Args:
        detector: finds boxes.
        images: (height, width, 3) BGR uint8, all of one size; with tiles, of the planned size.
        plan: how to look.
    """
    if not plan.tiles:
        return detector.detect(images, input_px=plan.input_px)
    parts = [
        image[tile.top_px : tile.bottom_px, tile.left_px : tile.right_px]
        for image in images
        for tile in plan.tiles
    ]
    found = detector.detect(parts, input_px=plan.input_px)
    count = len(plan.tiles)
    return [
        join_tiles(
            [
                _shifted(boxes, tile)
                for boxes, tile in zip(found[start : start + count], plan.tiles, strict=True)
            ]
        )
        for start in range(0, len(found), count)
    ]


def _shifted(boxes: Sequence[Box], tile: Tile) -> list[Box]:
    """Return a tile's boxes in pixels of the frame."""
    x, y = tile.left_px, tile.top_px
    return [
        replace(
            box,
            box_xyxy_px=(
                box.box_xyxy_px[0] + x,
                box.box_xyxy_px[1] + y,
                box.box_xyxy_px[2] + x,
                box.box_xyxy_px[3] + y,
            ),
        )
        for box in boxes
    ]
