"""Detector adapter for OpenVINO: an exported model on any CPU, the default in production.

Belongs here: every call into OpenVINO. Not here: the geometry that both adapters share
(``boxes.py``), and export, which needs the training framework (``ultralytics.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
import structlog
from openvino.preprocess import ColorFormat, PrePostProcessor

from detection.boxes import Letterbox, check_images, select_boxes
from detection.contrast import lift_contrast
from detection.labels import known
from detection.model_card import WEIGHTS_NAME, XML_NAME, ModelCard, sha256_file
from outwatch.domain.errors import ModelUnavailable
from outwatch.domain.types import Box, Image, Recall

COMPILED_SHAPES = 4
"""Frame sizes kept compiled at a time: a clip has one, a worker meets few."""
PRECISION = "f32"
"""The same boxes on every CPU. Left to itself OpenVINO computes in bfloat16 where a CPU can: twice as
fast at the same AP, but 3 % of the boxes then move by more than a tenth of their area."""

_log = structlog.get_logger(__name__)


class OpenVinoDetector:
    """Runs a model folder (``model.xml``, ``model.bin``, ``model.json``) on the CPU.

    The network is compiled once for each frame size at its true aspect ratio; frames are inferred
    asynchronously and come back in order.
    """

    def __init__(self, weights: Path, *, min_confidence: float) -> None:
        """Read and check the model.

        Args:
            weights: folder of the model.
            min_confidence: boxes at or below it are dropped.

        Raises:
            ModelUnavailable: a file is missing, damaged or not what ``model.json`` says.
        """
        self._card = ModelCard.read(weights)
        self._min_confidence = min_confidence
        self._core = ov.Core()
        self._network = _read_network(self._core, folder=weights, card=self._card)
        self._fixed_size_px = _fixed_size_px(self._network)
        self._queue_for = lru_cache(maxsize=COMPILED_SHAPES)(self._compile)

    @property
    def model_id(self) -> str:
        """Return name and hash of the weights."""
        return self._card.model_id

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels the model knows, in order of class id."""
        return known(self._card.class_labels)

    @property
    def recall(self) -> Recall:
        """Return the measured recall per label at ``min_confidence``; empty where unmeasured."""
        return self._card.recall.at(self._min_confidence) if self._card.recall else Recall()

    @property
    def input_px(self) -> int:
        """Return the longest side of the frames the model was trained for."""
        return self._card.longest_px

    def detect(self, images: Sequence[Image], *, input_px: int | None = None) -> list[list[Box]]:
        """Return the boxes of each image, in pixels of that image, most confident first.

        Args:
            images: arrays of shape (height, width, 3), BGR, uint8, all of one size.
            input_px: longest side to which they are scaled; None is what the model was trained for.
                A network that was exported for one size keeps to it.

        Raises:
            ValueError: an image is not such an array.
        """
        if not images:
            return []
        check_images(images)
        if self._card.least_contrast is not None:
            images = [lift_contrast(image, least=self._card.least_contrast) for image in images]
        height_px, width_px = images[0].shape[:2]
        letterbox = self._letterbox(width_px, height_px, input_px or self._card.longest_px)
        outputs = self._infer([letterbox.apply(image) for image in images])
        return [self._boxes(output, letterbox, (width_px, height_px)) for output in outputs]

    def _letterbox(self, width_px: int, height_px: int, longest_px: int) -> Letterbox:
        if self._fixed_size_px is not None:
            return Letterbox.into(width_px=width_px, height_px=height_px, input_size_px=self._fixed_size_px)
        return Letterbox.fit(
            width_px=width_px, height_px=height_px, longest_px=longest_px, stride_px=self._card.stride_px
        )

    def _infer(self, inputs: Sequence[Image]) -> list[npt.NDArray[np.float32]]:
        outputs: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * len(inputs)

        def keep(request: Any, index: int) -> None:
            # The request's own buffer is reused by a later frame.
            outputs[index] = request.get_output_tensor(0).data[0].copy()

        queue = self._queue_for(inputs[0].shape[0], inputs[0].shape[1])
        queue.set_callback(keep)
        for index, image in enumerate(inputs):
            queue.start_async({0: image[None]}, index)
        queue.wait_all()
        return outputs

    def _compile(self, height_px: int, width_px: int) -> ov.AsyncInferQueue:
        network = self._network.clone()
        network.reshape([1, 3, height_px, width_px])
        steps = PrePostProcessor(network)
        steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        steps.input().tensor().set_color_format(ColorFormat.BGR)
        steps.input().model().set_layout(ov.Layout("NCHW"))
        steps.input().preprocess().convert_element_type(ov.Type.f32).convert_color(ColorFormat.RGB).scale(
            255.0
        )
        compiled = self._core.compile_model(
            steps.build(), "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": PRECISION}
        )
        _log.info("model_compiled", model_id=self.model_id, height_px=height_px, width_px=width_px)
        return ov.AsyncInferQueue(compiled)

    def _boxes(
        self, output: npt.NDArray[np.float32], letterbox: Letterbox, image_size_px: tuple[int, int]
    ) -> list[Box]:
        """Return the boxes in a raw output (4 + classes, n): centre, size and a score for each class."""
        scores = output[4:]
        class_ids = scores.argmax(axis=0)
        confidences = scores.max(axis=0)
        sure = confidences > self._min_confidence
        centre, size = output[:2, sure].T, output[2:4, sure].T
        return select_boxes(
            letterbox.undo(np.concatenate([centre - size / 2, centre + size / 2], axis=1)),
            confidences[sure],
            class_ids[sure],
            class_labels=self._card.class_labels,
            image_size_px=image_size_px,
        )


def _read_network(core: ov.Core, *, folder: Path, card: ModelCard) -> ov.Model:
    for name in (XML_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise ModelUnavailable(f"model folder {folder} has no {name}: copy the whole folder again")
    found = sha256_file(folder / WEIGHTS_NAME)
    if found != card.sha256:
        raise ModelUnavailable(
            f"{folder / WEIGHTS_NAME} has SHA-256 {found[:12]}..., expected {card.sha256[:12]}...: "
            "the file is damaged or of another model; copy the whole folder again"
        )
    try:
        network = core.read_model(folder / XML_NAME, folder / WEIGHTS_NAME)
    except RuntimeError as error:
        raise ModelUnavailable(f"OpenVINO cannot read {folder / XML_NAME}: {error}") from error
    rows = network.output(0).partial_shape[1]
    if rows.is_static and rows.get_length() != 4 + len(card.class_labels):
        raise ModelUnavailable(
            f"{folder / XML_NAME} gives {rows.get_length()} rows, expected {4 + len(card.class_labels)} for "
            f"{len(card.class_labels)} classes: export the model anew"
        )
    return network


def _fixed_size_px(network: ov.Model) -> tuple[int, int] | None:
    """Return the width and height of a network exported for one size; None where it takes any."""
    height, width = network.input(0).partial_shape[2], network.input(0).partial_shape[3]
    return (width.get_length(), height.get_length()) if height.is_static and width.is_static else None


def import_network(source: Path, *, out_dir: Path) -> None:
    """Write a network that OpenVINO reads, ONNX or its own format, into a model folder, weights as FP16.

    Raises:
        ModelUnavailable: it cannot be read, or takes something else than one image of three channels and
            any size.
    """
    try:
        network = ov.Core().read_model(source)
    except RuntimeError as error:
        raise ModelUnavailable(f"OpenVINO cannot read {source}: {error}") from error
    shapes = [port.partial_shape for port in network.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or not ov.Dimension(3).compatible(shapes[0][1]):  # noqa: PLR2004
        raise ModelUnavailable(
            f"{source} takes inputs of shape {', '.join(map(str, shapes))}, expected one of (1, 3, height, "
            "width): export a detection model of the YOLO family"
        )
    if shapes[0][2].is_static or shapes[0][3].is_static:
        raise ModelUnavailable(
            f"{source} takes frames of {shapes[0][3]}x{shapes[0][2]} only, but each clip has its own shape: "
            "export it with a free input size (Ultralytics: dynamic=True)"
        )
    ov.save_model(network, out_dir / XML_NAME, compress_to_fp16=True)
