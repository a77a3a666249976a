"""Build the training set of the RGB aerial model: ``python -m detection.rgb_data``.

Belongs here: which frames are trained on, which are left out, and where their boxes come from. Not here:
the recipe (``train.py``) and rendering (``outwatch/simulate``: its flights come as files).

The set keeps the class ids of the start weights (COCO's), so that no head is learnt anew and what those
weights know of people is not lost. It has four sources: KIT AIS, true boxes; simulated daylight flights,
true boxes; ``tower_pedestrians``, boxes of the start weights at several sizes, looked at; and
``tower_gate_cars``, boxes drawn by eye, for the start weights miss most cars from straight above.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import structlog
import yaml

from detection.boxes import iou_matrix
from detection.labels import BICYCLE, CAR, OTHER_VEHICLE, PERSON
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.ports import Detector
from outwatch.domain.types import Box, Image

KIT_LABELS = (CAR, OTHER_VEHICLE, OTHER_VEHICLE, OTHER_VEHICLE, BICYCLE)
"""Of KIT AIS' classes car, truck, bus, minibus and cyclist."""
KIT_TEST = range(74, 94)
"""Numbers of the one sequence that is left out, whole: frames of a sequence differ by half a second. The
other, 155 to 179, is trained on; ``aerial_traffic.mp4`` shows the same frames and so can test nothing."""
MAST_TRAIN = range(0, 490, 20)
MAST_TEST = range(500, 800, 10)
"""Frames of ``tower_pedestrians.avi``, 10 a second; those of the test carry labels made by eye."""
GATE_BOXES: Mapping[int, tuple[tuple[int, int, int, int], ...]] = {
    0: (),
    60: ((287, 332, 486, 432),),
    80: ((269, 72, 418, 334),),
    100: ((283, 0, 400, 73),),
    160: (),
    200: ((111, 0, 261, 257), (316, 218, 495, 432)),
    220: ((307, 0, 452, 217), (63, 264, 239, 432)),
    280: (),
    320: ((185, 0, 324, 88),),
    340: ((101, 217, 304, 432),),
}
"""Cars in frames of ``tower_gate_cars.mp4``, drawn by eye."""
COCO_ID = {PERSON: 0, BICYCLE: 1, CAR: 2, OTHER_VEHICLE: 7}
"""Class ids of COCO that stand for our labels: person, bicycle, car and truck."""
PSEUDO_SIZES_PX = (960, 1280, 1600)
PSEUDO_LEAST = 0.25
"""Mean confidence over all looks from which a box of the start weights is taken for true. In the 25 frames
used every box above it was looked at: none is wrong, and a few people behind poles are missing."""
SAME_IOU = 0.45
WINDOW_PX = 640
LEAST_INSIDE = 0.4
"""A box cut by a window's edge stays if so much of it is inside."""
LEAST_VISIBLE = 0.3
ALIKE = 0.8
"""Correlation of thumbnails from which two pictures are one scene: neighbours in a KIT AIS sequence have
0.92 to 1.0, frames of different sequences at most 0.2."""
_THUMBNAIL_PX = 32


@dataclass(frozen=True, slots=True)
class Labelled:
    """One picture with its boxes."""

    name: str
    image: Image
    boxes: Sequence[Box]


def build(
    *, samples: Path, flights: Path, mast_labels: Path, start: Detector, names: Mapping[int, str], out: Path
) -> dict[str, int]:
    """Write the data set in Ultralytics layout and return the number of pictures in each part.

    Args:
        samples: the folder of real samples.
        flights: simulated daylight flights, videos with their ``*.truth.json``.
        mast_labels: labels of the frames of ``tower_pedestrians`` that are left out.
        start: the start weights, with a low threshold.
        names: their class names, which the set keeps.
        out: folder for the set; made where missing.

    Raises:
        ConfigInvalid: a part is missing, or a picture of the training part is one that is left out.
    """
    aerial = list(aerial_frames(samples / "aerial_rgb"))
    train = [
        *(window for item in aerial if _number(item) not in KIT_TEST for window in windows(item)),
        *simulated_frames(flights),
        *mast_frames(samples / "footage" / "tower_pedestrians.avi", start=start),
        *gate_frames(samples / "footage" / "tower_gate_cars.mp4"),
    ]
    test = [item for item in aerial if _number(item) in KIT_TEST]
    check_apart([item for item in aerial if _number(item) not in KIT_TEST], test)
    mast = list(labelled_frames(samples / "footage" / "tower_pedestrians.avi", labels=mast_labels))
    parts = {"train": train, "aerial": test, "mast": mast}
    for part, items in parts.items():
        _write(items, part=part, out=out)
    splits = {part: f"images/{part}" for part in parts} | {"val": "images/aerial"}
    description: dict[str, object] = {**splits, "names": dict(names)}
    (out / "data.yaml").write_text(yaml.safe_dump(description, sort_keys=False), encoding="utf-8")
    return {part: len(items) for part, items in parts.items()}


def aerial_frames(folder: Path) -> Iterator[Labelled]:
    """Yield the pictures of KIT AIS with their boxes.

    Raises:
        ConfigInvalid: the folder holds none.
    """
    paths = sorted((folder / "images").glob("*.jpg"))
    if not paths:
        raise ConfigInvalid(f"{folder / 'images'} has no .jpg images: give the folder of real samples")
    for path in paths:
        image = np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR), np.uint8)
        lines = (folder / "labels" / f"{path.stem}.txt").read_text(encoding="utf-8")
        yield Labelled(path.stem, image, read_lines(lines, labels=KIT_LABELS, image=image))


def windows(item: Labelled) -> Iterator[Labelled]:
    """Yield a wide picture in overlapping windows as high as it is, and every third picture whole too.

    Whole at the model's input a car of the widest pictures has 13 by 6 pixels: too small to learn from alone.
    """
    width_px = item.image.shape[1]
    if width_px <= WINDOW_PX or _number(item) % 3 == 0:
        yield item
    if width_px > WINDOW_PX:
        count = -(-width_px // WINDOW_PX)
        for index, left in enumerate(np.linspace(0, width_px - WINDOW_PX, count).round().astype(int)):
            image = item.image[:, left : left + WINDOW_PX]
            yield Labelled(f"{item.name}_{index}", image, _cut(item.boxes, int(left)))


def _cut(boxes: Iterable[Box], offset_px: int) -> list[Box]:
    kept = []
    for box in boxes:
        left, top, right, bottom = box.box_xyxy_px
        new_left, new_right = max(left - offset_px, 0.0), min(right - offset_px, float(WINDOW_PX))
        if new_right - new_left >= LEAST_INSIDE * (right - left):
            kept.append(Box(box.label, 1.0, (new_left, top, new_right, bottom)))
    return kept


def simulated_frames(folder: Path) -> Iterator[Labelled]:
    """Yield the frames of simulated flights whose truth is known.

    Raises:
        ConfigInvalid: the folder holds no flight.
    """
    truths = sorted(folder.rglob("*.truth.json"))
    if not truths:
        raise ConfigInvalid(
            f"{folder} holds no simulated flight: `python -m outwatch.simulate.daylight --out {folder}`"
        )
    for path in truths:
        name = path.name.removesuffix(".truth.json")
        known = {item["index"]: item for item in json.loads(path.read_text(encoding="utf-8"))["frames"]}
        for index, image in read_frames(path.with_name(f"{name}.mp4"), known):
            boxes = [
                Box(actor["label"], 1.0, tuple(actor["box_xyxy_px"]))
                for actor in known[index]["actors"]
                if actor["box_xyxy_px"] is not None and actor["visible_fraction"] >= LEAST_VISIBLE
            ]
            yield Labelled(f"{name}_{index:03d}", image, boxes)


def mast_frames(video: Path, *, start: Detector) -> Iterator[Labelled]:
    """Yield the frames of the mast that may be trained on, with the boxes of the start weights."""
    for index, image in read_frames(video, MAST_TRAIN):
        yield Labelled(f"mast_{index:04d}", image, pseudo_boxes(start, image))


def gate_frames(video: Path) -> Iterator[Labelled]:
    """Yield frames of cars seen from above a gate, and of the empty road."""
    for index, image in read_frames(video, GATE_BOXES):
        boxes = [Box(CAR, 1.0, corners) for corners in GATE_BOXES[index]]
        yield Labelled(f"gate_{index:04d}", image, boxes)


def labelled_frames(video: Path, *, labels: Path) -> Iterator[Labelled]:
    """Yield the frames of a clip for which there are label files named after the frame's index."""
    texts = {int(path.stem): path.read_text(encoding="utf-8") for path in sorted(labels.glob("*.txt"))}
    for index, image in read_frames(video, texts):
        yield Labelled(f"{index:06d}", image, read_lines(texts[index], labels=(PERSON,), image=image))


def pseudo_boxes(detector: Detector, image: Image) -> list[Box]:
    """Return what a model sees of an image at several sizes and mirrored, the boxes of one thing merged.

    A box is the mean of those that overlap it, weighted by confidence; its confidence is their sum over
    the number of looks, so that what only one look sees counts little (weighted boxes fusion: Solovyev
    et al. 2021).
    """
    width_px = image.shape[1]
    mirrored = np.ascontiguousarray(image[:, ::-1])
    found: list[Box] = []
    for size_px in PSEUDO_SIZES_PX:
        found += detector.detect([image], input_px=size_px)[0]
        found += [_mirror(box, width_px) for box in detector.detect([mirrored], input_px=size_px)[0]]
    groups: list[list[Box]] = []
    for box in sorted(found, key=lambda box: -box.confidence):
        alike = [group for group in groups if _same(group[0], box)]
        alike[0].append(box) if alike else groups.append([box])
    merged = (_fused(group, looks=2 * len(PSEUDO_SIZES_PX)) for group in groups)
    return [box for box in merged if box.confidence >= PSEUDO_LEAST]


def _mirror(box: Box, width_px: int) -> Box:
    left, top, right, bottom = box.box_xyxy_px
    return Box(box.label, box.confidence, (width_px - right, top, width_px - left, bottom))


def _same(one: Box, other: Box) -> bool:
    corners = (np.array([box.box_xyxy_px]) for box in (one, other))
    return bool(iou_matrix(*corners)[0, 0] > SAME_IOU)


def _fused(group: Sequence[Box], *, looks: int) -> Box:
    weights = [box.confidence for box in group]
    corners = np.average([box.box_xyxy_px for box in group], axis=0, weights=weights)
    left, top, right, bottom = corners.tolist()
    return Box(group[0].label, min(1.0, sum(weights) / looks), (left, top, right, bottom))


def check_apart(train: Iterable[Labelled], test: Iterable[Labelled]) -> None:
    """Refuse a picture to train on that shows the scene of one that is left out.

    Raises:
        ConfigInvalid: there is one; the message names both.
    """
    left_out = [(item.name, _thumbnail(item.image)) for item in test]
    for item in train:
        seen = _thumbnail(item.image)
        for name, thumbnail in left_out:
            if float((seen * thumbnail).mean()) > ALIKE:
                raise ConfigInvalid(
                    f"{item.name} is to be trained on but shows the scene of {name}, which is left out"
                )


def _thumbnail(image: Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return a picture's grey levels in few pixels, with mean 0 and deviation 1."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (_THUMBNAIL_PX, _THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    levels = np.asarray(small, np.float64)
    return np.asarray((levels - levels.mean()) / max(float(levels.std()), 1e-9))


def read_frames(video: Path, wanted: Iterable[int]) -> Iterator[tuple[int, Image]]:
    """Yield frames of a trusted clip by their index, in order.

    Raises:
        ConfigInvalid: the clip ends before the last of them.
    """
    left = set(wanted)
    with av.open(str(video)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in left:
                yield index, np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
                left.remove(index)
            if not left:
                return
    raise ConfigInvalid(
        f"{video} ends before its frames {sorted(left)}: it is not the clip that was labelled"
    )


def read_lines(text: str, *, labels: Sequence[str], image: Image) -> list[Box]:
    """Return the boxes of a YOLO label file: lines of class, centre and size as shares of the image."""
    height_px, width_px = image.shape[:2]
    boxes = []
    for line in text.splitlines():
        class_id, x, y, width, height = map(float, line.split())
        left, top = (x - width / 2) * width_px, (y - height / 2) * height_px
        right, bottom = left + width * width_px, top + height * height_px
        boxes.append(Box(labels[int(class_id)], 1.0, (left, top, right, bottom)))
    return boxes


def write_lines(item: Labelled) -> str:
    """Return a picture's boxes as a YOLO label file with COCO's class ids."""
    height_px, width_px = item.image.shape[:2]
    lines = []
    for box in item.boxes:
        corners = np.clip(box.box_xyxy_px, 0, [width_px, height_px, width_px, height_px])
        left, top, right, bottom = (corners / [width_px, height_px, width_px, height_px]).tolist()
        shares = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        lines.append(f"{COCO_ID[box.label]} " + " ".join(f"{share:.6f}" for share in shares) + "\n")
    return "".join(lines)


def _write(items: Iterable[Labelled], *, part: str, out: Path) -> None:
    for kind in ("images", "labels"):
        (out / kind / part).mkdir(parents=True, exist_ok=True)
    for item in items:
        cv2.imwrite(
            str(out / "images" / part / f"{item.name}.jpg"), item.image, [cv2.IMWRITE_JPEG_QUALITY, 95]
        )
        (out / "labels" / part / f"{item.name}.txt").write_text(write_lines(item), encoding="utf-8")


def _number(item: Labelled) -> int:
    return int(item.name.removeprefix("MOS"))


def main() -> None:
    """Build the set from the command line and print how many pictures each part has."""
    from detection.ultralytics import UltralyticsDetector, class_names

    parser = argparse.ArgumentParser(description="Build the training set of the RGB aerial model.")
    parser.add_argument("--samples", type=Path, required=True, help="the folder of real samples")
    parser.add_argument("--flights", type=Path, required=True, help="simulated daylight flights")
    parser.add_argument("--mast-labels", type=Path, default=Path("tests/labels/tower_pedestrians"))
    parser.add_argument("--start", type=Path, required=True, help="start weights (.pt) that know COCO")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    counts = build(
        samples=arguments.samples,
        flights=arguments.flights,
        mast_labels=arguments.mast_labels,
        start=UltralyticsDetector(arguments.start, min_confidence=0.1),
        names=class_names(arguments.start),
        out=arguments.out,
    )
    print(json.dumps(counts))


if __name__ == "__main__":
    # Standard output is for the counts.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    main()
