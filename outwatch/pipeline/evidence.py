"""An event's evidence: what is cut from its clip, and the record of what it was made from.

Belongs here: fetching inputs and writing the pieces. Not here: drawing (``detection/evidence.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from detection.evidence import draw_still
from ingest.align import PoseTrack
from ingest.video import read_frames
from outwatch.domain.types import Clip, Detection, Event, Frame
from outwatch.pipeline.detection import fetch
from outwatch.pipeline.registration import stored_telemetry
from outwatch.pipeline.wiring import SOFTWARE, Pipeline
from storage import keys


def with_evidence(
    pipeline: Pipeline,
    clip: Clip,
    events: Sequence[Event],
    detections: Sequence[Detection],
    *,
    folder: Path,
) -> list[Event]:
    """Write each event's still and its record of inputs, and return the events with their keys."""
    if not events:
        return []
    source = fetch(pipeline, clip, folder)
    peaks = [event.peak_frame_index for event in events if event.peak_frame_index is not None]
    frames = {frame.index: frame for frame in read_frames(source, indices=set(peaks), limits=pipeline.limits)}
    track = PoseTrack(stored_telemetry(pipeline, clip))
    return [
        _evidence(pipeline, clip, event, frames[peak], detections, track)
        for event, peak in zip(events, peaks, strict=True)
    ]


def _evidence(
    pipeline: Pipeline,
    clip: Clip,
    event: Event,
    frame: Frame,
    detections: Sequence[Detection],
    track: PoseTrack,
) -> Event:
    still = draw_still(
        frame.image,
        event=event,
        detections=[found for found in detections if found.frame_index == frame.index],
        outpost=pipeline.outpost(event.outpost_id),
        clip_name=clip.file_name,
        pose=track.at(frame.offset_s),
        camera=clip.camera,
        local_zone=pipeline.zone,
    )
    dt = keys.dt_of(clip.started_at)
    still_key = keys.evidence(event.id, dt=dt, name="still.jpg")
    record_key = keys.evidence(event.id, dt=dt, name="evidence.json")
    record = {
        "event_id": event.id,
        "inputs": {clip.object_key: clip.sha256},
        "frame_index": frame.index,
        "outputs": {"still.jpg": hashlib.sha256(still).hexdigest()},
        "model_id": event.model_id,
        "rule_version": event.rule_version,
        "software": SOFTWARE,
    }
    pipeline.store.put(still_key, still)
    pipeline.store.put(record_key, json.dumps(record, indent=1, sort_keys=True).encode())
    return replace(event, evidence_keys=(still_key, record_key))
