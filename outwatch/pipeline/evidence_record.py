"""The sealed record of what an event was made from: every input, every output, every setting that mattered.

Belongs here: what a record says, and writing it. Not here: the form of a seal and the book of seals
(``storage/seals.py``), drawing pieces (``evidence.py``), and checking records (``verification.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import shapely
from pydantic import BaseModel

from outwatch.domain.types import Clip, Event, Outpost
from outwatch.pipeline.corrections import standing_correction
from outwatch.pipeline.wiring import SOFTWARE, Pipeline
from storage import keys
from storage.seals import SEAL, digest_of, read_record, sealed_bytes

RECORD_VERSION = 2
"""Of the record's form; version 1 had neither a seal nor settings."""
_NOT_OF_THE_RULE = ("evidence_keys", "review")
"""What of an event changes after its record is sealed: where pieces lie, and what people say."""


def keep_record(
    pipeline: Pipeline,
    event: Event,
    *,
    key: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    setup: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
) -> None:
    """Seal an event's record, write it, and enter it in the book of seals.

    Args:
        pipeline: where to write.
        event: as it will stand in the lake.
        key: of the record.
        inputs: SHA-256 of each object that was read, by its key.
        outputs: SHA-256 of each piece, by its name.
        setup: what was set, by name, as ``setup_of_clip`` gives it.
        more: further fields.
    """
    record = {
        "schema_version": RECORD_VERSION,
        "event_id": event.id,
        "event": statement(event),
        "inputs": dict(inputs),
        "outputs": dict(outputs),
        "setup": dict(setup),
        "model_id": event.model_id,
        "rule_version": event.rule_version,
        "software": SOFTWARE,
        **(more or {}),
    }
    data = sealed_bytes(record)
    pipeline.store.put(key, data)
    pipeline.seals.enter(event.id, read_record(data, name=key)[SEAL])


def statement(event: Event) -> dict[str, Any]:
    """Return what the rules said of an event, as JSON values that its row in the lake must still say."""
    fields = {name: value for name, value in asdict(event).items() if name not in _NOT_OF_THE_RULE}
    plain: dict[str, Any] = json.loads(json.dumps(fields, default=lambda value: value.isoformat()))
    return plain


def setup_of_clip(pipeline: Pipeline, clip: Clip, event: Event) -> dict[str, Any]:
    """Return all that was set when a clip's event was found, each with its SHA-256."""
    settings = pipeline.settings
    return {
        "outpost": _valued(feature_of(pipeline.outpost(event.outpost_id))),
        "rules": _valued(_values(settings.rules)),
        "detection": _valued(_values(settings.detection)),
        "ground": _valued(_values(settings.ground)),
        "elevation_model": file_setup(settings.ground.dem),
        "expected": file_setup(settings.expected),
        "correction": _correction(pipeline, clip),
        "weights": _weights(pipeline, clip, event),
    }


def setup_of_sensors(pipeline: Pipeline, event: Event) -> dict[str, Any]:
    """Return all that was set when a sensors' event was found, each with its SHA-256."""
    sensors = pipeline.settings.sensors
    trips = {name: getattr(sensors, name).total_seconds() for name in ("max_gap", "longest", "agree_within")}
    return {
        "outpost": _valued(feature_of(pipeline.outpost(event.outpost_id))),
        "trips_s": _valued(trips),
        "elevation_model": file_setup(pipeline.settings.ground.dem),
    }


def feature_of(outpost: Outpost) -> dict[str, Any]:
    """Return an outpost as the feature of the outposts file that was used of it."""
    return {
        "id": outpost.id,
        "name": outpost.name,
        "name_ur": outpost.name_ur,
        "kind": outpost.kind.value,
        "watch_radius_m": outpost.watch_radius_m,
        "control_room": outpost.control_room,
        "geometry": json.loads(shapely.to_geojson(outpost.geometry)),
    }


def file_setup(path: Path | None) -> dict[str, Any] | None:
    """Return a file's name and SHA-256, None where none is set."""
    if path is None:
        return None
    status = path.stat()
    return {"file": path.name, "sha256": _file_digest(path, status.st_size, status.st_mtime_ns)}


def _correction(pipeline: Pipeline, clip: Clip) -> dict[str, Any] | None:
    """Return how the poses of the clip's flight were corrected, None where they were not."""
    correction = standing_correction(pipeline, clip)
    return None if correction is None else _valued(asdict(correction))


def _weights(pipeline: Pipeline, clip: Clip, event: Event) -> dict[str, Any]:
    """Return the model's id, and the whole SHA-256 of its weights where they are still the ones set."""
    place = pipeline.weights(clip.modality)
    path = place / "model.bin" if place.is_dir() else place
    found = file_setup(path) if path.is_file() else None
    # A model's id ends with the first digits of its weights' SHA-256.
    known = found and (event.model_id or "").rpartition("-")[2]
    matches = bool(known) and found is not None and found["sha256"].startswith(known)
    return {"model_id": event.model_id, "sha256": found["sha256"] if found and matches else None}


@lru_cache(maxsize=16)
def _file_digest(path: Path, _size: int, _modified_ns: int) -> str:
    """Return a file's SHA-256, computed once for as long as it is not touched: elevation models are large."""
    return keys.sha256_file(path)


def _values(group: BaseModel) -> dict[str, Any]:
    return group.model_dump(mode="json")


def _valued(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"sha256": digest_of(value), "value": dict(value)}
