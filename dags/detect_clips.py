"""Detect, follow and locate: from a registered clip to detections, tracks and coverage.

**Wakes** when clips are registered, and every five minutes to ask the ledger what is still open.
**Writes** ``lake/{detections,tracks,coverage}/dt=…/<clip_id>.parquet``. **Safe to run again**: a
clip's file is replaced by the same content. A long clip opens its parts, each a task, and is put
together when the last is done. What fails holds back nothing else. **If it fails** with
``ModelUnavailable``, set the weights that the message names, then `outwatch retry`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from outwatch.orchestration import CLIPS, DEFAULT_ARGS, DETECTIONS, MAX_MAPPED_TASKS, START, wake_on


@dag(
    dag_id="detect_clips",
    schedule=wake_on(CLIPS, every=timedelta(minutes=5)),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    tags=["outwatch", "detection"],
)
def detect_clips() -> None:
    """Find clips without detections and look at each; long ones part by part."""

    def find(step: str) -> list[str]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.open_subjects(pipeline, step, limit=MAX_MAPPED_TASKS)

    @task
    def find_open() -> list[str]:
        return find("detect_clips")

    @task(trigger_rule="all_done")
    def find_parts() -> list[str]:
        return find("detect_parts")

    @task(trigger_rule="all_done")
    def find_whole() -> list[str]:
        return find("detect_clips")

    @task(outlets=[DETECTIONS])
    def detect(clip_id: str) -> dict[str, Any]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.summary(steps.detect_clips(pipeline, clip_id))

    @task
    def detect_part(subject: str) -> dict[str, Any]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.summary(steps.detect_parts(pipeline, subject))

    @task(trigger_rule="none_failed")
    def conclude() -> None:
        """Let the run fail where anything in it failed: its last task decides that."""

    clips, parts, whole = find_open(), find_parts(), find_whole()
    looked, in_parts = detect.expand(clip_id=clips), detect_part.expand(subject=parts)
    joined = detect.override(task_id="join_parts").expand(clip_id=whole)
    looked >> parts
    in_parts >> whole
    [looked, in_parts, joined] >> conclude()


DAG = detect_clips()
