"""From weights as they come to a model folder of ours, checked by a dry run.

Belongs here: telling what weights are, bringing them into one form, and refusing what cannot run. Not
here: the conversions themselves (``ultralytics.py``, ``openvino.py``) and where models are kept
(``storage/models.py``).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import structlog
import yaml

from detection.contrast import LEAST_CONTRAST
from detection.labels import LABELS, known, to_label
from detection.model_card import CARD_NAME, WEIGHTS_NAME, XML_NAME, ModelCard, sha256_file
from outwatch.domain.errors import ModelUnavailable
from outwatch.domain.types import Modality

CARD_TEXT_NAME = "card.md"
SOURCE_NAME = "source.pt"
DEFAULT_LONGEST_PX = 640
DEFAULT_STRIDE_PX = 32
"""Of every YOLO detection model without an extra stage; a larger multiple would do as well."""
DRY_RUN_PX = ((512, 640), (360, 640))
"""Height and width of the frames of the dry run: of two shapes, as clips are."""
MIN_CONFIDENCE = 0.25

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Declared:
    """What a person says of weights that do not say it themselves."""

    modality: Modality
    name: str | None = None
    labels: tuple[str | None, ...] = ()
    """In order of class id; empty where the weights name their classes."""
    longest_px: int | None = None
    licence: str | None = None
    created_by: str | None = None


def import_model(source: Path, *, out_dir: Path, declared: Declared) -> ModelCard:
    """Bring weights into a model folder, run it on plain frames, and return its card.

    Args:
        source: an Ultralytics ``.pt`` file, an ONNX file, or an OpenVINO folder, ours or Ultralytics'.
        out_dir: the model folder; created. It also gets ``card.md`` and, from a ``.pt``, that file.
        declared: what is said of the weights.

    Raises:
        ModelUnavailable: they are not there, of no kind that is known, or do not run; the message says why.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        card = _from_folder(source, out_dir=out_dir, declared=declared)
    elif source.suffix == ".pt" and source.is_file():
        card = _from_checkpoint(source, out_dir=out_dir, declared=declared)
    elif source.suffix == ".onnx" and source.is_file():
        card = _from_network(source, out_dir=out_dir, labels=declared.labels, declared=declared)
    else:
        raise ModelUnavailable(
            f"{source} is no model: expected a .pt file of Ultralytics, an .onnx file, or a folder with "
            "an OpenVINO model"
        )
    card = _completed(card, declared)
    card.write(out_dir)
    _dry_run(out_dir)
    text = next((path for path in (source / "CARD.md", source / CARD_TEXT_NAME) if path.is_file()), None)
    words = text.read_text(encoding="utf-8") if text else describe(card)
    (out_dir / CARD_TEXT_NAME).write_text(words, encoding="utf-8")
    return card


def _from_folder(folder: Path, *, out_dir: Path, declared: Declared) -> ModelCard:
    if (folder / CARD_NAME).is_file():
        for name in (XML_NAME, WEIGHTS_NAME):
            if not (folder / name).is_file():
                raise ModelUnavailable(f"model folder {folder} has no {name}: copy the whole folder again")
            shutil.copy(folder / name, out_dir / name)
        return ModelCard.read(folder)
    networks = sorted(folder.glob("*.xml"))
    if len(networks) != 1:
        raise ModelUnavailable(f"{folder} has {len(networks)} .xml files, expected one OpenVINO model")
    labels = declared.labels or _named_classes(folder / "metadata.yaml")
    return _from_network(networks[0], out_dir=out_dir, labels=labels, declared=declared)


def _from_checkpoint(source: Path, *, out_dir: Path, declared: Declared) -> ModelCard:
    from detection.ultralytics import export_openvino

    _log.warning("weights_run_code", weights=str(source))
    longest_px = declared.longest_px or DEFAULT_LONGEST_PX
    card = export_openvino(source, out_dir=out_dir, imgsz=longest_px, name=declared.name or source.stem)
    shutil.copy(source, out_dir / SOURCE_NAME)
    return replace(card, base_model=f"{source.name} {sha256_file(source)}")


def _from_network(
    network: Path, *, out_dir: Path, labels: Sequence[str | None], declared: Declared
) -> ModelCard:
    from detection.openvino import import_network

    if not labels:
        raise ModelUnavailable(
            f"{network} does not say what its classes are: give --labels in order of class id, such as "
            f"{','.join(LABELS)}"
        )
    import_network(network, out_dir=out_dir)
    return ModelCard(
        name=declared.name or network.stem,
        class_labels=tuple(labels),
        longest_px=declared.longest_px or DEFAULT_LONGEST_PX,
        stride_px=DEFAULT_STRIDE_PX,
        sha256=sha256_file(out_dir / WEIGHTS_NAME),
        base_model=f"{network.name} {sha256_file(network)}",
    )


def _named_classes(path: Path) -> tuple[str | None, ...]:
    """Return the labels in the ``metadata.yaml`` that Ultralytics writes beside an export, none without."""
    if not path.is_file():
        return ()
    try:
        names = yaml.safe_load(path.read_text(encoding="utf-8"))["names"]
        return tuple(to_label(str(names[index])) for index in sorted(names))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ModelUnavailable(f"{path} does not name the classes ({error!r}): give --labels") from error


def _completed(card: ModelCard, declared: Declared) -> ModelCard:
    """Return a card with what was declared, which wins over what the weights say of themselves."""
    labels = declared.labels or card.class_labels
    if len(labels) != len(card.class_labels):
        raise ModelUnavailable(
            f"{len(labels)} labels were given, but model {card.name} has {len(card.class_labels)} classes"
        )
    if not known(labels):
        raise ModelUnavailable(
            f"no class of model {card.name} is one of {', '.join(LABELS)}: say with --labels which is which"
        )
    lifts = card.modality is None and declared.modality is Modality.THERMAL
    return replace(
        card,
        name=declared.name or card.name,
        class_labels=labels,
        longest_px=declared.longest_px or card.longest_px,
        modality=declared.modality,
        licence=declared.licence or card.licence,
        created_by=card.created_by or declared.created_by,
        least_contrast=LEAST_CONTRAST if lifts else card.least_contrast,
    )


def _dry_run(folder: Path) -> None:
    """Look at plain frames of two shapes.

    Raises:
        ModelUnavailable: the model does not run, or what it gives are no boxes.
    """
    from detection.openvino import OpenVinoDetector

    detector = OpenVinoDetector(folder, min_confidence=MIN_CONFIDENCE)
    for height_px, width_px in DRY_RUN_PX:
        grey = np.full((height_px, width_px, 3), 128, np.uint8)
        try:
            boxes = detector.detect([grey])[0]
        except (RuntimeError, ValueError, IndexError) as error:
            raise ModelUnavailable(
                f"model {detector.model_id} fails on a plain frame of {width_px}x{height_px}: {error}; "
                "export it anew, without suppression inside"
            ) from error
        if any(not np.isfinite([box.confidence, *box.box_xyxy_px]).all() for box in boxes):
            raise ModelUnavailable(
                f"model {detector.model_id} gives boxes that are no numbers: export it anew"
            )
        if boxes:
            _log.warning("sees_things_in_a_plain_frame", model_id=detector.model_id, boxes=len(boxes))


def describe(card: ModelCard) -> str:
    """Return a model card for people, as Markdown."""
    rows = {
        "modality": card.modality,
        "labels": ", ".join(known(card.class_labels)),
        "longest side of a frame": f"{card.longest_px} px",
        "SHA-256 of the weights": card.sha256,
        "made of": card.base_model,
        "training data": ", ".join(f"{name} ({sha256[:12]})" for name, sha256 in card.training_data.items()),
        "licence": card.licence,
        "made by": card.created_by,
    } | {name: f"{value:.3f}" for name, value in card.metrics.items()}
    lines = [f"| {name} | {value or 'not said'} |" for name, value in rows.items()]
    return "\n".join([f"# {card.model_id}", "", "| | |", "|---|---|", *lines, ""])
