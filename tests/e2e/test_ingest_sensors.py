"""Sensors end to end, on a real broker: killed consumers, a long absence, seconds from a trip to its event.

``OUTWATCH_TEST_READINGS`` sets how many readings the killed consumers take (100000 is the full size, with ten
kills and a hundred timed trips); ``-s`` prints what was measured.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from outwatch import embedded_airflow
from outwatch.domain.types import Priority
from outwatch.pipeline import queries, runner, sensors, wiring
from outwatch.settings import load_settings

READINGS = int(os.environ.get("OUTWATCH_TEST_READINGS", "3000"))
FULL = READINGS >= 100_000
KILLS = 10 if FULL else 2
TRIPS = 100 if FULL else 5
RATE_HZ = 5000
SENSORS = 50
MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
PATIENCE_S = 120


@dataclass(frozen=True)
class Station:
    """A station's settings, as a process of its own gets them, and its broker's port."""

    home: Path
    port: int
    environment: Mapping[str, str]

    @contextmanager
    def pipeline(self) -> Iterator[wiring.Pipeline]:
        """Open the station's pipeline in this process."""
        feeds = json.loads(self.environment["OUTWATCH_SENSORS__FEEDS"])
        registry = self.environment["OUTWATCH_SENSORS__REGISTRY"]
        outposts = Path(self.environment["OUTWATCH_OUTPOSTS"])
        settings = load_settings(
            home=self.home, outposts=outposts, sensors={"registry": registry, "feeds": feeds}
        )
        with wiring.open_pipeline(settings) as pipeline:
            yield pipeline

    @contextmanager
    def watching(self, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
        """Run ``outwatch watch`` as its own process; kill it in the end."""
        command = [sys.executable, "-m", "outwatch.cli", "watch", "--for", str(seconds)]
        environment = {**os.environ, **self.environment}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def feature(lon_deg: float, lat_deg: float, **properties: object) -> dict[str, object]:
    point = {"type": "Point", "coordinates": [lon_deg, lat_deg]}
    return {"type": "Feature", "geometry": point, "properties": properties}


def write_features(path: Path, features: Sequence[Mapping[str, object]]) -> str:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


def environment_of(folder: Path, feeds: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Return settings with thermometers, and posts far apart with a motion sensor each."""
    posts = [
        feature(
            71.0 + number / 50,
            33.5,
            id=f"post-{number}",
            name=f"Post {number}",
            name_ur="چوکی",
            kind="police_outpost",
            watch_radius_m=300,
            control_room="room",
        )
        for number in range(TRIPS)
    ]
    known = [
        feature(71.0, 33.0, id=f"temp-{number}", name="T", kinds="temperature", expected_interval_s=3600)
        for number in range(SENSORS)
    ] + [
        feature(71.0 + number / 50, 33.501, id=f"pir-{number}", name="P", kinds="motion", trip_from=1)
        for number in range(TRIPS)
    ]
    return {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OUTWATCH_HOME": str(folder / "home"),
        "OUTWATCH_OUTPOSTS": write_features(folder / "posts.geojson", posts),
        "OUTWATCH_SENSORS__REGISTRY": write_features(folder / "sensors.geojson", known),
        "OUTWATCH_SENSORS__FEEDS": json.dumps(feeds),
    }


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    """Give a station with a Mosquitto that has a session for it, as after its first minute."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    for name in [name for name in os.environ if name.startswith("OUTWATCH_")]:
        monkeypatch.delenv(name)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n"
        f"max_inflight_messages 0\npersistence true\npersistence_location {tmp_path}/\n"
    )
    topics = [{"filter": "sites/+/+", "sensor": "{1}", "kind": "{2}"}]
    feeds = [{"type": "mqtt", "name": "broker", "host": "127.0.0.1", "port": port, "topics": topics}]
    built = Station(tmp_path / "home", port, environment_of(tmp_path, feeds))
    broker = subprocess.Popen([MOSQUITTO, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: _answers(port))
        with built.pipeline() as pipeline:
            sensors.collect(pipeline, "broker", for_s=0.2)
        yield built
    finally:
        broker.kill()
        broker.wait()


def _answers(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def wait_for(done: Callable[[], bool], *, every_s: float = 0.02) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(every_s)


@contextmanager
def publisher(port: int) -> Iterator[Callable[..., None]]:
    """Give a function that publishes one reading, QoS 1; everything is with the broker in the end."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    client.max_inflight_messages_set(2000)
    client.connect("127.0.0.1", port)
    client.loop_start()
    last: list[Any] = []

    def send(sensor: str, kind: str, value: float, at: datetime) -> None:
        body = json.dumps({"value": value, "time": at.isoformat()})
        last[:] = [client.publish(f"sites/{sensor}/{kind}", body, qos=1)]

    yield send
    for message in last:
        message.wait_for_publish(PATIENCE_S)
    wait_for(lambda: not client._out_messages)
    client.disconnect()
    client.loop_stop()


@pytest.mark.slow
def test_readings_are_stored_exactly_once_however_often_the_consumer_is_killed(station: Station) -> None:
    """Readings at 5,000 a second, the consumer killed -9 at its work: each is in the lake once."""
    chance = random.Random(0)
    began = datetime.now(UTC)

    def publish() -> None:
        with publisher(station.port) as send:
            start = time.monotonic()
            for number in range(READINGS):
                if (ahead_s := number / RATE_HZ - (time.monotonic() - start)) > 0.005:
                    time.sleep(ahead_s)
                at = began + timedelta(seconds=number / RATE_HZ)
                send(f"temp-{number % SENSORS}", "temperature", number, at)
            print(f"published {READINGS} at {READINGS / (time.monotonic() - start):.0f}/s")

    sender = threading.Thread(target=publish)
    sender.start()
    with station.pipeline() as pipeline:
        taken = 0

        def accepted() -> int:
            return pipeline.inbox.feeds()["broker"].accepted

        for _ in range(KILLS):
            with station.watching(PATIENCE_S):
                goal = min(taken + READINGS // (4 * KILLS), READINGS)  # a slow start may take all at once
                wait_for(lambda goal=goal: accepted() >= goal, every_s=0.005)
                time.sleep(chance.uniform(0, 0.3))
            taken = accepted()
        sender.join()
        with station.watching(PATIENCE_S):
            wait_for(lambda: pipeline.lake.scan("readings").num_rows >= READINGS, every_s=0.5)
        print(f"killed {KILLS} times, all in the lake {(datetime.now(UTC) - began).total_seconds():.1f} s on")
        sensors.collect(pipeline, "broker", for_s=0.5)
        report = runner.run_sensor_work(pipeline)
        table = pipeline.lake.scan("readings")
        assert report.failures == []
        assert list(range(READINGS)) == sorted(int(value) for value in table["result"].to_pylist())
        assert READINGS == len(set(table["reading_id"].to_pylist()))
        assert pipeline.inbox.waiting() == 0
        assert pipeline.lake.scan("refused_readings").num_rows == 0
        assert READINGS == sum(found.accepted for found in pipeline.inbox.sensors().values())


def test_an_hour_without_a_consumer_is_caught_up_in_order(station: Station) -> None:
    """What a broker kept for an hour comes in order of each sensor, into the windows of its capture."""
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    with publisher(station.port) as send:
        for number in range(360):
            send(f"temp-{number % 2}", "temperature", number, began + timedelta(seconds=10 * number))
    heard: list[float] = []
    with station.pipeline() as pipeline:
        outcome = sensors.collect(
            pipeline,
            "broker",
            for_s=1,
            heard=lambda stored: heard.extend(reading.value for reading in stored.readings),
        )
        assert outcome.counts["accepted"] == 360
        for number in (0, 1):
            values = [value for value in heard if value % 2 == number]
            assert values == sorted(values)
        assert sensors.note_silence(pipeline).counts["silent"] == 0
        runner.run_sensor_work(pipeline)
        table = pipeline.lake.scan("readings")
        windows = {key.key.rsplit("/", 1)[1] for key in pipeline.store.list("lake/readings/")}
    assert 360 == table.num_rows
    assert 6 <= len(windows) <= 7
    times = table["phenomenon_time"].to_pylist()
    assert all(first <= second for first, second in pairwise(times))


@pytest.mark.slow
def test_seconds_from_a_trip_to_its_event(station: Station) -> None:
    """While ``outwatch watch`` runs, a trip is an event in the lake, and its alert is out, within seconds."""
    latencies_s = []
    with station.watching(5 * PATIENCE_S), station.pipeline() as pipeline, publisher(station.port) as send:
        send("temp-0", "temperature", 20, datetime.now(UTC))
        wait_for(lambda: pipeline.inbox.feeds()["broker"].accepted == 1)
        for number in range(TRIPS):
            start = time.monotonic()
            send(f"pir-{number}", "motion", 1, datetime.now(UTC))
            wait_for(lambda number=number: len(queries.events(pipeline)) > number)
            latencies_s.append(time.monotonic() - start)
        wait_for(lambda: len(queries.alerts(pipeline)) == TRIPS)
        events = queries.events(pipeline)
        priorities = {alert.priority for alert in queries.alerts(pipeline)}
    cuts = statistics.quantiles(latencies_s, n=20, method="inclusive")
    print(f"trip to event over {TRIPS} trips: p50 {cuts[9]:.3f} s, p95 {cuts[18]:.3f} s")
    assert [(f"pir-{number}",) for number in range(TRIPS)] == [event.sensor_ids for event in events]
    assert priorities == {Priority.P3}
    assert cuts[18] < 5


@pytest.mark.slow
def test_a_dropped_file_goes_through_the_dags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two posts' trips and a broken line, dropped as a file, are two alerts and one refusal after one run."""
    for name in [name for name in os.environ if name.startswith("OUTWATCH_")]:
        monkeypatch.delenv(name)
    drop = tmp_path / "drop"
    drop.mkdir()
    now = datetime.now(UTC).isoformat()
    lines = [f"pir-0,1,{now}", f"pir-1,1,{now}", f"pir-1,high,{now}"]
    (drop / "night.csv").write_text("\n".join(["sensor,value,time", *lines]) + "\n")
    mapping = {"sensor": "{sensor}", "kind": "motion"}
    feed = {"type": "file", "name": "drop", "folder": str(drop), "settle_s": 0, "mapping": mapping}
    environment = environment_of(tmp_path, [feed])
    home = Path(environment["OUTWATCH_HOME"])
    home.mkdir()
    embedded_airflow.migrate(home)
    runs = embedded_airflow.run_dags(
        home, ["ingest_sensors", "join_incidents", "send_alerts"], settings=environment
    )
    assert [(run["dag_id"], run["state"]) for run in runs] == [
        ("ingest_sensors", "success"),
        ("join_incidents", "success"),
        ("send_alerts", "success"),
    ]
    with Station(home, 0, environment).pipeline() as pipeline:
        assert ["post-0", "post-1"] == sorted(alert.outpost_id for alert in queries.alerts(pipeline))
        assert ["unreadable"] == pipeline.lake.scan("refused_readings")["reason"].to_pylist()
