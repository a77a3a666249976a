"""The ledger: the truth about what has been done, one row per upload, landed file, clip and piece of work.

Belongs here: recording uploads and clips, and handing work out under leases. Not here: doing the work
(``outwatch/pipeline/steps.py``), alerts (``storage/alert_book.py``).

A piece of work is a step and a subject. It is ``open``, then ``claimed`` by one worker under a lease, then
``done``, ``failed``, or ``open`` again. A claim ends when its lease runs out or its process is known to be
dead; the claim's number then keeps a worker that wakes up late from writing over its successor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, or_, select, update

from outwatch.domain.errors import DatabaseUnavailable, LeaseLost, ObjectMissing
from outwatch.domain.types import Clip, Outcome
from storage import tables
from storage.database import insert_new, reading, serialise, storable, upsert, writing
from storage.schemas import clip_from_json, clip_json
from storage.tables import FileState, WorkState
from storage.workers import is_dead

RENEWALS_PER_LEASE = 3
"""So that two renewals may fail, on a busy database or a stalled disk, before a lease is lost."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LandedFile:
    """One file of one upload, and what became of it."""

    upload_id: str
    name: str
    sha256: str
    size_bytes: int
    received_at: datetime
    modified_at: datetime | None
    """The file's own time, None where it came without one."""
    key: str
    outcome: FileState = FileState.LANDED
    reason: str | None = None
    clip_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOutcome:
    """What a step found a landed file to be."""

    upload_id: str
    name: str
    outcome: FileState
    reason: str | None = None
    clip_id: str | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """Files that came together, in order of name, with what the operator said of them."""

    id: str
    files: tuple[LandedFile, ...]
    declared: Mapping[str, Any]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to do one piece of work until ``lease_until``, unless renewed."""

    step: str
    subject: str
    number: int
    """How many claims this piece of work has seen; a later one ends this one."""
    attempts: int
    """Which try this is since the work was opened or reopened, from 1; killed tries count."""
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work as it stands."""

    step: str
    subject: str
    state: WorkState
    worker: str | None
    """Who holds it or ended it."""
    lease_until: datetime | None
    attempts: int
    error: str | None
    """Why the last try did not succeed."""
    outcome: Outcome | None
    opened_at: datetime
    updated_at: datetime


class Hold:
    """A claim being renewed in the background, and whether that still succeeds."""

    def __init__(self) -> None:
        self._lost = threading.Event()

    @property
    def lost(self) -> bool:
        """Return whether another worker may by now have the work."""
        return self._lost.is_set()


class Ledger:
    """The ledger, as one worker sees it.

    Args:
        engine: a migrated database.
        worker: this process's ``storage.workers.worker_name()``.
        lease: how long a claim lasts without renewal; far above the difference of machines' clocks.
        now: the time, UTC-aware.
    """

    def __init__(self, engine: Engine, *, worker: str, lease: timedelta, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._worker = worker
        self._lease = lease
        self._now = now

    def record_upload(
        self,
        files: Sequence[LandedFile],
        *,
        declared: Mapping[str, Any],
        opens: Sequence[tuple[str, str]],
    ) -> bool:
        """Record an upload with its files and open work on it, all or nothing.

        Args:
            files: at least one, all of one upload.
            declared: what the operator said, JSON values: camera, time zone, platform, flight.
            opens: (step, subject) of the work that follows.

        Returns:
            False where the upload was known, in which case nothing changes.

        Raises:
            ValueError: the files are none or of several uploads.
        """
        uploads = sorted({file.upload_id for file in files})
        if len(uploads) != 1:
            raise ValueError(f"expected the files of one upload, found uploads {uploads}")
        received_at = min(file.received_at for file in files)
        upload = {"upload_id": uploads[0], "declared": dict(declared), "received_at": received_at}
        with writing(self._engine) as connection:
            if not insert_new(connection, tables.uploads, [upload]):
                return False
            insert_new(connection, tables.landed_files, [_file_row(file) for file in files])
            self._open(connection, opens)
        return True

    def upload(self, upload_id: str) -> Upload | None:
        """Return an upload with its files, or None where it is unknown."""
        return next(iter(self._uploads(tables.uploads.c.upload_id == upload_id)), None)

    def uploads(self, since: datetime | None = None) -> list[Upload]:
        """Return the uploads received at or after ``since``, oldest first."""
        return self._uploads(*([] if since is None else [tables.uploads.c.received_at >= since]))

    def open_work(self, step: str, subject: str) -> bool:
        """Open a piece of work; where it is known, in whatever state, leave it and return False."""
        with writing(self._engine) as connection:
            return self._open(connection, [(step, subject)]) == 1

    def wake(self, connection: Connection, opens: Sequence[tuple[str, str]]) -> None:
        """Open work, done work again, in a transaction of the caller's; what is under way goes on.

        Its end waits for that transaction, so that ``complete(also=...)`` sees all that the caller wrote.
        """
        work = tables.work
        self._open(connection, opens)
        again = {"state": WorkState.OPEN, "attempts": 0, "error": None, "outcome": None}
        for step, subject in opens:
            state = connection.scalar(select(work.c.state).where(_is(step, subject)).with_for_update())
            if state == WorkState.DONE:
                changes = update(work).where(_is(step, subject)).values(**again, updated_at=self._now())
                connection.execute(changes)

    def open_subjects(self, step: str) -> list[str]:
        """Return the subjects of a step that can be claimed now, those opened first at the front."""
        work = tables.work
        with reading(self._engine) as connection:
            free = self._free(_dead_workers(connection))
            query = select(work.c.subject).where(work.c.step == step, free)
            return list(connection.scalars(query.order_by(work.c.opened_at, work.c.subject)))

    def claim(self, step: str, subject: str) -> Claim | None:
        """Take a piece of work for this worker, or return None where it is not to be had.

        Of any number of workers that try at once, one gets it: the update's condition decides.
        """
        work, now = tables.work, self._now()
        lease_until = now + self._lease
        with writing(self._engine) as connection:
            dead = _dead_workers(connection, _is(step, subject))
            row = connection.execute(
                update(work)
                .where(_is(step, subject), self._free(dead))
                .values(
                    state=WorkState.CLAIMED,
                    worker=self._worker,
                    lease_until=lease_until,
                    claim_number=work.c.claim_number + 1,
                    attempts=work.c.attempts + 1,
                    updated_at=now,
                )
                .returning(work.c.claim_number, work.c.attempts)
            ).one_or_none()
        return None if row is None else Claim(step, subject, row.claim_number, row.attempts, lease_until)

    def renew(self, claim: Claim) -> bool:
        """Start a claim's lease anew; return False where the claim was lost."""
        return self._update(claim, {"lease_until": self._now() + self._lease})

    @contextmanager
    def hold(self, claim: Claim) -> Iterator[Hold]:
        """Renew a claim in the background as long as the block runs."""
        held, done = Hold(), threading.Event()
        thread = threading.Thread(target=self._keep, args=(claim, held, done), daemon=True)
        thread.start()
        try:
            yield held
        finally:
            done.set()
            thread.join()

    def complete(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        clips: Sequence[Clip] = (),
        replaces: Sequence[Clip] = (),
        files: Sequence[FileOutcome] = (),
        opens: Sequence[tuple[str, str]] = (),
        also: Callable[[Connection], Sequence[tuple[str, str]]] | None = None,
    ) -> None:
        """End a piece of work as done, with all that it found, in one transaction.

        Args:
            claim: the right to do so.
            outcome: what the step did.
            clips: those it registered, or registered anew.
            replaces: what stood for those of them that were known when the work began.
            files: what became of landed files.
            opens: (step, subject) of the work that follows. Where it was done before, it is open
                again, since what it worked on is new; a worker still at it loses its claim.
            also: what else changes in this transaction; it returns more work that follows.

        Raises:
            LeaseLost: the claim was lost, or another worker registered one of the clips, meanwhile;
                nothing changes.
            ValueError: an outcome names a file that never landed; nothing changes.
        """
        done = {"state": WorkState.DONE, "error": None, "outcome": asdict(outcome), "lease_until": None}
        with writing(self._engine) as connection:
            if not self._change(connection, claim, done):
                raise LeaseLost(
                    f"{claim.step} of {claim.subject} was taken over by another worker: its result stands"
                )
            stood = {clip.id: clip for clip in replaces}
            for clip in clips:
                serialise(connection, f"outwatch/clips/{clip.id}")
                if _standing(connection, clip.id) != stood.get(clip.id):
                    raise LeaseLost(f"clip {clip.id} was registered by another worker meanwhile")
                row = {"clip_id": clip.id, "started_at": clip.started_at, "body": clip_json(clip)}
                upsert(connection, tables.clips, row)
            for found in files:
                _settle(connection, found)
            opens = [*opens, *(also(connection) if also is not None else ())]
            self._open(connection, opens)
            self._renew(connection, opens)

    def fail(self, claim: Claim, error: BaseException | str, *, retry: bool) -> bool:
        """End a try: open the work again with ``retry``, else keep it as failed for a person to see.

        Returns:
            False where the claim was lost meanwhile, in which case nothing changes.
        """
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        state = WorkState.OPEN if retry else WorkState.FAILED
        return self._update(claim, {"state": state, "error": storable(text), "lease_until": None})

    def reopen(self, step: str, subject: str) -> bool:
        """Open ended work again, with its attempts at 0; return False where there is none."""
        work = tables.work
        with writing(self._engine) as connection:
            statement = update(work).where(
                _is(step, subject), work.c.state.in_([WorkState.DONE, WorkState.FAILED])
            )
            changes = {"state": WorkState.OPEN, "attempts": 0, "error": None, "outcome": None}
            return connection.execute(statement.values(**changes, updated_at=self._now())).rowcount == 1

    def start_anew(self, work: Sequence[tuple[str, str]]) -> None:
        """Open known work, (step, subject), again; a worker still at it loses its claim."""
        with writing(self._engine) as connection:
            self._renew(connection, work)

    def release_stale(self) -> int:
        """Open again all work whose lease ran out or whose worker is dead, and return how much."""
        work = tables.work
        with writing(self._engine) as connection:
            free = self._free(_dead_workers(connection))
            statement = update(work).where(work.c.state == WorkState.CLAIMED, free)
            released = connection.execute(
                statement.values(
                    state=WorkState.OPEN,
                    error="the worker " + work.c.worker + " stopped without an answer",
                    lease_until=None,
                    updated_at=self._now(),
                )
            ).rowcount
        if released:
            log.warning("stale_work_released", count=released)
        return released

    def work_on(self, step: str, subject: str) -> Work | None:
        """Return one piece of work as it stands, or None where it was never opened."""
        with reading(self._engine) as connection:
            row = connection.execute(select(tables.work).where(_is(step, subject))).one_or_none()
        return None if row is None else _work(row)

    def work(self, step: str | None = None, state: WorkState | None = None) -> list[Work]:
        """Return work as it stands, of one step or in one state where given, oldest first."""
        work = tables.work
        query = select(work).order_by(work.c.opened_at, work.c.step, work.c.subject)
        if step is not None:
            query = query.where(work.c.step == step)
        if state is not None:
            query = query.where(work.c.state == state)
        with reading(self._engine) as connection:
            return [_work(row) for row in connection.execute(query)]

    def clip(self, clip_id: str) -> Clip | None:
        """Return a registered clip, or None where it is unknown."""
        with reading(self._engine) as connection:
            return _standing(connection, clip_id)

    def require_clip(self, clip_id: str) -> Clip:
        """Return a registered clip.

        Raises:
            ObjectMissing: it is unknown.
        """
        clip = self.clip(clip_id)
        if clip is None:
            raise ObjectMissing(f"clip {clip_id} is not in the ledger: ingest its file again")
        return clip

    def clips(self, since: datetime | None = None, *, until: datetime | None = None) -> list[Clip]:
        """Return the clips whose capture started from ``since`` to ``until``, both included, oldest first."""
        clips = tables.clips
        query = select(clips.c.body).order_by(clips.c.started_at, clips.c.clip_id)
        if since is not None:
            query = query.where(clips.c.started_at >= since)
        if until is not None:
            query = query.where(clips.c.started_at <= until)
        with reading(self._engine) as connection:
            return [clip_from_json(body) for body in connection.scalars(query)]

    def _uploads(self, *conditions: ColumnElement[bool]) -> list[Upload]:
        uploads, files = tables.uploads, tables.landed_files
        which = select(uploads).where(*conditions).order_by(uploads.c.received_at, uploads.c.upload_id)
        inside = select(files).join(uploads).where(*conditions).order_by(files.c.name)
        with reading(self._engine) as connection:
            rows = connection.execute(which).all()
            found: dict[str, list[LandedFile]] = {row.upload_id: [] for row in rows}
            for row in connection.execute(inside):
                found[row.upload_id].append(_file(row))
        return [
            Upload(row.upload_id, tuple(found[row.upload_id]), row.declared, row.received_at) for row in rows
        ]

    def _open(self, connection: Connection, opens: Sequence[tuple[str, str]]) -> int:
        now = self._now()
        fresh = {
            "state": WorkState.OPEN,
            "claim_number": 0,
            "attempts": 0,
            "opened_at": now,
            "updated_at": now,
        }
        rows = [{"step": step, "subject": subject, **fresh} for step, subject in opens]
        return insert_new(connection, tables.work, rows)

    def _renew(self, connection: Connection, opens: Sequence[tuple[str, str]]) -> None:
        """Open known work again, whoever holds it: what stands upstream of it has changed."""
        work = tables.work
        for step, subject in opens:
            connection.execute(
                update(work)
                .where(_is(step, subject), work.c.claim_number > 0)
                .values(
                    state=WorkState.OPEN,
                    claim_number=work.c.claim_number + 1,
                    attempts=0,
                    error=None,
                    outcome=None,
                    lease_until=None,
                    updated_at=self._now(),
                )
            )

    def _free(self, dead: Sequence[str]) -> ColumnElement[bool]:
        """Return the condition for work that can be claimed now."""
        work = tables.work
        ended = or_(work.c.lease_until <= self._now(), work.c.worker.in_(dead))
        return or_(work.c.state == WorkState.OPEN, and_(work.c.state == WorkState.CLAIMED, ended))

    def _update(self, claim: Claim, changes: Mapping[str, Any]) -> bool:
        with writing(self._engine) as connection:
            return self._change(connection, claim, changes)

    def _change(self, connection: Connection, claim: Claim, changes: Mapping[str, Any]) -> bool:
        """Change claimed work, if the claim still stands."""
        work = tables.work
        standing = and_(work.c.state == WorkState.CLAIMED, work.c.claim_number == claim.number)
        statement = update(work).where(_is(claim.step, claim.subject), standing)
        return connection.execute(statement.values(**changes, updated_at=self._now())).rowcount == 1

    def _keep(self, claim: Claim, held: Hold, done: threading.Event) -> None:
        """Renew a claim until ``done``, and say in ``held`` when it is lost."""
        while not done.wait(self._lease.total_seconds() / RENEWALS_PER_LEASE):
            try:
                if self.renew(claim):
                    continue
            except DatabaseUnavailable as error:
                # The lease may outlast the database's absence; the next renewal will tell.
                log.warning("lease_not_renewed", step=claim.step, subject=claim.subject, error=str(error))
                continue
            log.warning("lease_lost", step=claim.step, subject=claim.subject)
            held._lost.set()
            return


def _is(step: str, subject: str) -> ColumnElement[bool]:
    return and_(tables.work.c.step == step, tables.work.c.subject == subject)


def _dead_workers(connection: Connection, *conditions: ColumnElement[bool]) -> list[str]:
    """Return the holders of claims that are known to be dead. Their names never come to life again."""
    work = tables.work
    holders = select(work.c.worker).where(work.c.state == WorkState.CLAIMED, *conditions).distinct()
    return [worker for worker in connection.scalars(holders) if is_dead(worker)]


def _standing(connection: Connection, clip_id: str) -> Clip | None:
    body = connection.scalar(select(tables.clips.c.body).where(tables.clips.c.clip_id == clip_id))
    return None if body is None else clip_from_json(body)


def _settle(connection: Connection, found: FileOutcome) -> None:
    files = tables.landed_files
    statement = (
        update(files)
        .where(files.c.upload_id == found.upload_id, files.c.name == found.name)
        .values(outcome=found.outcome, reason=storable(found.reason), clip_id=found.clip_id)
    )
    if connection.execute(statement).rowcount != 1:
        raise ValueError(f"file {found.name!r} of upload {found.upload_id} was never recorded as landed")


def _file_row(file: LandedFile) -> dict[str, Any]:
    return {**asdict(file), "reason": storable(file.reason)}


def _file(row: Row[Any]) -> LandedFile:
    return LandedFile(**{**row._mapping, "outcome": FileState(row.outcome)})


def _outcome(body: Mapping[str, Any]) -> Outcome:
    # JSON has lists where the domain has tuples.
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in body.items()
    }
    return Outcome(**values)


def _work(row: Row[Any]) -> Work:
    return Work(
        step=row.step,
        subject=row.subject,
        state=WorkState(row.state),
        worker=row.worker,
        lease_until=row.lease_until,
        attempts=row.attempts,
        error=row.error,
        outcome=None if row.outcome is None else _outcome(row.outcome),
        opened_at=row.opened_at,
        updated_at=row.updated_at,
    )
