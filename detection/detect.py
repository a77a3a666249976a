"""From frames to what the rules need: detections with tracks and ground fixes, and looks.

Belongs here: the order in which detector, tracker and locator see a clip. Not here: what they do,
where frames come from, and anything that decides (``rules.py``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice

import numpy as np

from detection.ground import GroundLocator
from detection.tracks import ClipTracker
from outwatch.domain.ports import Detector
from outwatch.domain.types import Box, Clip, Coverage, Detection, Frame, TelemetrySample, Track

PoseAt = Callable[[float], TelemetrySample | None]


@dataclass(frozen=True, slots=True)
class ClipDetections:
    """All that one pass over a clip gives, in order of time."""

    detections: tuple[Detection, ...]
    tracks: tuple[Track, ...]
    looks: tuple[Coverage, ...]
    corrupt_looks: int
    """Looks at frames that the decoder marked as damaged; they are used, and counted."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Return the numbers that an ``Outcome`` carries."""
        located = sum(detection.fix.point is not None for detection in self.detections)
        return {
            "looks": len(self.looks),
            "corrupt_looks": self.corrupt_looks,
            "detections": len(self.detections),
            "located": located,
            "tracks": len(self.tracks),
        }


def detect_clip(
    frames: Iterable[Frame],
    *,
    clip: Clip,
    detector: Detector,
    tracker: ClipTracker,
    locator: GroundLocator,
    pose_at: PoseAt,
    batch: int,
    progress: Callable[[float], None] | None = None,
) -> ClipDetections:
    """Detect, follow and locate everything in a clip's sampled frames.

    Args:
        frames: the looks, in order of time.
        clip: says when the first frame was taken and with which camera.
        detector: finds boxes, ``batch`` frames at a time.
        tracker: a fresh one; identities never outlive a clip.
        locator: puts boxes on the ground.
        pose_at: the camera's pose, seconds from the first frame; None where telemetry is silent.
        batch: frames held in memory at once.
        progress: told the seconds of the clip done so far.
    """
    by_look: list[list[Detection]] = []
    looks: list[Coverage] = []
    corrupt = 0
    for group in _batched(frames, batch):
        found = detector.detect([frame.image for frame in group])
        for frame, boxes in zip(group, found, strict=True):
            corrupt += frame.is_corrupt
            pose = pose_at(frame.offset_s)
            looks.append(_look(frame, clip=clip, locator=locator, pose=pose))
            ids = tracker.update(frame.image, boxes, offset_s=frame.offset_s)
            by_look.append(
                _place(frame, boxes, ids, clip=clip, locator=locator, pose=pose, model_id=detector.model_id)
            )
        if progress is not None:
            progress(group[-1].offset_s)
    detections = with_first_boxes(by_look, tracker.first_boxes)
    return ClipDetections(tuple(detections), tuple(_tracks(detections, clip)), tuple(looks), corrupt)


def with_first_boxes(
    by_look: Sequence[Sequence[Detection]], first_boxes: Mapping[int, tuple[int, int]]
) -> list[Detection]:
    """Return all detections in order, with each track's number also on its first box.

    Args:
        by_look: the detections of every look, in the order of the tracker's boxes.
        first_boxes: as ``ClipTracker.first_boxes`` gives them.
    """
    number_of = {box: number for number, box in first_boxes.items()}
    return [
        replace(detection, track_id=number_of.get((look, index), detection.track_id))
        for look, detections in enumerate(by_look)
        for index, detection in enumerate(detections)
    ]


def _batched(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    iterator = iter(frames)
    while group := list(islice(iterator, size)):
        yield group


def _look(frame: Frame, *, clip: Clip, locator: GroundLocator, pose: TelemetrySample | None) -> Coverage:
    footprint, reason = locator.footprint(
        pose=pose, camera=clip.camera, width_px=clip.width_px, height_px=clip.height_px
    )
    at = clip.started_at + timedelta(seconds=frame.offset_s)
    return Coverage(clip.id, at, frame.offset_s, frame.index, footprint, reason)


def _place(
    frame: Frame,
    boxes: Sequence[Box],
    ids: Sequence[int | None],
    *,
    clip: Clip,
    locator: GroundLocator,
    pose: TelemetrySample | None,
    model_id: str,
) -> list[Detection]:
    if not boxes:
        return []
    at = clip.started_at + timedelta(seconds=frame.offset_s)
    located = locator.locate(
        np.array([box.box_xyxy_px for box in boxes]),
        at=at,
        pose=pose,
        camera=clip.camera,
        width_px=clip.width_px,
        height_px=clip.height_px,
    )
    return [
        Detection(
            clip_id=clip.id,
            at=at,
            offset_s=frame.offset_s,
            frame_index=frame.index,
            label=box.label,
            confidence=box.confidence,
            box_xyxy_px=box.box_xyxy_px,
            model_id=model_id,
            track_id=track_id,
            fix=place.fix,
            east_m=place.east_m,
            north_m=place.north_m,
        )
        for box, track_id, place in zip(boxes, ids, located, strict=True)
    ]


def _tracks(detections: Sequence[Detection], clip: Clip) -> Iterator[Track]:
    followed: dict[int, list[Detection]] = defaultdict(list)
    for detection in detections:
        if detection.track_id is not None:
            followed[detection.track_id].append(detection)
    for track_id, seen in sorted(followed.items()):
        yield Track(
            clip_id=clip.id,
            id=track_id,
            # A model wavers between the kinds of vehicle: what it said most often, first of equals.
            label=Counter(detection.label for detection in seen).most_common(1)[0][0],
            started_at=seen[0].at,
            ended_at=seen[-1].at,
            hits=len(seen),
            peak_confidence=max(detection.confidence for detection in seen),
            fixes=tuple(detection.fix for detection in seen),
        )
