"""Keep house: adopt files put straight into ``landing/``, free dead workers' work, clear partial writes.

**Wakes** every ten minutes. Assets may be lost, doubled or merged and workers may die; the ledger
knows what is open, and this DAG makes it true again. **Safe to run** at any time, beside anything.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DeltaTriggerTimetable, dag, task

from outwatch.orchestration import DEFAULT_ARGS, LANDED, START


@dag(
    dag_id="sweep",
    schedule=DeltaTriggerTimetable(timedelta(minutes=10)),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    tags=["outwatch", "housekeeping"],
)
def sweep() -> None:
    """Adopt, free and clear, in one task: it is seconds of work."""

    @task(outlets=[LANDED])
    def keep_house() -> dict[str, Any]:
        from outwatch.pipeline import housekeeping, steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.summary(housekeeping.sweep(pipeline))

    keep_house()


DAG = sweep()
