"""Detector adapter for Ultralytics, and the one place where models are trained and exported.

Belongs here: every call into Ultralytics and torch; both come with the extra
``outwatch[ultralytics]``. Not here: the recipe of the shipped model (``train.py``), and the
geometry that both adapters share (``boxes.py``).

A ``.pt`` file is a pickle, and loading one runs what it says: load only weights you trust.
"""

from __future__ import annotations

import atexit
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from detection.boxes import check_images, select_boxes
from detection.contrast import lift_contrast
from detection.labels import known, to_label
from detection.model_card import WEIGHTS_NAME, XML_NAME, ModelCard, model_id, sha256_file
from outwatch.domain.errors import ModelUnavailable
from outwatch.domain.types import Box, Image, Recall

_log = structlog.get_logger(__name__)

_DEFAULT_INPUT_PX = 640
"""What Ultralytics trains for unless told otherwise."""
_ALL_CANDIDATES = 30_000
"""More boxes than any model here proposes for a frame: suppression is ours (``boxes.py``)."""


@cache
def _ultralytics() -> Any:
    """Import Ultralytics so that it calls nobody and leaves nothing behind."""
    home = tempfile.mkdtemp(prefix="outwatch-ultralytics-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    # Read once, at import: settings and caches go to a folder of this process, telemetry, update
    # checks and automatic installs are off.
    os.environ.update(
        YOLO_CONFIG_DIR=home, YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false"
    )
    try:
        import ultralytics
    except ImportError as error:
        raise ModelUnavailable(
            f"the Ultralytics adapter needs {error.name}: pip install 'outwatch[ultralytics]'"
        ) from error
    return ultralytics


def _class_labels(names: Mapping[int, str]) -> tuple[str | None, ...]:
    return tuple(to_label(names[index]) for index in sorted(names))


def _fetch_official(weights: Path) -> None:
    """Download official weights to ``weights`` where its name is that of some.

    Raises:
        ModelUnavailable: the name is not official, or the download failed.
    """
    from ultralytics.utils import downloads

    advice = f"put weights at {weights}, or name official ones such as yolo11n.pt where a network exists"
    if weights.name not in downloads.GITHUB_ASSETS_NAMES:
        raise ModelUnavailable(f"there are no weights at {weights}: {advice}")
    try:
        downloads.attempt_download_asset(str(weights), retry=0, progress=False)
    except Exception as error:
        raise ModelUnavailable(f"{weights.name} cannot be downloaded ({error}): {advice}") from error


def _load(weights: Path) -> Any:
    """Return the Ultralytics model of a file.

    Raises:
        ModelUnavailable: the extra is not installed, or the weights are missing or broken.
    """
    library = _ultralytics()
    if not weights.is_file():
        _fetch_official(weights)
    try:
        model = library.YOLO(str(weights), task="detect")
        classes = len(model.names)
    except Exception as error:
        raise ModelUnavailable(f"Ultralytics cannot load {weights}: {error}; copy the file again") from error
    _log.info("model_loaded", weights=str(weights), classes=classes)
    return model


class UltralyticsDetector:
    """Runs a ``.pt`` file or an engine, on a GPU where there is one, just as ``OpenVinoDetector`` would."""

    def __init__(
        self, weights: Path | str, *, min_confidence: float, least_contrast: float | None = None
    ) -> None:
        """Load the model.

        Args:
            weights: the file. Where it is missing and bears the name of official weights, such as
                ``yolo11n.pt``, they are downloaded to it.
            min_confidence: boxes at or below it are dropped.
            least_contrast: flatter frames are lifted to it first; for thermal models.

        Raises:
            ModelUnavailable: the extra is not installed, or the weights are missing or broken.
        """
        path = Path(weights)
        self._model = _load(path)
        self._class_labels = _class_labels(self._model.names)
        self._model_id = model_id(path.stem, sha256_file(path))
        self._min_confidence = min_confidence
        self._least_contrast = least_contrast

    @property
    def model_id(self) -> str:
        """Return name and hash of the weights."""
        return self._model_id

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels the model knows, in order of class id."""
        return known(self._class_labels)

    @property
    def recall(self) -> Recall:
        """Return nothing: recall is measured for exported models only (``model.json``)."""
        return Recall()

    @property
    def input_px(self) -> int:
        """Return the longest side of the frames the model was trained for."""
        return int(self._model.overrides.get("imgsz", _DEFAULT_INPUT_PX))

    def detect(self, images: Sequence[Image], *, input_px: int | None = None) -> list[list[Box]]:
        """Return the boxes of each image, in pixels of that image, most confident first.

        Args:
            images: arrays of shape (height, width, 3), BGR, uint8, all of one size.
            input_px: longest side to which they are scaled; None is what the model was trained for.

        Raises:
            ValueError: an image is not such an array.
        """
        if not images:
            return []
        check_images(images)
        if self._least_contrast is not None:
            images = [lift_contrast(image, least=self._least_contrast) for image in images]
        results = self._model.predict(
            list(images),
            conf=self._min_confidence,
            iou=1.0,
            max_det=_ALL_CANDIDATES,
            imgsz=input_px or self.input_px,
            save=False,
            verbose=False,
        )
        return [self._boxes(result) for result in results]

    def _boxes(self, result: Any) -> list[Box]:
        height_px, width_px = result.orig_shape
        candidates = result.boxes.data.cpu().numpy()
        return select_boxes(
            candidates[:, :4],
            candidates[:, 4],
            candidates[:, 5].astype(np.int64),
            class_labels=self._class_labels,
            image_size_px=(width_px, height_px),
        )


def class_names(weights: Path) -> dict[int, str]:
    """Return what weights call each of their classes, by class id.

    Raises:
        ModelUnavailable: the extra is not installed, or the weights are missing or broken.
    """
    return dict(_load(weights).names)


def train_detector(
    start: Path,
    *,
    data_dir: Path,
    out_dir: Path,
    recipe: Mapping[str, Any],
    contrast: tuple[float, float] | None = None,
) -> Path:
    """Fine-tune ``start`` on a data set in Ultralytics layout and return the last weights.

    Args:
        start: weights to start from (``.pt``).
        data_dir: holds ``data.yaml``, images and labels.
        out_dir: where the run is written.
        recipe: hyper-parameters under Ultralytics' own names.
        contrast: least and greatest factor by which each batch image's contrast is changed at
            random, None to leave it.
    """
    library = _ultralytics()
    library.utils.LOGGER.setLevel("INFO")
    import torch
    import yaml
    from ultralytics.engine import trainer

    # Ultralytics refuses bf16 autocast without CUDA, PyTorch does not: on a CPU with AVX512-BF16
    # or AMX it halves the time of a step.
    def autocast(enabled: Any, device: str = "cpu") -> torch.autocast:
        return torch.autocast(device, dtype=torch.bfloat16, enabled=bool(enabled))

    # vars(): the name is imported there, not exported.
    vars(trainer)["autocast"] = autocast

    data = yaml.safe_load((data_dir / "data.yaml").read_text(encoding="utf-8"))
    data["path"] = str(data_dir.resolve())
    with tempfile.TemporaryDirectory() as folder:
        data_file = Path(folder) / "data.yaml"
        data_file.write_text(yaml.safe_dump(data), encoding="utf-8")
        model = library.YOLO(str(start))
        # Ultralytics leaves one core to its data loader; on two cores that halves the speed.
        model.add_callback("on_train_start", lambda _: torch.set_num_threads(os.cpu_count() or 1))
        model.train(
            trainer=_contrast_trainer(*contrast) if contrast else None,
            data=str(data_file),
            project=str(out_dir.resolve()),
            name="run",
            exist_ok=True,
            device="cpu",
            workers=1,
            cache="ram",
            val=False,  # nothing is selected on the validation flights
            plots=False,
            **recipe,
        )
    return out_dir / "run" / "weights" / "last.pt"


def _contrast_trainer(least: float, greatest: float) -> type:
    """Return a detection trainer that changes the contrast of every image of a batch around its mean.

    A thermal camera's gain control does the same: one hot thing in view flattens all the rest.
    """
    import torch
    from ultralytics.models.yolo.detect import DetectionTrainer

    class ContrastTrainer(DetectionTrainer):
        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            batch = super().preprocess_batch(batch)
            images = batch["img"]
            logs = torch.empty(len(images), 1, 1, 1).uniform_(math.log(least), math.log(greatest))
            means = images.mean(dim=(1, 2, 3), keepdim=True)
            batch["img"] = ((images - means) * logs.exp() + means).clamp_(0, 1)
            return batch

    return ContrastTrainer


def average_weights(first: Path, second: Path, *, second_share: float, out: Path) -> Path:
    """Write the weighted mean of two fine-tunings of one model, which keeps most of what each is best at.

    Source: Wortsman et al., "Model soups", ICML 2022. Both files are our own: loading one runs its pickle.
    """
    import torch

    checkpoints = [torch.load(path, map_location="cpu", weights_only=False) for path in (first, second)]
    models = [(checkpoint.get("ema") or checkpoint["model"]).float() for checkpoint in checkpoints]
    one, other = (model.state_dict() for model in models)
    mean = {
        name: torch.lerp(one[name], value, second_share) if value.is_floating_point() else value
        for name, value in other.items()
    }
    models[1].load_state_dict(mean)
    torch.save({**checkpoints[1], "model": models[1].half(), "ema": None}, out)
    return out


def export_openvino(
    weights: Path, *, out_dir: Path, imgsz: int = 640, half: bool = True, name: str | None = None
) -> ModelCard:
    """Export weights to a model folder that ``OpenVinoDetector`` runs, and return its card.

    Args:
        weights: a ``.pt`` file.
        out_dir: the model folder; created, its three files replaced.
        imgsz: longest side in pixels of the frames the model was trained for.
        half: store the weights as FP16, at half the size.
        name: the model's name, that of the folder where none is given.

    Raises:
        ModelUnavailable: the extra is not installed, or the weights are missing or broken.
    """
    if not weights.is_file():
        raise ModelUnavailable(f"there are no weights to export at {weights}")
    out_dir.mkdir(parents=True, exist_ok=True)
    # Ultralytics exports beside the weights, which may lie where nothing must be written.
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates the tracing that OpenVINO's converter needs
        model = _load(Path(shutil.copy(weights, scratch)))
        # Newer families choose the final boxes inside the network; suppression here is ours (``boxes.py``).
        if getattr(model.model, "end2end", False):
            model.model.end2end = False
        # A spatial size left open lets the runtime choose the true aspect ratio of each clip.
        exported = Path(
            model.export(
                format="openvino", imgsz=imgsz, quantize=16 if half else None, dynamic=True, verbose=False
            )
        )
        for file_name in (XML_NAME, WEIGHTS_NAME):
            shutil.copy(next(exported.glob(f"*{Path(file_name).suffix}")), out_dir / file_name)
    card = ModelCard(
        name=name or out_dir.name,
        class_labels=_class_labels(model.names),
        longest_px=imgsz,
        stride_px=int(model.model.stride.max()),
        sha256=sha256_file(out_dir / WEIGHTS_NAME),
    )
    card.write(out_dir)
    return card
