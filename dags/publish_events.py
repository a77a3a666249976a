"""Ask the rules, draw the evidence, write the events: one task a clip.

**Wakes** when detections are written, and every five minutes to ask the ledger what is still open.
**Writes** ``evidence/dt=…/<event_id>/`` first and ``lake/events/dt=…/<clip_id>.parquet`` after, so
that no event is ever seen without its picture. **Safe to run again**: event ids follow from clip,
rule, place and start.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from outwatch.orchestration import DEFAULT_ARGS, DETECTIONS, EVENTS, MAX_MAPPED_TASKS, START, wake_on


@dag(
    dag_id="publish_events",
    schedule=wake_on(DETECTIONS, every=timedelta(minutes=5)),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    tags=["outwatch", "events"],
)
def publish_events() -> None:
    """Find clips whose detections were not asked yet and ask each."""

    @task
    def find_open() -> list[str]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.open_subjects(pipeline, "publish_events", limit=MAX_MAPPED_TASKS)

    @task(outlets=[EVENTS])
    def publish(clip_id: str) -> dict[str, Any]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.summary(steps.publish_events(pipeline, clip_id))

    publish.expand(clip_id=find_open())


DAG = publish_events()
