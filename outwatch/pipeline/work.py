"""How any step's work is done: claim, work in an empty folder, complete, or say what went wrong.

Belongs here: the frame around every step. Not here: what a step does (the modules beside this one).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection

from outwatch.domain.errors import LeaseLost, OutwatchError, PermanentError
from outwatch.domain.ports import ObjectInfo
from outwatch.domain.types import Clip, Outcome
from outwatch.pipeline.registration import Registered
from outwatch.pipeline.wiring import Pipeline
from storage.tables import WorkState

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 5
"""Tries after which work is no longer open by itself: what fails so often needs a person."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a step's work is given: an empty folder, whether to give up, and a check of its claim."""

    folder: Path
    last_try: bool
    confirm: Callable[..., None]
    """Raises ``LeaseLost`` where another worker took over, or the clip it is given no longer stands."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a step's work did, and what is to change with it in the ledger."""

    outcome: Outcome
    opens: tuple[tuple[str, str], ...] = ()
    registered: Registered = field(default_factory=Registered)
    also: Callable[[Connection], Sequence[tuple[str, str]]] | None = None
    """What else changes in the transaction that completes the work; returns more work that follows."""


def summary(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain JSON: keys and counts only, small enough for XCom."""
    return asdict(outcome) | {"counts": dict(outcome.counts), "outputs": list(outcome.outputs)}


def open_subjects(pipeline: Pipeline, step: str, *, limit: int | None = None) -> list[str]:
    """Return what is open for a step, oldest first and at most ``limit``: never done, or its worker died."""
    return pipeline.ledger.open_subjects(step)[:limit]


def perform(pipeline: Pipeline, step: str, subject: str, work: Callable[[Job], Done]) -> Outcome:
    """Claim, work in a scratch folder, and complete; on failure say in the ledger what is to come."""
    ledger = pipeline.ledger
    claim = ledger.claim(step, subject)
    if claim is None:
        standing = ledger.work_on(step, subject)
        if standing is not None and standing.state is WorkState.FAILED:
            raise PermanentError(f"failed before ({standing.error}): mend that, then `outwatch retry`")
        return Outcome(step, subject, counts={"skipped": 1})
    logger = log.bind(step=step, subject=subject)

    def confirm(clip: Clip | None = None) -> None:
        if not ledger.renew(claim) or (clip is not None and ledger.clip(clip.id) != clip):
            raise LeaseLost(f"{step} of {subject} was overtaken by another worker: its result stands")

    last_try = claim.attempts >= MAX_ATTEMPTS
    try:
        with tempfile.TemporaryDirectory(dir=pipeline.scratch) as folder, ledger.hold(claim):
            done = work(Job(Path(folder), last_try, confirm))
        ledger.complete(
            claim,
            done.outcome,
            clips=[*done.registered.clips, *(new for _, new in done.registered.moved)],
            replaces=[*done.registered.replaced, *(old for old, _ in done.registered.moved)],
            files=list(done.registered.files.values()),
            opens=done.opens,
            also=done.also,
        )
    except BaseException as error:
        # What is no error of ours is tried again, as Airflow does; an interrupt is no fault of the work.
        interrupted = not isinstance(error, Exception)
        retry = interrupted or not (isinstance(error, PermanentError) or last_try)
        ledger.fail(claim, error, retry=retry)
        logger.warning("step_failed", error=str(error), kind=type(error).__name__, retry=retry)
        raise
    _delete_unchanged(pipeline, done.registered.landing)
    logger.info("step_done", **done.outcome.counts)
    return done.outcome


def _delete_unchanged(pipeline: Pipeline, read: Mapping[str, ObjectInfo]) -> None:
    """Remove from landing what was registered; what has changed since stays, and the sweep tells of it."""
    for key, info in read.items():
        try:
            if pipeline.store.head(key) == info:
                pipeline.store.delete(key)
        except OutwatchError as error:  # registered it is; the sweep removes it later
            log.warning("landing_not_cleared", key=key, error=str(error))
