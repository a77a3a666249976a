"""How a clip, or a part of one, is looked at: its keyframes first and then its episodes, or all in one pass.

Belongs here: joining what decodes (``ingest``) with what looks (``detection``). Not here: which times
are episodes (``detection/passes.py``), claiming work and writing what came of it (``detection.py``,
``parts.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import structlog

from detection.detect import ClipDetections, Looker, Seen, detect_clip, joined, unfollowed
from detection.passes import EpisodeLimits, Span, find_episodes
from detection.tiling import SizeLimits
from detection.tracks import ClipTracker
from ingest.timeline import Integers, Timeline
from ingest.video import is_photo, read_frames
from outwatch.domain.types import Clip, Frame
from outwatch.pipeline.corrections import pose_source
from outwatch.pipeline.wiring import Pipeline

Progress = Callable[[float], None]
WHOLE: Span = (0.0, float("inf"))
POSE_EVERY_S = 1.0
"""How often the pose is asked to know how large frames must be: aircraft climb slowly."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Footage:
    """A clip that lies in a folder, and when its frames are."""

    clip: Clip
    source: Path
    timeline: Timeline


@dataclass(frozen=True, slots=True)
class Found:
    """What was found, and what a person should know of how it was looked for."""

    found: ClipDetections
    notes: tuple[str, ...] = ()
    places: str | None = None
    """Hash of the watched places around which it was looked for closely; None where it was everywhere."""


def look_through(
    pipeline: Pipeline, footage: Footage, *, span: Span = WHOLE, progress: Progress | None = None
) -> Found:
    """Return what is found in a span of a clip, in two passes where the clip allows them."""
    settings = pipeline.settings.detection
    eye = _Eye(pipeline, footage, _looker(pipeline, footage.clip), span)
    if settings.passes == "one":
        return Found(eye.one_pass(progress))
    reason = why_one_pass(footage, max_keyframe_gap_s=settings.max_keyframe_gap_s)
    if reason is None:
        return Found(eye.two_passes(progress), places=places_of(pipeline))
    notes = () if is_photo(footage.source) else (f"looked at in one pass: {reason}",)
    return Found(eye.one_pass(progress), notes)


def places_of(pipeline: Pipeline) -> str:
    """Return a hash of the places that are watched now."""
    places = sorted((place.id, place.geometry.wkt, place.watch_radius_m) for place in pipeline.outposts)
    return hashlib.sha256(json.dumps(places).encode()).hexdigest()


def why_one_pass(footage: Footage, *, max_keyframe_gap_s: float) -> str | None:
    """Return, in words, why a clip cannot be looked at by its keyframes first; None where it can."""
    timeline = footage.timeline
    if timeline.problem is not None:
        return timeline.problem
    if footage.clip.completeness.corrupt_frames:
        return f"{footage.clip.completeness.corrupt_frames} frames are damaged"
    if timeline.longest_gap_s > max_keyframe_gap_s:
        return (
            f"keyframes are up to {timeline.longest_gap_s:.1f} s apart, at most {max_keyframe_gap_s:g} s is"
            " close enough to miss nothing; set the camera to a keyframe a second"
        )
    return None


def _looker(pipeline: Pipeline, clip: Clip) -> Looker:
    settings = pipeline.settings.detection
    pose_at, locator = pose_source(pipeline, clip)
    return Looker(
        clip=clip,
        detector=pipeline.detector(clip.modality),
        locator=locator,
        pose_at=pose_at,
        batch=settings.batch,
        sizes=SizeLimits(**settings.model_dump(include={limit.name for limit in fields(SizeLimits)})),
    )


@dataclass(frozen=True, slots=True)
class _Eye:
    """One span of one clip being looked at."""

    pipeline: Pipeline
    footage: Footage
    looker: Looker
    span: Span

    def one_pass(self, progress: Progress | None) -> ClipDetections:
        """Look at the whole span ``sample_fps`` times a second."""
        timeline, fps = self.footage.timeline, self._fps
        times_s = np.arange(0.0, self.footage.clip.duration_s, POSE_EVERY_S)
        longest_px = self.looker.longest_px(times_s.tolist())
        limits = self.pipeline.limits
        if self.span == WHOLE:
            frames = read_frames(self.footage.source, sample_fps=fps, longest_px=longest_px, limits=limits)
        else:
            indices = timeline.within(timeline.sampled(fps), [self.span]).tolist()
            frames = read_frames(self.footage.source, indices=indices, longest_px=longest_px, limits=limits)
        return detect_clip(frames, looker=self.looker, tracker=self._tracker(), progress=progress)

    def two_passes(self, progress: Progress | None) -> ClipDetections:
        """Look at keyframes, then closely at the episodes around what could become an event."""
        settings, timeline = self.pipeline.settings.detection, self.footage.timeline
        keyframes = timeline.within(timeline.sampled_keyframes(settings.keyframe_fps), [self.span])
        coarse = replace(
            self.looker,
            sizes=replace(
                self.looker.sizes,
                person_input_px=settings.first_person_input_px,
                vehicle_input_px=settings.first_vehicle_input_px,
                least_whole_px=settings.first_least_px,
            ),
        )
        first: list[Seen] = []
        for frame, seen in coarse.look(self._frames(keyframes, coarse), known={}):
            first.append(seen)
            if progress is not None:
                progress(frame.offset_s)
        model_id = self.looker.detector.model_id
        episodes = find_episodes(
            unfollowed(first, model_id=model_id).detections,
            outposts=self.pipeline.outposts,
            limits=EpisodeLimits(
                margin_s=settings.episode_margin_s,
                full_s=settings.episode_full_s,
                reach_m=settings.episode_reach_m,
                steady_m=settings.episode_steady_m,
            ),
        )
        closely = timeline.within(timeline.within(timeline.sampled(self._fps), episodes.full), [self.span])
        again = np.union1d(closely, timeline.within(keyframes, episodes.steady))
        log.info(
            "episodes_found",
            clip=self.footage.clip.id,
            keyframes=len(keyframes),
            full_s=round(sum(end - start for start, end in episodes.full), 1),
            steady_s=round(sum(end - start for start, end in episodes.steady), 1),
            second_looks=len(again),
        )
        followed = detect_clip(
            self._frames(again, self.looker),
            looker=self.looker,
            tracker=self._tracker(),
            known={
                seen.look.frame_index: seen
                for seen in first
                if self.looker.agrees(coarse, seen.look.offset_s)
            },
        )
        outside = [seen for seen in first if seen.look.offset_s not in episodes]
        return joined([followed, unfollowed(outside, model_id=model_id)])

    @property
    def _fps(self) -> float:
        return self.pipeline.settings.detection.sample_fps

    def _tracker(self) -> ClipTracker:
        return ClipTracker(sample_fps=self._fps)

    def _frames(self, indices: Integers, looker: Looker) -> Iterator[Frame]:
        if len(indices) == 0:
            return iter(())
        offsets_s = self.footage.timeline.offsets_s[indices]
        return read_frames(
            self.footage.source,
            indices=indices.tolist(),
            longest_px=looker.longest_px(offsets_s.tolist()),
            limits=self.pipeline.limits,
        )
