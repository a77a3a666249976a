"""The whole main job on simulated flights and sensors, run by the Airflow DAGs, shown to a person.

Belongs here: preparing a place of its own, a webhook receiver on loopback, and showing what came
out. Not here: any step of the job; the DAGs do those in a child process, as in production.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
from pydantic import SecretStr
from rich.console import Console
from rich.progress import track

from outwatch import embedded_airflow
from outwatch.domain.errors import ConfigInvalid, OutwatchError
from outwatch.pipeline import incidents, landing, queries, wiring
from outwatch.pipeline.receiver import Receiver, webhook_receiver
from outwatch.settings import Settings, load_settings
from outwatch.simulate import load_scenario, simulate
from outwatch.tables import show_events, show_incidents

SCENARIOS = ("demo_gathering", "demo_gathering_again", "demo_vehicles")
"""The first two see the same crowd, from two sides and a minute apart."""
DAG_ORDER = (
    "sweep",
    "ingest_footage",
    "detect_clips",
    "publish_events",
    "ingest_sensors",
    "join_incidents",
    "send_alerts",
)
TRIPS = (("west-pir", "motion", 4), ("west-seismic", "seismic", 11), ("west-pir", "motion", 38))
"""Trips of the demo's sensors: sensor, kind, and seconds from the start of the first flight."""
COLUMNS = "kind, outpost_id, started_at, count_low, count, count_high, round(distance_m) AS distance_m"

MARKER = ".outwatch-demo"
"""Names a folder as a demo's, which the next demo may empty."""


def run_demo(folder: Path, *, console: Console) -> None:
    """Simulate flights and sensors, run the DAGs, and show events, pictures, alerts and a query.

    Args:
        folder: new, empty, or an earlier demo's, which is emptied first; all the demo's state lives there.
        console: where to show things.

    Raises:
        ConfigInvalid: the folder holds something else, or cannot be emptied or written.
        OutwatchError: something on the way failed, or no event or no alert came out.
    """
    started = time.monotonic()
    folder = folder.expanduser().absolute()
    try:
        _take_over(folder)
    except OSError as error:
        raise ConfigInvalid(f"demo folder {folder}: {error}; choose another") from error
    videos, outposts = _fly(folder / "flights", console)
    registry, feed = _sense(folder / "sensors", outposts)
    with webhook_receiver() as receiver:
        settings = load_settings(
            home=folder,
            outposts=outposts,
            store_url="",
            database_url=SecretStr(""),
            sensors={"registry": registry, "feeds": [feed]},
            alerts=load_settings().alerts.model_copy(
                update={
                    "channels": ("log", "webhook"),
                    "webhook_url": receiver.url,
                    "webhook_secret": SecretStr(receiver.secret),
                }
            ),
        )
        with wiring.open_pipeline(settings) as pipeline:
            landed = landing.land(pipeline, videos, declared={"platform": "simulated XT2"})
            console.print(
                f"\n[bold]2. Landed[/] {len(landed)} flights in {queries.locate(pipeline, 'landing')}; "
                f"{len(TRIPS)} sensor readings dropped in {feed['folder']}",
                highlight=False,
            )
        _run_dags(settings, receiver, feed, console)
        _show(settings, receiver, console)
    console.print(f"\nDemo done in {time.monotonic() - started:.0f} s; everything is under {folder}")


def _take_over(folder: Path) -> None:
    """Empty an earlier demo's folder, or mark a new one; the marker stays through all of it."""
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / MARKER
    if not marker.is_file():
        if any(folder.iterdir()):
            raise ConfigInvalid(
                f"demo folder {folder} holds files that no demo wrote, and a demo deletes what it finds: "
                "choose a new folder, or empty this one yourself"
            )
        marker.touch()
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != marker:
            path.unlink()


def _fly(folder: Path, console: Console) -> tuple[list[Path], Path]:
    console.print("[bold]1. Flights[/], simulated, with their telemetry")
    videos = []
    features: list[dict[str, Any]] = []
    for name in track(SCENARIOS, description="rendering", console=console, transient=True):
        flight = simulate(load_scenario(name), folder)
        videos.append(flight.video)
        features += json.loads(flight.outposts.read_text(encoding="utf-8"))["features"]
        console.print(f"   {flight.video}", highlight=False)
    unique = {feature["properties"]["id"]: feature for feature in features}
    outposts = folder / "outposts.geojson"
    collection = {"type": "FeatureCollection", "features": list(unique.values())}
    outposts.write_text(json.dumps(collection, ensure_ascii=False, indent=1), encoding="utf-8")
    return videos, outposts


def _sense(folder: Path, outposts: Path) -> tuple[Path, dict[str, Any]]:
    """Put two sensors between the first outpost and the crowd; return registry and feed of what they said."""
    readings = folder / "readings"
    readings.mkdir(parents=True)
    lon_deg, lat_deg = json.loads(outposts.read_text(encoding="utf-8"))["features"][0]["geometry"][
        "coordinates"
    ]
    places = {"west-pir": (lon_deg - 2e-4, lat_deg + 1e-4), "west-seismic": (lon_deg - 3e-4, lat_deg - 1e-4)}
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": places[sensor]},
            "properties": {"id": sensor, "name": sensor, "kinds": [kind], "trip_from": 1},
        }
        for sensor, kind in sorted({(sensor, kind) for sensor, kind, _ in TRIPS})
    ]
    registry = folder / "sensors.geojson"
    registry.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    start = load_scenario(SCENARIOS[0]).start_utc
    times = [(start + timedelta(seconds=after_s)).isoformat() for _, _, after_s in TRIPS]
    lines = (
        json.dumps({"sensor": sensor, "kind": kind, "value": 1, "time": at})
        for (sensor, kind, _), at in zip(TRIPS, times, strict=True)
    )
    (readings / "perimeter.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    mapping = {"sensor": "{sensor}", "kind": "{kind}"}
    feed = {"type": "file", "name": "perimeter", "folder": str(readings), "settle_s": 0, "mapping": mapping}
    return registry, feed


def _run_dags(settings: Settings, receiver: Receiver, feed: dict[str, Any], console: Console) -> None:
    console.print("\n[bold]3. Airflow[/] runs the DAGs (each finds its own open work in the ledger)")
    home = settings.home_dir
    embedded_airflow.migrate(home)
    environment = {
        "OUTWATCH_HOME": str(home),
        "OUTWATCH_STORE_URL": settings.resolved_store_url,
        "OUTWATCH_DATABASE_URL": settings.resolved_database_url,
        "OUTWATCH_OUTPOSTS": str(settings.outposts),
        "OUTWATCH_SENSORS__REGISTRY": str(settings.sensors.registry),
        "OUTWATCH_SENSORS__FEEDS": json.dumps([feed]),
        "OUTWATCH_ALERTS__CHANNELS": json.dumps(settings.alerts.channels),
        "OUTWATCH_ALERTS__WEBHOOK_URL": receiver.url,
        "OUTWATCH_ALERTS__WEBHOOK_SECRET": receiver.secret,
    }
    for run in embedded_airflow.run_dags(home, DAG_ORDER, settings=environment):
        console.print(f"   {run['dag_id']}: {run['state']} {run['tasks']}", highlight=False)
        if run["state"] != "success":
            raise OutwatchError(f"DAG {run['dag_id']} ended {run['state']}: see {home / 'airflow'}")


def _show(settings: Settings, receiver: Receiver, console: Console) -> None:
    with wiring.open_pipeline(settings) as pipeline:
        found = queries.events(pipeline)
        if not found or not receiver.received:
            raise OutwatchError(f"the demo gave {len(found)} events and {len(receiver.received)} alerts")
        console.print("\n[bold]4. Events[/], each with its evidence")
        show_events(console, pipeline, found)
        console.print(
            "\n[bold]5. Incidents[/]: what flights and sensors tell of one happening is one question"
        )
        show_incidents(console, incidents.incident_rows(pipeline), zone=pipeline.zone)
        console.print("\n[bold]6. Alerts[/], as the control room's webhook received them, signatures checked")
        for message in receiver.received:
            still = message.get("still_jpeg_base64") or ""
            shown = {**message, "still_jpeg_base64": f"({len(still)} characters)"}
            console.print_json(json.dumps(shown, ensure_ascii=False))
        pattern = queries.locate(pipeline, "lake/events/*/*.parquet").replace("'", "''")
    query = f"SELECT {COLUMNS} FROM '{pattern}' ORDER BY started_at"  # noqa: S608  our own path
    console.print("\n[bold]7. The same events[/] for an analyst, straight from the Parquet:")
    code = f"import duckdb; duckdb.sql({json.dumps(query, ensure_ascii=False)}).show()"
    quoted = re.sub(r'([\\"$`])', r"\\\1", code)  # what a shell reads inside double quotes
    console.print(f'   python -c "{quoted}"', soft_wrap=True, highlight=False, markup=False)
    console.print(str(duckdb.sql(query)), highlight=False, soft_wrap=True, markup=False)
