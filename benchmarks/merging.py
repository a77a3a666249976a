"""How the boxes of overlapping tiles are best made one: four ways, measured on mosaics of known boxes.

Run ``python -m benchmarks.merging --data DIR [--model DIR] [--frames N]``. Belongs here: the ways that
lost, and the measurement. Not here: the way that production takes (``detection.boxes.join_tiles``).

A mosaic is six labelled images side by side; tile edges cut them anywhere. *Doubles* are boxes at the
working confidence that lie on a thing which another box has already taken.

Sources: NMM is SAHI's greedy merging (Akyon et al. 2022, "Slicing aided hyper inference"); soft merging
is weighted box fusion (Solovyev et al. 2021), with the best confidence of a cluster instead of the mean
over models, as a place lies in one to four tiles.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from detection.boxes import Floats, iou_matrix, join_tiles, share_inside, suppress
from detection.dataset import read_dataset, read_image
from detection.labels import LABELS, group_of
from detection.metrics import WORKING_CONFIDENCE, Sample, figures
from detection.openvino import OpenVinoDetector
from detection.tiling import Tile, grid
from outwatch.domain.types import Box, Image

COLUMNS, ROWS = 3, 2
SAME = 0.5
"""IoU of NMS and soft merging, share of the smaller of NMM: the thresholds their authors use."""
LEAST_CONFIDENCE = 0.01

Value = TypeVar("Value")
Merge = Callable[[Sequence[Sequence[Box]]], list[Box]]


def plain_nms(by_tile: Sequence[Sequence[Box]]) -> list[Box]:
    """Keep the surest of boxes that overlap."""
    boxes, corners = _pooled(by_tile)
    confidences = np.array([box.confidence for box in boxes])
    groups = np.array([LABELS.index(group_of(box.label)) for box in boxes], dtype=np.int64)
    return [boxes[index] for index in suppress(corners, confidences, groups)]


def nmm(by_tile: Sequence[Sequence[Box]]) -> list[Box]:
    """Let the surest box swallow all of its group that lie half in it, or it in them."""
    boxes, corners = _pooled(by_tile)
    smaller = np.maximum(share_inside(corners, corners), share_inside(corners, corners).T)
    return _clustered(boxes, corners, smaller, weighted=False)


def soft(by_tile: Sequence[Sequence[Box]]) -> list[Box]:
    """Average boxes that overlap, weighted by their confidence."""
    boxes, corners = _pooled(by_tile)
    return _clustered(boxes, corners, iou_matrix(corners, corners), weighted=True)


LOSERS: dict[str, Merge] = {"nms": plain_nms, "nmm": nmm, "soft": soft}


def _pooled(by_tile: Sequence[Sequence[Box]]) -> tuple[list[Box], Floats]:
    boxes = sorted((box for seen in by_tile for box in seen), key=lambda box: -box.confidence)
    return boxes, np.array([box.box_xyxy_px for box in boxes], dtype=np.float64).reshape(-1, 4)


def _clustered(boxes: Sequence[Box], corners: Floats, likeness: Floats, *, weighted: bool) -> list[Box]:
    """Return one box for each cluster around the surest box not yet in one."""
    groups = np.array([group_of(box.label) for box in boxes])
    confidences = np.array([box.confidence for box in boxes])
    free = np.ones(len(boxes), dtype=bool)
    result = []
    for index, box in enumerate(boxes):
        if free[index]:
            members = np.flatnonzero(free & (groups == groups[index]) & (likeness[index] > SAME))
            members = np.union1d(members, [index])
            free[members] = False
            if weighted:
                place = np.average(corners[members], axis=0, weights=confidences[members])
            else:
                place = np.hstack([corners[members, :2].min(axis=0), corners[members, 2:].max(axis=0)])
            result.append(replace(box, box_xyxy_px=tuple(place.tolist())))
    return result


def doubles(samples: Sequence[Sample]) -> int:
    """Return how many boxes lie on a thing that another, surer box has taken."""
    count = 0
    for sample in samples:
        for group in {group_of(label) for label in LABELS}:
            found = [
                box
                for box in sample.found
                if group_of(box.label) == group and box.confidence > WORKING_CONFIDENCE
            ]
            truth = [box for box in sample.truth if group_of(box.label) == group]
            if found and truth:
                first, second = (np.array([box.box_xyxy_px for box in boxes]) for boxes in (found, truth))
                inside = share_inside(first, second)
                home = inside.argmax(axis=1)[inside.max(axis=1) >= SAME]
                count += len(home) - len(set(home.tolist()))
    return count


def mosaics(data: Path, frames: int) -> list[tuple[Image, list[Box]]]:
    """Return mosaics of labelled images with their true boxes."""
    split = read_dataset(data)
    step = max(1, len(split.images) // (frames * COLUMNS * ROWS))
    paths = split.images[::step][: frames * COLUMNS * ROWS]
    result = []
    for start in range(0, len(paths), COLUMNS * ROWS):
        images = [read_image(path) for path in paths[start : start + COLUMNS * ROWS]]
        height_px, width_px = images[0].shape[:2]
        rows = [np.hstack(images[row * COLUMNS : (row + 1) * COLUMNS]) for row in range(ROWS)]
        truth = [
            shifted(box, (index % COLUMNS) * width_px, (index // COLUMNS) * height_px)
            for index, (path, image) in enumerate(zip(paths[start:], images, strict=False))
            for box in split.truth(path, image)
        ]
        result.append((np.vstack(rows), truth))
    return result


def shifted(box: Box, x_px: float, y_px: float) -> Box:
    """Return a box moved."""
    left, top, right, bottom = box.box_xyxy_px
    return replace(box, box_xyxy_px=(left + x_px, top + y_px, right + x_px, bottom + y_px))


def seen_in_tiles(detector: OpenVinoDetector, image: Image, tiles: Sequence[Tile]) -> list[list[Box]]:
    """Return the boxes of each tile, in pixels of the frame."""
    parts = [image[tile.top_px : tile.bottom_px, tile.left_px : tile.right_px] for tile in tiles]
    found = detector.detect(parts, input_px=max(parts[0].shape[:2]))
    return [
        [shifted(box, tile.left_px, tile.top_px) for box in boxes]
        for boxes, tile in zip(found, tiles, strict=True)
    ]


def row(samples: Sequence[Sample], cpu_s: float) -> dict[str, object]:
    """Return what is told of one way."""
    told = figures(samples, labels=("person", "car"))
    return {
        "person_ap50": round(told["by_label"]["person"]["ap50"], 4),
        "car_ap50": round(told["by_label"]["car"]["ap50"], 4),
        "precision": round(told["precision"], 4),
        "recall": round(told["recall"], 4),
        "doubles": doubles(samples),
        "cpu_ms_a_frame": round(1000 * cpu_s / len(samples), 2),
    }


def main() -> None:
    """Print the figures of each way as JSON, for a wide and for a narrow overlap."""
    parser = argparse.ArgumentParser(description="Compare ways to merge the boxes of overlapping tiles.")
    parser.add_argument("--data", type=Path, required=True, help="labelled images in Ultralytics layout")
    parser.add_argument("--model", type=Path, default=Path("detection/weights/thermal_yolo11n"))
    parser.add_argument("--frames", type=int, default=20)
    arguments = parser.parse_args()
    detector = OpenVinoDetector(arguments.model, min_confidence=LEAST_CONFIDENCE)
    frames = mosaics(arguments.data, arguments.frames)
    height_px, width_px = frames[0][0].shape[:2]
    for side_px in (width_px, 576):  # compile before the clock runs
        detector.detect([frames[0][0][:side_px, :side_px]], input_px=side_px)
    report: dict[str, object] = {"frames": len(frames), "size_px": [width_px, height_px]}
    whole, cpu_s = timed(lambda: [detector.detect([image], input_px=width_px)[0] for image, _ in frames])
    report["whole"] = row(judged(whole, frames), cpu_s)
    for overlap_px in (128, 48):
        tiles = grid(width_px, height_px, side_px=640, overlap_px=overlap_px)
        corners = np.array([[tile.left_px, tile.top_px, tile.right_px, tile.bottom_px] for tile in tiles])
        seen, cpu_s = timed(
            lambda tiles=tiles: [seen_in_tiles(detector, image, tiles) for image, _ in frames]
        )
        part: dict[str, object] = {"tiles": len(tiles), "detect_cpu_ms": round(1000 * cpu_s / len(frames), 1)}
        edges_first = partial(join_tiles, tiles_xyxy_px=corners, image_size_px=(width_px, height_px))
        for name, way in (LOSERS | {"edges_first": edges_first}).items():
            found, cpu_s = timed(lambda way=way, seen=seen: [way(by_tile) for by_tile in seen])
            part[name] = row(judged(found, frames), cpu_s)
        report[f"overlap_{overlap_px}px"] = part
    print(json.dumps(report, indent=1))


def timed(work: Callable[[], Value]) -> tuple[Value, float]:
    """Return what work gives, and its processor time in seconds."""
    start = time.process_time()
    value = work()
    return value, time.process_time() - start


def judged(found: Sequence[list[Box]], frames: Sequence[tuple[Image, list[Box]]]) -> list[Sample]:
    """Return found boxes beside the true ones."""
    return [Sample("", boxes, truth) for boxes, (_, truth) in zip(found, frames, strict=True)]


if __name__ == "__main__":
    main()
