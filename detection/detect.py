"""From frames to what the rules need: detections with tracks and ground fixes, and looks.

Belongs here: the order in which detector, tracker and locator see a clip. Not here: what they do,
where frames come from, and anything that decides (``rules.py``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import compress, groupby, islice
from types import MappingProxyType

from detection.ground import GroundLocator, LocatedBox
from detection.plausible import plausible
from detection.poses import NotLocated, View
from detection.tiling import LookPlan, SizeLimits, detect_planned, gsd_of, plan_look
from detection.tracks import ClipTracker
from outwatch.domain.ports import Detector
from outwatch.domain.types import Box, Clip, Coverage, Detection, Frame, Image, TelemetrySample, Track

PoseAt = Callable[[float], TelemetrySample | None]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look shows, before anything is followed."""

    look: Coverage
    boxes: tuple[Box, ...]
    """In pixels of the clip's own frames."""
    places: tuple[LocatedBox, ...]
    """One of each box."""
    too_small: int
    """Boxes of labels that this look is blind to; they are not among the others."""
    implausible: int
    """Boxes that are too short or too long on the ground for what they are called; nor are they."""
    is_corrupt: bool

    def detections(self, ids: Sequence[int | None], *, model_id: str) -> list[Detection]:
        """Return the boxes as detections with their track numbers."""
        look = self.look
        return [
            Detection(
                clip_id=look.clip_id,
                at=look.at,
                offset_s=look.offset_s,
                frame_index=look.frame_index,
                label=box.label,
                confidence=box.confidence,
                box_xyxy_px=box.box_xyxy_px,
                model_id=model_id,
                track_id=track_id,
                fix=place.fix,
                east_m=place.east_m,
                north_m=place.north_m,
            )
            for box, track_id, place in zip(self.boxes, ids, self.places, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class ClipDetections:
    """All that is found in a clip, in order of time."""

    detections: tuple[Detection, ...]
    tracks: tuple[Track, ...]
    looks: tuple[Coverage, ...]
    corrupt_looks: int
    """Looks at frames that the decoder marked as damaged; they are used, and counted."""
    too_small: int = 0
    """Boxes dropped because such things are too small here to be claimed."""
    implausible: int = 0
    """Boxes dropped because nothing of their name has such a length on the ground."""

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
            "too_small": self.too_small,
            "implausible": self.implausible,
        }


@dataclass(frozen=True)
class Looker:
    """What looks at one clip's frames: a model, planned by the camera's pose, and a locator."""

    clip: Clip
    detector: Detector
    locator: GroundLocator
    pose_at: PoseAt
    """The camera's pose, seconds from the first frame; None where telemetry is silent."""
    batch: int
    """Frames held in memory at once."""
    sizes: SizeLimits = field(default_factory=SizeLimits)

    def longest_px(self, offsets_s: Iterable[float]) -> int | None:
        """Return the longest side that looks at these times need; None where they need all pixels."""
        plans = {self._plan(self.pose_at(offset_s))[0] for offset_s in offsets_s}
        if not plans or any(plan.tiles for plan in plans):
            return None
        return max(plan.input_px for plan in plans)

    def agrees(self, other: Looker, offset_s: float) -> bool:
        """Return whether another looks at a time in the same way."""
        pose = self.pose_at(offset_s)
        return self._plan(pose) == other._plan(pose)

    def look(self, frames: Iterable[Frame], *, known: Mapping[int, Seen]) -> Iterator[tuple[Frame, Seen]]:
        """Yield each frame with what it shows.

        Args:
            frames: in order of time, whole or shrunk in proportion.
            known: what was seen before, by index of frame; it is not looked for again.
        """
        for group in _batched(frames, self.batch):
            fresh = [frame for frame in group if frame.index not in known]
            found = {frame.index: seen for frame, seen in zip(fresh, self._see(fresh), strict=True)}
            for frame in group:
                yield frame, known[frame.index] if frame.index in known else found[frame.index]

    def _see(self, frames: Sequence[Frame]) -> Iterator[Seen]:
        poses = [self.pose_at(frame.offset_s) for frame in frames]
        planned = [(frame, pose, *self._plan(pose)) for frame, pose in zip(frames, poses, strict=True)]
        for plan, alike in groupby(planned, key=lambda item: item[2]):
            group = list(alike)
            images = [frame.image for frame, *_ in group]
            for (frame, pose, _, gsd_m), boxes in zip(
                group, detect_planned(self.detector, images, plan), strict=True
            ):
                yield self._seen(frame, boxes, pose=pose, gsd_m=gsd_m, blind_to=plan.blind_to)

    def _plan(self, pose: TelemetrySample | None) -> tuple[LookPlan, float | None]:
        """Return how a frame with a pose is looked at, and what one of its pixels covers."""
        camera = self.locator.known(self.clip.camera)
        view = self._view(pose)
        gsd_m = gsd_of(
            pose,
            camera=camera,
            width_px=self.clip.width_px,
            ground_below_m=None if view is None else view.clearance_m,
        )
        plan = plan_look(
            gsd_m=gsd_m,
            pitch_deg=None if pose is None else pose.pitch_deg,
            width_px=self.clip.width_px,
            height_px=self.clip.height_px,
            model_input_px=self.detector.input_px,
            sizes=self.sizes,
        )
        return plan, gsd_m

    def _seen(
        self,
        frame: Frame,
        boxes: Sequence[Box],
        *,
        pose: TelemetrySample | None,
        gsd_m: float | None,
        blind_to: tuple[str, ...],
    ) -> Seen:
        clip = self.clip
        at = clip.started_at + timedelta(seconds=frame.offset_s)
        footprint, reason = self.locator.footprint(
            pose, clip.camera, width_px=clip.width_px, height_px=clip.height_px
        )
        large = [_enlarged(box, frame.image, clip) for box in boxes if box.label not in blind_to]
        places = self.locator.locate(
            [box.box_xyxy_px for box in large],
            at=at,
            pose=pose,
            camera=clip.camera,
            width_px=clip.width_px,
            height_px=clip.height_px,
        )
        look = Coverage(clip.id, at, frame.offset_s, frame.index, footprint, reason, gsd_m, blind_to)
        view = self._view(pose)
        fits = [True] * len(large) if view is None else plausible(large, places, view=view)
        return Seen(
            look,
            tuple(compress(large, fits)),
            tuple(compress(places, fits)),
            too_small=len(boxes) - len(large),
            implausible=fits.count(False),
            is_corrupt=frame.is_corrupt,
        )

    def _view(self, pose: TelemetrySample | None) -> View | None:
        """Return a pose above the ground; None where it is not known well enough."""
        clip = self.clip
        try:
            return self.locator.view(pose, clip.camera, width_px=clip.width_px, height_px=clip.height_px)
        except NotLocated:
            return None


def detect_clip(
    frames: Iterable[Frame],
    *,
    looker: Looker,
    tracker: ClipTracker,
    known: Mapping[int, Seen] = MappingProxyType({}),
    progress: Callable[[float], None] | None = None,
) -> ClipDetections:
    """Detect, follow and locate everything in the looks at a clip.

    Args:
        frames: the looks, in order of time.
        looker: finds boxes and puts them on the ground.
        tracker: a fresh one; identities never outlive a clip.
        known: what was seen before, by index of frame; it is followed, and not looked for again.
        progress: told the seconds of the clip done so far.
    """
    by_look: list[list[Detection]] = []
    all_seen: list[Seen] = []
    for frame, seen in looker.look(frames, known=known):
        shrunk = [_shrunk(box, frame.image, looker.clip) for box in seen.boxes]
        ids = tracker.update(frame.image, shrunk, offset_s=frame.offset_s)
        by_look.append(seen.detections(ids, model_id=looker.detector.model_id))
        all_seen.append(seen)
        if progress is not None:
            progress(frame.offset_s)
    detections = with_first_boxes(by_look, tracker.first_boxes)
    return ClipDetections(
        detections=tuple(detections),
        tracks=tuple(_tracks(detections, looker.clip)),
        looks=tuple(seen.look for seen in all_seen),
        corrupt_looks=sum(seen.is_corrupt for seen in all_seen),
        too_small=sum(seen.too_small for seen in all_seen),
        implausible=sum(seen.implausible for seen in all_seen),
    )


def unfollowed(seen: Sequence[Seen], *, model_id: str) -> ClipDetections:
    """Return what looks show that are too far apart to follow anything: detections without tracks."""
    return ClipDetections(
        detections=tuple(
            d for one in seen for d in one.detections([None] * len(one.boxes), model_id=model_id)
        ),
        tracks=(),
        looks=tuple(one.look for one in seen),
        corrupt_looks=sum(one.is_corrupt for one in seen),
        too_small=sum(one.too_small for one in seen),
        implausible=sum(one.implausible for one in seen),
    )


def joined(parts: Sequence[ClipDetections]) -> ClipDetections:
    """Return what was found in parts of a clip as one, in order of time.

    Track numbers of a part go on behind those of the parts before: an identity breaks at a part's edge.
    """
    detections: list[Detection] = []
    tracks: list[Track] = []
    for part in parts:
        behind = max((track.id for track in tracks), default=0)
        tracks += [replace(track, id=track.id + behind) for track in part.tracks]
        detections += [
            found if found.track_id is None else replace(found, track_id=found.track_id + behind)
            for found in part.detections
        ]
    return ClipDetections(
        detections=tuple(sorted(detections, key=lambda detection: detection.frame_index)),
        tracks=tuple(tracks),
        looks=tuple(
            sorted((look for part in parts for look in part.looks), key=lambda look: look.frame_index)
        ),
        corrupt_looks=sum(part.corrupt_looks for part in parts),
        too_small=sum(part.too_small for part in parts),
        implausible=sum(part.implausible for part in parts),
    )


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


def _enlarged(box: Box, image: Image, clip: Clip) -> Box:
    """Return a box found in an image in pixels of the clip's own frames."""
    return _scaled(box, clip.width_px / image.shape[1], clip.height_px / image.shape[0])


def _shrunk(box: Box, image: Image, clip: Clip) -> Box:
    """Return a box in pixels of the clip's own frames in those of an image."""
    return _scaled(box, image.shape[1] / clip.width_px, image.shape[0] / clip.height_px)


def _scaled(box: Box, x: float, y: float) -> Box:
    if x == y == 1:
        return box
    left_px, top_px, right_px, bottom_px = box.box_xyxy_px
    return replace(box, box_xyxy_px=(left_px * x, top_px * y, right_px * x, bottom_px * y))


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
