"""Which model is meant: by a path, by a registered model's id, or by saying nothing.

Belongs here: from a word to weights, and from weights to a measured data set. Not here: the registry
(``outwatch/pipeline/models.py``) and measuring (``images.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detection.dataset import read_dataset
from detection.evaluate import AP_CONFIDENCE, open_detector
from outwatch.domain.errors import ConfigInvalid, PermanentError
from outwatch.domain.types import Modality
from outwatch.evaluation.images import evaluate_images, modality_of
from outwatch.pipeline.wiring import Pipeline, shipped_weights


def weights_of(pipeline: Pipeline, model: str | None) -> Mapping[Modality, Path]:
    """Return the weights for what each kind of camera sees: the named ones for all, else those in use.

    Args:
        pipeline: whose models.
        model: a folder, a ``.pt`` or ``.onnx`` file, a shipped model's name, or the id of a registered one.

    Raises:
        ConfigInvalid: there is no such model.
    """
    if model is None:
        return {modality: pipeline.weights(modality) for modality in Modality}
    return dict.fromkeys(Modality, _named(pipeline, model))


def evaluate_data(
    pipeline: Pipeline, data: Path, *, model: str | None = None, split: str = "val", limit: int | None = None
) -> dict[str, Any]:
    """Return the figures of a model on labelled images; unnamed, of the one in use for such images.

    Raises:
        ConfigInvalid: the data set or the model is not there.
    """
    described = read_dataset(data, split=split)
    weights = weights_of(pipeline, model)[modality_of(described)]
    detector = open_detector(weights, min_confidence=AP_CONFIDENCE)
    return evaluate_images(detector, described, limit=limit)


def _named(pipeline: Pipeline, model: str) -> Path:
    path = Path(model)
    if path.exists():
        return path
    shipped = {shipped_weights(modality).name: shipped_weights(modality) for modality in Modality}
    if model in shipped:
        return shipped[model]
    try:
        return pipeline.models.fetch(model)
    except PermanentError as error:
        raise ConfigInvalid(
            f"model {model!r} is neither a file, nor one of {', '.join(shipped)}, nor registered: {error}; "
            "`outwatch models list` names those that are"
        ) from error
