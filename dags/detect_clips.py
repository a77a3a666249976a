"""Detect, follow and locate: from a registered clip to detections, tracks and coverage.

**Wakes** when clips are registered, and every five minutes to ask the ledger what is still open.
**Writes** ``lake/{detections,tracks,coverage}/dt=…/<clip_id>.parquet``. **Safe to run again**: a
clip's file is replaced by the same content. **If it fails** with ``ModelUnavailable``, set the
weights that the message names, then `outwatch retry`.
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
    """Find clips without detections and look at each."""

    @task
    def find_open() -> list[str]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.open_subjects(pipeline, "detect_clips", limit=MAX_MAPPED_TASKS)

    @task(outlets=[DETECTIONS])
    def detect(clip_id: str) -> dict[str, Any]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.summary(steps.detect_clips(pipeline, clip_id))

    detect.expand(clip_id=find_open())


DAG = detect_clips()
