"""Data sets are read as Ultralytics reads them, and what is wrong with one is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from detection.dataset import read_dataset, read_image
from outwatch.domain.errors import ConfigInvalid

Labelled = Callable[..., Path]


@pytest.fixture
def labelled(tmp_path: Path) -> Labelled:
    """Return a maker of data sets of one image of 100 by 50 pixels with the given description and labels."""

    def make(
        description: str, labels: str | None = "0 0.5 0.5 0.2 0.4\n", *, folder: str = "images/val"
    ) -> Path:
        image = tmp_path / folder / "a_1.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), np.zeros((50, 100, 3), np.uint8))
        if labels is not None:
            path = Path(str(image.parent).replace("images", "labels")) / "a_1.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(labels)
        (tmp_path / "data.yaml").write_text(description)
        return tmp_path

    return make


def truths(folder: Path) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Return label and corners of every true box of the split ``val``."""
    data = read_dataset(folder)
    return [
        (box.label, box.box_xyxy_px) for path in data.images for box in data.truth(path, read_image(path))
    ]


@pytest.mark.parametrize(
    "description",
    [
        "names: [car, person]\nval: images/val\n",
        "names: {1: Person, 0: Car}\nval: images/val\n",
        "path: .\nnames: {1: person, 0: CAR}\nval: [images/val]\n",
        "names: [car]\ntest: images/val\n",
        "path: gone\nnames: [car]\nval: list.txt\n",
    ],
)
def test_layouts_and_spellings_give_the_same_truth(labelled: Labelled, description: str) -> None:
    """Names as list or by id in any order and case; a split as folder, list of folders, list file or test."""
    folder = labelled(description)
    (folder / "list.txt").write_text("./images/val/a_1.png\n")
    assert truths(folder) == [("car", pytest.approx((40.0, 15.0, 60.0, 35.0)))]


def test_ids_may_have_gaps(labelled: Labelled) -> None:
    """A class id means its own name, not its place among the names."""
    folder = labelled("names: {3: person, 7: car}\n", "7 0.5 0.5 0.2 0.4\n3 0.5 0.5 0.2 0.4\n")
    assert [label for label, _ in truths(folder)] == ["car", "person"]


def test_an_outline_counts_as_the_box_around_it(labelled: Labelled) -> None:
    """A label of corners is the smallest box that holds them."""
    folder = labelled("names: [car]\n", "0 0.4 0.3 0.6 0.3 0.5 0.7\n")
    assert truths(folder) == [("car", pytest.approx((40.0, 15.0, 60.0, 35.0)))]


def test_classes_without_a_word_of_ours_are_left_out_and_told(labelled: Labelled) -> None:
    """Boxes of other classes are no truth, and the report can say so."""
    folder = labelled("names: [dog, car]\n", "0 0.5 0.5 0.2 0.4\n1 0.5 0.5 0.2 0.4\n")
    assert [label for label, _ in truths(folder)] == ["car"]
    assert read_dataset(folder).left_out == ("dog",)


@pytest.mark.parametrize(
    ("description", "labels", "words"),
    [
        ("val: images/val\n", "", "names"),
        ("names: [car]\n", None, "none of the 1 images has a label file.*labels"),
        ("names: [car]\nval: images/elsewhere\n", "", "elsewhere is neither a folder"),
        ("names: [car]\n", "0 0.5 0.5 0.2\n", "line 1: expected class"),
        ("names: [car]\n", "0 0.5 0.5 0.2 nan\n", "line 1: expected class"),
        ("names: [car]\n", "\n4 0.5 0.5 0.2 0.4\n", "line 2: class 4 is not among"),
        ("names: [car", "", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(labelled: Labelled, description: str, labels: str | None, words: str) -> None:
    """Every error says which file, which line, and what was expected."""
    with pytest.raises(ConfigInvalid, match=words):
        truths(labelled(description, labels))
