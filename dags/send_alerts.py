"""Turn events into alerts and bring them to the control rooms.

**Wakes** when events are joined into incidents, and every minute for deliveries that are due to be tried
again. **Writes** the alert book (SQL): one alert a happening, one delivery a channel. A delivery
that failed is kept and tried again with growing waits; one that was refused is kept and shown.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import TriggerRule, dag, task

from outwatch.orchestration import DEFAULT_ARGS, INCIDENTS, MAX_MAPPED_TASKS, START, wake_on


@dag(
    dag_id="send_alerts",
    schedule=wake_on(INCIDENTS, every=timedelta(minutes=1)),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    tags=["outwatch", "alerting"],
)
def send_alerts() -> None:
    """Raise alerts for new events, then deliver whatever is due."""

    @task
    def find_open() -> list[str]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.open_subjects(pipeline, "send_alerts", limit=MAX_MAPPED_TASKS)

    @task
    def raise_alerts(clip_id: str) -> dict[str, Any]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.summary(steps.raise_alerts(pipeline, clip_id))

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def deliver() -> dict[str, Any]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.summary(steps.deliver_alerts(pipeline))

    @task
    def all_raised() -> None:
        """Fail with the raising of any alert: Airflow judges a run by its last tasks."""

    raised = raise_alerts.expand(clip_id=find_open())
    raised >> deliver()
    raised >> all_raised()


DAG = send_alerts()
