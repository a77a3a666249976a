"""Hand an event's evidence out: the pieces as they are, or redrawn with bystanders hidden.

Belongs here: what goes into a folder that leaves the agency, and the record of it. Not here: drawing and
hiding (``detection/evidence``). What is kept in the store is never touched.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outwatch.domain.errors import ConfigInvalid, ObjectMissing, UnsupportedFormat
from outwatch.domain.types import Event
from outwatch.pipeline.evidence import PIECES, Footage, Pieces, draw_pieces
from outwatch.pipeline.verification import State, find_event, verify
from outwatch.pipeline.wiring import SOFTWARE, Pipeline
from storage import keys, schemas
from storage.seals import SEAL, read_record, sealed_bytes

EXPORT_RECORD = "export.json"
WARNING = (
    "Only people and vehicles that the model found are hidden. Whoever it missed, and everything else that"
    " may tell who somebody is, is still in the pictures: a person must look before they are handed on."
)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was handed out."""

    event: Event
    files: tuple[Path, ...]
    left_out: Mapping[str, str]
    """Why a piece is not among them, by its name."""
    hidden: Mapping[str, Any] | None
    """What is hidden, None where nothing is."""
    doubts: Mapping[str, str]
    """What is not as it was sealed, with the reason."""


def export_evidence(pipeline: Pipeline, event_id: str, *, folder: Path, blur: bool) -> Exported:
    """Write an event's evidence into a folder, with a sealed record of what was written.

    Args:
        pipeline: where the evidence is.
        event_id: an event's id, or enough of its beginning.
        folder: made where it is not there; what an earlier export left in it is removed first, so that
            nothing that was not hidden stays beside what is.
        blur: hide people and vehicles that do not belong to the event, in still and excerpt.

    Raises:
        ObjectMissing: there is no such event, or what it is made from is gone.
        ConfigInvalid: nothing can be written to the folder, or it holds another event's evidence.
    """
    event = find_event(pipeline, event_id)
    _refuse_another(folder, event)
    stored = {key.rpartition("/")[2]: key for key in event.evidence_keys}
    files: dict[str, bytes] = {}
    left_out: dict[str, str] = {}
    hidden: dict[str, Any] | None = None
    if blur and event.clip_id is not None:
        pieces = _redrawn(pipeline, event)
        files |= {name: data for name, data in pieces.made.items() if name != keys.MAP}
        left_out |= {name: why for name, why in pieces.problems.items() if name != keys.MAP}
        hidden = _account(pieces)
    for name, key in stored.items():
        if name in files or name in left_out:
            continue
        try:
            files[name] = pipeline.store.get(key)
        except ObjectMissing as error:
            left_out[name] = str(error)
    verdict = verify(pipeline, event.id)
    doubts = {
        item.name: item.words or item.state.value
        for item in verdict.items
        if item.state in {State.CHANGED, State.MISSING}
    }
    record = _record(event, files, left_out=left_out, hidden=hidden, doubts=doubts)
    files[EXPORT_RECORD] = sealed_bytes(record)
    return Exported(event, _written(folder, files), left_out, hidden, doubts)


def _refuse_another(folder: Path, event: Event) -> None:
    """Refuse a folder that holds another event's evidence: the two would be taken for one."""
    path = folder / EXPORT_RECORD
    if not path.exists():
        return
    try:
        other = read_record(path.read_bytes(), name=str(path)).get("event_id")
    except (OSError, UnsupportedFormat):
        other = "nobody knows which"
    if other != event.id:
        raise ConfigInvalid(f"{folder} holds evidence of another event ({other}); name another folder")


def _redrawn(pipeline: Pipeline, event: Event) -> Pieces:
    """Return an event's pieces, drawn anew with bystanders hidden."""
    clip = pipeline.ledger.require_clip(event.clip_id or "")
    dt = keys.dt_of(clip.started_at)
    detections = schemas.detections_from(pipeline.lake.read("detections", dt=dt, name=clip.id))
    looks = schemas.coverage_from(pipeline.lake.read("coverage", dt=dt, name=clip.id))
    with tempfile.TemporaryDirectory(dir=pipeline.scratch) as scratch:
        footage = Footage(pipeline, clip, detections, looks, Path(scratch))
        return draw_pieces(footage, [event], blurred=True)[event.id]


def _account(pieces: Pieces) -> dict[str, Any]:
    """Return what was hidden, in numbers and words."""
    return {
        "in": [name for name in (keys.STILL, keys.EXCERPT) if name in pieces.made],
        "in_still_by_label": dict(sorted(pieces.hidden.items())),
        "most_boxes_in_one_picture": pieces.most_hidden,
        "warning": WARNING,
    }


def _record(
    event: Event,
    files: Mapping[str, bytes],
    *,
    left_out: Mapping[str, str],
    hidden: Mapping[str, Any] | None,
    doubts: Mapping[str, str],
) -> dict[str, Any]:
    """Return the record of what is handed out, which names the record it is taken from by its seal."""
    try:
        origin = read_record(files.get(keys.RECORD, b"{}"), name=keys.RECORD)
    except UnsupportedFormat:  # it is among the doubts
        origin = {}
    return {
        "event_id": event.id,
        "from_seal": origin.get(SEAL),
        "hidden": hidden,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "left_out": dict(left_out),
        "not_as_sealed": dict(doubts),
        "software": SOFTWARE,
    }


def _written(folder: Path, files: Mapping[str, bytes]) -> tuple[Path, ...]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*PIECES, keys.RECORD, EXPORT_RECORD):
            (folder / name).unlink(missing_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise ConfigInvalid(
            f"evidence cannot be written to {folder}: {error}; name another folder"
        ) from error
    return tuple(folder / name for name in files)
