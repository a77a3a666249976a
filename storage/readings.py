"""The inbox of sensor readings, where each feed stands, and when each sensor was last heard.

Belongs here: storing what a feed delivered in one transaction, handing a window's rows out to be written to
the lake, and the health of sensors. Not here: what is accepted (``outwatch/domain/readings.py``), and the
windows' files (``storage/lake.py``).

A reading stands in the inbox from the transaction that also moves the feed's cursor, until the transaction
that ends the writing of its window; so it is in the inbox, in the lake, or in both, and its id tells that it
is one. A row taken out while more come in wakes the window again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, case, delete, func, or_, select, update

from outwatch.domain.readings import MAX_PAYLOAD_CHARS, OWN_FEED, Accepted, Judged, duplicate
from outwatch.domain.types import GeoPoint, RefusedReading, Sensor, SensorReading
from storage import keys, tables
from storage.database import insert_into, reading, storable, writing
from storage.ledger import Ledger

WRITE_READINGS = "write_readings"
"""The step that moves a window's rows from the inbox to the lake."""
_CHUNK = 500
"""Values in one condition: below the 999 that old SQLite builds allow."""
_PAUSE = timedelta(minutes=3)
"""Three of the minutes at which the DAG listens: who spoke in a longer pause may not have been heard, since
a broker keeps only what was published with QoS 1."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a batch."""

    readings: tuple[SensorReading, ...]
    """Those that are new to the inbox."""
    refused: int
    again: int
    """Deliveries of what stands in the inbox already."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A window's rows in the inbox: at most as many as were asked for."""

    readings: tuple[Accepted, ...]
    refused: tuple[RefusedReading, ...]


@dataclass(frozen=True, slots=True)
class Listening:
    """How long a sensor has been listened to without a word."""

    last_heard: datetime | None
    since: datetime
    """Its last word, or later: when it was first expected, or when listening began again after a pause."""
    until: datetime


@dataclass(frozen=True, slots=True)
class SensorHealth:
    """What is known of a sensor's reporting; times are None before there was any."""

    sensor_id: str
    feed: str | None = None
    last_at: datetime | None = None
    last_received_at: datetime | None = None
    last_kind: str | None = None
    last_value: float | None = None
    accepted: int = 0
    refused: int = 0
    watched_since: datetime | None = None
    """When it was first expected to speak, or was again after a pause in which nobody listened."""
    silent_since: datetime | None = None
    """When its word was due that has not come; None while it speaks."""


@dataclass(frozen=True, slots=True)
class FeedHealth:
    """Where a feed stands: counts of its items, and when it was last listened to."""

    feed: str
    listened_at: datetime | None
    accepted: int
    refused: int


class ReadingInbox:
    """The inbox of readings.

    Args:
        engine: a migrated database.
        ledger: on the same database; the windows' work is opened there.
        window: the length of a window.
    """

    def __init__(self, engine: Engine, ledger: Ledger, *, window: timedelta) -> None:
        self._engine = engine
        self._ledger = ledger
        self._window = window

    def cursor(self, feed: str) -> Mapping[str, Any] | None:
        """Return where a feed stood after its last stored batch, None where it had none."""
        cursors = tables.feed_cursors
        with reading(self._engine) as connection:
            return connection.scalar(select(cursors.c.cursor).where(cursors.c.feed == feed))

    def store(self, judged: Sequence[Judged], *, feed: str, cursor: Mapping[str, Any] | None) -> Stored:
        """Store a batch, its feed's cursor and the sensors' health, and wake the windows: all or nothing."""
        with writing(self._engine) as connection:
            accepted = [item for item in judged if isinstance(item, Accepted)]
            refused = [item for item in judged if isinstance(item, RefusedReading)]
            new, again = self._insert(connection, accepted)
            refused += [duplicate(item) for item in again if not item.may_repeat]
            self._refuse(connection, refused)
            _note_heard(connection, [item.reading for item in new])
            _note_refused(connection, refused)
            _move(connection, feed, cursor=cursor, accepted=len(new), refused=len(refused))
        return Stored(
            readings=tuple(item.reading for item in new),
            refused=len(refused),
            again=sum(item.may_repeat for item in again),
        )

    def listened(self, feed: str, *, since: datetime, at: datetime) -> None:
        """Note that a feed was listened to until ``at``; after a pause its sensors' silence counts anew."""
        cursors, seen = tables.feed_cursors, tables.sensors_seen
        with writing(self._engine) as connection:
            before = connection.scalar(select(cursors.c.listened_at).where(cursors.c.feed == feed))
            if before is not None and since - before > _PAUSE:
                of_feed = or_(seen.c.feed == feed, seen.c.feed.is_(None))
                connection.execute(update(seen).where(of_feed).values(watched_since=since))
            _move(connection, feed, listened_at=at)

    def note_silence(self, readings: Sequence[SensorReading]) -> int:
        """Store the readings of silences that are not noted yet, and return how many.

        A sensor that has spoken meanwhile keeps its silence to itself.
        """
        seen, noted = tables.sensors_seen, []
        with writing(self._engine) as connection:
            for item in sorted(readings, key=lambda item: item.sensor_id):
                spoke = func.coalesce(seen.c.last_at, seen.c.watched_since) >= item.at
                changed = connection.execute(
                    update(seen)
                    .where(seen.c.sensor_id == item.sensor_id, seen.c.silent_since.is_(None), ~spoke)
                    .values(silent_since=item.at)
                )
                if changed.rowcount == 1:
                    noted.append(Accepted(item, "", may_repeat=True))
            self._insert(connection, noted)
        return len(noted)

    def watch(self, sensors: Sequence[Sensor], *, since: datetime) -> None:
        """Begin to expect words of sensors that were never heard, counting from ``since``."""
        rows = [
            {"sensor_id": sensor.id, "accepted": 0, "refused": 0, "watched_since": since}
            for sensor in sorted(sensors, key=lambda sensor: sensor.id)
        ]
        with writing(self._engine) as connection:
            _put(connection, tables.sensors_seen, rows)

    def listening(self, feeds: Sequence[str]) -> dict[str, Listening]:
        """Return how long each sensor that speaks has been listened to since its last word, by id.

        One that was never heard, or by a feed that is no more, may be on any feed: it counts as listened to
        only as far as all of them are.
        """
        listened = {feed: found.listened_at for feed, found in self.feeds().items() if feed in feeds}
        times = [listened.get(feed) for feed in feeds]
        known = [at for at in times if at is not None]
        by_all = min(known) if known and len(known) == len(times) else None
        found = {}
        for sensor in self.sensors().values():
            until = by_all if sensor.feed is None or sensor.feed not in feeds else listened.get(sensor.feed)
            since = max((at for at in (sensor.last_at, sensor.watched_since) if at is not None), default=None)
            if sensor.silent_since is None and until is not None and since is not None:
                found[sensor.sensor_id] = Listening(sensor.last_at, since, until)
        return found

    def sensors(self) -> dict[str, SensorHealth]:
        """Return the health of every sensor that was ever heard or expected, by id."""
        seen = tables.sensors_seen
        names = list(SensorHealth.__dataclass_fields__)
        with reading(self._engine) as connection:
            rows = connection.execute(select(*(seen.c[name] for name in names)))
            return {row.sensor_id: SensorHealth(**row._mapping) for row in rows}

    def feeds(self) -> dict[str, FeedHealth]:
        """Return where every feed that was ever listened to stands, by name."""
        cursors = tables.feed_cursors
        names = list(FeedHealth.__dataclass_fields__)
        with reading(self._engine) as connection:
            rows = connection.execute(select(*(cursors.c[name] for name in names)))
            return {row.feed: FeedHealth(**row._mapping) for row in rows}

    def waiting(self) -> int:
        """Return how many rows are in the inbox."""
        with reading(self._engine) as connection:
            counts = [select(func.count()).select_from(table) for table in _INBOXES]
            return sum(connection.scalars(count).one() for count in counts)

    def take(self, window: str, *, limit: int) -> Taken:
        """Return a window's rows in the inbox, which stay there until ``clear``."""
        inbox, refused = tables.reading_inbox, tables.refused_inbox
        with reading(self._engine) as connection:
            accepted = select(inbox).where(inbox.c.window_id == window).order_by(inbox.c.reading_id)
            apart = select(refused).where(refused.c.window_id == window).order_by(refused.c.refusal_id)
            return Taken(
                readings=tuple(_accepted(row) for row in connection.execute(accepted.limit(limit))),
                refused=tuple(_refusal(row) for row in connection.execute(apart.limit(limit))),
            )

    def clear(
        self, connection: Connection, window: str, taken: Taken, *, stood: frozenset[str]
    ) -> list[tuple[str, str]]:
        """Remove written rows in the transaction that completes their writing; return what is to write next.

        Args:
            connection: of that transaction.
            window: whose rows they are.
            taken: what ``take`` gave.
            stood: ids of readings that the window's file held before: they were counted twice.
        """
        again = [item for item in taken.readings if item.reading.id in stood]
        apart = [duplicate(item) for item in again if not item.may_repeat]
        written = [item.reading.id for item in taken.readings], [item.id for item in taken.refused]
        for table, ids in zip(_INBOXES, written, strict=True):
            for chunk in _chunks(ids):
                key = table.primary_key.columns[0]
                connection.execute(delete(table).where(table.c.window_id == window, key.in_(chunk)))
        _take_back(connection, [item.reading for item in again], refused=apart)
        self._refuse(connection, apart)
        left = any(
            connection.scalar(select(table.c.window_id).where(table.c.window_id == window).limit(1))
            for table in _INBOXES
        )
        return [(WRITE_READINGS, window)] if left else []

    def window_of(self, at: datetime) -> str:
        """Return the id of the window that a time lies in."""
        return keys.window_of(at, length=self._window)

    def _insert(
        self, connection: Connection, accepted: Sequence[Accepted]
    ) -> tuple[list[Accepted], list[Accepted]]:
        """Put readings into the inbox; return those that are new to it, and the others."""
        rows = [
            {
                "reading_id": item.reading.id,
                "window_id": self.window_of(item.reading.at),
                "may_repeat": item.may_repeat,
                "body": _body(item),
            }
            for item in accepted
        ]
        fresh = set(_put(connection, tables.reading_inbox, rows))
        new: list[Accepted] = []
        again: list[Accepted] = []
        for item, row in zip(accepted, rows, strict=True):
            key = row["reading_id"]
            (new if key in fresh else again).append(item)
            fresh.discard(key)
        self._wake(connection, {self.window_of(item.reading.at) for item in new})
        return new, again

    def _refuse(self, connection: Connection, refused: Sequence[RefusedReading]) -> None:
        rows = [
            {
                "refusal_id": item.id,
                "window_id": self.window_of(item.received_at),
                "body": _refusal_body(item),
            }
            for item in refused
        ]
        _put(connection, tables.refused_inbox, rows)
        self._wake(connection, {self.window_of(item.received_at) for item in refused})

    def _wake(self, connection: Connection, windows: set[str]) -> None:
        self._ledger.wake(connection, [(WRITE_READINGS, window) for window in sorted(windows)])


_INBOXES = (tables.reading_inbox, tables.refused_inbox)


def _put(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Insert rows, leave those whose key is taken as they are, and return the first key of those inserted.

    Unlike ``insert_new``, which puts any number of rows into one statement, this is for thousands.
    """
    if not rows:
        return []
    statement = (
        insert_into(connection, table).on_conflict_do_nothing().returning(table.primary_key.columns[0])
    )
    return list(connection.scalars(statement, [dict(row) for row in rows]))


def _note_heard(connection: Connection, readings: Sequence[SensorReading]) -> None:
    """Bring the sensors' last words and counts up to date."""
    rows: dict[str, dict[str, Any]] = {}
    for item in readings:
        row = rows.setdefault(item.sensor_id, {"accepted": 0})
        row["accepted"] += 1
        if "last_at" not in row or item.at >= row["last_at"]:
            row |= {
                "last_at": item.at,
                "last_received_at": item.received_at,
                "last_kind": item.kind,
                "last_value": item.value,
                "feed": item.feed,
            }
    if not rows:
        return
    seen = tables.sensors_seen
    insert = insert_into(connection, seen)
    later = or_(seen.c.last_at.is_(None), insert.excluded.last_at >= seen.c.last_at)
    last = ("last_at", "last_received_at", "last_kind", "last_value", "feed")
    changes: dict[str, Any] = {
        name: case((later, insert.excluded[name]), else_=seen.c[name]) for name in last
    }
    changes["silent_since"] = case((later, None), else_=seen.c.silent_since)
    changes["accepted"] = seen.c.accepted + insert.excluded.accepted
    connection.execute(
        insert.on_conflict_do_update(index_elements=["sensor_id"], set_=changes),
        [{"sensor_id": name, "refused": 0, **rows[name]} for name in sorted(rows)],
    )


def _take_back(
    connection: Connection, readings: Sequence[SensorReading], *, refused: Sequence[RefusedReading]
) -> None:
    """Count readings that turned out to stand already no longer as accepted, and some as refused."""
    heard = [item for item in readings if item.feed != OWN_FEED]
    _count(connection, "accepted", Counter(item.sensor_id for item in heard), by=-1)
    _note_refused(connection, refused)
    for feed in sorted({item.feed for item in heard}):
        of_feed = sum(item.feed == feed for item in heard)
        _move(connection, feed, accepted=-of_feed, refused=sum(item.feed == feed for item in refused))


def _note_refused(connection: Connection, refused: Sequence[RefusedReading]) -> None:
    counts = Counter(item.sensor_id for item in refused if item.sensor_id is not None)
    _count(connection, "refused", counts, by=1)


def _count(connection: Connection, column: str, counts: Mapping[str, int], *, by: int) -> None:
    """Add to a count of sensors, which may be taken from only where they are known."""
    if not counts:
        return
    seen = tables.sensors_seen
    insert = insert_into(connection, seen)
    statement = insert.on_conflict_do_update(
        index_elements=["sensor_id"], set_={column: seen.c[column] + insert.excluded[column]}
    )
    none = {"accepted": 0, "refused": 0}
    rows = [{**none, "sensor_id": name, column: by * counts[name]} for name in sorted(counts)]
    connection.execute(statement, rows)


def _move(connection: Connection, feed: str, *, accepted: int = 0, refused: int = 0, **changes: Any) -> None:
    """Bring a feed's row up to date: add to its counts, replace the named columns."""
    cursors = tables.feed_cursors
    insert = insert_into(connection, cursors).values(feed=feed, accepted=accepted, refused=refused, **changes)
    added = {
        "accepted": cursors.c.accepted + insert.excluded.accepted,
        "refused": cursors.c.refused + insert.excluded.refused,
    }
    connection.execute(insert.on_conflict_do_update(index_elements=["feed"], set_={**changes, **added}))


def _body(item: Accepted) -> dict[str, Any]:
    """Return a reading as JSON values, with foreign text as both engines and Arrow take it."""
    body = item.reading
    return {
        "sensor_id": body.sensor_id,
        "kind": body.kind,
        "at": body.at.isoformat(),
        "received_at": body.received_at.isoformat(),
        "point": [body.point.lat_deg, body.point.lon_deg, body.point.alt_m],
        "value": body.value,
        "unit": storable(body.unit),
        "feed": body.feed,
        "details": {str(storable(name)): storable(text) for name, text in body.details.items()},
        # Only what may turn out to be a duplicate is ever asked for its payload.
        "payload": "" if item.may_repeat else storable(item.payload[:MAX_PAYLOAD_CHARS]),
    }


def _accepted(row: Row[Any]) -> Accepted:
    body = dict(row.body)
    payload = body.pop("payload")
    times = {name: datetime.fromisoformat(body[name]) for name in ("at", "received_at")}
    reading = SensorReading(id=row.reading_id, **{**body, **times, "point": GeoPoint(*body["point"])})
    return Accepted(reading, payload, may_repeat=row.may_repeat)


def _refusal_body(item: RefusedReading) -> dict[str, Any]:
    return {
        "feed": item.feed,
        "received_at": item.received_at.isoformat(),
        "reason": item.reason,
        "why": storable(item.why),
        "payload": storable(item.payload),
        "sensor_id": item.sensor_id,
        "at": None if item.at is None else item.at.isoformat(),
    }


def _refusal(row: Row[Any]) -> RefusedReading:
    body = dict(row.body)
    at = body["at"] and datetime.fromisoformat(body["at"])
    received_at = datetime.fromisoformat(body["received_at"])
    return RefusedReading(id=row.refusal_id, **{**body, "at": at, "received_at": received_at})


def _chunks(values: Sequence[str]) -> list[Sequence[str]]:
    return [values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK)]
