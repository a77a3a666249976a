"""Train, export and measure the thermal aerial detector: one command, one fixed recipe.

Run ``python -m detection.train --data DIR --start yolo11n_coco.pt --out DIR`` with the
``[ultralytics]`` extra installed. Belongs here: the recipe and its reasons. Not here: any call
into Ultralytics (``detection/ultralytics.py``) and any inference in production.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog

from detection.contrast import LEAST_CONTRAST
from detection.evaluate import AP_CONFIDENCE, as_table, figures_by_condition, judge_images
from detection.metrics import recall_curve

MODEL_NAME = "thermal_yolo11n"
"""Name of the shipped model and of its folder."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyper-parameters of the shipped thermal model, in Ultralytics' own terms.

    The validation flights are never looked at while training: there is no early stop and the
    last averaged weights are the ones shipped, so the figures of the model card are not tuned.
    """

    epochs: int = 24
    batch: int = 16
    nbs: int = 16  # one optimiser step a batch: 97 batches an epoch are too few to accumulate
    imgsz: int = 640
    optimizer: str = "AdamW"
    lr0: float = 1e-3
    lrf: float = 0.02
    cos_lr: bool = True
    warmup_epochs: float = 1.0
    warmup_bias_lr: float = 0.01
    weight_decay: float = 5e-4
    freeze: int = 2  # the two stride-2 stems hold edges; half the backward pass is saved
    amp: str = "bf16"
    channels_last: bool = True
    close_mosaic: int = 6  # the last epochs see whole frames, as production does
    mosaic: float = 1.0
    scale: float = 0.5  # stands for altitudes between and beyond those flown
    translate: float = 0.1
    fliplr: float = 0.5
    flipud: float = 0.5  # seen from above there is no up
    hsv_h: float = 0.0  # thermal frames have no colour
    hsv_s: float = 0.0
    hsv_v: float = 0.4  # gain and level drift with the scene
    seed: int = 0


GENERAL = Recipe()
"""First stage: from the start weights to the objects of the data set."""
CONTRAST = Recipe(epochs=8, lr0=4e-4, lrf=0.05, warmup_epochs=0.3, close_mosaic=3)
"""Second stage, with contrast changed at random: the training flights are of higher contrast than a
scene whose gain is set by one hot thing, in which the first stage misses three parked cars of four."""
CONTRAST_SHARE = 0.7
"""Weight of the second stage in the mean of both: of 0.5, 0.7 and 1 the one that loses nothing on the
validation flights and still sees cold cars."""
CONTRAST_FACTORS = (0.35, 1.5)
"""From the flattest flights we know of (standard deviation of 14 grey levels against a median of 33)
to the steepest that does not yet clip most of the frame."""


def export_measured(weights: Path, *, data_dir: Path, out_dir: Path, imgsz: int) -> str:
    """Export weights to a model folder, write its recall into its card, and return its figures as text."""
    from detection.openvino import OpenVinoDetector
    from detection.ultralytics import export_openvino

    card = replace(export_openvino(weights, out_dir=out_dir, imgsz=imgsz), least_contrast=LEAST_CONTRAST)
    card.write(out_dir)
    detector = OpenVinoDetector(out_dir, min_confidence=AP_CONFIDENCE)
    samples = judge_images(detector, data_dir)
    replace(card, recall=recall_curve(samples, labels=detector.labels)).write(out_dir)
    return as_table({"val": figures_by_condition(samples, labels=detector.labels)})


def main() -> None:
    """Train from the start weights, export to ``--out``, measure the export and print its figures."""
    parser = argparse.ArgumentParser(description="Train, export and measure the thermal aerial detector.")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder in Ultralytics layout, with data.yaml"
    )
    parser.add_argument("--start", type=Path, required=True, help="start weights (.pt)")
    parser.add_argument("--out", type=Path, required=True, help="where weights and the export are written")
    parser.add_argument(
        "--general", type=Path, help="weights (.pt) of the first stage, to run only the second"
    )
    parser.add_argument("--trained", type=Path, help="export and measure these weights (.pt), train nothing")
    arguments = parser.parse_args()
    weights = arguments.trained or _train(arguments)
    folder = arguments.out / MODEL_NAME
    print(export_measured(weights, data_dir=arguments.data, out_dir=folder, imgsz=GENERAL.imgsz))
    print(folder)


def _train(arguments: argparse.Namespace) -> Path:
    from detection.ultralytics import average_weights, train_detector

    general = arguments.general or train_detector(
        arguments.start, data_dir=arguments.data, out_dir=arguments.out / "general", recipe=asdict(GENERAL)
    )
    flat = train_detector(
        general,
        data_dir=arguments.data,
        out_dir=arguments.out / "contrast",
        recipe=asdict(CONTRAST),
        contrast=CONTRAST_FACTORS,
    )
    return average_weights(general, flat, second_share=CONTRAST_SHARE, out=arguments.out / "average.pt")


if __name__ == "__main__":
    # Standard output is for the figures.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    main()
