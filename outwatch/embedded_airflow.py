"""An Airflow of our own on one machine: its environment, its database, and runs of our DAGs in a child.

Airflow reads its environment when it is first imported, so it always runs in a child process here.
Belongs here: starting that child. Not here: DAGs and what they share (``orchestration.py``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from outwatch.domain.errors import FeedTimeout, TransientError

MIGRATE_TIMEOUT_S = 300
RUN_TIMEOUT_S = 3600


def environment(home: Path) -> dict[str, str]:
    """Return the whole environment of an embedded Airflow whose state lives under ``home``.

    SQLite metadata, our DAG files only, no examples, servers on loopback, no more parallel tasks
    than the machine has cores. Every variable that is set for another Airflow is left out, so that a
    production Airflow's database, logs and connections are never touched from here.
    """
    airflow_home = home / "airflow"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    return inherited | {
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).resolve().parent.parent / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(os.cpu_count() or 1),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{airflow_home / 'airflow.db'}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(airflow_home / "logs"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def migrate(home: Path) -> None:
    """Bring Airflow's metadata database to date.

    Raises:
        TransientError: Airflow could not; the message carries the end of what it said.
    """
    (home / "airflow").mkdir(parents=True, exist_ok=True)
    _run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        home=home,
        settings={},
        timeout_s=MIGRATE_TIMEOUT_S,
    )


def run_dags(home: Path, dag_ids: Sequence[str], *, settings: Mapping[str, str]) -> list[dict[str, Any]]:
    """Run DAGs whole, one after the other, in a child process without a scheduler.

    Args:
        home: where Airflow's state lives.
        dag_ids: in the order in which to run them.
        settings: Outwatch's own settings as environment variables.

    Returns:
        For each run its ``dag_id``, ``state`` and number of ``tasks`` by state.
    """
    command = [sys.executable, "-m", "outwatch.orchestration", *dag_ids]
    output = _run(command, home=home, settings=settings, timeout_s=RUN_TIMEOUT_S)
    return [json.loads(line) for line in output.splitlines() if line.startswith('{"dag_id"')]


def _run(command: Sequence[str], *, home: Path, settings: Mapping[str, str], timeout_s: float) -> str:
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter with fixed arguments
            command,
            env={**environment(home), **settings},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FeedTimeout(f"{' '.join(command[1:4])} did not end within {timeout_s:.0f} s") from error
    (home / "airflow" / "last_run.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode != 0:
        raise TransientError(
            f"{' '.join(command[1:4])} ended with {done.returncode}: {(done.stderr or done.stdout)[-1500:]}"
        )
    return done.stdout
