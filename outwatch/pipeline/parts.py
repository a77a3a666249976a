"""Parts of a long clip: where each keeps what it found until all are there, and putting them together.

A part is a span between two keyframes. It writes its tables beside the clip's video, coverage last, each
with a hash of all that it follows from: a part counts only where that is still the same, so that a clip whose
telemetry came later, or another model, begins anew.

Belongs here: those objects. Not here: looking (``passes.py``) and claiming work (``detection.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

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


def parts_of(pipeline: Pipeline, footage: Footage) -> list[Part]:
    """Return the parts of a clip in order; none of one that is worked whole."""
    count = len(spans_of(pipeline, footage))
    return _parts(footage.clip, count) if count > 1 else []


def discard_void(pipeline: Pipeline, clip: Clip, wanted: Sequence[Part]) -> list[Part]:
    """Remove all that is written but does not count, and return which of the wanted parts are missing."""
    standing = [part for part in wanted if _stands(pipeline, clip, part)]
    kept = {_key(clip, part, table) for part in standing for table in TABLES}
    for key in set(_written(pipeline, clip)) - kept:
        pipeline.store.delete(key)
    return [part for part in wanted if part not in standing]


def standing(pipeline: Pipeline, clip: Clip) -> list[Part] | None:
    """Return all parts of a clip, in order, where all of them are there and count; else None."""
    found = {keys.parse_part_key(key) for key in _written(pipeline, clip)}
    for count in sorted({part.count for part in found}):
        wanted = _parts(clip, count)
        if found.issuperset(wanted) and all(_stands(pipeline, clip, part) for part in wanted):
            return wanted
    return None


def all_written(pipeline: Pipeline, clip: Clip, count: int) -> bool:
    """Return whether all parts of a clip are there, whether or not they count."""
    whole = {_key(clip, part, TABLES[-1]) for part in _parts(clip, count)}
    return whole.issubset(_written(pipeline, clip))


def write(pipeline: Pipeline, clip: Clip, part: Part, seen: Found, *, inputs: str) -> tuple[str, ...]:
    """Keep what was found in a part, with ``inputs_of`` from before it was looked at; return the keys."""
    found = seen.found
    facts = {
        "inputs": inputs,
        "clip_id": clip.id,
        "seen": json.dumps(
            {
                "corrupt_looks": found.corrupt_looks,
                "too_small": found.too_small,
                "implausible": found.implausible,
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


def read_all(pipeline: Pipeline, clip: Clip, parts: Sequence[Part]) -> Found:
    """Return what was found in a clip's parts, as of one clip."""
    found = [_read(pipeline, clip, part) for part in parts]
    notes = dict.fromkeys(note for one in found for note in one.notes)
    return Found(joined([one.found for one in found]), tuple(notes), found[0].places)


def remove(pipeline: Pipeline, clip: Clip) -> None:
    """Remove a clip's parts: they are in the lake now, and are worked anew should they be asked for."""
    for key in _written(pipeline, clip):
        pipeline.store.delete(key)


def _parts(clip: Clip, count: int) -> list[Part]:
    return [Part(clip.id, number, count) for number in range(1, count + 1)]


def _written(pipeline: Pipeline, clip: Clip) -> list[str]:
    prefix = keys.parts_prefix(clip.id, dt=keys.dt_of(clip.started_at))
    return [info.key for info in pipeline.store.list(prefix)]


def _read(pipeline: Pipeline, clip: Clip, part: Part) -> Found:
    tables = {name: _table(pipeline, clip, part, name) for name in TABLES}
    facts = json.loads(tables["coverage"].schema.metadata[b"outwatch.seen"])
    found = ClipDetections(
        detections=tuple(schemas.detections_from(tables["detections"])),
        tracks=tuple(schemas.tracks_from(tables["tracks"])),
        looks=tuple(schemas.coverage_from(tables["coverage"])),
        corrupt_looks=facts["corrupt_looks"],
        too_small=facts["too_small"],
        implausible=facts["implausible"],
    )
    return Found(found, tuple(facts["notes"]), facts["places"])


def _stands(pipeline: Pipeline, clip: Clip, part: Part) -> bool:
    """Return whether a part is whole and follows from what is now known of its clip."""
    try:
        metadata = _table(pipeline, clip, part, TABLES[-1]).schema.metadata
    except ObjectMissing:
        return False
    return bool(metadata[b"outwatch.inputs"].decode() == inputs_of(pipeline, clip))


def _table(pipeline: Pipeline, clip: Clip, part: Part, name: str) -> pa.Table:
    key = _key(clip, part, name)
    return read_parquet(pipeline.store.get(key), name=key)


def _key(clip: Clip, part: Part, table: str) -> str:
    return keys.part(part, dt=keys.dt_of(clip.started_at), table=table)


def inputs_of(pipeline: Pipeline, clip: Clip) -> str:
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
