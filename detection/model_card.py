"""What a model folder says of itself: ``model.json`` beside ``model.xml`` and ``model.bin``.

Belongs here: the fields, their file and their checks. Not here: running the model
(``openvino.py``), exporting it (``ultralytics.py``) or measuring it (``evaluate.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from outwatch.domain.errors import ModelUnavailable
from outwatch.domain.types import Modality, Recall

XML_NAME = "model.xml"
WEIGHTS_NAME = "model.bin"
CARD_NAME = "model.json"
HASH_DIGITS = 12
"""Digits of the weights' SHA-256 in a model id: enough that no two models ever share one."""


def model_id(name: str, sha256: str) -> str:
    """Return a model's id: its name and the first digits of its weights' SHA-256."""
    return f"{name}-{sha256[:HASH_DIGITS]}"


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class RecallCurve:
    """Recall on the validation flights by confidence, at an IoU of 0.5."""

    confidences: tuple[float, ...]
    """Ascending."""
    by_label: Mapping[str, tuple[float, ...]]
    bands: tuple[tuple[float, Mapping[str, tuple[float, ...]]], ...] = ()
    """By ground sample distance, ascending: the largest ``gsd_m`` of each band and its recalls by label."""

    def at(self, confidence: float) -> Recall:
        """Return the recall of each label at a confidence, interpolated between those measured.

        A confidence outside the measured range gives nothing: recall is not extrapolated.
        """
        if not self.confidences[0] <= confidence <= self.confidences[-1]:
            return Recall()

        def read_off(by_label: Mapping[str, tuple[float, ...]]) -> dict[str, float]:
            return {
                label: float(np.interp(confidence, self.confidences, recalls))
                for label, recalls in by_label.items()
            }

        return Recall(
            read_off(self.by_label), tuple((gsd_m, read_off(recalls)) for gsd_m, recalls in self.bands)
        )


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The machine-readable part of a model card."""

    name: str
    class_labels: tuple[str | None, ...]
    """Our label for each class id, None where boxes of the class are dropped."""
    longest_px: int
    """Longest side of the frame the model was trained for."""
    stride_px: int
    sha256: str
    """Of ``model.bin``."""
    recall: RecallCurve | None = None
    least_contrast: float | None = None
    """Standard deviation in grey levels to which flatter frames are lifted first; None leaves them."""
    modality: Modality | None = None
    """What it is for; None where nobody said."""
    base_model: str | None = None
    """Name of the weights that it was trained from, with their SHA-256."""
    training_data: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the description and the labels of each data set, by the set's name."""
    licence: str | None = None
    """SPDX expression."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Figures on what was left out of training: ``val.person.ap50`` and so on."""
    created_by: str | None = None
    """The software that made the folder."""

    @property
    def model_id(self) -> str:
        """Return name and hash of the weights."""
        return model_id(self.name, self.sha256)

    def write(self, folder: Path) -> None:
        """Write ``model.json`` into a model folder."""
        (folder / CARD_NAME).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ModelCard:
        """Read ``model.json`` of a model folder.

        Raises:
            ModelUnavailable: it is missing or not a model card.
        """
        path = folder / CARD_NAME
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            recall, modality = fields.pop("recall"), fields.pop("modality", None)
            return cls(
                **fields | {"class_labels": tuple(fields["class_labels"])},
                recall=None if recall is None else _curve(recall),
                modality=None if modality is None else Modality(modality),
            )
        except OSError as error:
            raise ModelUnavailable(
                f"model folder {folder} has no readable {CARD_NAME}: point the weights setting at a folder "
                f"with {XML_NAME}, {WEIGHTS_NAME} and {CARD_NAME}, as `python -m detection.train` writes it"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ModelUnavailable(
                f"{path} is not a model card ({error!r}): export the model anew"
            ) from error


def _curve(fields: Mapping[str, object]) -> RecallCurve:
    confidences, bands = fields["confidences"], fields.get("bands", [])
    if not isinstance(confidences, list) or not isinstance(bands, list):
        raise TypeError("recall must hold a list of confidences, and one of bands or none")
    return RecallCurve(
        tuple(confidences),
        _recalls(fields["by_label"]),
        tuple((float(gsd_m), _recalls(by_label)) for gsd_m, by_label in bands),
    )


def _recalls(by_label: object) -> dict[str, tuple[float, ...]]:
    if not isinstance(by_label, dict):
        raise TypeError("recall by label must be a table")
    return {label: tuple(values) for label, values in by_label.items()}
