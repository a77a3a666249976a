"""Pull footage from where stations leave it: list, wait until files are whole, fetch, land, remember.

Belongs here: the order of these for one source, and what is counted. Not here: reaching sources
(``ingest/sources``), their settings (``sources.py``), what was taken before (``storage/pulled.py``), and
what happens to what has landed (``landing.py`` and the steps after it).

A file is marked as taken only once it has landed, and landing the same file twice is landing it once: a
crash anywhere in between costs a fetch at most.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import structlog

from ingest.sources.rtsp import record_segment
from ingest.sources.taking import Listed, plan
from outwatch.domain.errors import (
    ConfigInvalid,
    DatabaseUnavailable,
    FeedTimeout,
    NoRoom,
    OutwatchError,
    PermanentError,
    StoreUnavailable,
    TransientError,
)
from outwatch.domain.ports import FootageSource, RemoteFile
from outwatch.domain.types import Outcome
from outwatch.pipeline.landing import Landed, land, parse_declared, require_room
from outwatch.pipeline.sources import build_source, camera_url, is_camera
from outwatch.pipeline.wiring import Pipeline
from outwatch.settings import PullSource
from storage.pulled import PulledFile, fingerprint
from storage.tables import PullState

log = structlog.get_logger(__name__)

MAX_NOTES = 20
"""Reasons that an outcome carries; all of them are in the memory of pulled files."""


def source_names(pipeline: Pipeline) -> list[str]:
    """Return the names of the sources that are switched on."""
    return [source.name for source in pipeline.settings.pull.sources if source.enabled]


def pulled_files(pipeline: Pipeline, name: str | None = None) -> list[PulledFile]:
    """Return what is known of the files of one source, or of all."""
    return pipeline.pulled_files.files(None if name is None else _source(pipeline, name).name)


def reopen_refused(pipeline: Pipeline, name: str) -> int:
    """Have a source's refused files looked at again, once the cause is mended; return how many."""
    return pipeline.pulled_files.reopen_refused(_source(pipeline, name).name)


def pull_source(pipeline: Pipeline, name: str) -> Outcome:
    """Take what a source has that is new and whole, or record a segment from a camera.

    Counts files ``listed``, ``waiting``, ``taken``, ``refused`` and ``failed``, and paths ``skipped``. A
    file that fails is told in the notes and stops no other; where a source falls silent midway, the next
    run goes on there.

    Raises:
        ConfigInvalid: there is no such source, or its settings are wrong.
        FeedTimeout, AccessDenied, ObjectMissing: the source cannot be listed.
        NoRoom: less is free on the disk than ``ingest.min_free_bytes``.
        StoreUnavailable, DatabaseUnavailable: our own store or ledger did not answer.
    """
    source = _source(pipeline, name)
    with _alone(pipeline, name) as alone:
        if not alone:
            return Outcome("pull_sources", name, notes=("another pull of this source is under way",))
        require_room(pipeline.settings, 0)
        run = _Run(pipeline, source)
        if is_camera(source):
            run.record()
        else:
            with closing(build_source(source)) as files:
                run.take_files(files)
    outcome = Outcome(
        "pull_sources", name, tuple(run.uploads), dict(run.counts), notes=tuple(run.notes[:MAX_NOTES])
    )
    log.info("source_pulled", source=name, **outcome.counts)
    return outcome


@dataclass(slots=True)
class _Run:
    """One run over one source."""

    pipeline: Pipeline
    source: PullSource
    counts: Counter[str] = field(
        default_factory=lambda: Counter(listed=0, waiting=0, taken=0, refused=0, failed=0, skipped=0)
    )
    uploads: dict[str, None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def take_files(self, files: FootageSource) -> None:
        """List a source and take what may be taken."""
        found = list({file.path: file for file in files.list()}.values())
        self.counts["listed"], self.counts["skipped"] = len(found), len(files.skipped)
        self.notes += [f"{path!r} was skipped: {reason}" for path, reason in files.skipped.items()]
        seen = self.pipeline.pulled_files.see(self.source.name, found)
        made = plan(
            [
                Listed(file, row.unchanged_since, is_settled=row.state is not PullState.WAITING)
                for file, row in zip(found, seen, strict=True)
            ],
            now=self.pipeline.now(),
            source_now=files.clock,
            settle=self.source.settle,
            max_file_bytes=self.source.max_file_bytes,
        )
        rows = dict(zip((file.path for file in found), zip(found, seen, strict=True), strict=True))
        for state, reasons in ((PullState.REFUSED, made.refused), (PullState.WAITING, made.waiting)):
            for path, reason in reasons.items():
                file, row = rows[path]
                self.counts[state.value] += 1
                if (row.state, row.reason) != (state, reason):
                    self.settle([file], state, reason)
        room = self.source.max_files_per_run
        for number, members in enumerate(made.sets):
            room -= len(members)
            if number > 0 and room < 0:
                self.wait(members, "waits for the next run: max_files_per_run is reached")
                continue
            try:
                self._take(members, files)
            except TransientError as error:
                if isinstance(error, StoreUnavailable | DatabaseUnavailable | NoRoom):
                    raise  # it is not the source that failed, and the next file would fare no better
                self.fail(members, error)
                for later in made.sets[number + 1 :]:
                    self.wait(later, "waits for the next run: the source fell silent")
                return

    def _take(self, members: Sequence[RemoteFile], files: FootageSource) -> None:
        """Fetch a set of files that belong together, land it, and remember that."""
        size_bytes = sum(file.size_bytes or 0 for file in members)
        try:
            require_room(self.pipeline.settings, 2 * size_bytes)  # fetched, and copied when it lands
        except NoRoom as error:
            self.wait(members, str(error))
            return
        folder = _fetch_folder(self.pipeline, self.source, members)
        try:
            paths = [_fetched(files, file, folder) for file in members]
            if changed := [file.path for file in members if not _is_still(files, file)]:
                self.wait(members, f"{changed[0]} changed while it was fetched: it is still being written")
                shutil.rmtree(folder)
                return
        except PermanentError as error:  # gone meanwhile, or not for us to read
            self.fail(members, error)
            return
        except FeedTimeout as error:
            self._say_why(members, files, error)
            return
        self.land(members, paths)
        shutil.rmtree(folder)

    def land(self, members: Sequence[RemoteFile], paths: Sequence[Path]) -> None:
        """Hand fetched files over, and remember of each where it went or why it could not."""
        results = land(self.pipeline, paths, declared=self.source.declared)
        for file, path in zip(members, paths, strict=True):
            landed = _landed(path.name, results)
            if landed is None or landed.upload_id is None:
                reason = landed.error if landed else "belongs to no clip: none of its name is there"
                self.counts["refused"] += 1
                self.settle([file], PullState.REFUSED, reason)
                continue
            upload = self.pipeline.ledger.upload(landed.upload_id)
            hashes = {row.name: row.sha256 for row in upload.files} if upload else {}
            self.counts["taken"] += 1
            self.uploads[landed.upload_id] = None
            self.pipeline.pulled_files.settle(
                self.source.name,
                file,
                PullState.TAKEN,
                upload_id=landed.upload_id,
                sha256=hashes.get(path.name),
            )

    def _say_why(self, members: Sequence[RemoteFile], files: FootageSource, error: FeedTimeout) -> None:
        """Tell a file that is still being written from a source that fails.

        Raises:
            FeedTimeout: the source no longer answers at all.
        """
        try:
            changed = [file.path for file in members if not _is_still(files, file)]
        except PermanentError as gone:
            self.fail(members, gone)
            return
        if changed:
            self.wait(members, f"{changed[0]} changed while it was fetched: it is still being written")
        else:
            self.fail(members, error)

    def wait(self, members: Sequence[RemoteFile], reason: str) -> None:
        """Leave files for the next run."""
        self.counts["waiting"] += len(members)
        self.settle(members, PullState.WAITING, reason)

    def fail(self, members: Sequence[RemoteFile], error: OutwatchError) -> None:
        """Leave files that could not be taken for the next run, and say so."""
        self.counts["failed"] += len(members)
        self.settle(members, PullState.WAITING, str(error))
        log.warning(
            "pull_failed", source=self.source.name, files=[file.path for file in members], error=str(error)
        )

    def settle(self, members: Sequence[RemoteFile], state: PullState, reason: str | None) -> None:
        """Remember why files wait or are refused."""
        for file in members:
            self.notes.append(f"{file.path!r}: {reason}")
            self.pipeline.pulled_files.settle(self.source.name, file, state, reason=reason)

    def record(self) -> None:
        """Record one segment from a camera and land it, whatever its length.

        A segment whose run was killed, or found no room or no store to land in, lands first: the camera
        does not have it any more.
        """
        folder = self.pipeline.scratch / f"camera-{self.source.name}"
        folder.mkdir(exist_ok=True)
        os.utime(folder)  # the sweep clears what nobody has touched for a day
        for path in sorted(folder.iterdir()):
            if path.stat().st_size:
                self._land_segment(path)
            else:
                path.unlink()  # killed before the first picture
        segment = record_segment(
            camera_url(self.source),
            seconds=self.source.segment_s,
            out=folder / f"{self.source.name}-{self.pipeline.now():%Y%m%dT%H%M%SZ}.mkv",
            timeout_s=self.source.timeout_s,
            max_bytes=self.source.max_file_bytes,
        )
        if segment.ended_early is not None:
            self.notes.append(segment.ended_early)
        self._land_segment(segment.path)

    def _land_segment(self, path: Path) -> None:
        status = path.stat()
        file = RemoteFile(path.name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
        self.counts["listed"] += 1
        self.pipeline.pulled_files.see(self.source.name, [file])
        taken = self.counts["taken"]
        self.land([file], [path])
        if self.counts["taken"] > taken:
            path.unlink()


def _source(pipeline: Pipeline, name: str) -> PullSource:
    for source in pipeline.settings.pull.sources:
        if source.name == name:
            told = json.dumps(source.declared).encode()
            parse_declared(told, source=f"source {name}")
            return source
    known = ", ".join(source.name for source in pipeline.settings.pull.sources) or "none"
    raise ConfigInvalid(f"no source {name!r} in [[pull.sources]]: expected one of {known}")


@contextmanager
def _alone(pipeline: Pipeline, name: str) -> Iterator[bool]:
    """Tell whether this is the only pull of a source on this machine, and keep it so.

    The lock dies with its process. Two machines may pull one source: content decides what is new.
    """
    folder = pipeline.settings.home_dir / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / f"pull-{name}").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _fetch_folder(pipeline: Pipeline, source: PullSource, members: Sequence[RemoteFile]) -> Path:
    """Return the folder that these versions of these files are fetched to, by this run or a later one.

    A fetch that was killed goes on there; bytes of two versions of a file never meet.
    """
    told = repr([source.name, source.url, *((file.path, fingerprint(file)) for file in members)])
    folder = pipeline.scratch / f"pull-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    folder.mkdir(exist_ok=True)
    os.utime(folder)  # the sweep clears what nobody has touched for a day
    return folder


def _fetched(files: FootageSource, file: RemoteFile, folder: Path) -> Path:
    """Return a file's local copy, fetched now unless an earlier run did."""
    path = folder / PurePosixPath(file.path).name
    if not path.exists():
        try:
            files.fetch(file, path)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise NoRoom(f"{path} cannot be written: {error}; free space") from error
            raise ConfigInvalid(f"{path} cannot be written: {error}; check OUTWATCH_HOME") from error
    return path


def _is_still(files: FootageSource, file: RemoteFile) -> bool:
    return fingerprint(files.stat(file.path)) == fingerprint(file)


def _landed(name: str, results: Sequence[Landed]) -> Landed | None:
    """Return where a file went: of the sets that it is in, one that landed."""
    among = [landed for landed in results if name in landed.names]
    return next((landed for landed in among if landed.upload_id), among[0] if among else None)
