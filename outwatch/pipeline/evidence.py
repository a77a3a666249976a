"""An event's evidence: what is cut from its clip, and the record of what it was made from.

Belongs here: fetching inputs, one decode for all events of a clip, and writing the pieces. Not here: drawing
(``detection/evidence``), what a record says (``evidence_record.py``), and handing on (``export.py``).

A piece that cannot be made must not lose the event: the event is then written without it, with a note.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import structlog

from detection.evidence import (
    MAX_STILL_PX,
    RATE_HZ,
    ExcerptWriter,
    Moments,
    Window,
    bystanders,
    draw_map,
    draw_still,
    hide,
    scaled,
    window_around,
)
from ingest.video import is_photo, read_frames
from outwatch.domain.errors import FeedTimeout, PermanentError, TransientError
from outwatch.domain.types import Clip, Coverage, Detection, Event, Frame, Image, Outpost
from outwatch.pipeline.corrections import PoseAt, pose_source
from outwatch.pipeline.detection import fetch
from outwatch.pipeline.evidence_record import keep_record, setup_of_clip
from outwatch.pipeline.wiring import Pipeline
from storage import keys, schemas
from storage.lake import read_parquet

log = structlog.get_logger(__name__)

PIECES = (keys.STILL, keys.EXCERPT, keys.MAP)
"""What is drawn of an event, in the order in which it is shown."""
_WORDS = {keys.STILL: "still", keys.EXCERPT: "excerpt", keys.MAP: "map"}


@dataclass(frozen=True)
class Footage:
    """A clip on this machine, and all that its pictures are drawn from."""

    pipeline: Pipeline
    clip: Clip
    detections: Sequence[Detection]
    looks: Sequence[Coverage]
    folder: Path
    """Empty, for the video and the excerpts."""

    @cached_property
    def source(self) -> Path:
        """Return the clip's video, fetched when first needed."""
        return fetch(self.pipeline, self.clip, self.folder)

    @cached_property
    def pose_at(self) -> PoseAt:
        """Return where the camera was at any moment, by its flight's correction if there is one."""
        return pose_source(self.pipeline, self.clip)[0]

    @property
    def moving(self) -> bool:
        """Return whether it is more than a photo."""
        return not is_photo(Path(self.clip.object_key))

    def peak_s(self, event: Event) -> float:
        """Return the offset of an event's peak in seconds."""
        offsets_s = (look.offset_s for look in self.looks if look.frame_index == event.peak_frame_index)
        return next(offsets_s, (event.peak_at - self.clip.started_at).total_seconds())


@dataclass
class Pieces:
    """What was drawn of one event, by name, and what could not be."""

    made: dict[str, bytes] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    hidden: Counter[str] = field(default_factory=Counter)
    """Bystanders in the still, by label, where they are hidden."""
    most_hidden: int = 0
    """Boxes in the picture with the most; one bystander may have several, before and after it moved."""


def with_evidence(
    pipeline: Pipeline,
    clip: Clip,
    events: Sequence[Event],
    detections: Sequence[Detection],
    *,
    folder: Path,
) -> list[Event]:
    """Write each event's pieces and its sealed record, and return the events with their keys and notes."""
    if not events:
        return []
    inputs, looks = _inputs(pipeline, clip)
    footage = Footage(pipeline, clip, detections, looks, folder)
    drawn = draw_pieces(footage, events)
    return [_kept(footage, event, drawn[event.id], inputs=inputs) for event in events]


def missing_pieces(events: Sequence[Event]) -> int:
    """Return how many pieces events of clips say they lack."""
    words = tuple(f"no {word}:" for word in _WORDS.values())
    return sum(note.startswith(words) for event in events for note in event.notes)


def draw_pieces(footage: Footage, events: Sequence[Event], *, blurred: bool = False) -> dict[str, Pieces]:
    """Return what can be drawn of a clip's events, all of them from one decode.

    Args:
        footage: the clip.
        events: of this clip.
        blurred: hide people and vehicles that do not belong to the event.

    Raises:
        TransientError: the store did not answer; another try may help.
    """
    drawn = {event.id: Pieces() for event in events}
    scenes = [_Scene(footage, event, drawn[event.id], blurred=blurred) for event in events]
    with ExitStack() as stack:
        for scene in scenes:
            stack.enter_context(scene)
        try:
            for frame in _frames(footage, scenes):
                for scene in scenes:
                    scene.take(frame)
        except (PermanentError, FeedTimeout) as error:  # what came before it is shown all the same
            log.warning("evidence_cut_short", clip=footage.clip.id, error=str(error))
        for scene in scenes:
            scene.finish()
    return drawn


class _Scene:
    """One event while its clip is decoded; a context that closes its excerpt."""

    def __init__(self, footage: Footage, event: Event, pieces: Pieces, *, blurred: bool) -> None:
        self._footage, self._event, self._pieces = footage, event, pieces
        self._outpost: Outpost = footage.pipeline.outpost(event.outpost_id)
        self.window = window_around(footage.peak_s(event), duration_s=footage.clip.duration_s)
        self._bystanders = self._moments_of_bystanders() if blurred else None
        self._writer = self._excerpt_writer() if footage.moving else None

    @property
    def event(self) -> Event:
        """Return the event."""
        return self._event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def take(self, frame: Frame) -> None:
        """Take a frame, in order of time; what is not of this event is passed over."""
        at_peak = frame.index == self._event.peak_frame_index
        in_window = self.window.start_s - 1 / RATE_HZ <= frame.offset_s <= self.window.end_s
        if not at_peak and not in_window:
            return
        zoom = frame.image.shape[1] / self._footage.clip.width_px
        if at_peak:
            self._make(keys.STILL, lambda: self._still(frame, zoom))
        if in_window and self._writer is not None and keys.EXCERPT not in self._pieces.problems:
            self._make(keys.EXCERPT, lambda: self._add(frame))

    def finish(self) -> None:
        """Draw what needs no frame, and end the excerpt."""
        self._make(keys.MAP, self._map)
        if self._writer is not None and keys.EXCERPT not in self._pieces.problems:
            self._make(keys.EXCERPT, self._excerpt)
        if not {keys.STILL} & (self._pieces.made.keys() | self._pieces.problems.keys()):
            self._pieces.problems[keys.STILL] = f"frame {self._event.peak_frame_index} could not be read"

    def _make(self, name: str, draw: Callable[[], bytes | None]) -> None:
        """Draw a piece, or note why it could not be: an event is worth more than its pictures."""
        try:
            data = draw()
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001 - counted, noted on the event and logged
            log.warning("evidence_missing", event_id=self._event.id, piece=name, error=repr(error))
            self._pieces.problems[name] = str(error) or type(error).__name__
        else:
            if data is not None:
                self._pieces.made[name] = data

    def _still(self, frame: Frame, zoom: float) -> bytes:
        clip = self._footage.clip
        here = [found for found in self._footage.detections if found.frame_index == frame.index]
        image = frame.image
        if self._bystanders is not None:
            image = self._hidden(image, frame.offset_s)
            others = self._bystanders.at(frame.offset_s)
            self._pieces.hidden = Counter(found.label for found in others)
        return draw_still(
            image,
            event=self._event,
            detections=scaled(here, zoom),
            outpost=self._outpost,
            clip_name=clip.file_name,
            pose=self._footage.pose_at(frame.offset_s),
            camera=clip.camera,
            local_zone=self._footage.pipeline.zone,
        )

    def _map(self) -> bytes:
        footage = self._footage
        return draw_map(
            self._event,
            outpost=self._outpost,
            local_zone=footage.pipeline.zone,
            looks=footage.looks,
            detections=footage.detections,
            pose=footage.pose_at(footage.peak_s(self._event)),
            camera=footage.clip.camera,
            terrain=footage.pipeline.terrain,
        )

    def _hidden(self, image: Image, offset_s: float) -> Image:
        """Return a picture taken at a moment with its bystanders hidden."""
        if self._bystanders is None:
            return image
        found = self._bystanders.at(offset_s)
        self._pieces.most_hidden = max(self._pieces.most_hidden, len(found))
        return hide(image, scaled(found, image.shape[1] / self._footage.clip.width_px))

    def _add(self, frame: Frame) -> None:
        assert self._writer is not None  # noqa: S101 - for the type checker: a photo has no excerpt
        self._writer.add(frame)

    def _excerpt(self) -> bytes:
        assert self._writer is not None  # noqa: S101 - for the type checker: a photo has no excerpt
        self._writer.finish()
        return self._writer.path.read_bytes()

    def _excerpt_writer(self) -> ExcerptWriter:
        clip = self._footage.clip
        return ExcerptWriter(
            self._footage.folder / f"{self._event.id}.mp4",
            event=self._event,
            outpost=self._outpost,
            window=self.window,
            moments=Moments(_near(self._footage.detections, self.window), looks_s=self._looks_s()),
            source_width_px=clip.width_px,
            clip_started_at=clip.started_at,
            local_zone=self._footage.pipeline.zone,
            hide=self._hidden if self._bystanders is not None else None,
        )

    def _moments_of_bystanders(self) -> Moments:
        link_m = self._footage.pipeline.settings.rules.gathering_link_m
        others = bystanders(self._event, self._footage.detections, link_m=link_m)
        return Moments(_near(others, self.window), looks_s=self._looks_s(), hiding=True)

    def _looks_s(self) -> list[float]:
        return sorted(look.offset_s for look in self._footage.looks)


def _near(detections: Sequence[Detection], window: Window) -> list[Detection]:
    """Return the detections that can matter to a window."""
    margin_s = 5.0  # more than a box is ever held or bridged
    first_s, last_s = window.start_s - margin_s, window.end_s + margin_s
    return [found for found in detections if first_s <= found.offset_s <= last_s]


def _frames(footage: Footage, scenes: Sequence[_Scene]) -> Iterator[Frame]:
    """Yield the frames that the scenes need, each once."""
    rate_hz = footage.clip.frame_rate_hz
    step = max(1, round(rate_hz / RATE_HZ))
    wanted: set[int] = set()
    for scene in scenes:
        peak = scene.event.peak_frame_index
        if peak is None:
            continue
        wanted.add(peak)
        if footage.moving:
            peak_s = footage.peak_s(scene.event)
            before = int((peak_s - scene.window.start_s) * rate_hz / step)
            after = int((scene.window.end_s - peak_s) * rate_hz / step)
            wanted.update(peak + number * step for number in range(-min(before, peak // step), after + 1))
    limits = footage.pipeline.limits
    yield from read_frames(footage.source, indices=wanted, longest_px=MAX_STILL_PX, limits=limits)


def _inputs(pipeline: Pipeline, clip: Clip) -> tuple[dict[str, str], list[Coverage]]:
    """Return the SHA-256 of each object that a clip's events are made from, and its looks."""
    dt = keys.dt_of(clip.started_at)
    inputs = {clip.object_key: clip.sha256}
    looks: list[Coverage] = []
    for table in ("detections", "coverage"):
        key = keys.lake(table, dt=dt, name=clip.id)
        data = pipeline.store.get(key)
        inputs[key] = hashlib.sha256(data).hexdigest()
        if table == "coverage":
            looks = schemas.coverage_from(read_parquet(data, name=key))
    if clip.telemetry_format is not None:
        key = keys.footage(clip.id, dt=dt, name="telemetry.parquet")
        inputs[key] = hashlib.sha256(pipeline.store.get(key)).hexdigest()
    return inputs, looks


def _kept(footage: Footage, event: Event, pieces: Pieces, *, inputs: dict[str, str]) -> Event:
    """Write an event's pieces, seal its record, and return the event with its keys."""
    dt = keys.dt_of(footage.clip.started_at)
    notes = tuple(f"no {_WORDS[name]}: {why}" for name, why in sorted(pieces.problems.items()))
    names = [name for name in PIECES if name in pieces.made]
    places = {name: keys.evidence(event.id, dt=dt, name=name) for name in (*names, keys.RECORD)}
    kept = replace(event, notes=(*event.notes, *notes), evidence_keys=tuple(places.values()))
    for name in names:
        footage.pipeline.store.put(places[name], pieces.made[name])
    keep_record(
        footage.pipeline,
        kept,
        key=places[keys.RECORD],
        inputs=inputs,
        outputs={name: hashlib.sha256(pieces.made[name]).hexdigest() for name in names},
        setup=setup_of_clip(footage.pipeline, footage.clip, event),
        more={"frame_index": event.peak_frame_index},
    )
    return kept
