"""Parts of a long clip: where each keeps what it found until all are there, and putting them together.

A part is a span between two keyframes. It writes its tables beside the clip's video, coverage last, each
with a hash of all that it follows from: a part counts only where that is still the same, so that a clip whose
telemetry came later, or another model, begins anew.

Belongs here: those objects. Not here: looking (``passes.py``) and claiming work (``detection.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import pyarrow as pa

from detection.detect import ClipDetections, joined
from detection.passes import Span
from outwatch.domain.errors import ObjectMissing
from outwatch.domain.types import Clip
from outwatch.pipeline.corrections import revision_number
from outwatch.pipeline.passes import Footage, Found, places_of
from outwatch.pipeline.wiring import SOFTWARE, Pipeline
from storage import keys, schemas
from storage.keys import Part
from storage.lake import parquet_bytes, read_parquet

TABLES = ("detections", "tracks", "coverage")
"""In the order in which a part writes them: the last says that it is whole."""


def tables_of(found: ClipDetections) -> Mapping[str, pa.Table]:
    """Return what was found as tables of the lake, by name."""
    return {
        "detections": schemas.detections_table(found.detections),
        "tracks": schemas.tracks_table(found.tracks),
        "coverage": schemas.coverage_table(found.looks),
    }


def spans_of(pipeline: Pipeline, footage: Footage) -> list[Span]:
    """Return the parts in which a clip is worked: one where it is short or its frames cannot be picked."""
    length_s = pipeline.settings.detection.part_s
    if footage.timeline.problem is not None or footage.clip.duration_s <= length_s:
        return [(0.0, float("inf"))]
    return footage.timeline.parts_s(length_s)


def missing(pipeline: Pipeline, footage: Footage) -> tuple[tuple[str, str], ...]:
    """Return the work on a clip's parts that is to be done; none for a clip that is worked whole."""
    clip, count = footage.clip, len(spans_of(pipeline, footage))
    if count == 1:
        return ()
    wanted = [Part(clip.id, number, count) for number in range(1, count + 1)]
    return tuple(("detect_parts", part.subject) for part in wanted if not _stands(pipeline, clip, part))


def standing(pipeline: Pipeline, clip: Clip) -> tuple[Part, ...] | None:
    """Return all parts of a clip, in order, where all of them are there; else None."""
    prefix = keys.parts_prefix(clip.id, dt=keys.dt_of(clip.started_at))
    found = {keys.parse_part_key(info.key) for info in pipeline.store.list(prefix)}
    for count in sorted({part.count for part in found}):
        wanted = tuple(Part(clip.id, number, count) for number in range(1, count + 1))
        if found.issuperset(wanted) and all(_stands(pipeline, clip, part) for part in wanted):
            return wanted
    return None


def write(pipeline: Pipeline, clip: Clip, part: Part, seen: Found) -> tuple[str, ...]:
    """Keep what was found in a part, and return the keys."""
    found = seen.found
    facts = {
        "inputs": _inputs(pipeline, clip),
        "clip_id": clip.id,
        "seen": json.dumps(
            {
                "corrupt_looks": found.corrupt_looks,
                "too_small": found.too_small,
                "notes": seen.notes,
                "places": seen.places,
            }
        ),
    }
    tables = tables_of(found)
    outputs = tuple(_key(clip, part, name) for name in TABLES)
    for key, name in zip(outputs, TABLES, strict=True):
        pipeline.store.put(key, parquet_bytes(tables[name], software=SOFTWARE, metadata=facts))
    return outputs


def read_all(pipeline: Pipeline, clip: Clip, parts: tuple[Part, ...]) -> Found:
    """Return what was found in a clip's parts, as of one clip."""
    found = [_read(pipeline, clip, part) for part in parts]
    notes = dict.fromkeys(note for one in found for note in one.notes)
    return Found(joined([one.found for one in found]), tuple(notes), found[0].places)


def remove(pipeline: Pipeline, clip: Clip) -> None:
    """Remove a clip's parts: they are in the lake now, and are worked anew should they be asked for."""
    prefix = keys.parts_prefix(clip.id, dt=keys.dt_of(clip.started_at))
    for key in [info.key for info in pipeline.store.list(prefix)]:
        pipeline.store.delete(key)


def _read(pipeline: Pipeline, clip: Clip, part: Part) -> Found:
    tables = {name: _table(pipeline, clip, part, name) for name in TABLES}
    facts = json.loads(tables["coverage"].schema.metadata[b"outwatch.seen"])
    found = ClipDetections(
        detections=tuple(schemas.detections_from(tables["detections"])),
        tracks=tuple(schemas.tracks_from(tables["tracks"])),
        looks=tuple(schemas.coverage_from(tables["coverage"])),
        corrupt_looks=facts["corrupt_looks"],
        too_small=facts["too_small"],
    )
    return Found(found, tuple(facts["notes"]), facts["places"])


def _stands(pipeline: Pipeline, clip: Clip, part: Part) -> bool:
    """Return whether a part is whole and follows from what is now known of its clip."""
    try:
        metadata = _table(pipeline, clip, part, TABLES[-1]).schema.metadata
    except ObjectMissing:
        return False
    return bool(metadata[b"outwatch.inputs"].decode() == _inputs(pipeline, clip))


def _table(pipeline: Pipeline, clip: Clip, part: Part, name: str) -> pa.Table:
    key = _key(clip, part, name)
    return read_parquet(pipeline.store.get(key), name=key)


def _key(clip: Clip, part: Part, table: str) -> str:
    return keys.part(part, dt=keys.dt_of(clip.started_at), table=table)


def _inputs(pipeline: Pipeline, clip: Clip) -> str:
    """Return a hash of all that a part follows from, its place in the clip apart."""
    settings = pipeline.settings
    telemetry = b""
    if clip.telemetry_format is not None:
        name = keys.footage(clip.id, dt=keys.dt_of(clip.started_at), name="telemetry.parquet")
        telemetry = hashlib.sha256(pipeline.store.get(name)).digest()
    facts = {
        "clip": schemas.clip_json(clip),
        "model_id": pipeline.detector(clip.modality).model_id,
        "correction": revision_number(pipeline, clip),
        "detection": settings.detection.model_dump(mode="json"),
        "ground": settings.ground.model_dump(mode="json"),
        "places": places_of(pipeline),
        "software": SOFTWARE,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode() + telemetry).hexdigest()
