"""Models: what is there, what looks at what, and how good they are.

Belongs here: the order of calls behind ``outwatch models``. Not here: the registry (``storage/models.py``),
bringing weights into our form (``detection/model_import.py``), training (``detection/train.py``) and figures
(``outwatch/evaluation``).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detection.dataset import DataSet, read_dataset
from detection.evaluate import AP_CONFIDENCE, judge, open_detector
from detection.labels import parse_labels
from detection.metrics import WORKING_CONFIDENCE, Sample, match
from detection.model_card import CARD_NAME, ModelCard
from detection.model_import import SOURCE_NAME, Declared, import_model
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.ports import Detector
from outwatch.domain.types import Modality
from outwatch.evaluation.bootstrap import RESAMPLES, blocks_of, draws, interval
from outwatch.evaluation.images import FIGURES, evaluate_images
from outwatch.pipeline.wiring import SOFTWARE, Pipeline, shipped_weights
from storage import keys
from storage.models import Promotion, this_user


@dataclass(frozen=True, slots=True)
class Listed:
    """A model as it stands."""

    id: str
    modality: Modality
    shipped: bool
    looks: bool
    """Whether it is the one that looks at what cameras of its modality see."""
    card: ModelCard
    added_at: str | None = None
    added_by: str | None = None


def list_models(pipeline: Pipeline) -> list[Listed]:
    """Return the shipped models, then those of the registry in order of id."""
    listed, looking = [], []
    for modality in Modality:
        card = ModelCard.read(shipped_weights(modality))
        promoted = pipeline.models.promoted(modality)
        if pipeline.settings.weights(modality) is None:
            looking.append(promoted or card.model_id)
        listed.append(Listed(card.model_id, modality, True, card.model_id in looking, card))
    for model in pipeline.models.models():
        card, at = _card(pipeline, model.id), model.added_at.isoformat()
        looks = model.id in looking
        listed.append(Listed(model.id, model.modality, False, looks, card, at, model.added_by))
    return listed


def named_in_settings(pipeline: Pipeline) -> dict[Modality, Path]:
    """Return the weights that settings name, which win over shipped and promoted models."""
    return {kind: path for kind in Modality if (path := pipeline.settings.weights(kind)) is not None}


def add_model(
    pipeline: Pipeline,
    source: Path,
    *,
    modality: Modality,
    name: str | None = None,
    labels: str | None = None,
    longest_px: int | None = None,
    licence: str | None = None,
    extras: Sequence[Path] = (),
) -> str:
    """Check weights by a dry run, store them as a model, and return its id.

    Args:
        pipeline: where they are stored.
        source: a ``.pt`` file, which is run as code when it is loaded, an ONNX file or an OpenVINO folder.
        modality: what it is for.
        name: the first part of its id; the file's where not given.
        labels: of its classes in order, as in ``person,car,-``, where it does not name them.
        longest_px: longest side of the frames it was trained for.
        licence: SPDX expression.
        extras: files that are kept beside it.

    Raises:
        ModelUnavailable: the weights are of no kind that is known, or do not run.
    """
    declared = Declared(
        modality=modality,
        name=name,
        labels=parse_labels(labels) if labels else (),
        longest_px=longest_px,
        licence=licence,
        created_by=SOFTWARE,
    )
    with tempfile.TemporaryDirectory(dir=pipeline.scratch) as folder:
        out = Path(folder) / "model"
        card = import_model(source, out_dir=out, declared=declared)
        for extra in extras:
            shutil.copy(extra, out / extra.name)
        return pipeline.models.add(out, model_id=card.model_id, modality=modality, by=this_user()).id


def promote_model(pipeline: Pipeline, model: str, *, modality: Modality) -> Promotion:
    """Let a model look at what cameras of a modality see; ``shipped`` is the one that comes with Outwatch.

    Raises:
        ModelUnavailable: it is not in the registry, or is for another modality.
        ConfigInvalid: settings name the weights.
    """
    if (own := pipeline.settings.weights(modality)) is not None:
        raise ConfigInvalid(
            f"settings name {own} for {modality} cameras, which wins over any promotion: clear "
            f"OUTWATCH_DETECTION__{modality.upper()}_WEIGHTS first"
        )
    shipped = {"shipped", ModelCard.read(shipped_weights(modality)).model_id}
    chosen = None if model in shipped else model
    return pipeline.models.promote(chosen, modality=modality, by=this_user())


def train_model(
    pipeline: Pipeline, *, data_dir: Path, start: Path, modality: Modality, out_dir: Path | None = None
) -> tuple[str, str]:
    """Run the recipe for a modality, store what comes out, and return its id and its figures as text.

    Args:
        pipeline: where it is stored.
        data_dir: labelled images in Ultralytics layout.
        start: weights to start from (``.pt``).
        modality: which recipe.
        out_dir: where the run is written; in the home folder where not given. It stays there.
    """
    from detection.train import COURSES, export_measured

    course = COURSES[modality]
    out = out_dir or pipeline.settings.home_dir / "training" / course.model_name
    weights = course.train(start, data_dir, out)
    folder = out / course.model_name
    figures = export_measured(
        weights,
        data_dir=data_dir,
        out_dir=folder,
        imgsz=course.longest_px,
        modality=modality,
        start=start,
        splits=course.splits,
    )
    kept = shutil.copy(weights, out / SOURCE_NAME)
    return add_model(pipeline, folder, modality=modality, extras=[Path(kept)]), figures


def evaluate_model(
    pipeline: Pipeline, model: str, *, data: Path, split: str = "val", limit: int | None = None
) -> dict[str, Any]:
    """Return a model's figures on labelled images, with their intervals."""
    return evaluate_images(_detector(pipeline, model), read_dataset(data, split=split), limit=limit)


def compare_models(
    pipeline: Pipeline, first: str, second: str, *, data: Path, split: str = "val", limit: int | None = None
) -> dict[str, Any]:
    """Judge two models by the same images, keep the report under ``trials/`` and return it.

    The difference is the second's figure less the first's; its interval comes from drawing the same blocks
    of consecutive frames for both, so that what is hard for both counts for neither.
    """
    images = read_dataset(data, split=split)
    one, other = (_detector(pipeline, model) for model in (first, second))
    report = _comparison(one, other, images=images, limit=limit)
    key = keys.trial(other.model_id, f"against_{one.model_id}_{images.description.parent.name}.json")
    pipeline.store.put(key, (json.dumps(report, indent=1) + "\n").encode())
    return report | {"key": key}


def _comparison(one: Detector, other: Detector, *, images: DataSet, limit: int | None) -> dict[str, Any]:
    both = [judge(detector, images, limit=limit) for detector in (one, other)]
    times = draws(blocks_of([Path(sample.name).stem for sample in both[0]]), resamples=RESAMPLES, seed=0)
    named = [label for label in images.label_of.values() if label]
    per_class = {label: _differences(both, label, times) for label in dict.fromkeys(named)}
    return {
        "first": one.model_id,
        "second": other.model_id,
        "data": images.description.parent.name,
        "split": images.split,
        "images": len(both[0]),
        "confidence": WORKING_CONFIDENCE,
        "per_class": {label: rows for label, rows in per_class.items() if rows},
    }


def _differences(
    both: Sequence[Sequence[Sample]], label: str, times: Sequence[Any]
) -> Mapping[str, Mapping[str, Any]]:
    """Return each figure of both models and its difference; nothing where the label does not occur."""
    matches = [match(samples, label) for samples in both]
    if not matches[0].truths:
        return {}
    once = np.ones(len(both[0]), np.intp)
    values = np.array([one.reweighted(once, WORKING_CONFIDENCE) for one in matches])
    again = [[one.reweighted(time, WORKING_CONFIDENCE) for one in matches] for time in times]
    drawn = np.array(again).reshape(-1, 2, len(FIGURES))
    return {
        name: {
            "first": _rounded(values[0, column]),
            "second": _rounded(values[1, column]),
            "difference": _rounded(values[1, column] - values[0, column]),
            "difference_ci": interval((drawn[:, 1, column] - drawn[:, 0, column]).tolist()),
        }
        for column, name in enumerate(FIGURES)
    }


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _detector(pipeline: Pipeline, model: str) -> Detector:
    return open_detector(_folder(pipeline, model), min_confidence=AP_CONFIDENCE)


def _folder(pipeline: Pipeline, model: str) -> Path:
    """Return the weights that a word names: a shipped model, a path, or a model of the registry."""
    for modality in Modality:
        folder = shipped_weights(modality)
        if model in {folder.name, ModelCard.read(folder).model_id}:
            return folder
    path = Path(model)
    return path if path.exists() else pipeline.models.fetch(model)


def _card(pipeline: Pipeline, model_id: str) -> ModelCard:
    with tempfile.TemporaryDirectory(dir=pipeline.scratch) as folder:
        path = Path(folder) / CARD_NAME
        path.write_text(pipeline.models.text(model_id, CARD_NAME), encoding="utf-8")
        return ModelCard.read(Path(folder))
