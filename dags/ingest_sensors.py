"""Take readings from every feed, note which sensors are silent, write the windows, publish their trips.

**Wakes** every minute and listens to each feed for two thirds of it. **Writes** the inbox (SQL) first, then
``lake/readings/dt=…/<window>.parquet`` by time of capture and ``lake/refused_readings/``, then ``evidence/``
and ``lake/events/``. Late readings rewrite their window and ask its events again. **Safe to run again**: a
reading's id follows from what it says. **If it fails**: a feed that does not answer fails its own task and
the run; what the others gave is written. `outwatch sensors` shows what is heard.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DeltaTriggerTimetable, TriggerRule, dag, task

from outwatch.orchestration import DEFAULT_ARGS, EVENTS, MAX_MAPPED_TASKS, READINGS, START


@dag(
    dag_id="ingest_sensors",
    schedule=DeltaTriggerTimetable(timedelta(minutes=1)),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    tags=["outwatch", "ingest"],
)
def ingest_sensors() -> None:
    """Collect each feed, note silence, write each open window, publish each window's events."""

    @task
    def find_feeds() -> list[str]:
        from outwatch.pipeline import sensors, wiring

        with wiring.open_pipeline() as pipeline:
            return sensors.feed_names(pipeline)

    @task(retries=0)  # the next minute is the next try, and a retry would hold this run up
    def collect(feed: str) -> dict[str, Any]:
        from outwatch.pipeline import sensors, steps, wiring

        with wiring.open_pipeline() as pipeline:
            for_s = pipeline.settings.sensors.listen.total_seconds()
            return steps.summary(sensors.collect(pipeline, feed, for_s=for_s))

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def find_windows() -> list[str]:
        from outwatch.pipeline import sensors, steps, wiring

        with wiring.open_pipeline() as pipeline:
            sensors.note_silence(pipeline)
            return steps.open_subjects(pipeline, "write_readings", limit=MAX_MAPPED_TASKS)

    @task(outlets=[READINGS])
    def write(window: str) -> dict[str, Any]:
        from outwatch.pipeline import sensors, steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.summary(sensors.write_readings(pipeline, window))

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def find_trips() -> list[str]:
        from outwatch.pipeline import steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.open_subjects(pipeline, "publish_sensor_events", limit=MAX_MAPPED_TASKS)

    @task(outlets=[EVENTS])
    def publish(window: str) -> dict[str, Any]:
        from outwatch.pipeline import sensor_events, steps, wiring

        with wiring.open_pipeline() as pipeline:
            return steps.summary(sensor_events.publish_sensor_events(pipeline, window))

    @task(trigger_rule=TriggerRule.NONE_FAILED)
    def all_heard() -> None:
        """Fail with any feed or window: Airflow judges a run by its last tasks."""

    collected = collect.expand(feed=find_feeds())
    windows = find_windows()
    written = write.expand(window=windows)
    trips = find_trips()
    collected >> windows
    written >> trips
    [collected, written, publish.expand(window=trips)] >> all_heard()


DAG = ingest_sensors()
