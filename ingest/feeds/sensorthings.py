"""Readings polled from an OGC SensorThings server (OGC 18-088).

Belongs here: the query, its pages, and how far they were read. Not here: what an Observation says
(``payloads.py``).

Observations are asked for in order of ``phenomenonTime`` and id, from a high-water mark less an overlap: a
station on a weak link enters its readings late. The ids seen within the overlap are in the cursor, so that
they are not handed on again.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import httpx
import structlog

from ingest.feeds.mapping import TopicMapping
from ingest.feeds.payloads import feed_items
from ingest.feeds.values import look_up
from outwatch.domain.errors import AccessDenied, ConfigInvalid, FeedTimeout
from outwatch.domain.ports import FeedBatch, FeedItem

_MAX_PAGE_BYTES = 32 * 1024 * 1024
_REMEMBERED = 5000
"""Ids in a cursor; beyond, a reading of the overlap comes again and is told apart downstream."""
_EXPAND = "Datastream($select=@iot.id,name,unitOfMeasurement;$expand=ObservedProperty($select=name))"
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_ANSWER_BYTES = 200
_TRY_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_SENSOR = "{Datastream.name}"
_KIND = "{Datastream.ObservedProperty.name}"

log = structlog.get_logger(__name__)


class _Busy(Exception):
    """The server cannot answer now; told as ``FeedTimeout`` in the end."""

    def __init__(self, why: str, *, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class DatastreamMapping:
    """What a Datastream is here. What is None the server says: its name, its observed property, its unit."""

    sensor: str | None = None
    """Template of the sensor's id, with fields of the Observation."""
    kind: str | None = None
    unit: str | None = None


class _State:
    """What the cursor remembers: the latest time read, and which ids lie within the overlap before it."""

    def __init__(
        self, cursor: Mapping[str, Any] | None, *, since: datetime | None, overlap: timedelta
    ) -> None:
        known = cursor or {}
        self.high_water = datetime.fromisoformat(known["high_water"]) if known.get("high_water") else None
        self.seen: dict[str, float] = dict(known.get("seen", {}))
        self._since = since
        self._overlap = overlap

    @property
    def start(self) -> datetime | None:
        """Return from when to ask, None for everything."""
        return self._since if self.high_water is None else self.high_water - self._overlap

    def stored(self, page: Mapping[str, datetime]) -> None:
        """Take note of stored ids and their times; none of them lies in the future."""
        if not page:
            return
        self.high_water = max(page.values() if self.high_water is None else [self.high_water, *page.values()])
        self.seen |= {identity: at.timestamp() for identity, at in page.items()}
        oldest = (self.high_water - self._overlap).timestamp()
        recent = [(identity, at) for identity, at in self.seen.items() if at >= oldest]
        self.seen = dict(sorted(recent, key=lambda entry: entry[1])[-_REMEMBERED:])

    def cursor_after(self, page: Mapping[str, datetime]) -> dict[str, Any]:
        """Return this state with a page stored, as JSON values."""
        after = _State(self.cursor(), since=self._since, overlap=self._overlap)
        after.stored(page)
        return after.cursor()

    def cursor(self) -> dict[str, Any]:
        """Return this state as JSON values."""
        return {
            "high_water": self.high_water.isoformat() if self.high_water else None,
            "seen": dict(self.seen),
        }


class SensorThingsFeed:
    """A ``SensorFeed`` from one SensorThings server, polled."""

    def __init__(
        self,
        name: str,
        *,
        url: str,
        datastreams: Mapping[str, DatastreamMapping] = MappingProxyType({}),
        token: str = "",
        page_size: int = 500,
        overlap_s: float = 3600.0,
        since: datetime | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        """Prepare a feed; nothing is sent.

        Args:
            name: the feed's name in settings and in the ledger.
            url: the service's root with its version, as in ``https://host/FROST-Server/v1.1``.
            datastreams: which to read, by id or name; empty reads all, each under its own name.
            token: sent as ``Authorization: Bearer``; empty for none.
            page_size: Observations asked for at once, and handed on at once.
            overlap_s: how late a reading may be entered after a younger one and still be taken.
            since: where to begin the first time; None takes all that the server has.
            timeout_s: how long to wait for an answer.

        Raises:
            ConfigInvalid: the URL is not http(s) with a host, or holds credentials.
        """
        self._name = name
        self._root = _checked_url(url)
        self._datastreams = {
            key: what if isinstance(what, DatastreamMapping) else DatastreamMapping(**what)
            for key, what in datastreams.items()
        }
        self._token = token
        self._page_size = page_size
        self._overlap = timedelta(seconds=overlap_s)
        self._since = since
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"SensorThingsFeed({self._name!r}, {self._root.host!r})"

    @property
    def name(self) -> str:
        """Return the feed's name in settings and in the ledger."""
        return self._name

    def batches(self, cursor: Mapping[str, Any] | None, *, for_s: float) -> Iterator[FeedBatch]:
        """Yield a batch a page, oldest first, and end; at the latest after ``for_s``.

        Raises:
            FeedTimeout: the server did not answer, or not usably, within ``for_s``.
            AccessDenied: it refused the token.
            ConfigInvalid: it has no such service, or refers to another host.
        """
        deadline = time.monotonic() + for_s
        state = _State(cursor, since=self._since, overlap=self._overlap)
        url: httpx.URL | None = self._query(state.start)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        # trust_env is off: proxies and .netrc passwords of the account must not leak into requests.
        with httpx.Client(timeout=self._timeout_s, headers=headers, trust_env=False) as client:
            while url is not None:
                page = self._page(client, url, deadline=deadline)
                batch = self._batch(page["value"], state)
                if batch.items:
                    yield batch
                if time.monotonic() >= deadline:
                    return
                url = self._next(url, page.get("@iot.nextLink"))

    def _query(self, start: datetime | None) -> httpx.URL:
        conditions = []
        if start is not None:
            conditions.append(f"phenomenonTime ge {start.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}")
        if self._datastreams:
            conditions.append(f"({' or '.join(_condition(key) for key in self._datastreams)})")
        parameters = {
            "$expand": _EXPAND,
            "$orderby": "phenomenonTime asc,@iot.id asc",
            "$top": str(self._page_size),
        }
        if conditions:
            parameters["$filter"] = " and ".join(conditions)
        return self._root.copy_with(path=f"{self._root.path.rstrip('/')}/Observations", params=parameters)

    def _next(self, url: httpx.URL, link: object) -> httpx.URL | None:
        """Return the next page's address, which must be on the server that was declared."""
        if link is None:
            return None
        try:
            following = url.join(str(link))
        except httpx.InvalidURL as error:
            raise ConfigInvalid(f"feed {self._name!r}: the server's next link is no URL: {error}") from error
        found, declared = _origin(following), _origin(self._root)
        if found != declared:
            raise ConfigInvalid(
                f"feed {self._name!r}: the server at {declared} refers to {found} for its next page, which is "
                "not followed: set url to what the server calls itself, or the server's root URL to that"
            )
        if following == url:
            raise FeedTimeout(f"feed {self._name!r}: the server gives the same page again as its next")
        return following

    def _batch(self, records: list[Any], state: _State) -> FeedBatch:
        received_at = datetime.now(UTC)
        items: list[FeedItem] = []
        page: dict[str, datetime] = {}
        for record in records:
            identity = str(look_up(record, "@iot.id")) if isinstance(record, dict) else ""
            if identity in state.seen:
                continue
            found = self._items(record, received_at=received_at)
            items += found
            # A time ahead of ours must not carry the mark past readings that are still to come.
            at = found[0].observation.at if found[0].observation else None
            page[identity] = min(at or state.high_water or received_at, received_at)

        return FeedBatch(
            items=tuple(items),
            cursor=state.cursor_after(page),
            acknowledge=lambda: state.stored(page),
        )

    def _items(self, record: Any, *, received_at: datetime) -> list[FeedItem]:
        mapping = self._mapping(record if isinstance(record, dict) else {})
        data = json.dumps(record).encode()
        return feed_items(data, topic="Observations", mapping=mapping, received_at=received_at)

    def _mapping(self, record: Mapping[str, Any]) -> TopicMapping:
        name = str(look_up(record, "Datastream.name"))
        identity = str(look_up(record, "Datastream.@iot.id"))
        declared = self._datastreams.get(identity) or self._datastreams.get(name) or DatastreamMapping()
        observed = look_up(record, "Datastream.ObservedProperty.name")
        symbol = look_up(record, "Datastream.unitOfMeasurement.symbol")
        # Words of the server become templates here: braces in them must not.
        unit = re.sub("[{}]", "", symbol).strip() if isinstance(symbol, str) else ""
        kind = re.sub(r"\W+", "_", observed.strip().lower()) if isinstance(observed, str) else ""
        return TopicMapping(
            payload="sensorthings",
            sensor=declared.sensor or _SENSOR,
            kind=declared.kind or kind or _KIND,
            unit=declared.unit or unit or None,
        )

    def _page(self, client: httpx.Client, url: httpx.URL, *, deadline: float) -> dict[str, Any]:
        """Return a page, asking again with growing waits; at least one try is made."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return self._answer(client, url)
            except (httpx.TransportError, _Busy) as reason:
                wait_s = max(wait_s, reason.wait_s if isinstance(reason, _Busy) else 0.0)
                if time.monotonic() + wait_s >= deadline:
                    raise FeedTimeout(
                        f"SensorThings server {_origin(url)} of feed {self._name!r} did not answer: "
                        f"{type(reason).__name__.strip('_')}: {reason}"
                    ) from reason
                log.warning("sensorthings_busy", feed=self._name, reason=str(reason), wait_s=wait_s)
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _answer(self, client: httpx.Client, url: httpx.URL) -> dict[str, Any]:
        with client.stream("GET", url) as response:
            self._judge(response)
            body = bytearray()
            for block in response.iter_bytes():
                body += block
                if len(body) > _MAX_PAGE_BYTES:
                    raise ConfigInvalid(
                        f"feed {self._name!r}: a page is larger than {_MAX_PAGE_BYTES} bytes: lower page_size"
                    )
        try:
            page = json.loads(bytes(body))
        except (ValueError, RecursionError) as error:
            raise _Busy(f"its answer is not JSON: {error}") from error
        if not isinstance(page, dict) or not isinstance(page.get("value"), list):
            raise ConfigInvalid(
                f"feed {self._name!r}: {_origin(url)}{url.path} answered no list of Observations: check url"
            )
        return page

    def _judge(self, response: httpx.Response) -> None:
        status = response.status_code
        if response.is_success:
            return
        said = f"{status} {response.reason_phrase}"
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise AccessDenied(
                f"SensorThings server {_origin(self._root)} of feed {self._name!r} answered {said}: check token"
            )
        if status in _TRY_AGAIN or response.is_server_error:
            asked = response.headers.get("Retry-After", "")
            raise _Busy(said, wait_s=float(asked) if re.fullmatch("[0-9]{1,6}", asked) else 0.0)
        start = next(response.iter_raw(chunk_size=_ANSWER_BYTES), b"").decode(errors="replace")
        raise ConfigInvalid(
            f"SensorThings server {_origin(self._root)} of feed {self._name!r} answered {said} {start!r}: check url"
        )


def _checked_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
        host = url.host
    except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: a name that IDNA does not allow
        raise ConfigInvalid(f"SensorThings URL cannot be read: {error}") from error
    if url.scheme not in {"http", "https"} or not host:
        raise ConfigInvalid(f"SensorThings URL must be http(s)://host/..., found scheme {url.scheme!r}")
    if url.userinfo:
        raise ConfigInvalid(f"SensorThings URL for {host} must not hold a user or password: use token")
    return url


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _condition(key: str) -> str:
    """Return the filter for a Datastream by its id, or by its name where that is no number."""
    quoted = key.replace("'", "''")
    return f"Datastream/@iot.id eq {key}" if key.isdecimal() else f"Datastream/name eq '{quoted}'"
