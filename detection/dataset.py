"""Labelled images in Ultralytics layout: which there are, and the true boxes in them.

Belongs here: reading ``data.yaml``, images and label files, and saying what is wrong with them. Not
here: running a detector over them (``evaluate.py``).

Format: https://docs.ultralytics.com/datasets/detect/ . A split is a folder, a text file of paths, or a
list of either; labels lie in the folder ``labels`` beside ``images``, one ``.txt`` an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from detection.labels import to_label
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import Box, Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
_BOX_FIELDS = 5
_LEAST_POLYGON_FIELDS = 7
"""A class and three corners: labels of outlines are taken as the boxes around them."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """One split: its images in order of path, and what its class ids mean."""

    description: Path
    split: str
    images: tuple[Path, ...]
    label_of: Mapping[int, str | None]
    """Our word for each class id; None where the class is of no concern here."""
    left_out: tuple[str, ...]
    """Names of the classes without a word of ours, whose boxes are not judged."""

    def truth(self, path: Path, image: Image) -> list[Box]:
        """Return the true boxes of an image; none where it has no label file, as Ultralytics reads it.

        Raises:
            ConfigInvalid: a line is no label.
        """
        label_path = _label_path(path)
        if not label_path.is_file():
            return []
        height_px, width_px = image.shape[:2]
        boxes = []
        for number, line in enumerate(label_path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            class_id, corners = _parse_line(line, where=f"{label_path}, line {number}")
            if class_id not in self.label_of:
                raise ConfigInvalid(
                    f"{label_path}, line {number}: class {class_id} is not among the names of "
                    f"{self.description}: {sorted(self.label_of)}"
                )
            if label := self.label_of[class_id]:
                left, top, right, bottom = corners * [width_px, height_px, width_px, height_px]
                boxes.append(Box(label, 1.0, (float(left), float(top), float(right), float(bottom))))
        return boxes


def read_dataset(data: Path, *, split: str = "val") -> DataSet:
    """Find the images of a split.

    Args:
        data: a folder with ``data.yaml``, or such a file by its own name.
        split: ``val`` falls back to ``test`` where only that is described.

    Raises:
        ConfigInvalid: there is no description, no image, or no label; the message names what was sought.
    """
    description = data / "data.yaml" if data.is_dir() else data
    values = _description(description)
    if split not in values and split == "val" and "test" in values:
        split = "test"
    root = _root(description, values)
    entries = values.get(split, f"images/{split}")
    images = sorted(
        {path for entry in _as_list(entries) for path in _images_in(root, str(entry))},
        key=lambda path: path.as_posix(),
    )
    if not images:
        raise ConfigInvalid(
            f"{description}: split {split!r} ({entries}) holds no image under {root}: expected "
            f"{', '.join(sorted(SUFFIXES))}; correct `path` or `{split}`"
        )
    if not any(_label_path(path).is_file() for path in images):
        raise ConfigInvalid(
            f"{description}: none of the {len(images)} images has a label file; the first was sought at "
            f"{_label_path(images[0])}: put the labels there"
        )
    names = _names(description, values)
    label_of = {class_id: _word(name) for class_id, name in names.items()}
    left_out = tuple(names[class_id] for class_id, label in label_of.items() if label is None)
    return DataSet(description, split, tuple(images), label_of, left_out)


def read_image(path: Path) -> Image:
    """Read an image as (height, width, 3) BGR.

    Raises:
        ConfigInvalid: it is none.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ConfigInvalid(f"{path} is not a readable image: repair the data set")
    return np.asarray(image, dtype=np.uint8)


def _description(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigInvalid(f"{path} cannot be read as a data set description: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("names"), (dict, list)):
        raise ConfigInvalid(f"{path}: expected 'names', the list of classes in order of their ids")
    return values


def _names(description: Path, values: Mapping[str, Any]) -> dict[int, str]:
    names = values["names"]
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    try:
        return {int(class_id): str(name) for class_id, name in sorted(pairs)}
    except (TypeError, ValueError) as error:
        raise ConfigInvalid(f"{description}: 'names' has a class id that is no number: {error}") from error


def _word(name: str) -> str | None:
    """Return our word for a class, whatever its case and whatever stands between its words."""
    plain = name.strip().lower()
    return to_label(name) or to_label(plain) or to_label(plain.replace(" ", "_").replace("-", "_"))


def _root(description: Path, values: Mapping[str, Any]) -> Path:
    """Return the folder that splits are relative to: ``path`` where it is there, else the description's."""
    beside = description.parent
    named = beside / str(values.get("path") or ".")
    return named if named.is_dir() else beside


def _as_list(entries: object) -> list[object]:
    return list(entries) if isinstance(entries, list) else [entries]


def _images_in(root: Path, entry: str) -> Iterator[Path]:
    place = root / entry
    if place.is_dir():
        found: Iterator[Path] = place.rglob("*")
    elif place.is_file():
        lines = place.read_text(encoding="utf-8").splitlines()
        found = (place.parent / line.strip() for line in lines if line.strip())
    else:
        raise ConfigInvalid(f"{place} is neither a folder of images nor a list of them: correct data.yaml")
    yield from (path for path in found if path.suffix.lower() in SUFFIXES)


def _label_path(image: Path) -> Path:
    """Return the label file of an image: the last folder ``images`` of its path becomes ``labels``."""
    parts = list(image.parts)
    folders = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _parse_line(line: str, *, where: str) -> tuple[int, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Return class and (left, top, right, bottom) as shares of the image."""
    try:
        class_id, *rest = map(float, line.split())
    except ValueError as error:
        raise ConfigInvalid(f"{where}: expected class, x, y, width, height, found {line!r:.80}") from error
    fields, values = len(rest) + 1, np.array(rest)
    polygon = fields >= _LEAST_POLYGON_FIELDS and fields % 2 == 1
    if not (fields == _BOX_FIELDS or polygon) or class_id != int(class_id) or not np.isfinite(values).all():
        raise ConfigInvalid(f"{where}: expected class, x, y, width, height, found {line!r:.80}")
    if polygon:
        points = values.reshape(-1, 2)
        return int(class_id), np.concatenate([points.min(axis=0), points.max(axis=0)])
    centre, half = values[:2], values[2:] / 2
    return int(class_id), np.concatenate([centre - half, centre + half])
