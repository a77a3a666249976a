"""Follow things through a clip: ByteTrack over boxes freed of the camera's own motion.

Belongs here: camera motion between looks, and track numbers. Not here: what a track means on the
ground (``ground.py``). Identities never outlive a clip, and are never matched between clips.

ByteTrack (Zhang et al. 2022, "ByteTrack: Multi-object tracking by associating every detection box")
comes from ``trackers``, to which ``supervision`` handed its own over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import supervision as sv
from trackers import BIoU, ByteTrackTracker
from trackers.core.bytetrack.tracklet import ByteTrackTracklet

from detection.boxes import Floats
from detection.labels import group_of
from outwatch.domain.types import Box, Image

LOOK_WIDTH_PX = 320
"""Frames are shrunk to this width to find the camera's motion: 4-8 ms a look on one core, and no
less exact on the sample flights than at twice the width."""
FEATURES = 400
FAST_THRESHOLD = 7
"""Contrast of a corner: thermal ground is dull, OpenCV's 20 finds too few."""
MIN_INLIERS = 8
"""Fewer points that move alike tell nothing: two suffice to fit any motion, and four agree by chance."""
MIN_LIKENESS = 0.5
"""Correlation of two shrunken looks below which they show different scenes, where no motion explains them."""
SCENES_APART_PX = 1e6
"""Where another scene is put: beyond the reach of any thing and of any camera's path through a clip."""
MAX_SCENES = 4
"""Scenes remembered at a time, lest frames of noise cost ever more."""
MIN_DEVIATION = 2.0
"""Grey levels: a flatter look has nothing in it by which to call two scenes different."""
TOLERANCE_PX = 1.5
"""RANSAC's reprojection error, in the shrunken frame: half OpenCV's default, which is for full ones."""
MASK_MARGIN_PX = 2
"""Grown around each box, in the shrunken frame, so that the edges of moving things are left out."""
MAX_GAP_S = 5.0
"""A detector may miss a thing, or a wall hide it, for so long: as long as an event survives a gap."""
MIN_ELAPSED_S = 0.001
"""Time between two looks whose clock does not move on."""
_BUFFER_FPS = 30
"""The frame rate in which ``trackers`` counts its buffer of lost tracks."""

REACH_PER_S = 2.0
"""Boxes are grown by their own size on each side for each half second between two looks before they are
compared (buffered IoU, Yang et al. 2023). A walker moves 0.7 m in it, 1.4 times a body's width, and a car
at 50 km/h 1.6 times its length: plain boxes of the same thing no longer overlap."""
REACHES = (1.0, 2.0)
"""Least and greatest growth, in sizes: a box jitters however short the time, and five times its own size a
box meets too many others."""
MIN_IOU = 0.1
"""Of grown boxes; after half a second a shift of up to 2.4 box widths still counts as the same thing."""
SURE = 0.3
"""Confidence from which a box may start a track; those below only continue one. ByteTrack's 0.6 is
for full-sized pedestrians: on the validation flights 97 % of the people found score 0.3 or more, but
only 45 % score 0.6."""


_Grey = npt.NDArray[np.uint8]
Affine = npt.NDArray[np.float64]
"""(3, 3): a turn and a zoom in the first two columns, a shift in pixels in the third."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What is kept of a look to find the camera's motion since, in pixels of the shrunken frame."""

    offset_s: float
    small: _Grey
    corners_px: Floats
    """(n, 2)"""
    descriptors: npt.NDArray[np.uint8] | None
    """(n, 32), None where there is no corner."""
    to_first: Affine


class CameraMotion:
    """Finds how the camera moved since a clip's first look: shift, turn and zoom of the whole frame.

    The last look of a scene is remembered across a cut: damaged or foreign frames come and go.
    """

    def __init__(self, *, max_gap_s: float = MAX_GAP_S) -> None:
        """Start a clip; a scene is remembered for ``max_gap_s``."""
        self._max_gap_s = max_gap_s
        self._orb = cv2.ORB.create(nfeatures=FEATURES, fastThreshold=FAST_THRESHOLD)
        self._matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
        self._scenes: list[_Look] = []
        """The last look of each scene, the newest last."""
        self._cuts = 0

    def update(self, image: Image, boxes_xyxy_px: Floats, *, offset_s: float) -> Affine:
        """Take the next look and return the motion (3, 3) that carries it onto the clip's first look.

        It is in pixels of frames shrunk to ``LOOK_WIDTH_PX``, so that looks need not be of one size.

        Where two looks share too little to tell, the camera is taken to stand still. A look at quite
        another scene is put so far away that nothing in it can be near anything seen before.

        Args:
            image: (height, width, 3) BGR uint8.
            boxes_xyxy_px: (n, 4) things that may move by themselves, in pixels of the shrunken frame;
                what lies in them is left out.
            offset_s: seconds from the first frame.
        """
        small = _shrunken(image)
        look = _Look(offset_s, small, *self._corners(small, boxes_xyxy_px), np.eye(3))
        recent = [scene for scene in self._scenes if offset_s - scene.offset_s <= self._max_gap_s]
        for scene in reversed(recent):
            if (motion := self._between(look, scene)) is not None:
                return self._keep(replace(look, to_first=scene.to_first @ motion), recent, instead_of=scene)
        last = self._scenes[-1] if self._scenes else look
        if _likeness(last.small, small) >= MIN_LIKENESS:
            return self._keep(replace(look, to_first=last.to_first), recent, instead_of=last)
        self._cuts += 1
        far_off = np.eye(3)
        far_off[0, 2] = SCENES_APART_PX * self._cuts
        return self._keep(replace(look, to_first=far_off), recent[-MAX_SCENES:])

    def _keep(self, look: _Look, recent: list[_Look], *, instead_of: _Look | None = None) -> Affine:
        self._scenes = [*(scene for scene in recent if scene is not instead_of), look]
        return look.to_first

    def _between(self, look: _Look, before: _Look) -> Affine | None:
        """Return the motion (3, 3) that carries a look onto another, None where they share too little."""
        if look.descriptors is None or before.descriptors is None:
            return None
        pairs = self._matcher.match(look.descriptors, before.descriptors)
        if len(pairs) < MIN_INLIERS:
            return None
        motion, inliers = cv2.estimateAffinePartial2D(
            look.corners_px[[pair.queryIdx for pair in pairs]],
            before.corners_px[[pair.trainIdx for pair in pairs]],
            method=cv2.RANSAC,
            ransacReprojThreshold=TOLERANCE_PX,
        )
        return None if motion is None or inliers.sum() < MIN_INLIERS else np.vstack([motion, [0.0, 0.0, 1.0]])

    def _corners(self, small: _Grey, boxes_xyxy_px: Floats) -> tuple[Floats, npt.NDArray[np.uint8] | None]:
        """Return corners (n, 2) and their descriptors (n, 32)."""
        still = np.full_like(small, 255)
        margins = np.array([-MASK_MARGIN_PX, -MASK_MARGIN_PX, MASK_MARGIN_PX, MASK_MARGIN_PX])
        grown = np.clip(boxes_xyxy_px + margins, 0, None).astype(int)
        for left, top, right, bottom in grown:
            still[top:bottom, left:right] = 0
        keypoints, descriptors = self._orb.detectAndCompute(small, still)
        corners_px = np.array([keypoint.pt for keypoint in keypoints]).reshape(-1, 2)
        return corners_px, None if descriptors is None else np.asarray(descriptors, dtype=np.uint8)


def _shrunken(image: Image) -> _Grey:
    scale = LOOK_WIDTH_PX / image.shape[1]
    # Shrinking first leaves a tenth of a large frame's pixels to turn grey.
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def _likeness(first: _Grey, second: _Grey) -> float:
    """Return the correlation of two shrunken looks, 1 where one of them is too flat to tell."""
    if first.shape != second.shape or min(first.std(), second.std()) < MIN_DEVIATION:
        return 1.0
    return float(cv2.matchTemplate(first, second, cv2.TM_CCOEFF_NORMED)[0, 0])


class ClipTracker:
    """Numbers the things of one clip, look by look. A new clip needs a new tracker.

    Looks may come at any times: what a thing may have moved, and how long it may be missed, is
    reckoned in seconds.
    """

    def __init__(self, *, sample_fps: float, max_gap_s: float = MAX_GAP_S) -> None:
        """Start a clip.

        Args:
            sample_fps: usual looks a second, for which the noise of the motion model holds.
            max_gap_s: how long a thing may be missed and keep its number.
        """
        self._sample_fps = sample_fps
        self._max_gap_s = max_gap_s
        self._motion = CameraMotion(max_gap_s=max_gap_s)
        self._trackers: dict[str, ByteTrackTracker] = {}
        self._numbers: dict[tuple[str, int], int] = {}
        self._look = -1
        self._offset_s = -math.inf
        self._waiting: dict[str, list[tuple[ByteTrackTracklet, tuple[int, int]]]] = {}
        self._first_boxes: dict[int, tuple[int, int]] = {}

    @property
    def first_boxes(self) -> Mapping[int, tuple[int, int]]:
        """Return where each number belongs once more: the look, from 0, and the index of the box in it.

        That is the box which ``update`` gave no number because it was the thing's first.
        """
        return self._first_boxes

    def update(self, image: Image, boxes: Sequence[Box], *, offset_s: float) -> list[int | None]:
        """Take the next look and return the track number of each box.

        Numbers count from 1 in order of appearance. A thing has none at its first look: ByteTrack
        believes in it when it is seen again. Then ``first_boxes`` tells. None is glued across a cut.

        Args:
            image: (height, width, 3) BGR uint8; every look of the clip must be passed, also empty ones.
                Looks may be of several sizes.
            boxes: what the detector found in it, in its pixels.
            offset_s: seconds from the first frame. A damaged clip's clock may stand still or step
                back: its look then counts as coming right after the one before.
        """
        self._look += 1
        elapsed_s = max(offset_s - self._offset_s, MIN_ELAPSED_S)
        self._offset_s = offset_s if math.isinf(self._offset_s) else self._offset_s + elapsed_s
        corners_px = np.array([box.box_xyxy_px for box in boxes], dtype=np.float64).reshape(-1, 4)
        shrunken_px = corners_px * LOOK_WIDTH_PX / image.shape[1]
        to_first = self._motion.update(image, shrunken_px, offset_s=self._offset_s)
        steady = _move(shrunken_px, to_first)
        reach = float(np.clip(REACH_PER_S * elapsed_s, *REACHES))
        numbers: list[int | None] = [None] * len(boxes)
        for group in sorted(self._trackers.keys() | {group_of(box.label) for box in boxes}):
            self._trackers.setdefault(group, self._new_tracker()).iou = BIoU(reach)
            indices = [index for index, box in enumerate(boxes) if group_of(box.label) == group]
            confidences = np.array([boxes[index].confidence for index in indices])
            for index, number in self._update_group(group, indices, steady[indices], confidences).items():
                numbers[index] = number
        return numbers

    def _update_group(
        self, group: str, indices: Sequence[int], steady: Floats, confidences: Floats
    ) -> dict[int, int]:
        """Return the track numbers by index of box; ``steady`` is (n, 4), freed of the camera's motion."""
        tracker = self._trackers[group]
        # The tracker reorders its boxes: their indices travel along as data.
        tracked = tracker.update(
            sv.Detections(xyxy=steady, confidence=confidences, data={"index": np.array(indices, dtype=int)}),
            timestamp=self._offset_s,
        )
        seen = np.asarray(tracked.data.get("index", ()), dtype=int).tolist()
        ids = np.asarray(tracked.tracker_id).tolist()
        numbers = {
            index: self._numbers.setdefault((group, id_), len(self._numbers) + 1)
            for index, id_ in sorted(zip(seen, ids, strict=True))
            if id_ >= 0
        }
        for tracklet, box in self._waiting.get(group, ()):
            if tracklet.tracker_id >= 0:
                self._first_boxes[self._numbers[group, tracklet.tracker_id]] = box
        # What began in this look stands last, in the order of its boxes; it gets its id later, or is dropped.
        sure = {index for index, confidence in zip(indices, confidences, strict=True) if confidence >= SURE}
        first = [
            (self._look, index) for index, id_ in zip(seen, ids, strict=True) if id_ < 0 and index in sure
        ]
        begun = zip(tracker.tracks[len(tracker.tracks) - len(first) :], first, strict=True)
        waiting = [*self._waiting.get(group, ()), *begun]
        alive = {id(tracklet) for tracklet in tracker.tracks if tracklet.tracker_id < 0}
        self._waiting[group] = [(tracklet, box) for tracklet, box in waiting if id(tracklet) in alive]
        return numbers

    def _new_tracker(self) -> ByteTrackTracker:
        return ByteTrackTracker(
            lost_track_buffer=round(self._max_gap_s * _BUFFER_FPS),
            frame_rate=self._sample_fps,
            track_activation_threshold=SURE,
            high_conf_det_threshold=SURE,
            minimum_consecutive_frames=1,
            minimum_iou_threshold=MIN_IOU,
        )


def _move(boxes_xyxy_px: Floats, motion: Affine) -> Floats:
    """Return boxes (n, 4) moved and zoomed by a (3, 3) motion; they stay upright when it turns."""
    centres = (boxes_xyxy_px[:, :2] + boxes_xyxy_px[:, 2:]) / 2 @ motion[:2, :2].T + motion[:2, 2]
    halves = (boxes_xyxy_px[:, 2:] - boxes_xyxy_px[:, :2]) / 2 * np.sqrt(np.linalg.det(motion[:2, :2]))
    return np.hstack([centres - halves, centres + halves])
