"""The words for what a detector sees, and how other models' words map to them.

Belongs here: the label vocabulary. Not here: what a label means to a rule (``detection/rules.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

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


def group_of(label: str) -> str:
    """Return the label that stands for all between which a model wavers over one thing."""
    return CAR if label in VEHICLE_LABELS else label


def known(class_labels: tuple[str | None, ...]) -> tuple[str, ...]:
    """Return the distinct labels among a model's classes, in order of class id."""
    return tuple(dict.fromkeys(label for label in class_labels if label is not None))
