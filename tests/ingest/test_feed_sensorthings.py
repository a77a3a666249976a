"""The SensorThings feed against a server that is late, busy, wrong or hostile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ingest.feeds.sensorthings import DatastreamMapping, SensorThingsFeed
from outwatch.domain.errors import AccessDenied, ConfigInvalid, FeedTimeout
from outwatch.domain.ports import FeedItem

NOW = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
Answer = tuple[int, dict[str, str], Any]


class Server:
    """Answers each request by what ``answer`` says of its path and query; remembers the requests."""

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, str]], Answer] = lambda _asked: (200, {}, {"value": []})
        self.asked: list[dict[str, str]] = []
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                outer.paths.append(self.path)
                outer.asked.append({name: found[0] for name, found in query.items()})
                status, headers, body = outer.answer(outer.asked[-1])
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Stay quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/FROST-Server/v1.1"

    def gives(self, *pages: Any) -> None:
        """Answer the next requests with these, the last one for ever; lists are Observations."""
        left = [page if isinstance(page, tuple) else (200, {}, {"value": page}) for page in pages]
        self.answer = lambda _asked: left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on a port of its own."""
    built = Server()
    thread = threading.Thread(target=built.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield built
    finally:
        built.http.shutdown()
        built.http.server_close()
        thread.join()


def entry(identity: int | str, at: datetime, value: float = 1.0, **more: Any) -> dict[str, Any]:
    """Return an Observation."""
    stream = {
        "@iot.id": 7,
        "name": "north-gate",
        "unitOfMeasurement": {"symbol": " lx"},
        "ObservedProperty": {"name": "Light Level"},
    }
    return {
        "@iot.id": identity,
        "result": value,
        "phenomenonTime": at.isoformat(),
        "Datastream": stream,
        **more,
    }


def feed(server: Server, **options: Any) -> SensorThingsFeed:
    return SensorThingsFeed("gates", url=server.url, **{"timeout_s": 5, **options})


def take(feed: SensorThingsFeed, cursor: Mapping[str, Any] | None = None) -> tuple[list[FeedItem], Any]:
    """Store and acknowledge all there is; return the items and the last cursor."""
    items: list[FeedItem] = []
    for batch in feed.batches(cursor, for_s=5):
        items += batch.items
        cursor = json.loads(json.dumps(batch.cursor))
        batch.acknowledge()
    return items, cursor


def numbers(items: list[FeedItem]) -> list[float]:
    return [item.observation.value for item in items if item.observation]


def test_an_observation_is_named_by_its_datastream(server: Server) -> None:
    """Without a declaration the server's own words name sensor, kind and unit; the id tells doubles."""
    server.gives([entry(12, NOW, 300)])
    (item,) = take(feed(server))[0]
    found = item.observation
    assert found is not None
    assert ("north-gate", "light_level", 300.0, "lx", NOW, "12") == (
        found.sensor,
        found.kind,
        found.value,
        found.unit,
        found.at,
        found.source_id,
    )


@pytest.mark.parametrize("key", ["7", "north-gate"])
def test_a_declared_datastream_has_the_declared_names(server: Server, key: str) -> None:
    """By id or by name; only the declared ones are asked for."""
    server.gives([entry(12, NOW)])
    declared = {key: DatastreamMapping(sensor="lux-1", kind="light"), "it's": DatastreamMapping()}
    (item,) = take(feed(server, datastreams=declared))[0]
    assert item.observation is not None
    assert ("lux-1", "light", "lx") == (item.observation.sensor, item.observation.kind, item.observation.unit)
    first = "Datastream/@iot.id eq 7" if key == "7" else "Datastream/name eq 'north-gate'"
    assert f"({first} or Datastream/name eq 'it''s')" == server.asked[0]["$filter"]


def test_the_question_is_ordered_and_encoded_for_any_server(server: Server) -> None:
    """Spaces are %20, and time and id order the answer."""
    take(feed(server, page_size=25, since=NOW))
    assert "phenomenonTime asc,@iot.id asc" == server.asked[0]["$orderby"]
    assert "25" == server.asked[0]["$top"]
    assert "phenomenonTime ge 2026-03-14T16:40:00.000000Z" == server.asked[0]["$filter"]
    assert "+" not in server.paths[0]
    assert server.paths[0].startswith("/FROST-Server/v1.1/Observations?")


def test_a_reading_entered_late_is_taken_and_no_other_twice(server: Server) -> None:
    """The next question overlaps the last answer; what was seen in the overlap is left out."""
    old, young = entry(1, NOW - timedelta(minutes=30), 1), entry(2, NOW, 2)
    server.gives([old, young])
    _, cursor = take(feed(server))
    server.gives([old, entry(3, NOW - timedelta(minutes=20), 3), young])
    items, _ = take(feed(server), cursor)
    assert "phenomenonTime ge 2026-03-14T15:40:00.000000Z" == server.asked[-1]["$filter"]
    assert [3.0] == numbers(items)


def test_a_clock_ahead_of_ours_does_not_hide_what_comes_after(server: Server) -> None:
    """A reading of the year 2099 must not carry the mark there."""
    server.gives([entry(1, datetime(2099, 1, 1, tzinfo=UTC))])
    _, cursor = take(feed(server))
    assert datetime.fromisoformat(cursor["high_water"]) <= datetime.now(UTC)


def test_entities_that_are_none_are_problems(server: Server) -> None:
    """Each stands in its place; readings without an id come, though nothing tells them apart later."""
    nameless = entry(4, NOW, 4)
    del nameless["@iot.id"]
    server.gives(["text", entry(2, NOW, result="wet"), {"@iot.id": 3}, nameless, nameless])
    items, _ = take(feed(server))
    assert [True, True, True, False, False] == [item.problem is not None for item in items]


def test_a_next_link_to_another_host_is_not_followed(server: Server) -> None:
    """Neither to one that is near; the error says what to set."""
    for link in (
        "http://169.254.169.254/latest",
        "//evil.example/x",
        "https://127.0.0.1/x",
        "http://[",
        "ftp:x",
    ):
        server.gives((200, {}, {"value": [entry(1, NOW)], "@iot.nextLink": link}))
        with pytest.raises(ConfigInvalid, match=r"not followed|no URL"):
            take(feed(server))


def test_a_page_that_leads_to_itself_ends(server: Server) -> None:
    """A server that turns in a circle is a failure, not a loop."""
    server.answer = lambda _asked: (
        200,
        {},
        {"value": [entry(1, NOW)], "@iot.nextLink": server.paths[-1]},
    )
    with pytest.raises(FeedTimeout, match="same page again"):
        take(feed(server))


def test_a_busy_server_is_asked_again(server: Server) -> None:
    """After 503 and 429 with growing waits, at least as long as it asks for."""
    server.gives((503, {}, {}), (429, {"Retry-After": "1"}, {}), [entry(1, NOW)])
    started = time.monotonic()
    items, _ = take(feed(server))
    assert [1.0] == numbers(items)
    assert time.monotonic() - started >= 1.5


def test_a_server_that_stays_busy_is_a_timeout(server: Server) -> None:
    """It says what the server said, when the time to listen is over."""
    server.gives((502, {}, b"<html>"))
    with pytest.raises(FeedTimeout, match="502"):
        list(feed(server).batches(None, for_s=1))


def test_a_page_of_a_proxy_is_not_an_answer(server: Server) -> None:
    """Text where JSON should be may pass; it is tried again until the time is over."""
    server.gives((200, {}, b"<html>log in</html>"))
    with pytest.raises(FeedTimeout, match="not JSON"):
        list(feed(server).batches(None, for_s=0))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((401, {}, {}), AccessDenied),
        ((403, {}, {}), AccessDenied),
        ((404, {}, b"no such \x00 thing"), ConfigInvalid),
        ((302, {"Location": "http://evil.example/"}, {}), ConfigInvalid),
        ((200, {}, [1, 2]), ConfigInvalid),
        ((200, {}, {"value": "none"}), ConfigInvalid),
    ],
)
def test_what_waiting_cannot_mend_is_said_at_once(server: Server, answer: Answer, expected: type) -> None:
    """Refusals, wrong addresses and redirects are asked once only, and show no token."""
    server.gives(answer)
    with pytest.raises(expected) as raised:
        list(feed(server, token="our-secret").batches(None, for_s=30))
    assert 1 == len(server.asked)
    assert "our-secret" not in f"{raised.value}{feed(server, token='our-secret')!r}"


def test_a_page_without_end_is_cut_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read into memory whole."""
    monkeypatch.setattr("ingest.feeds.sensorthings_server._MAX_PAGE_BYTES", 10_000)
    server.gives((200, {}, b" " * 1_000_000))
    with pytest.raises(ConfigInvalid, match="lower page_size"):
        take(feed(server))


@pytest.mark.parametrize(
    "url", ["ftp://host/v1.1", "host/v1.1", "http://user:secret@host/v1.1", "http://", "http://host:port/"]
)
def test_an_address_that_cannot_work_is_refused_when_built(url: str) -> None:
    """The words repeat no password."""
    with pytest.raises(ConfigInvalid) as raised:
        SensorThingsFeed("gates", url=url)
    assert "secret" not in str(raised.value)


def test_since_needs_a_zone() -> None:
    """A start without one would be another hour on another machine."""
    with pytest.raises(ConfigInvalid, match="no time zone"):
        SensorThingsFeed("gates", url="http://host/v1.1", since=datetime(2026, 3, 14))  # noqa: DTZ001
