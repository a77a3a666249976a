"""Run what is open in the ledger by hand, step after step, as the DAGs do on a schedule.

Belongs here: the order of steps and going on after a failure. Not here: the steps (``steps.py``)
and how a person is told (``cli.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from outwatch.domain.types import Outcome
from outwatch.pipeline import detection, housekeeping, sensors, steps
from outwatch.pipeline.sensor_events import publish_sensor_events
from outwatch.pipeline.wiring import Pipeline
from storage.tables import WorkState

SENSOR_STEPS = ("write_readings", "publish_sensor_events", "join_incidents", "send_alerts")
_DETECTED = steps.STEPS.index("detect_parts") + 1
_WITH_PARTS = (*steps.STEPS[:_DETECTED], "detect_clips", *steps.STEPS[_DETECTED:])
"""All steps in order: a long clip's parts, once done, open it again to be put together."""
_ACTS: Mapping[str, Callable[[Pipeline, str], Outcome]] = {
    "ingest_footage": steps.ingest_footage,
    "detect_parts": steps.detect_parts,
    "publish_events": steps.publish_events,
    "write_readings": sensors.write_readings,
    "publish_sensor_events": publish_sensor_events,
    "join_incidents": steps.join_incidents,
    "send_alerts": steps.raise_alerts,
}
"""What does each step's work, but ``detect_clips``, which tells how far it is."""
Watcher = Callable[[str, str, float | None], None]
"""Told the step, its subject, and for long steps the seconds of footage done so far."""


@dataclass(slots=True)
class Report:
    """What a run did: the outcome of each step that ended, and the error of each that failed."""

    outcomes: list[Outcome] = field(default_factory=list)
    failures: list[Outcome] = field(default_factory=list)


def run_open_work(pipeline: Pipeline, *, watch: Watcher | None = None) -> Report:
    """Run every open step through to the alert; one failure never stops the rest."""
    report = Report()
    _attempt(report, "sweep", "", lambda: housekeeping.sweep(pipeline))
    _run_steps(pipeline, _WITH_PARTS, report, watch)
    _attempt(report, "deliver_alerts", "", lambda: steps.deliver_alerts(pipeline))
    return report


def run_sensor_work(pipeline: Pipeline, *, note_silence: bool = False) -> Report:
    """Run every open step from the inbox of readings to the alert; one failure never stops the rest.

    Args:
        pipeline: where the work is open.
        note_silence: ask first which sensors should have spoken.
    """
    report = Report()
    if note_silence:
        _attempt(report, "note_silence", "", lambda: sensors.note_silence(pipeline))
    _run_steps(pipeline, SENSOR_STEPS, report, None)
    _attempt(report, "deliver_alerts", "", lambda: steps.deliver_alerts(pipeline))
    return report


def _run_steps(pipeline: Pipeline, names: Sequence[str], report: Report, watch: Watcher | None) -> None:
    for step in names:
        # A step that stands twice in the names does not try again at once what failed.
        tried = {failure.input for failure in report.failures if failure.step == step}
        # A window's writing may open another's; what this run has tried is left for the next.
        while fresh := [s for s in steps.open_subjects(pipeline, step) if s not in tried]:
            for subject in fresh:
                tried.add(subject)
                if watch is not None:
                    watch(step, subject, None)
                _attempt(report, step, subject, partial(_run, pipeline, step, subject, watch))


def _attempt(report: Report, step: str, subject: str, act: Callable[[], Outcome]) -> None:
    try:
        outcome = act()
    except Exception as error:  # noqa: BLE001  whatever it is, it is told, and never stops the rest
        report.failures.append(Outcome(step, subject, error=f"{type(error).__name__}: {error}"))
        return
    report.outcomes.append(outcome)
    if outcome.counts.get("refused") and step == "deliver_alerts":
        error_text = f"{outcome.counts['refused']} deliveries were refused: see `outwatch alerts`"
        report.failures.append(Outcome(step, subject, error=error_text))


def reopen_failed(pipeline: Pipeline) -> int:
    """Open all failed work and refused deliveries again and return how much; mend the cause first."""
    failed = pipeline.ledger.work(state=WorkState.FAILED)
    reopened = sum(pipeline.ledger.reopen(work.step, work.subject) for work in failed)
    return reopened + pipeline.alert_book.reopen_refused()


def reopen_events(pipeline: Pipeline) -> int:
    """Have the rules asked again of every clip and window, after places, sensors or thresholds changed.

    A clip that was looked at closely around other places only is looked at again first.
    """
    asked = pipeline.ledger.work(step="publish_events", state=WorkState.DONE)
    windows = pipeline.ledger.work(step="write_readings", state=WorkState.DONE)
    return sum(_reopen_from_places(pipeline, work.subject) for work in asked) + sum(
        pipeline.ledger.open_work("publish_sensor_events", work.subject)
        or pipeline.ledger.reopen("publish_sensor_events", work.subject)
        for work in windows
    )


def _reopen_from_places(pipeline: Pipeline, clip_id: str) -> bool:
    step = "detect_clips" if detection.looked_elsewhere(pipeline, clip_id) else "publish_events"
    return pipeline.ledger.reopen(step, clip_id)


def _run(pipeline: Pipeline, step: str, subject: str, watch: Watcher | None) -> Outcome:
    if step == "detect_clips":

        def progress(done_s: float) -> None:
            if watch is not None:
                watch(step, subject, done_s)

        return steps.detect_clips(pipeline, subject, progress=progress)
    return _ACTS[step](pipeline, subject)
