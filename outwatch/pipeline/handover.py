"""From files that came whole to ``landing/``: which land together, when, and what becomes of the rest.

Belongs here: bundles of a clip with what lies beside it, handing them over, and closing a package. Not here:
how files come (``incoming.py``, ``spool.py``) and what ``landing`` does with them.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Literal

import structlog

from ingest.courier.package import Role
from ingest.register import MANIFEST_SUFFIX, sort_upload
from outwatch.domain.errors import PackageRefused
from outwatch.pipeline.landing import (
    Landed,
    MissingFile,
    land,
    manifest_name,
    preview_name,
    record_without_content,
)
from outwatch.pipeline.quarantine import quarantine
from outwatch.pipeline.spool import MANIFEST_ROLE, Arrival, ArrivalState, Parcel, Spool
from outwatch.pipeline.wiring import Pipeline
from storage import keys
from storage.tables import FileState

log = structlog.get_logger(__name__)

CAME_ALONE = "came whole, but the clip it belongs to did not: it is in quarantine; hand both in again"


def hand_over(pipeline: Pipeline, spool: Spool, parcel: Parcel, *, partial: bool) -> Counter[str]:
    """Land each clip whose telemetry has come too, and return how many were new and how many known.

    Args:
        pipeline: where they land.
        spool: where they are.
        parcel: as it stands.
        partial: do not wait for what is missing.
    """
    files = {file.path: file for file in content_of(parcel)}
    bundles = list(_bundles(files))
    done = {path for path, file in files.items() if file.state is ArrivalState.LANDED}
    counts: Counter[str] = Counter()
    for bundle in bundles:
        first, *rest = (files[path] for path in bundle)
        whole = all(
            file.state in {ArrivalState.CONFIRMED, ArrivalState.LANDED} or _is_wrong_manifest(file)
            for file in rest
        )
        waits = not partial and (not whole or _waits_for_clip(first, parcel, pipeline.now()))
        if first.state is not ArrivalState.CONFIRMED or waits:
            continue
        on_hand = [first, *(file for file in rest if file.state is ArrivalState.CONFIRMED)]
        landed = _land_bundle(pipeline, spool, on_hand, parcel)
        if landed is None:
            continue
        done.add(first.path)
        counts["incoming_landed" if landed.is_new else "incoming_known"] += 1
        for file in on_hand:
            # What several clips share stays until the last of them has it.
            if all(other[0] in done for other in bundles if file.path in other):
                spool.settle(file, ArrivalState.LANDED, upload_id=landed.upload_id or "")
                spool.drop_part(file)
    return counts


def close(pipeline: Pipeline, spool: Spool, package: str) -> Counter[str]:
    """Land what has come of a package, account for the rest, and forget it: no more will come."""
    parcel = spool.parcel(package)
    if parcel is None:
        return Counter()
    moved_at = spool.moved_at(parcel)
    counts = hand_over(pipeline, spool, parcel, partial=True)
    parcel = spool.parcel(package) or parcel
    # Where no manifest came whole, its own row says that something was on its way.
    content = content_of(parcel) or parcel.files
    rest = [file for file in content if file.state is not ArrivalState.LANDED and file.role != Role.PREVIEW]
    missing = [_missing(pipeline, spool, file, moved_at=moved_at) for file in rest]
    record_without_content(pipeline, missing, source=f"package {package} from {parcel.client}")
    spool.remove(package)
    counts["incoming_abandoned"] = len(missing)
    if missing:
        log.warning("package_closed", package=package, missing=[file.name for file in missing])
    return counts


def _bundles(files: Mapping[str, Arrival]) -> Iterator[tuple[str, ...]]:
    """Yield the paths that land together, the clip first; telemetry of no clip is a bundle of its own."""
    companions = {
        path for path, file in files.items() if file.role == Role.PREVIEW or path.endswith(MANIFEST_SUFFIX)
    }
    sorted_paths = sort_upload(files.keys() - companions)
    taken: set[str] = set()
    for group in sorted_paths.groups:
        folder = PurePosixPath(group.video).parent
        beside = (str(folder / name(group.video)) for name in (manifest_name, preview_name))
        bundle = (group.video, *group.sidecars, *(path for path in beside if path in files))
        taken.update(bundle)
        yield bundle
    for path in files.keys() - companions:
        if path not in taken:
            yield (path,)


def _is_wrong_manifest(file: Arrival) -> bool:
    """Tell whether a file is a refused declaration, for which its clip need not wait."""
    return file.state is ArrivalState.REFUSED and file.path.endswith(MANIFEST_SUFFIX)


def _waits_for_clip(file: Arrival, parcel: Parcel, now: datetime) -> bool:
    """Tell whether a file of no clip may yet find one in its group."""
    is_clip = bool(sort_upload([file.path]).groups)
    return parcel.open_until is not None and now < parcel.open_until and not is_clip


def _land_bundle(pipeline: Pipeline, spool: Spool, files: Sequence[Arrival], parcel: Parcel) -> Landed | None:
    """Land files under their own names; return None where they could not be, and say so beside the first."""
    with tempfile.TemporaryDirectory(dir=pipeline.scratch) as folder:
        staged: list[Path] = []
        for file in files:
            path = Path(folder) / PurePosixPath(file.path).name
            if path.exists():  # logs of one name in several folders of a card
                path = path.with_name(f"{file.number}_{path.name}")
            os.link(spool.part(file), path)
            if file.modified_at is not None:
                os.utime(path, (file.modified_at.timestamp(),) * 2)
            staged.append(path)
        results = land(pipeline, staged, declared=parcel.declared)
    errors = "; ".join(result.error for result in results if result.error is not None)
    if errors or not results:
        spool.settle(files[0], ArrivalState.CONFIRMED, reason=errors)
        log.warning("not_landed", package=parcel.id, file=files[0].path, errors=errors)
        return None
    log.info("landed", package=parcel.id, file=files[0].path, upload_id=results[0].upload_id)
    return results[0]


def _missing(pipeline: Pipeline, spool: Spool, file: Arrival, *, moved_at: datetime) -> MissingFile:
    """Return the row of a file that did not land; one that came whole goes to quarantine."""
    outcome: Literal[FileState.REFUSED, FileState.ABANDONED] = FileState.ABANDONED
    if file.state is ArrivalState.CONFIRMED:
        reason = file.reason or CAME_ALONE
        sha256 = keys.sha256_file(spool.part(file))
        quarantine(pipeline, spool.part(file), name=file.path, sha256=sha256, error=PackageRefused(reason))
    elif file.state is ArrivalState.REFUSED:
        reason, outcome = file.reason, FileState.REFUSED
    else:
        came = f"{spool.offset(file) / 1e6:.1f} of {file.size_bytes / 1e6:.1f} MB"
        reason = file.reason or f"only {came} came by {moved_at:%Y-%m-%d %H:%M} UTC; hand it in again"
    return MissingFile(file.path, file.sha256 or "", file.size_bytes, outcome, reason)


def content_of(parcel: Parcel) -> tuple[Arrival, ...]:
    """Return a package's files without its manifest."""
    return tuple(file for file in parcel.files if file.role != MANIFEST_ROLE)
