"""From files as they came to registered clips: landing on one side, footage and quarantine on the other.

Belongs here: joining ``ingest`` (what a file is) with ``storage`` (where it goes) for one upload.
Not here: claiming work and the order of steps (``steps.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ingest.align import fit_to_clip
from ingest.register import build_clip, refusal, sort_upload
from ingest.srt import parse_srt
from ingest.video import ProbedVideo, probe_video
from outwatch.domain.cameras import resolve_camera
from outwatch.domain.errors import ConfigInvalid, ObjectMissing, PermanentError, TelemetryInvalid, UnsupportedFormat
from outwatch.domain.types import Clip, Telemetry
from outwatch.pipeline.wiring import SOFTWARE, Pipeline
from storage import keys, schemas
from storage.ledger import FileOutcome, LandedFile, Upload

MANIFEST_SUFFIX = ".outwatch.json"
"""``<clip name>.outwatch.json`` beside a clip declares what the operator knows of it."""
DECLARABLE = ("camera", "platform", "flight_id", "time_zone")
"""What an operator may declare: by manifest, or by option of the command line, which wins."""


@dataclass(slots=True)
class Registered:
    """What became of an upload."""

    clips: list[Clip] = field(default_factory=list)
    replaced: list[Clip] = field(default_factory=list)
    """Earlier registrations that better telemetry or camera supersede."""
    files: list[FileOutcome] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    landing_keys: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Return how many files had which outcome."""
        counts = {"clips": len(self.clips)}
        for file in self.files:
            counts[file.outcome] = counts.get(file.outcome, 0) + 1
        return counts

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the reason of each file that has one."""
        return tuple(f"{file.name}: {file.reason}" for file in self.files if file.reason)


@dataclass(frozen=True, slots=True)
class Landed:
    """One set of files that went to ``landing/`` together: a clip and what lies beside it."""

    upload_id: str
    names: tuple[str, ...]
    is_new: bool


def land(pipeline: Pipeline, paths: Sequence[Path], *, declared: Mapping[str, str]) -> list[Landed]:
    """Copy local files to ``landing/``, one upload a clip, and open their registration.

    Telemetry and manifest are found beside a clip by name. The same files with the same
    declaration are the same upload, and land once.

    Raises:
        UnsupportedFormat: a path is not a regular file.
    """
    wanted: dict[Path, None] = {}
    for path in paths:
        if not path.is_file():
            raise UnsupportedFormat(f"{path} is not a file: name video files, or their telemetry")
        wanted[path] = None
        for beside in sidecars_of(path):
            wanted[beside] = None
    by_folder: dict[Path, list[Path]] = {}
    for path in wanted:
        by_folder.setdefault(path.parent, []).append(path)
    landed = []
    for folder, members in by_folder.items():
        for group in sort_upload([path.name for path in members]):
            landed.append(_land_group(pipeline, [folder / name for name in group.names], declared))
    return landed


def sidecars_of(path: Path) -> list[Path]:
    """Return the telemetry and manifest files that lie beside a clip under its name."""
    stem = path.stem.casefold()
    wanted = {f"{stem}.srt", f"{stem}{MANIFEST_SUFFIX}"}
    return sorted(
        other for other in path.parent.iterdir()
        if other.name.casefold() in wanted and other != path and other.is_file()
    )


def _land_group(pipeline: Pipeline, paths: Sequence[Path], declared: Mapping[str, str]) -> Landed:
    hashes = {path: keys.sha256_file(path) for path in paths}
    identity = [(path.name, sha256) for path, sha256 in hashes.items()]
    if declared:
        text = json.dumps(dict(sorted(declared.items())), ensure_ascii=False)
        identity.append(("declared", hashlib.sha256(text.encode()).hexdigest()))
    upload_id = keys.upload_id(identity)
    names = tuple(path.name for path in paths)
    if pipeline.ledger.upload(upload_id) is not None:
        return Landed(upload_id, names, is_new=False)
    received_at = pipeline.now()
    rows = []
    for path, sha256 in hashes.items():
        key = keys.landing(upload_id, path.name)
        pipeline.store.upload(key, path)
        status = path.stat()
        rows.append(
            LandedFile(
                upload_id=upload_id,
                name=path.name,
                sha256=sha256,
                size_bytes=status.st_size,
                received_at=received_at,
                modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
                key=key,
            )
        )
    is_new = pipeline.ledger.record_upload(rows, declared=declared, opens=[("ingest_footage", upload_id)])
    return Landed(upload_id, names, is_new=is_new)


def register_upload(pipeline: Pipeline, upload_id: str, *, folder: Path) -> Registered:
    """Register every clip of an upload and account for every file in it.

    Args:
        folder: empty, for the local copies that the confined decoder reads.

    Raises:
        ObjectMissing: the ledger knows no such upload, or its files are gone from ``landing/``.
    """
    upload = pipeline.ledger.upload(upload_id)
    if upload is None:
        raise ObjectMissing(f"upload {upload_id} is not in the ledger: land its files again")
    registered = Registered(landing_keys=[file.key for file in upload.files])
    local = {file.name: folder / f"{number}{Path(file.name).suffix}" for number, file in enumerate(upload.files)}
    for file in upload.files:
        pipeline.store.download(file.key, local[file.name])
    for group in sort_upload(list(local)):
        _Registration(pipeline, upload, local, registered).run(group)
    return registered
