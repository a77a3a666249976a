"""The plain way to find events in footage: track every so-many-th frame with Ultralytics, then ask the rules.

Belongs here: what somebody with the same weights would write in an afternoon, run on the same clip so that
its cost and its events can be compared. Not here: the measurement (``speed.py``).

It is given what it does not pay for: the clip is registered, its telemetry fitted, and it makes no evidence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from detection.detect import Seen, unfollowed
from detection.model_card import WEIGHTS_NAME, XML_NAME, ModelCard
from detection.rules import find_events
from outwatch.domain.expected import Expected
from outwatch.domain.types import Box, Clip, Coverage, EventKind
from outwatch.pipeline.corrections import pose_source
from outwatch.pipeline.wiring import Pipeline
from storage import keys, schemas

EXPORT_SUFFIX = "_openvino_model"
"""By this name of a folder Ultralytics knows its OpenVINO exports."""


def ultralytics_layout(model: Path, *, out: Path) -> Path:
    """Copy a model folder, the same weights, into the form that Ultralytics exports; return the copy."""
    card = ModelCard.read(model)
    folder = out / f"{card.name}{EXPORT_SUFFIX}"
    folder.mkdir(parents=True)
    for name in (XML_NAME, WEIGHTS_NAME):
        (folder / name).write_bytes((model / name).read_bytes())
    metadata = {
        "task": "detect",
        "stride": card.stride_px,
        "batch": 1,
        "imgsz": [card.longest_px, card.longest_px],
        "names": {index: label or f"class_{index}" for index, label in enumerate(card.class_labels)},
        "channels": 3,
        "args": {"dynamic": True},
    }
    # JSON is YAML.
    (folder / "metadata.yaml").write_text(json.dumps(metadata), encoding="utf-8")
    return folder


def find_plainly(pipeline: Pipeline, clip: Clip, *, video: Path, model: Path, vid_stride: int) -> int:
    """Write the events that tracking every ``vid_stride``-th frame gives and return how many they are.

    Args:
        pipeline: where the clip is registered.
        clip: the clip.
        video: its file.
        model: a folder that ``ultralytics_layout`` made.
        vid_stride: frames from one look to the next.
    """
    card = ModelCard.read(pipeline.weights(clip.modality))
    seen = list(_looks(pipeline, clip, video=video, model=model, card=card, vid_stride=vid_stride))
    detections = unfollowed(seen, model_id=card.model_id).detections

    def make_id(kind: EventKind, outpost_id: str, started_at: datetime) -> str:
        return keys.event_id(source=clip.id, rule=kind, place=outpost_id, started_at=started_at)

    events = find_events(
        detections,
        looks=[one.look for one in seen],
        outposts=pipeline.outposts,
        thresholds=pipeline.thresholds,
        recall=pipeline.detector(clip.modality).recall,
        make_id=make_id,
        expected=Expected(pipeline.zone),
        baseline=(),
        clock_uncertainty_s=clip.clock_uncertainty_s,
    )
    pipeline.lake.write(
        "events",
        schemas.events_table(events),
        dt=keys.dt_of(clip.started_at),
        name=clip.id,
        metadata={"model_id": card.model_id, "clip_id": clip.id},
    )
    return len(events)


def _looks(
    pipeline: Pipeline, clip: Clip, *, video: Path, model: Path, card: ModelCard, vid_stride: int
) -> Iterator[Seen]:
    """Yield what each look shows, on the ground: all boxes, also those that the tracker drops.

    At two looks a second people outrun its gates: with followed boxes only, a gathering is hardly ever seen.
    """
    from ultralytics import YOLO

    pose_at, locator = pose_source(pipeline, clip)
    size_px = {"width_px": clip.width_px, "height_px": clip.height_px}
    looks: list[tuple[Box, ...]] = []

    def keep(predictor: Any) -> None:
        looks.extend(_boxes(result.boxes, card) for result in predictor.results)

    yolo = YOLO(model, task="detect")
    yolo.add_callback("on_predict_postprocess_end", keep)  # ahead of the tracker's own
    results = yolo.track(
        str(video), vid_stride=vid_stride, stream=True, imgsz=card.longest_px, device="cpu", verbose=False
    )
    for number, _ in enumerate(results):
        index = (number + 1) * vid_stride - 1  # it looks at the last frame of each stride
        offset_s = index / clip.frame_rate_hz
        at = clip.started_at + timedelta(seconds=offset_s)
        pose, boxes = pose_at(offset_s), looks[number]
        footprint, reason = locator.footprint(pose, clip.camera, **size_px)
        places = locator.locate(
            [box.box_xyxy_px for box in boxes], at=at, pose=pose, camera=clip.camera, **size_px
        )
        look = Coverage(clip.id, at, offset_s, index, footprint, reason)
        yield Seen(look, boxes, tuple(places), too_small=0, implausible=0, is_corrupt=False)


def _boxes(boxes: Any, card: ModelCard) -> tuple[Box, ...]:
    """Return the boxes of labels that we know."""
    rows = zip(boxes.cls.tolist(), boxes.conf.tolist(), boxes.xyxy.tolist(), strict=True)
    return tuple(
        Box(label, confidence, tuple(xyxy))
        for class_id, confidence, xyxy in rows
        if (label := card.class_labels[int(class_id)]) is not None
    )
