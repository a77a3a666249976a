"""One gathering seen by two overlapping flights and by sensors is one incident, told in any order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest
from sqlalchemy import delete
from typer.testing import CliRunner

from outwatch.cli import app
from outwatch.domain.types import EventKind
from outwatch.pipeline import incidents, landing, queries, runner, sensors, steps, wiring
from outwatch.settings import load_settings
from outwatch.simulate import SimulatedFlight, load_scenario, simulate
from storage import tables
from storage.database import connect, writing

SENSORS = {"pir": (40.0, 25.0), "seismic": (30.0, 0.0)}
"""Metres east and north of where the aircraft took off: between the crowd and the post."""
M_PER_DEG_LAT, M_PER_DEG_LON = 110_920.0, 92_990.0


@pytest.fixture(scope="module")
def station(
    tmp_path_factory: pytest.TempPathFactory, gathering_flight: SimulatedFlight
) -> Iterator[wiring.Pipeline]:
    """Give a pipeline that took in two flights over one crowd, and two sensors that tripped meanwhile."""
    folder = tmp_path_factory.mktemp("station")
    again = replace(load_scenario("demo_gathering_again"), duration_s=18.0, fps=5)
    flights = [gathering_flight.video, simulate(again, folder / "second").video]
    origin, start = load_scenario("demo_gathering").origin, load_scenario("demo_gathering").start_utc
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Point",
                "coordinates": [
                    origin.lon_deg + east_m / M_PER_DEG_LON,
                    origin.lat_deg + north_m / M_PER_DEG_LAT,
                ],
            },
            "properties": {"id": name, "name": name, "kinds": ["motion"], "trip_from": 1},
        }
        for name, (east_m, north_m) in SENSORS.items()
    ]
    registry = folder / "sensors.geojson"
    registry.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    dropped = folder / "dropped"
    dropped.mkdir()
    lines = [
        json.dumps({"sensor": name, "value": 1, "time": (start + timedelta(seconds=after_s)).isoformat()})
        for after_s, name in enumerate(SENSORS, start=30)
    ]
    (dropped / "trips.jsonl").write_text("\n".join(lines) + "\n")
    mapping = {"sensor": "{sensor}", "kind": "motion"}
    feed = {"type": "file", "name": "perimeter", "folder": str(dropped), "settle_s": 0, "mapping": mapping}
    settings = load_settings(
        home=folder / "home",
        outposts=gathering_flight.outposts,
        sensors={"registry": registry, "feeds": [feed]},
    )
    with wiring.open_pipeline(settings) as pipeline:
        landing.land(pipeline, flights, declared={})
        sensors.collect(pipeline, "perimeter", for_s=1)
        assert runner.run_open_work(pipeline).failures == []
        yield pipeline


def forget(pipeline: wiring.Pipeline) -> None:
    """Empty the books of incidents and alerts, as if nothing had been joined or told."""
    engine = connect(pipeline.settings.resolved_database_url)
    with writing(engine) as connection:
        for table in (
            tables.incident_members,
            tables.incidents,
            tables.event_index,
            tables.deliveries,
            tables.alert_events,
            tables.alerts,
        ):
            connection.execute(delete(table))
    engine.dispose()


def tell(pipeline: wiring.Pipeline, subject: str) -> None:
    """Join a clip's or window's events and raise their alerts, as the DAGs do."""
    for step, act in (("join_incidents", steps.join_incidents), ("send_alerts", steps.raise_alerts)):
        pipeline.ledger.reopen(step, subject)
        act(pipeline, subject)


@pytest.mark.slow
def test_two_flights_and_a_sensor_trip_are_one_incident_in_all_orders(station: wiring.Pipeline) -> None:
    """The same incident with the same id, and one alert that names it, whichever clip comes late."""
    events = queries.events(station)
    assert [event.kind for event in events].count(EventKind.SENSOR_TRIP) == 1
    subjects = sorted({event.clip_id or str(event.window) for event in events})
    assert len(subjects) == 3
    (first,) = incidents.incident_rows(station)
    assert len(first["flights"]) == 2
    assert first["by_sensors"]
    assert {event["id"] for event in first["events"]} == {event.id for event in events}
    assert {queries.event_row(station, event)["incident_id"] for event in events} == {first["id"]}
    told = {tuple(sorted(alert.event_ids)) for alert in station.alert_book.alerts()}
    for order in permutations(subjects):
        forget(station)
        for subject in order:
            tell(station, subject)
        (row,) = incidents.incident_rows(station)
        names = ("id", "kinds", "started_at", "ended_at", "count", "flights")
        assert {name: row[name] for name in names} == {name: first[name] for name in names}
        alerts = station.alert_book.alerts()
        assert {tuple(sorted(alert.event_ids)) for alert in alerts} == told
        named = {station.incident_book.incident(alert.payload["incident_id"]) for alert in alerts}
        assert {standing.id for standing in named if standing} == {first["id"]}
        for subject in order:
            tell(station, subject)
        assert station.alert_book.alerts() == alerts
    assert len(told) == 1


@pytest.mark.slow
def test_person_decides_by_hand(
    station: wiring.Pipeline, gathering_flight: SimulatedFlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`outwatch incidents` lists, separates and takes back; the reason stays on record."""
    monkeypatch.setenv("OUTWATCH_HOME", str(station.settings.home))
    monkeypatch.setenv("OUTWATCH_OUTPOSTS", str(gathering_flight.outposts))
    shell = CliRunner()

    def run(*words: str) -> str:
        done = shell.invoke(app, ["incidents", *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    (row,) = json.loads(run("--json"))
    trip = next(event["id"] for event in row["events"] if event["kind"] == "sensor_trip")
    assert "2 flights" in run()
    run("separate", trip, "--why", "a fox", "--who", "afridi")
    assert len(json.loads(run("--json"))) == 2
    run("undo", "1", "--why", "no fox", "--who", "khan")
    assert [item["id"] for item in json.loads(run("--json"))] == [row["id"]]
    assert [(item["verdict"], item["why"]) for item in json.loads(run("decisions", "--json"))] == [
        ("separate", "a fox"),
        ("undo", "no fox"),
    ]
    refused = shell.invoke(app, ["incidents", "join", "nobody", row["id"], "--why", "because"])
    assert refused.exit_code == 1
    assert "nobody is no incident or event" in refused.stderr
