"""The MQTT feed against a real Mosquitto: deaths on either side, and messages that no one should send."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import publish
from paho.mqtt.client import MQTTv5

from ingest.feeds.mapping import TopicMapping
from ingest.feeds.mqtt import MqttFeed
from outwatch.domain.errors import AccessDenied, ConfigInvalid, FeedTimeout
from outwatch.domain.ports import FeedItem

MOTION = TopicMapping(filter="sites/+/motion", sensor="{1}", kind="motion")
STARTED_AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)


@dataclass
class Broker:
    """A Mosquitto that can be stopped, killed and started again on its port and its data."""

    binary: str
    folder: Path
    extra: str = ""
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        """Start it on its port and return when it listens."""
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = int(free.getsockname()[1])
        config = self.folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\nuser root\n"
            f"persistence_location {self.folder}/\nmax_queued_messages 0\n{self.extra}\n"
        )
        self.process = subprocess.Popen(
            [self.binary, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return self
        raise RuntimeError("mosquitto did not start")

    def stop(self) -> None:
        """Stop it as a service manager does: it writes its sessions to disk."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=10)
            self.process = None

    def feed(self, *topics: TopicMapping, **options: Any) -> MqttFeed:
        """Return a feed from it."""
        defaults: dict[str, Any] = {"port": self.port, "client_id": "outwatch"}
        return MqttFeed("gates", host="127.0.0.1", topics=topics or (MOTION,), **{**defaults, **options})

    def send(self, *messages: tuple[str, str | bytes], qos: int = 1, retain: bool = False) -> None:
        """Publish, and return when the broker has all."""
        publish.multiple(
            [{"topic": topic, "payload": data, "qos": qos, "retain": retain} for topic, data in messages],
            hostname="127.0.0.1",
            port=self.port,
            protocol=MQTTv5,
        )


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running broker of the test's own."""
    binary = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if binary is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    folder = tmp_path / "broker"
    folder.mkdir()
    running = Broker(binary, folder).start()
    try:
        yield running
    finally:
        running.stop()


def listen(feed: MqttFeed, *, for_s: float = 0.4, cursor: Mapping[str, Any] | None = None) -> list[FeedItem]:
    """Take and acknowledge all that comes."""
    items: list[FeedItem] = []
    for batch in feed.batches(cursor, for_s=for_s):
        items += batch.items
        batch.acknowledge()
    return items


def numbers(items: list[FeedItem]) -> list[float]:
    return [item.observation.value for item in items if item.observation]


def problems(items: list[FeedItem]) -> list[str]:
    return [item.problem for item in items if item.problem]


def test_an_hour_of_messages_is_caught_up_in_order(broker: Broker) -> None:
    """A feed that was away for an hour finds every message, per sensor in order, over a broker's restart."""
    listen(broker.feed(), for_s=0.1)
    sent = [
        (f"sites/gate{second % 3}/motion", json.dumps({"value": second, "time": _time(second)}))
        for second in range(0, 3600, 2)
    ]
    broker.send(*sent[:900])
    broker.stop()
    broker.start()
    broker.send(*sent[900:])
    found = [item.observation for item in listen(broker.feed(batch_max=500), for_s=2) if item.observation]
    for gate in range(3):
        expected = [
            STARTED_AT + timedelta(seconds=second) for second in range(0, 3600, 2) if second % 3 == gate
        ]
        assert expected == [one.at for one in found if one.sensor == f"gate{gate}"]


def test_what_the_broker_kept_is_told_from_what_comes_live(broker: Broker) -> None:
    """So is a batch behind which more waits."""
    feed = broker.feed(batch_max=2)
    listen(feed, for_s=0.1)
    broker.send(*[("sites/gate/motion", str(number)) for number in range(5)])
    behind: list[bool] = []
    waited: dict[float, bool] = {}
    for batch in feed.batches({"client_id": "outwatch", "stored": ""}, for_s=1):
        waited |= {item.observation.value: item.waited for item in batch.items if item.observation}
        behind.append(batch.behind)
        batch.acknowledge()
        if len(waited) == 5:
            broker.send(("sites/gate/motion", "5"))
    assert {0: True, 1: True, 2: True, 3: True, 4: True, 5: False} == waited
    assert ([True, True], False) == (behind[:2], behind[-1])


def test_a_consumer_killed_again_and_again_stores_each_message_once(broker: Broker, tmp_path: Path) -> None:
    """Killed with SIGKILL at any moment, values without time or id are neither lost nor stored twice."""
    listen(broker.feed(), for_s=0.1)
    broker.send(*[("sites/gate1/motion", str(number)) for number in range(3000)])
    book = tmp_path / "book.sqlite"
    context = multiprocessing.get_context("spawn")
    for kill_after in (0, 200, 700, 1300, 1900, 3000):
        child = context.Process(target=_consume, args=(broker.port, book, kill_after))
        child.start()
        child.join(timeout=30)
        assert child.exitcode == -9
        child.close()
    with closing(sqlite3.connect(book)) as database:
        found = [number for (number,) in database.execute("SELECT number FROM readings ORDER BY rowid")]
    assert list(range(3000)) == found


def test_a_lost_connection_is_made_again(broker: Broker) -> None:
    """A broker that restarts while a feed listens costs no message and no error."""
    broker.send(("sites/x/motion", "0"))
    listen(broker.feed(), for_s=0.1)
    broker.send(("sites/a/motion", "1"))
    found: list[float] = []
    for batch in broker.feed().batches(None, for_s=3.0):
        found += numbers(list(batch.items))
        if found == [1.0]:
            broker.stop()
            broker.start()
            broker.send(("sites/a/motion", "2"))
        batch.acknowledge()
    assert [1.0, 2.0] == found


def test_a_broker_that_stays_away_is_a_timeout(broker: Broker) -> None:
    """Lost in mid-run and not back in time, it is named with its address."""
    listen(broker.feed(), for_s=0.1)
    broker.send(("sites/a/motion", "1"))
    batches = broker.feed(timeout_s=1).batches(None, for_s=1.5)
    assert [1.0] == numbers(list(next(batches).items))
    broker.stop()
    with pytest.raises(FeedTimeout, match=f"127.0.0.1:{broker.port}"):
        list(batches)


def test_retained_messages_come_once_and_say_so(broker: Broker) -> None:
    """With a time they are observations marked as retained; a second run does not get them again."""
    broker.send(("sites/a/motion", json.dumps({"value": 1, "time": _time(0)})), retain=True)
    (item,) = listen(broker.feed())
    assert item.observation is not None
    assert {"retained": "true"} == item.observation.details
    assert [] == listen(broker.feed())


def test_a_retained_message_without_a_time_is_refused(broker: Broker) -> None:
    """Nobody can say when it was measured, and old readings must not look live."""
    broker.send(("sites/a/motion", "1"), retain=True)
    (problem,) = problems(listen(broker.feed()))
    assert "without a time" in problem


def test_a_message_that_no_mapping_matches_is_a_problem(broker: Broker) -> None:
    """The session still has a subscription that the settings no longer have: its messages are not dropped."""
    listen(broker.feed(TopicMapping(filter="old/#", sensor="x", kind="y")), for_s=0.1)
    broker.send(("old/gate", "1"))
    (problem,) = problems(listen(broker.feed()))
    assert "no mapping matches topic 'old/gate'" in problem


def test_a_huge_message_is_a_problem_and_holds_nothing_up(broker: Broker) -> None:
    """Two megabytes are refused with a bounded part kept; what follows comes."""
    listen(broker.feed(), for_s=0.1)
    broker.send(("sites/a/motion", b"1" * 2_000_000), ("sites/a/motion", "2"))
    items = listen(broker.feed())
    assert ["payload of 2000000 bytes is larger than 65536: it is no reading"] == problems(items)
    assert len(items[0].payload) < 3000
    assert [2.0] == numbers(items)


def test_filters_that_cover_each_other_give_a_message_once(broker: Broker) -> None:
    """The first mapping that matches stands, although the broker might send once a filter."""
    wide = TopicMapping(filter="sites/#", sensor="other", kind="state")
    feed = broker.feed(MOTION, wide)
    listen(feed, for_s=0.1)
    broker.send(("sites/a/motion", "1"), ("sites/b/door", "2"))
    found = [item.observation.sensor for item in listen(feed) if item.observation]
    assert ["a", "other"] == found


def test_messages_of_quality_0_are_taken(broker: Broker) -> None:
    """A sensor that publishes without acknowledgement is heard while we listen."""
    later = threading.Timer(0.3, broker.send, args=[("sites/a/motion", "1")], kwargs={"qos": 0})
    later.start()
    items = listen(broker.feed(), for_s=1.0)
    later.join()
    assert [1.0] == numbers(items)


def test_topics_that_may_not_be_read_are_named(broker: Broker) -> None:
    """A broker that refuses a subscription is a refusal for a person, not silence."""
    plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)
    if plugin is None:
        pytest.skip(
            "Mosquitto's dynamic security plugin is not installed: its plain ACL files refuse silently"
        )
    rights = {
        "publishClientSend": True,
        "publishClientReceive": True,
        "subscribe": False,
        "unsubscribe": True,
    }
    (broker.folder / "rights.json").write_text(json.dumps({"defaultACLAccess": rights}))
    broker.stop()
    broker.extra = f"plugin {plugin}\nplugin_opt_config_file {broker.folder}/rights.json"
    broker.start()
    with pytest.raises(AccessDenied, match=r"sites/\+/motion"):
        listen(broker.feed(), for_s=0.3)


@pytest.mark.filterwarnings("ignore:Exception ignored in. .ssl:pytest.PytestUnraisableExceptionWarning")
def test_tls_asks_for_the_certificate_that_was_declared(broker: Broker) -> None:
    """A broker whose certificate the CA file vouches for is read; any other is refused.

    The client library leaves it to the collector to close a socket whose handshake failed: hence the filter.
    """
    _certify(broker.folder)
    broker.stop()
    broker.extra = f"certfile {broker.folder}/good.pem\nkeyfile {broker.folder}/good.key"
    broker.start()
    assert [] == listen(broker.feed(ca_file=broker.folder / "good.pem"), for_s=0.1)
    with pytest.raises(AccessDenied, match="certificate"):
        listen(broker.feed(ca_file=broker.folder / "other.pem"), for_s=5)


def test_a_feed_that_cannot_work_is_refused_when_built() -> None:
    """No topic, or a CA file that is not there, is said before anything is connected."""
    with pytest.raises(ConfigInvalid, match="at least one topic"):
        MqttFeed("gates", host="broker", client_id="x", topics=[])
    with pytest.raises(ConfigInvalid, match="CA file"):
        MqttFeed("gates", host="broker", client_id="x", topics=[MOTION], ca_file=Path("/nowhere.pem"))


def _time(second: float) -> str:
    return (STARTED_AT + timedelta(seconds=second)).isoformat()


def _consume(port: int, book: Path, kill_after: int) -> None:
    """Store batches with their cursor, and die by SIGKILL once so many are stored: before acknowledging."""
    database = sqlite3.connect(book)
    database.execute("CREATE TABLE IF NOT EXISTS readings (number INTEGER)")
    database.execute("CREATE TABLE IF NOT EXISTS cursors (cursor TEXT)")
    row = database.execute("SELECT cursor FROM cursors ORDER BY rowid DESC LIMIT 1").fetchone()
    feed = MqttFeed(
        "gates", host="127.0.0.1", port=port, client_id="outwatch", topics=[MOTION], batch_max=100
    )
    for batch in feed.batches(json.loads(row[0]) if row else None, for_s=20):
        if kill_after == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        with database:
            for item in batch.items:
                assert item.observation is not None
                database.execute("INSERT INTO readings VALUES (?)", (int(item.observation.value),))
            database.execute("INSERT INTO cursors VALUES (?)", (json.dumps(batch.cursor),))
        (stored,) = database.execute("SELECT COUNT(*) FROM readings").fetchone()
        if stored >= kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        batch.acknowledge()


def _certify(folder: Path) -> None:
    for name in ("good", "other"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
             "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")],
            check=True, capture_output=True,
        )  # fmt: skip
