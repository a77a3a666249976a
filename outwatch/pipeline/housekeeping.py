"""Keep house: settle what arrived, free what dead workers held, clear what they left behind.

Belongs here: what the sweep does, none of which is the work of a step. Not here: the steps
(``steps.py``), and how uploads are handed over (``landing.py``, ``incoming.py``).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import structlog

from outwatch.domain.errors import KeyInvalid, ObjectMissing
from outwatch.domain.ports import ObjectInfo
from outwatch.domain.types import Outcome
from outwatch.pipeline.incoming import settle_incoming
from outwatch.pipeline.landing import adopt_upload
from outwatch.pipeline.wiring import Pipeline
from storage import keys
from storage.ledger import Upload
from storage.tables import FileState, WorkState

log = structlog.get_logger(__name__)

SCRATCH_KEPT = timedelta(days=1)
"""No step works for a day: an older scratch folder belongs to a worker that died."""


def sweep(pipeline: Pipeline) -> Outcome:
    """Settle uploads and ``landing/``, free the work of dead workers, clear old scratch."""
    counts = {
        **settle_incoming(pipeline),
        **_keep_landing(pipeline),
        "freed": pipeline.ledger.release_stale(),
        "scratch_cleared": _clear_scratch(pipeline.scratch),
        "partial_writes_cleared": pipeline.store.sweep_partial(SCRATCH_KEPT),
    }
    return Outcome("sweep", "", counts=counts)


def _keep_landing(pipeline: Pipeline) -> dict[str, int]:
    """Record settled uploads that no client of ours landed; remove what registered uploads left behind."""
    counts = {"adopted": 0, "landing_cleared": 0, "landing_waiting": 0, "landing_strays": 0}
    found: dict[str, list[ObjectInfo]] = {}
    for info in pipeline.store.list(keys.landing_prefix()):
        try:
            found.setdefault(keys.parse_landing(info.key)[0], []).append(info)
        except KeyInvalid as error:
            log.warning("landing_stray", key=info.key, error=str(error))
            counts["landing_strays"] += 1
    settled = pipeline.now() - pipeline.settings.ingest.landing_settle
    for upload_id, infos in found.items():
        upload = pipeline.ledger.upload(upload_id)
        if upload is not None:
            counts["landing_cleared"] += _clear_landing(pipeline, upload, infos)
        elif max(info.modified_at for info in infos) >= settled or not _adopt(pipeline, upload_id, infos):
            counts["landing_waiting"] += len(infos)
        else:
            counts["adopted"] += 1
    return counts


def _adopt(pipeline: Pipeline, upload_id: str, infos: Sequence[ObjectInfo]) -> bool:
    try:
        return adopt_upload(pipeline, upload_id, infos)
    except ObjectMissing:  # another sweep adopted it, and it is registered already
        return False


def _clear_landing(pipeline: Pipeline, upload: Upload, infos: Sequence[ObjectInfo]) -> int:
    """Remove what a registered upload left in landing; never a file whose content was not registered."""
    work = pipeline.ledger.work_on("ingest_footage", upload.id)
    if work is None or work.state is not WorkState.DONE:
        return 0
    settled = {file.key: file.sha256 for file in upload.files if file.outcome is not FileState.LANDED}
    cleared = 0
    with tempfile.TemporaryDirectory(dir=pipeline.scratch) as folder:
        for info in infos:
            local = Path(folder) / "object"
            pipeline.store.download(info.key, local)
            if keys.sha256_file(local) == settled.get(info.key):
                pipeline.store.delete(info.key)
                cleared += 1
            else:
                log.warning("landing_unrecorded", key=info.key)
    return cleared


def _clear_scratch(scratch: Path) -> int:
    oldest = time.time() - SCRATCH_KEPT.total_seconds()
    cleared = 0
    for path in scratch.iterdir():
        try:
            old = path.stat().st_mtime < oldest
        except FileNotFoundError:  # its worker has just ended
            continue
        if old:
            shutil.rmtree(path, ignore_errors=True)
            cleared += 1
    return cleared
