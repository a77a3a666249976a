"""Readings polled from an OGC SensorThings server (OGC 18-088).

Belongs here: the query, and how far its answer was read. Not here: HTTP and paging
(``sensorthings_server.py``), and what an Observation says (``payloads.py``).

Observations are asked for in order of ``phenomenonTime`` and id, from a high-water mark less an overlap: a
station on a weak link enters its readings late. The ids seen within the overlap are in the cursor, so that
they are not handed on again.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from ingest.feeds.mapping import TopicMapping
from ingest.feeds.payloads import feed_items
from ingest.feeds.sensorthings_server import SensorThingsServer
from ingest.feeds.values import clean, look_up
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.ports import FeedBatch, FeedItem

_REMEMBERED = 5000
"""Ids in a cursor; beyond, a reading of the overlap comes again and is told apart downstream."""
_EXPAND = "Datastream($select=@iot.id,name,unitOfMeasurement;$expand=ObservedProperty($select=name))"
_SENSOR = "{Datastream.name}"
_KIND = "{Datastream.ObservedProperty.name}"


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
            ConfigInvalid: the URL is not http(s) with a host, or holds credentials; ``since`` has no zone.
        """
        if since is not None and since.tzinfo is None:
            raise ConfigInvalid(f"feed {name!r}: since {since} has no time zone: end it with Z or +05:00")
        self._name = name
        self._server = SensorThingsServer(url, feed=name, token=token, timeout_s=timeout_s)
        self._datastreams = {
            key: what if isinstance(what, DatastreamMapping) else DatastreamMapping(**what)
            for key, what in datastreams.items()
        }
        self._page_size = page_size
        self._overlap = timedelta(seconds=overlap_s)
        self._since = since

    def __repr__(self) -> str:
        return f"SensorThingsFeed({self._name!r}, {self._server.origin!r})"

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
        for page, more in self._server.pages("Observations", self._query(state.start), deadline=deadline):
            batch = self._batch(page, state)
            if batch.items:
                yield replace(batch, behind=more)
            if time.monotonic() >= deadline:
                return

    def _query(self, start: datetime | None) -> dict[str, str]:
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
        return parameters

    def _batch(self, records: list[Any], state: _State) -> FeedBatch:
        received_at = datetime.now(UTC)
        items: list[FeedItem] = []
        noted: dict[str, datetime] = {}
        for record in records:
            identity = _identity(record)
            if identity in state.seen:
                continue
            found = self._items(record, received_at=received_at)
            items += found
            if identity is not None:
                # A time ahead of ours must not carry the mark past readings that are still to come.
                at = found[0].observation.at if found[0].observation else None
                noted[identity] = min(at or state.high_water or received_at, received_at)
        return FeedBatch(
            items=tuple(items),
            cursor=state.cursor_after(noted),
            acknowledge=lambda: state.stored(noted),
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


def _identity(record: Any) -> str | None:
    """Return an entity's id as text that any database takes, None where it has none."""
    identity = look_up(record, "@iot.id") if isinstance(record, dict) else None
    return clean(str(identity)) if isinstance(identity, str | int) else None


def _condition(key: str) -> str:
    """Return the filter for a Datastream by its id, or by its name where that is no number."""
    quoted = key.replace("'", "''")
    return f"Datastream/@iot.id eq {key}" if key.isdecimal() else f"Datastream/name eq '{quoted}'"
