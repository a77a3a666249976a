"""Join events of one happening: seen in overlapping flights, in consecutive clips and by sensors.

**Wakes** when events are published, and every five minutes to ask the ledger what is still open.
**Writes** incidents and their events (SQL), and candidates for the baseline. Late events join what
stands, whatever the order in which they come. **Safe to run again**: the same events give the same
incidents; what people decided stays.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from outwatch.orchestration import DEFAULT_ARGS, EVENTS, INCIDENTS, MAX_MAPPED_TASKS, START, wake_on


@dag(
    dag_id="join_incidents",
    schedule=wake_on(EVENTS, every=timedelta(minutes=5)),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    tags=["outwatch", "events"],
)
def join_incidents() -> None:
    """Find clips and windows whose events are not joined yet and join each."""

    @task
    def find_open() -> list[str]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.open_subjects(pipeline, "join_incidents", limit=MAX_MAPPED_TASKS)

    @task(outlets=[INCIDENTS])
    def join(subject: str) -> dict[str, Any]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.summary(steps.join_incidents(pipeline, subject))

    join.expand(subject=find_open())


DAG = join_incidents()
