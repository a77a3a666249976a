"""Register landed footage: from ``landing/`` to ``footage/``, one task an upload.

**Wakes** every minute to ask the ledger what was handed in, and when `sweep` has looked at `landing/`.
**Writes** ``footage/…/source.*``, ``telemetry.parquet``, ``manifest.json``; refused files go to
``quarantine/`` with their reason. **Safe to run again**: keys follow from content.
**If it fails**: a transient error is tried again by itself; `outwatch work` lists what is not done
and why, `outwatch retry` opens it again once the cause is mended.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from outwatch.orchestration import CLIPS, DEFAULT_ARGS, LANDED, MAX_MAPPED_TASKS, START, wake_on


@dag(
    dag_id="ingest_footage",
    schedule=wake_on(LANDED, every=timedelta(minutes=1)),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    tags=["outwatch", "ingest"],
)
def ingest_footage() -> None:
    """Find open uploads and register each."""

    @task
    def find_open() -> list[str]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.open_subjects(pipeline, "ingest_footage", limit=MAX_MAPPED_TASKS)

    @task(outlets=[CLIPS])
    def ingest(upload_id: str) -> dict[str, Any]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.summary(steps.ingest_footage(pipeline, upload_id))

    ingest.expand(upload_id=find_open())


DAG = ingest_footage()
