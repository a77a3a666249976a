"""The words for what a detector sees, and how other models' words map to them.

Belongs here: the label vocabulary. Not here: what a label means to a rule (``detection/rules``).
"""

from __future__ import annotations

from collections.abc import Mapping

from outwatch.domain.errors import ConfigInvalid

PERSON = "person"
CAR = "car"
BICYCLE = "bicycle"
OTHER_VEHICLE = "other_vehicle"

LABELS = (PERSON, CAR, BICYCLE, OTHER_VEHICLE)
"""Every label, in the order of the thermal model's class ids."""

VEHICLE_LABELS = frozenset({CAR, OTHER_VEHICLE})
"""What counts as a vehicle near an outpost, and is one thing to suppression and tracking: models waver
between the two. Two-wheelers are too often parked bicycles, which pass every outpost all day."""

_COCO_TO_LABEL: Mapping[str, str] = {
    "truck": OTHER_VEHICLE,
    "bus": OTHER_VEHICLE,
    "train": OTHER_VEHICLE,
    "motorcycle": BICYCLE,
}


def to_label(class_name: str) -> str | None:
    """Return our word for a model's class, or None where the class is of no concern here."""
    return class_name if class_name in LABELS else _COCO_TO_LABEL.get(class_name)


def parse_labels(text: str) -> tuple[str | None, ...]:
    """Return the labels of a model's classes from words in order of class id, as in ``person,car,-``.

    A word is one of ours or COCO's; ``-`` stands for a class of no concern.

    Raises:
        ConfigInvalid: a word is neither.
    """
    words = [word.strip() for word in text.split(",")]
    labels = tuple(None if word == "-" else to_label(word) for word in words)
    for word, label in zip(words, labels, strict=True):
        if label is None and word != "-":
            raise ConfigInvalid(
                f"label {word!r} is none of {', '.join(LABELS)}, nor - for a class to leave out"
            )
    return labels


def group_of(label: str) -> str:
    """Return the label that stands for all between which a model wavers over one thing."""
    return CAR if label in VEHICLE_LABELS else label


def known(class_labels: tuple[str | None, ...]) -> tuple[str, ...]:
    """Return the distinct labels among a model's classes, in order of class id."""
    return tuple(dict.fromkeys(label for label in class_labels if label is not None))
