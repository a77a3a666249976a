"""One suite for every sensor feed: order, nothing lost, nothing stored twice, and failures as the port says.

Each feed reads from the real thing: a Mosquitto broker, an HTTP server that speaks SensorThings' paging, a
folder. Cursors pass through JSON, as they do between runs.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from paho.mqtt import publish
from paho.mqtt.client import MQTTv5

from ingest.feeds.filedrop import FileDropFeed
from ingest.feeds.mapping import TopicMapping
from ingest.feeds.mqtt import MqttFeed
from ingest.feeds.sensorthings import SensorThingsFeed
from outwatch.domain.errors import AccessDenied, FeedTimeout
from outwatch.domain.ports import FeedBatch, SensorFeed

STARTED_AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
BATCH = 10
LISTEN_S = 0.6
PLAIN = TopicMapping(filter="sites/+/motion", sensor="gate-1", kind="motion")
Cursor = Mapping[str, Any] | None


@dataclass
class Source:
    """A feed's other end: how to send it values (None is an unreadable one), and feeds that read from it."""

    feed: Callable[[], SensorFeed]
    send: Callable[[Sequence[int | None]], None]
    unreachable: Callable[[], SensorFeed]
    denied: Callable[[], SensorFeed] | None


def at(value: int) -> str:
    """Return when a value was measured: one a second."""
    return (STARTED_AT + timedelta(seconds=value)).isoformat()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def mosquitto(folder: Path) -> Iterator[int]:
    """Run a broker with a password for those who give a name; give its port."""
    binary = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if binary is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    port = free_port()
    (folder / "passwords").write_text("other:$7$101$AAAA$AAAA\n")
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npassword_file {folder}/passwords\n"
        f"persistence true\npersistence_location {folder}/\nuser root\nmax_queued_messages 0\n"
    )
    process = subprocess.Popen(
        [binary, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                break
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def mqtt_source(folder: Path) -> Iterator[Source]:
    """A broker in which the feed's session already is."""
    with mosquitto(folder) as port:

        def feed(**options: Any) -> SensorFeed:
            defaults = {"port": port, "client_id": "outwatch", "topics": [PLAIN], "batch_max": BATCH}
            return MqttFeed("gates", host="127.0.0.1", **{**defaults, **options})

        def send(values: Sequence[int | None]) -> None:
            messages = [
                {"topic": "sites/kohat/motion", "payload": _payload(value), "qos": 1} for value in values
            ]
            publish.multiple(messages, hostname="127.0.0.1", port=port, protocol=MQTTv5)

        assert [] == list(feed().batches(None, for_s=0.1))
        yield Source(
            feed=feed,
            send=send,
            unreachable=lambda: feed(port=free_port()),
            denied=lambda: feed(username="other", password="wrong"),
        )


@contextmanager
def sensorthings_source(_folder: Path) -> Iterator[Source]:
    """An HTTP server with one Datastream."""
    stored: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["Authorization"] == "Bearer wrong":
                self.send_response(401)
                self.end_headers()
                return
            asked = {name: found[0] for name, found in parse_qs(urlsplit(self.path).query).items()}
            since = asked.get("$filter", "").removeprefix("phenomenonTime ge ") or at(0)
            start = datetime.fromisoformat(since)
            found = [one for one in stored if datetime.fromisoformat(one["phenomenonTime"]) >= start]
            found.sort(key=lambda one: (one["phenomenonTime"], one["@iot.id"]))
            skip, top = int(asked.get("$skip", 0)), int(asked["$top"])
            page: dict[str, Any] = {"value": found[skip : skip + top]}
            if len(found) > skip + top:
                page["@iot.nextLink"] = "Observations?" + urlencode({**asked, "$skip": skip + top})
            body = json.dumps(page).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Stay quiet."""

    def send(values: Sequence[int | None]) -> None:
        for value in values:
            stored.append(
                {
                    "@iot.id": len(stored) + 1,
                    "phenomenonTime": at(len(stored)),
                    "result": value,
                    "Datastream": {"@iot.id": 7, "name": "gate-1", "ObservedProperty": {"name": "Motion"}},
                }
            )

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()

    def feed(**options: Any) -> SensorFeed:
        url = options.pop("url", f"http://127.0.0.1:{server.server_port}/v1.1")
        return SensorThingsFeed("gates", url=url, page_size=BATCH, timeout_s=5, **options)

    try:
        yield Source(
            feed=feed,
            send=send,
            unreachable=lambda: feed(url=f"http://127.0.0.1:{free_port()}/v1.1"),
            denied=lambda: feed(token="wrong"),
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def file_source(folder: Path) -> Iterator[Source]:
    """A folder into which each sending drops a file."""
    drop = folder / "drop"
    drop.mkdir()

    def send(values: Sequence[int | None]) -> None:
        path = drop / f"{len(list(folder.rglob('*.jsonl'))):03}.jsonl"
        path.write_text("".join(f"{_payload(value)}\n" for value in values))
        settled = time.time() - 60 + len(list(folder.rglob("*.jsonl")))
        os.utime(path, (settled, settled))

    def feed(place: Path = drop) -> SensorFeed:
        return FileDropFeed("gates", folder=place, mapping=PLAIN, batch_max=BATCH)

    yield Source(feed=feed, send=send, unreachable=lambda: feed(folder / "nowhere"), denied=None)


@pytest.fixture(
    params=[mqtt_source, sensorthings_source, file_source], ids=["mqtt", "sensorthings", "filedrop"]
)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    """Each feed's other end in turn."""
    with request.param(tmp_path) as built:
        yield built


def _payload(value: int | None) -> str:
    return '{"value": ' if value is None else json.dumps({"value": value, "time": at(value)})


def values(batch: FeedBatch) -> list[int | None]:
    return [int(item.observation.value) if item.observation else None for item in batch.items]


def stored(cursor: Cursor) -> Cursor:
    """Return a cursor as the next run reads it from the database."""
    return json.loads(json.dumps(cursor))


def consume(
    feed: SensorFeed, cursor: Cursor, *, acknowledging: bool = True
) -> tuple[list[int | None], Cursor]:
    """Store all that comes; return the values and the last cursor."""
    found: list[int | None] = []
    for batch in feed.batches(stored(cursor), for_s=LISTEN_S):
        found += values(batch)
        cursor = batch.cursor
        if acknowledging:
            batch.acknowledge()
    return found, cursor


def first_batch(feed: SensorFeed, cursor: Cursor, *, acknowledging: bool) -> tuple[list[int | None], Cursor]:
    """Take one batch and stop."""
    with closing(feed.batches(stored(cursor), for_s=5)) as batches:  # type: ignore[type-var]
        batch = next(batches)
        if acknowledging:
            batch.acknowledge()
        return values(batch), batch.cursor


def test_values_come_in_order(source: Source) -> None:
    """More than two batches arrive whole and in the order in which they were sent."""
    source.send(range(25))
    found, _ = consume(source.feed(), None)
    assert list(range(25)) == found


def test_what_was_not_stored_comes_again(source: Source) -> None:
    """A consumer that dies before it stored a batch finds it again, from its first value."""
    source.send(range(25))
    lost, _ = first_batch(source.feed(), None, acknowledging=False)
    found, _ = consume(source.feed(), None)
    assert lost == list(range(len(lost)))
    assert list(range(25)) == found


def test_what_was_acknowledged_does_not_come_again(source: Source) -> None:
    """A second run with the last cursor has nothing to do."""
    source.send(range(25))
    _, cursor = consume(source.feed(), None)
    found, _ = consume(source.feed(), cursor)
    assert [] == found


def test_what_was_stored_and_not_acknowledged_does_not_come_again(source: Source) -> None:
    """A consumer that dies between storing and acknowledging stores nothing twice."""
    source.send(range(BATCH))
    first, cursor = first_batch(source.feed(), None, acknowledging=False)
    found, _ = consume(source.feed(), cursor)
    assert list(range(BATCH)) == [*first, *found]


def test_a_cursor_resumes_where_it_stood(source: Source) -> None:
    """After one stored batch the next run begins with the next value."""
    source.send(range(25))
    first, cursor = first_batch(source.feed(), None, acknowledging=True)
    found, _ = consume(source.feed(), cursor)
    assert list(range(25)) == [*first, *found]


def test_what_comes_later_is_found_by_a_later_run(source: Source) -> None:
    """Values sent between two runs wait for the second."""
    source.send(range(5))
    _, cursor = consume(source.feed(), None)
    source.send(range(5, 12))
    found, _ = consume(source.feed(), cursor)
    assert list(range(5, 12)) == found


def test_an_unreadable_payload_is_an_item_with_its_reason(source: Source) -> None:
    """It stands in its place between good ones, with the payload as it came."""
    source.send([0, None, 2])
    items = [item for batch in source.feed().batches(None, for_s=LISTEN_S) for item in batch.items]
    assert [False, True, False] == [item.problem is not None for item in items]
    assert [True, False, True] == [item.observation is not None for item in items]
    assert items[1].payload


def test_observations_carry_sensor_kind_and_utc_times(source: Source) -> None:
    """What the mapping declares and the payload says arrives as declared."""
    source.send([3])
    ((item,),) = [batch.items for batch in source.feed().batches(None, for_s=LISTEN_S)]
    assert item.observation is not None
    assert item.observation.at is not None
    assert ("gate-1", "motion", 3.0) == (
        item.observation.sensor,
        item.observation.kind,
        item.observation.value,
    )
    assert timedelta(0) == item.observation.at.utcoffset() == item.received_at.utcoffset()


def test_acknowledging_twice_or_too_late_is_harmless(source: Source) -> None:
    """The second call and one after the feed was closed change nothing and raise nothing."""
    source.send(range(3))
    batches = list(source.feed().batches(None, for_s=LISTEN_S))
    for batch in [*batches, *batches]:
        batch.acknowledge()
    found, _ = consume(source.feed(), batches[-1].cursor)
    assert [] == found


def test_a_source_that_does_not_answer_is_a_timeout(source: Source) -> None:
    """The error names the feed and can be tried again; waiting ends with the time to listen."""
    started = time.monotonic()
    with pytest.raises(FeedTimeout, match="gates"):
        list(source.unreachable().batches(None, for_s=1))
    assert time.monotonic() - started < 5


def test_refused_credentials_are_no_timeout(source: Source) -> None:
    """A person must act, so no further try is made; the error and the feed show no secret."""
    if source.denied is None:
        pytest.skip("a folder has no credentials; its file mode does not bind the root user of a container")
    feed = source.denied()
    with pytest.raises(AccessDenied) as refusal:
        list(feed.batches(None, for_s=30))
    assert "wrong" not in f"{refusal.value} {feed!r}"
    assert "gates" == feed.name
