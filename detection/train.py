"""Train, export and measure the aerial detectors: one command, one fixed recipe for each kind of camera.

Run ``python -m detection.train --modality thermal --data DIR --start yolo11n_coco.pt --out DIR`` with the
``[ultralytics]`` extra installed. Belongs here: the recipes and their reasons. Not here: any call
into Ultralytics (``detection/ultralytics.py``), the RGB data set (``rgb_data.py``) and any inference in
production.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog

from detection.contrast import LEAST_CONTRAST
from detection.evaluate import AP_CONFIDENCE, as_table, figures_by_condition, judge_images
from detection.metrics import recall_curve
from detection.model_card import sha256_file
from outwatch.domain.types import Modality

LICENCE = "AGPL-3.0-only"
"""Of whatever is trained from Ultralytics' weights."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyper-parameters of one stage, in Ultralytics' own terms; the defaults are the first thermal stage's.

    What is left out for testing is never looked at while training: there is no early stop and the
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
SHARP = Recipe(epochs=12, imgsz=896, lr0=5e-4, lrf=0.03, warmup_epochs=0.3, close_mosaic=4)
"""Third stage, from the mean of the first two and with the contrast still changed: on frames enlarged to
896 px someone who has 8 px at 640 has 11, more than one cell of the finest grid (8 px). The rate is half
the first stage's, so that what was learnt of flat frames is kept."""
SHARP_SHARE = 0.75
"""Weight of the third stage in its mean with the first two. Alone it finds the most people on the validation
flights (AP50 0.814; 0.808 at this share, 0.790 at 0.5) but the fewest cold cars in real footage (0.16; 0.22
and 0.29): chosen among the three by looking at both."""
DAYLIGHT = Recipe(
    epochs=9,
    batch=8,  # twice the steps an epoch: 206 pictures are few
    nbs=8,
    lr0=3e-4,
    lrf=0.05,
    warmup_epochs=0.5,
    freeze=11,  # the whole backbone: what it knows of people and cars from any side stays
    close_mosaic=3,
    hsv_h=0.015,  # Ultralytics' defaults: paint and light differ from place to place
    hsv_s=0.6,
)
"""The only RGB stage, short and slow: the start weights know cars and people from the side, the few scenes
there are from above must not make them forget that."""


@dataclass(frozen=True, slots=True)
class Course:
    """How the model for one kind of camera is made of start weights."""

    model_name: str
    train: Callable[[Path, Path, Path], Path]
    """From start weights, data folder and output folder to the trained weights."""
    longest_px: int
    """Longest side of the frames that the export is for."""
    least_contrast: float | None
    splits: tuple[str, ...] = ("val",)
    """What it is measured on."""


def train_thermal(start: Path, data_dir: Path, out_dir: Path) -> Path:
    """Run the three thermal stages and return the mean of what they gave."""
    from detection.ultralytics import average_weights, train_detector

    general = train_detector(start, data_dir=data_dir, out_dir=out_dir / "general", recipe=asdict(GENERAL))
    flat = train_detector(
        general,
        data_dir=data_dir,
        out_dir=out_dir / "contrast",
        recipe=asdict(CONTRAST),
        contrast=CONTRAST_FACTORS,
    )
    mean = average_weights(general, flat, second_share=CONTRAST_SHARE, out=out_dir / "average.pt")
    sharp = train_detector(
        mean, data_dir=data_dir, out_dir=out_dir / "sharp", recipe=asdict(SHARP), contrast=CONTRAST_FACTORS
    )
    return average_weights(mean, sharp, second_share=SHARP_SHARE, out=out_dir / "mean.pt")


def train_rgb(start: Path, data_dir: Path, out_dir: Path) -> Path:
    """Run the RGB stage and return its last weights.

    No mean with the start weights: it moves every confidence towards nothing (recall at 0.25 falls from 0.91
    to 0), though the order of the boxes stays.
    """
    from detection.ultralytics import train_detector

    return train_detector(start, data_dir=data_dir, out_dir=out_dir / "daylight", recipe=asdict(DAYLIGHT))


COURSES = {
    Modality.THERMAL: Course("thermal_yolo11n", train_thermal, SHARP.imgsz, LEAST_CONTRAST),
    Modality.RGB: Course("rgb_yolo11n", train_rgb, DAYLIGHT.imgsz, None, splits=("aerial", "mast")),
}


def export_measured(
    weights: Path,
    *,
    data_dir: Path,
    out_dir: Path,
    imgsz: int,
    modality: Modality = Modality.THERMAL,
    start: Path | None = None,
    splits: Sequence[str] = ("val",),
) -> str:
    """Export weights to a model folder, write its recall into its card, and return its figures as text.

    Args:
        weights: trained weights (``.pt``).
        data_dir: labelled images in Ultralytics layout.
        out_dir: the model folder.
        imgsz: longest side in pixels of the frames that the model is for: that of the last stage.
        modality: what the model is for.
        start: weights that they were trained from, for the card.
        splits: what it is measured on: each label on those that hold it.
    """
    from detection.openvino import OpenVinoDetector
    from detection.ultralytics import export_openvino

    card = replace(
        export_openvino(weights, out_dir=out_dir, imgsz=imgsz),
        least_contrast=COURSES[modality].least_contrast,
        modality=modality,
        base_model=None if start is None else f"{start.name} {sha256_file(start)}",
        training_data={data_dir.resolve().name: labels_digest(data_dir)},
        licence=LICENCE,
    )
    card.write(out_dir)
    detector = OpenVinoDetector(out_dir, min_confidence=AP_CONFIDENCE)
    samples = {split: judge_images(detector, data_dir, split=split) for split in splits}
    measured = {
        split: figures_by_condition(judged, labels=detector.labels) for split, judged in samples.items()
    }
    replace(
        card,
        recall=recall_curve([*itertools.chain(*samples.values())], labels=detector.labels),
        metrics={
            f"{split}.{label}.ap50": round(row["ap50"], 4)
            for split, figures in measured.items()
            for label, row in figures["by_label"].items()
        },
    ).write(out_dir)
    return as_table(measured)


def labels_digest(data_dir: Path) -> str:
    """Return the SHA-256 over a data set's description and labels: the same set gives the same digest."""
    files = [data_dir / "data.yaml", *sorted((data_dir / "labels").rglob("*.txt"))]
    lines = [f"{sha256_file(path)}  {path.relative_to(data_dir).as_posix()}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def main() -> None:
    """Train from the start weights, export to ``--out``, measure the export and print its figures."""
    parser = argparse.ArgumentParser(description="Train, export and measure an aerial detector.")
    parser.add_argument("--modality", type=Modality, choices=list(COURSES), default=Modality.THERMAL)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder in Ultralytics layout, with data.yaml"
    )
    parser.add_argument("--start", type=Path, required=True, help="start weights (.pt)")
    parser.add_argument("--out", type=Path, required=True, help="where weights and the export are written")
    parser.add_argument("--trained", type=Path, help="export and measure these weights (.pt), train nothing")
    arguments = parser.parse_args()
    course = COURSES[arguments.modality]
    weights = arguments.trained or course.train(arguments.start, arguments.data, arguments.out)
    folder = arguments.out / course.model_name
    figures = export_measured(
        weights,
        data_dir=arguments.data,
        out_dir=folder,
        imgsz=course.longest_px,
        modality=arguments.modality,
        start=arguments.start,
        splits=course.splits,
    )
    print(figures)
    print(folder)


if __name__ == "__main__":
    # Standard output is for the figures.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    main()
