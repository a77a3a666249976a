"""Pull footage from file servers, object stores, folders and cameras, one task a source.

**Wakes** every five minutes. **Writes** ``landing/`` and the ledger; remembers in the database what each
source showed and what was taken. **Safe to run again**: a file is taken once it stopped changing, and
landing it twice is landing it once. **If it fails**: one source stops no other; `outwatch pull --list` says
why a file waits or was refused.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DeltaTriggerTimetable, dag, task

from outwatch.orchestration import DEFAULT_ARGS, LANDED, START


@dag(
    dag_id="pull_sources",
    schedule=DeltaTriggerTimetable(timedelta(minutes=5)),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    tags=["outwatch", "ingest"],
)
def pull_sources() -> None:
    """Find the sources that are switched on and pull from each."""

    @task
    def find_sources() -> list[str]:
        from outwatch.pipeline import pull, wiring

        with wiring.open_pipeline() as pipeline:
            return pull.source_names(pipeline)

    @task(outlets=[LANDED])
    def pull_one(name: str) -> dict[str, Any]:
        from outwatch.pipeline import pull, steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.summary(pull.pull_source(pipeline, name))

    pull_one.expand(name=find_sources())


DAG = pull_sources()
