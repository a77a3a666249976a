"""The DAG files, as Airflow sees them, and a flight through them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from outwatch import embedded_airflow
from outwatch.pipeline import queries, wiring
from outwatch.pipeline.receiver import webhook_receiver
from outwatch.settings import Settings
from outwatch.simulate import SimulatedFlight

EXPECTED = {
    "pull_sources",
    "ingest_footage",
    "detect_clips",
    "publish_events",
    "ingest_sensors",
    "join_incidents",
    "send_alerts",
    "sweep",
}
DAGS = Path(__file__).resolve().parents[2] / "dags"
HEAVY = {"av", "cv2", "duckdb", "numpy", "openvino", "pyarrow", "rasterio", "sklearn", "torch"}


def test_airflow_parses_exactly_our_dags(tmp_path: Path) -> None:
    """Airflow's own DagBag finds our DAGs and no others, documented, with our retry rules and no error."""
    script = (
        "import json\n"
        "from airflow.dag_processing.dagbag import DagBag\n"
        f"bag = DagBag({str(DAGS)!r})\n"
        "print('RESULT' + json.dumps({'errors': bag.import_errors, 'dags': {d.dag_id: {"
        "'doc': bool(d.doc_md), 'policies': [t.retry_policy is not None for t in d.tasks]}"
        " for d in bag.dags.values()}}))\n"
    )
    embedded_airflow.migrate(tmp_path)
    output = embedded_airflow._run([sys.executable, "-c", script], home=tmp_path, settings={}, timeout_s=120)
    found = json.loads(output.split("RESULT")[1].splitlines()[0])
    assert found["errors"] == {}
    assert set(found["dags"]) == EXPECTED
    assert all(item["doc"] and all(item["policies"]) for item in found["dags"].values())


@pytest.mark.parametrize("dag_id", sorted(EXPECTED))
def test_dag_file_is_light_to_import(dag_id: str) -> None:
    """Parsing a DAG file loads no heavy library: the scheduler does it every half minute."""
    script = f"import sys, dags.{dag_id}; print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("dag_id", sorted(EXPECTED))
def test_dag_file_is_wiring_only(dag_id: str) -> None:
    """A DAG file has at most 90 lines, carries its doc, and its id is its file's name."""
    source = (DAGS / f"{dag_id}.py").read_text()
    assert len(source.splitlines()) <= 90
    assert ast.get_docstring(ast.parse(source))
    assert f'dag_id="{dag_id}"' in source


@pytest.mark.slow
def test_flight_through_the_dags(settings: Settings, gathering_flight: SimulatedFlight) -> None:
    """A flight that lies at a source goes through all DAGs on Airflow to a signed message at a webhook."""
    home = settings.home_dir
    home.mkdir()
    source = {"name": "station", "url": gathering_flight.video.parent.as_uri(), "settle": "PT0.1S"}
    embedded_airflow.migrate(home)
    with webhook_receiver() as receiver:
        environment = {
            "OUTWATCH_HOME": str(home),
            "OUTWATCH_OUTPOSTS": str(gathering_flight.outposts),
            "OUTWATCH_PULL__SOURCES": json.dumps([source]),
            "OUTWATCH_ALERTS__CHANNELS": '["webhook"]',
            "OUTWATCH_ALERTS__WEBHOOK_URL": receiver.url,
            "OUTWATCH_ALERTS__WEBHOOK_SECRET": receiver.secret,
        }
        listed_twice = ("pull_sources", "pull_sources")
        flown = ("ingest_footage", "detect_clips", "publish_events", "join_incidents", "send_alerts")
        order = (*listed_twice, *flown, "sweep")
        runs = embedded_airflow.run_dags(home, order, settings=environment)
    assert [(run["dag_id"], run["state"]) for run in runs] == [(dag_id, "success") for dag_id in order]
    with wiring.open_pipeline(settings) as pipeline:
        (event,) = queries.events(pipeline)
    assert receiver.forged == 0
    assert [message["payload"]["event_ids"] for message in receiver.received] == [[event.id]]
