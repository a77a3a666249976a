"""Geometry that every detector shares: into the model's frame, and from its raw boxes to ours.

Belongs here: letterboxing, non-maximum suppression, overlap. Not here: running a model
(``openvino.py``, ``ultralytics.py``) and following boxes over time (``tracks.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from detection.labels import LABELS, group_of
from outwatch.domain.types import Box, Image

Floats = npt.NDArray[np.floating[Any]]

MAX_BOXES = 300
"""Most boxes kept per frame: Ultralytics' and COCO-scale practice, far above any labelled frame here."""
NMS_IOU = 0.5
"""Boxes of one group that overlap more than this are one thing. Of the 13,037 true boxes of the
thermal training flights 6 overlap another of their label by more, all of them bicycles; at
Ultralytics' default of 0.7 each gathering would count some people twice (precision for people 0.77
instead of 0.84 there, at the same recall)."""
EDGE_PX = 3.0
"""A box that ends so close to a tile's edge is cut by it: what the regression of a box's side is off by."""
COVERED = 0.5
"""Share of a cut box from which a whole one covers it: the same thing, seen in full by a neighbour."""
LAPPED = 0.2
"""Share of the smaller of two pieces from which they are one thing, which runs on through both tiles:
tiles overlap by at most a quarter."""
PAD_GREY = 114
"""Value of the letterbox's bars, the one the models were trained with (Ultralytics LetterBox)."""


def check_images(images: Sequence[Image]) -> None:
    """Refuse anything but BGR uint8 frames of one size.

    Raises:
        ValueError: an image has another shape or type, or another size than the first.
    """
    for index, image in enumerate(images):
        if image.shape[2:] != (3,) or image.dtype != np.uint8:
            raise ValueError(
                f"image {index} must be (height, width, 3) uint8, found {image.shape} {image.dtype}"
            )
        if image.shape != images[0].shape:
            raise ValueError(
                f"image {index} is {image.shape}, image 0 is {images[0].shape}: pass frames of one size"
            )


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How a frame is fitted into a model's input: scaled by ``scale``, then padded evenly."""

    scale: float
    scaled_width_px: int
    scaled_height_px: int
    width_px: int
    height_px: int

    @classmethod
    def fit(cls, *, width_px: int, height_px: int, longest_px: int, stride_px: int) -> Letterbox:
        """Return the letterbox that keeps the aspect ratio, with sides rounded up to whole strides.

        Args:
            width_px: width of the frame.
            height_px: height of the frame.
            longest_px: longest side of the model's input.
            stride_px: what both sides of the model's input must be multiples of.
        """
        scale = longest_px / max(width_px, height_px)
        scaled_width_px, scaled_height_px = max(1, round(width_px * scale)), max(1, round(height_px * scale))
        return cls(
            scale=scale,
            scaled_width_px=scaled_width_px,
            scaled_height_px=scaled_height_px,
            width_px=-(-scaled_width_px // stride_px) * stride_px,
            height_px=-(-scaled_height_px // stride_px) * stride_px,
        )

    @classmethod
    def into(cls, *, width_px: int, height_px: int, input_size_px: tuple[int, int]) -> Letterbox:
        """Return the letterbox of a frame in an input of a size that cannot be chosen, width and height."""
        scale = min(input_size_px[0] / width_px, input_size_px[1] / height_px)
        return cls(scale, max(1, round(width_px * scale)), max(1, round(height_px * scale)), *input_size_px)

    @property
    def left_px(self) -> int:
        """Return the width of the left bar."""
        return (self.width_px - self.scaled_width_px) // 2

    @property
    def top_px(self) -> int:
        """Return the height of the top bar."""
        return (self.height_px - self.scaled_height_px) // 2

    def apply(self, image: Image) -> Image:
        """Return the image scaled and padded, (height_px, width_px, 3) uint8."""
        size = (self.scaled_width_px, self.scaled_height_px)
        if (image.shape[1], image.shape[0]) != size:
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
        right_px = self.width_px - self.scaled_width_px - self.left_px
        bottom_px = self.height_px - self.scaled_height_px - self.top_px
        if not any((self.left_px, self.top_px, right_px, bottom_px)):
            return image
        padded = cv2.copyMakeBorder(
            image,
            self.top_px,
            bottom_px,
            self.left_px,
            right_px,
            cv2.BORDER_CONSTANT,
            value=(PAD_GREY, PAD_GREY, PAD_GREY),
        )
        return np.asarray(padded, dtype=np.uint8)

    def undo(self, boxes_xyxy_px: Floats) -> Floats:
        """Return boxes (n, 4) of the model's frame in pixels of the image."""
        shift_px = np.array([self.left_px, self.top_px] * 2)
        return np.asarray((boxes_xyxy_px - shift_px) / self.scale)


def suppress(boxes_xyxy_px: Floats, confidences: Floats, group_ids: npt.NDArray[np.int64]) -> list[int]:
    """Return the indices that greedy non-maximum suppression per group keeps, most confident first."""
    if not len(boxes_xyxy_px):
        return []
    boxes_xywh_px = np.concatenate(
        [boxes_xyxy_px[:, :2], boxes_xyxy_px[:, 2:] - boxes_xyxy_px[:, :2]], axis=1, dtype=np.float64
    )
    kept = cv2.dnn.NMSBoxesBatched(
        boxes_xywh_px.tolist(),
        confidences.tolist(),
        group_ids.tolist(),
        score_threshold=0.0,
        nms_threshold=NMS_IOU,
    )
    return [int(index) for index in kept[:MAX_BOXES]]


def select_boxes(
    boxes_xyxy_px: Floats,
    confidences: Floats,
    class_ids: npt.NDArray[np.int64],
    *,
    class_labels: Sequence[str | None],
    image_size_px: tuple[int, int],
) -> list[Box]:
    """Return the boxes worth keeping: clipped to the image, one for each thing, most confident first.

    Suppression is per group, not per class: a lorry that a model calls truck, bus and car is one vehicle.

    Args:
        boxes_xyxy_px: candidates (n, 4) in pixels of the image.
        confidences: (n,), already above the caller's threshold.
        class_ids: (n,) indices into ``class_labels``.
        class_labels: our label for each of the model's classes, None where it is dropped.
        image_size_px: width and height of the image.
    """
    label_ids = np.array([-1 if label is None else LABELS.index(label) for label in class_labels])[class_ids]
    boxes: Floats = np.clip(boxes_xyxy_px, 0, np.array(image_size_px * 2))
    usable = np.flatnonzero((label_ids >= 0) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    group_ids = np.array([LABELS.index(group_of(label)) for label in LABELS])[label_ids[usable]]
    kept = usable[suppress(boxes[usable], confidences[usable], group_ids)]
    return [Box(LABELS[label_ids[i]], float(confidences[i]), tuple(boxes[i].tolist())) for i in kept]


def join_tiles(
    by_tile: Sequence[Sequence[Box]], tiles_xyxy_px: Floats, *, image_size_px: tuple[int, int]
) -> list[Box]:
    """Return the boxes that overlapping tiles of one frame saw, one for each thing, most confident first.

    Boxes that a tile's edge cuts give way to a whole one from a neighbour; pieces that no tile saw whole
    are put together. Whole boxes of one thing are told by suppression, as within a tile. Why not one rule
    for all: docs/adr/2026-11-22-tiles-are-joined-at-their-edges.md.

    Args:
        by_tile: the boxes of each tile, in pixels of the frame.
        tiles_xyxy_px: (n, 4) the tiles in pixels of the frame.
        image_size_px: width and height of the frame.
    """
    boxes = [box for seen in by_tile for box in seen]
    if not boxes:
        return []
    corners: Floats = np.array([box.box_xyxy_px for box in boxes])
    confidences = np.array([box.confidence for box in boxes])
    group_ids = np.array([LABELS.index(group_of(box.label)) for box in boxes], dtype=np.int64)
    edges = np.repeat(np.asarray(tiles_xyxy_px, float), [len(seen) for seen in by_tile], axis=0)
    is_cut = _cut(corners, edges, image_size_px=image_size_px)
    whole, pieces = np.flatnonzero(~is_cut), np.flatnonzero(is_cut)
    whole = whole[suppress(corners[whole], confidences[whole], group_ids[whole])]
    covered = np.where(
        group_ids[pieces, None] == group_ids[whole], share_inside(corners[pieces], corners[whole]), 0.0
    )
    pieces = pieces[covered.max(axis=1, initial=0.0) < COVERED]
    kept = [*whole.tolist(), *_unite(corners, confidences, group_ids, pieces)]
    return [
        replace(boxes[index], box_xyxy_px=tuple(corners[index].tolist()))
        for index in (kept[at] for at in suppress(corners[kept], confidences[kept], group_ids[kept]))
    ]


def _cut(corners: Floats, edges: Floats, *, image_size_px: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return which boxes (n, 4) end at an edge of their tile (n, 4) that is not the frame's, (n,)."""
    inner = edges != np.array([0, 0, *image_size_px])
    return np.asarray(((np.abs(corners - edges) <= EDGE_PX) & inner).any(axis=1))


def _unite(
    corners: Floats, confidences: Floats, group_ids: npt.NDArray[np.int64], pieces: npt.NDArray[np.intp]
) -> list[int]:
    """Grow the surest pieces in ``corners`` over those of their group that lap over them; return them."""
    left = pieces[np.argsort(-confidences[pieces], kind="stable")]
    united = []
    while len(left):
        first, left = int(left[0]), left[1:]
        united.append(first)
        while (lapping := _lapping(corners, first, left) & (group_ids[left] == group_ids[first])).any():
            whole = corners[[first, *left[lapping]]]
            corners[first] = [*whole[:, :2].min(axis=0), *whole[:, 2:].max(axis=0)]
            left = left[~lapping]
    return united


def _lapping(corners: Floats, first: int, others: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Return which other boxes lie in a box, or it in them, by at least ``LAPPED``."""
    one, rest = corners[[first]], corners[others]
    return np.asarray(np.maximum(share_inside(one, rest)[0], share_inside(rest, one)[:, 0]) >= LAPPED)


def share_inside(first_xyxy: Floats, second_xyxy: Floats) -> npt.NDArray[np.float64]:
    """Return which share of each first box lies in each second one, (n, 4) and (m, 4) giving (n, m)."""
    area = np.prod(first_xyxy[:, 2:] - first_xyxy[:, :2], axis=1, dtype=np.float64)
    return np.asarray(_intersections(first_xyxy, second_xyxy) / area[:, None])


def iou_matrix(first_xyxy: Floats, second_xyxy: Floats) -> npt.NDArray[np.float64]:
    """Return intersection over union of every pair of boxes, (n, 4) and (m, 4) giving (n, m)."""
    intersection = _intersections(first_xyxy, second_xyxy)
    first_area = np.prod(first_xyxy[:, 2:] - first_xyxy[:, :2], axis=1, dtype=np.float64)
    second_area = np.prod(second_xyxy[:, 2:] - second_xyxy[:, :2], axis=1, dtype=np.float64)
    union = first_area[:, None] + second_area[None, :] - intersection
    return np.asarray(np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0))


def _intersections(first_xyxy: Floats, second_xyxy: Floats) -> npt.NDArray[np.float64]:
    """Return the area that each pair of boxes has in common, (n, 4) and (m, 4) giving (n, m)."""
    top_left = np.maximum(first_xyxy[:, None, :2], second_xyxy[None, :, :2])
    bottom_right = np.minimum(first_xyxy[:, None, 2:], second_xyxy[None, :, 2:])
    return np.asarray(np.prod(np.clip(bottom_right - top_left, 0, None), axis=2, dtype=np.float64))
