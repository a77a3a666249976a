"""What the DAG files share: assets, schedules, retry rules, and running a DAG without a scheduler.

The only Airflow import outside ``dags/``. Belongs here: how Airflow is told of our work. Not here:
the work itself (``outwatch/pipeline/steps.py``).
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import (
    Asset,
    AssetOrTimeSchedule,
    DeltaTriggerTimetable,
    ExceptionRetryPolicy,
    RetryAction,
    RetryRule,
)

from outwatch.domain.errors import ConfigInvalid, PermanentError, TransientError

DAG_IDS = (
    "pull_sources",
    "ingest_footage",
    "detect_clips",
    "publish_events",
    "ingest_sensors",
    "join_incidents",
    "send_alerts",
    "sweep",
)
"""Every DAG that Outwatch ships, in the order in which data passes them."""

MAX_MAPPED_TASKS = 1000
"""Subjects a run takes on; Airflow refuses to map over more than ``core.max_map_length``, 1024. The
next run takes the rest."""

LANDED = Asset(name="landed", uri="outwatch://landing")
CLIPS = Asset(name="clips", uri="outwatch://footage")
DETECTIONS = Asset(name="detections", uri="outwatch://lake/detections")
READINGS = Asset(name="readings", uri="outwatch://lake/readings")
EVENTS = Asset(name="events", uri="outwatch://lake/events")
INCIDENTS = Asset(name="incidents", uri="outwatch://incidents")

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=PermanentError, action=RetryAction.FAIL, reason="a person must act"),
        RetryRule(
            exception=TransientError,
            action=RetryAction.RETRY,
            retry_delay=timedelta(minutes=1),
            reason="may pass by itself",
        ),
    ]
)
"""The error tree, as Airflow sees it; an error that is not ours follows ``retries``."""

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "outwatch",
    "retries": 3,
    "retry_delay": timedelta(minutes=1),
    "retry_policy": RETRY_POLICY,
}
START = datetime.fromisoformat("2026-01-01T00:00:00+00:00")


def wake_on(asset: Asset, *, every: timedelta) -> AssetOrTimeSchedule:
    """Return a schedule that runs when ``asset`` changes and, since assets may get lost, every so often."""
    return AssetOrTimeSchedule(timetable=DeltaTriggerTimetable(every), assets=[asset])


@dataclass(frozen=True, slots=True)
class DagRunSummary:
    """How one run of one DAG ended: its state, and the number of task instances in each state."""

    dag_id: str
    state: str
    tasks: Mapping[str, int]


def run_dag(dag_id: str) -> DagRunSummary:
    """Run one DAG whole in this process, on the metadata database, without a scheduler.

    The database must be migrated (``airflow db migrate``) and the environment set beforehand:
    Airflow reads both when it is first imported.

    Raises:
        ConfigInvalid: there is no such DAG.
    """
    if dag_id not in DAG_IDS:
        raise ConfigInvalid(f"no DAG {dag_id!r}: expected one of {', '.join(DAG_IDS)}")
    run = importlib.import_module(f"dags.{dag_id}").DAG.test()
    tasks: dict[str, int] = {}
    for instance in run.get_task_instances():
        tasks[str(instance.state)] = tasks.get(str(instance.state), 0) + 1
    return DagRunSummary(dag_id, str(run.state), tasks)


def main() -> None:
    """Run the DAGs named on the command line in turn and print a line of JSON for each."""
    for dag_id in sys.argv[1:]:
        print(json.dumps(asdict(run_dag(dag_id))), flush=True)


if __name__ == "__main__":
    main()
