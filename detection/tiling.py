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

import numpy as np

from detection.boxes import join_tiles
from detection.ground import hfov_of
from detection.labels import BICYCLE, CAR, OTHER_VEHICLE, PERSON, VEHICLE_LABELS
from detection.rays import MAX_RANGE_M
from outwatch.domain.ports import Detector
from outwatch.domain.types import Box, Camera, Image, TelemetrySample

STRIDE_PX = 32
"""What sides of a model's input are multiples of, in every model of the family."""
GREATEST_ENLARGEMENT = 2.0
"""How far pixels are spread at most. On validation frames shrunk until people are 10 pixels long, AP50 for
people is 0.59 at their own size, 0.74 at 1.5 times and 0.78 at twice; no more was measured."""
GREATEST_OVERLAP = 0.25
"""Share of a tile's side: at half, every pixel would be looked at four times."""
_STRAIGHT_DOWN_DEG = -90.0
_LONGEST_M = 12.0
"""A bus or a lorry: tiles overlap by it where they may, so that each thing lies whole in one of them."""


@dataclass(frozen=True, slots=True)
class _Thing:
    """An upright cylinder on the ground, in metres: its height and its extent away from the camera."""

    height_m: float
    depth_m: float

    def seen_px(self, *, gsd_m: float, pitch_deg: float) -> float:
        """Return its extent up the picture at the frame's middle: h cos d + w sin d, as in ``ground.py``."""
        down = math.radians(min(max(-pitch_deg, 0.0), 90.0))
        return (self.height_m * math.cos(down) + self.depth_m * math.sin(down)) / gsd_m


_THINGS: Mapping[str, _Thing] = {
    PERSON: _Thing(height_m=1.7, depth_m=0.9),
    CAR: _Thing(height_m=1.5, depth_m=3.5),
    BICYCLE: _Thing(height_m=1.1, depth_m=1.7),
    OTHER_VEHICLE: _Thing(height_m=1.5, depth_m=3.5),
}
"""What is common and small: a person, whose box from straight above is 0.8 to 1.5 m long with limbs and
blur (median 1.05 m of 629 labelled in HIT-UAV; the formula meets the medians of all seven camera angles
within a fifth), a bicycle, and a Suzuki Alto seen end-on."""


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """How many pixels things need, and how much work a look may be.

    The defaults are measured with the thermal model at a confidence of 0.25 on validation frames shrunk
    by up to 0.35 and enlarged by up to 2. It finds 0.6 of the people who are 10 to 12 pixels long in its
    input, 0.7 of 12 to 15, 0.78 of 15 to 20 and 0.83 of 20 to 30; of cars 0.5 at 10 to 20 and 0.9 from 30.
    """

    min_person_px: float = 10.0
    """Least length in the frame; below it a person, or a bicycle, is not claimed."""
    min_vehicle_px: float = 12.0
    """The same of a vehicle."""
    person_input_px: float = 20.0
    """Length in the model's input that a person should have."""
    vehicle_input_px: float = 30.0
    """The same of a vehicle."""
    longest_whole_px: int = 1920
    """Longest side to which a whole frame is scaled; beyond it tiles take over. Whole, Full HD costs 230 ms
    of one core and 440 MB; in eight tiles 254 ms, and people at the tiles' edges (benchmarks/merging.py)."""
    least_whole_px: int | None = None
    """Shortest of the longest sides to which a whole frame is scaled; None is the size that the model was
    trained for. Things are found by the pixels they have, so a first look may be smaller and cheaper."""
    unknown_px: int = 1280
    """Longest side to which a frame is scaled whose ground sample distance nobody knows."""
    max_tiles: int = 24
    """More tiles are never cut for a look: they become coarser instead."""

    def in_frame_px(self, label: str) -> float:
        """Return the least length in the frame of a thing that is claimed."""
        return self.min_vehicle_px if label in VEHICLE_LABELS else self.min_person_px

    def in_input_px(self, label: str) -> float:
        """Return the length that a thing should have in the model's input."""
        return self.vehicle_input_px if label in VEHICLE_LABELS else self.person_input_px


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
    if height_m is None or height_m <= 0 or hfov_deg is None or pose.pitch_deg >= 0:
        return None
    range_m = height_m / math.sin(math.radians(min(-pose.pitch_deg, 90.0)))
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

    The choices are few, as a runtime compiles a model for each: the whole frame at steps of about 1.4
    from the model's own size on, or from below it where ``sizes`` allow that, or tiles at the frame's
    own pixels, at 0.7 of them, at half, and so on.
    Where the ground sample distance is unknown, a frame is looked at whole, at its own size up to
    ``unknown_px``, and nothing is refused: nothing of it can be placed on the ground either.

    Args:
        gsd_m: metres that one pixel covers, None where unknown.
        pitch_deg: of the camera; None is taken for straight down, where a person is smallest.
        width_px: width of the frame.
        height_px: height of the frame.
        model_input_px: longest side of the frames the model was trained for.
        sizes: the limits.
    """
    longest_px = max(width_px, height_px)
    rungs_px = _rungs(model_input_px, sizes.longest_whole_px, least_px=sizes.least_whole_px or model_input_px)
    if gsd_m is None:
        return LookPlan(_first_from(rungs_px, min(longest_px, sizes.unknown_px)))
    pitch = _STRAIGHT_DOWN_DEG if pitch_deg is None else pitch_deg
    seen_px = {label: thing.seen_px(gsd_m=gsd_m, pitch_deg=pitch) for label, thing in _THINGS.items()}
    blind_to = tuple(label for label in _THINGS if seen_px[label] < sizes.in_frame_px(label))
    wanted = max(
        (sizes.in_input_px(label) / seen_px[label] for label in _THINGS if label not in blind_to), default=0.0
    )
    # Beyond twice a frame's own pixels nothing is gained; tiles show no more than these at all.
    wanted_px = min(wanted, GREATEST_ENLARGEMENT) * longest_px
    if wanted_px > rungs_px[-1] and longest_px > rungs_px[-1]:
        tiled = _tiled(
            width_px, height_px, gsd_m=gsd_m, wanted=wanted, model_input_px=model_input_px, sizes=sizes
        )
        return replace(tiled, blind_to=blind_to)
    return LookPlan(_first_from(rungs_px, wanted_px), (), blind_to)


def _rungs(model_input_px: int, longest_whole_px: int, *, least_px: int) -> tuple[int, ...]:
    """Return the inputs of a whole frame, ascending, from the least or the model's own to the largest."""
    ratio = max(1.0, longest_whole_px / model_input_px)
    steps = max(1, round(2 * math.log2(ratio)))
    between_px = (_strides(model_input_px * ratio ** (step / steps)) for step in range(1, steps))
    halvings = max(0, math.floor(2 * math.log2(model_input_px / least_px)))
    below_px = (_strides(model_input_px / 2 ** (step / 2)) for step in range(1, halvings + 1))
    return tuple(sorted({*below_px, model_input_px, *between_px, max(model_input_px, longest_whole_px)}))


def _first_from(rungs_px: Sequence[int], wanted_px: float) -> int:
    return next((rung_px for rung_px in rungs_px if rung_px >= wanted_px), rungs_px[-1])


def _strides(length_px: float) -> int:
    return math.ceil(length_px / STRIDE_PX) * STRIDE_PX


def _tiled(
    width_px: int, height_px: int, *, gsd_m: float, wanted: float, model_input_px: int, sizes: SizeLimits
) -> LookPlan:
    """Return tiles in which the frame is scaled by ``wanted``, rounded up, or by less to be few."""
    step = min(0, math.ceil(2 * math.log2(wanted)))
    while True:
        scale = 2 ** (step / 2)
        side_px = math.floor(model_input_px / scale)
        overlap_px = min(math.ceil(_LONGEST_M / gsd_m), math.floor(side_px * GREATEST_OVERLAP))
        tiles = grid(width_px, height_px, side_px=side_px, overlap_px=overlap_px)
        if len(tiles) <= max(1, sizes.max_tiles):
            break
        step -= 1
    longest_px = max(tiles[0].right_px - tiles[0].left_px, tiles[0].bottom_px - tiles[0].top_px)
    return LookPlan(min(model_input_px, _strides(longest_px * scale)), tiles)


def grid(width_px: int, height_px: int, *, side_px: int, overlap_px: int) -> tuple[Tile, ...]:
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
    if not plan.tiles or not images:
        return detector.detect(images, input_px=plan.input_px)
    parts = [
        image[tile.top_px : tile.bottom_px, tile.left_px : tile.right_px]
        for image in images
        for tile in plan.tiles
    ]
    found = detector.detect(parts, input_px=plan.input_px)
    count = len(plan.tiles)
    corners = np.array([[tile.left_px, tile.top_px, tile.right_px, tile.bottom_px] for tile in plan.tiles])
    size_px = (images[0].shape[1], images[0].shape[0])
    return [
        join_tiles(
            [_shifted(boxes, tile) for boxes, tile in zip(by_tile, plan.tiles, strict=True)],
            corners,
            image_size_px=size_px,
        )
        for by_tile in (found[start : start + count] for start in range(0, len(found), count))
    ]


def _shifted(boxes: Sequence[Box], tile: Tile) -> list[Box]:
    """Return a tile's boxes in pixels of the frame."""
    shift_px = np.array([tile.left_px, tile.top_px] * 2)
    return [replace(box, box_xyxy_px=tuple((shift_px + box.box_xyxy_px).tolist())) for box in boxes]
