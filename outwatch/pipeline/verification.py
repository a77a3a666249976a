"""Prove that an event's evidence is what was sealed, or name what changed.

Belongs here: recomputing every digest of a record and walking the book of seals. Not here: what a record says
(``evidence_record.py``), and how the answer is shown (``outwatch/commands/evidence.py``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from outwatch.domain.errors import ConfigInvalid, ObjectMissing, PermanentError, UnsupportedFormat
from outwatch.domain.types import Event
from outwatch.pipeline.evidence_record import setup_of_clip, setup_of_sensors, statement
from outwatch.pipeline.wiring import Pipeline
from storage import keys, schemas
from storage.seals import SEAL, Chain, Line, canonical_json, read_record, seal_of, sealed_bytes

LEAST_ID_LETTERS = 8
"""Of the beginning of an event's id: as many as people copy off a screen."""


class State(StrEnum):
    """How one item of a record stands."""

    OK = "ok"
    CHANGED = "changed"
    MISSING = "missing"
    DIFFERS = "differs"
    """Something is set otherwise today; the record says what was set then, and nothing is wrong with it."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was checked."""

    name: str
    state: State
    words: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of an event's evidence."""

    event_id: str
    items: tuple[Item, ...]
    chain: Chain

    @property
    def holds(self) -> bool:
        """Return whether nothing changed and nothing is missing."""
        return all(item.state in {State.OK, State.DIFFERS} for item in self.items)


def find_event(pipeline: Pipeline, event_id: str) -> Event:
    """Return the event that stands with an id, or the only one whose id begins so.

    Raises:
        ObjectMissing: there is none, or more than one.
    """
    if len(event_id) < LEAST_ID_LETTERS:
        raise ObjectMissing(
            f"event {event_id!r}: give its id, or at least {LEAST_ID_LETTERS} letters of its beginning"
        )
    begins = pc.starts_with(pc.field("event_id"), event_id)
    found = schemas.events_from(pipeline.lake.scan("events", where=begins))
    if len(found) != 1:
        raise ObjectMissing(
            f"event {event_id!r}: {len(found) or 'no'} events stand with such an id; `outwatch events --json`"
            " lists them"
        )
    return found[0]


def verify(pipeline: Pipeline, event_id: str) -> Verdict:
    """Recompute all that an event's record names and say of each item whether it is what was sealed.

    Raises:
        ObjectMissing: neither the event nor a record of it can be found.
        StoreUnavailable, DatabaseUnavailable: one of them did not answer.
    """
    event, key = _whereabouts(pipeline, event_id)
    known_id = event.id if event else key.split("/")[-2]
    chain = pipeline.seals.check()
    items = [_event_stands(event)]
    try:
        data = pipeline.store.get(key)
        record = read_record(data, name=key)
    except ObjectMissing:
        items.append(Item(key, State.MISSING, "the record itself is gone"))
    except UnsupportedFormat as error:
        items.append(Item(key, State.CHANGED, str(error)))
    else:
        items += [_record(key, data, record), _entered(record, pipeline.seals.of_event(known_id))]
        if event is not None:
            items.append(_row(event, record))
        items += _objects(pipeline, key, record)
        items += _setup(pipeline, event, record) if event is not None else ()
    items.append(_book(chain))
    return Verdict(known_id, tuple(items), chain)


def _whereabouts(pipeline: Pipeline, event_id: str) -> tuple[Event | None, str]:
    """Return the event, None where only its evidence is left, and the key of its record."""
    try:
        event = find_event(pipeline, event_id)
    except ObjectMissing:
        ends = f"/{event_id}/{keys.RECORD}"
        left = [info.key for info in pipeline.store.list(keys.evidence_prefix()) if info.key.endswith(ends)]
        if not left:
            raise
        return None, left[0]
    records = [key for key in event.evidence_keys if key.endswith(f"/{keys.RECORD}")]
    dt = keys.dt_of(event.started_at)
    return event, records[0] if records else keys.evidence(event.id, dt=dt, name=keys.RECORD)


def _event_stands(event: Event | None) -> Item:
    if event is None:
        return Item("event", State.MISSING, "it is no longer in the lake's events, only its evidence is left")
    return Item("event", State.OK)


def _record(key: str, data: bytes, record: Mapping[str, Any]) -> Item:
    """Check a record against its own seal, byte by byte."""
    if SEAL not in record:
        return Item(
            key, State.MISSING, "it has no seal: it is older; `outwatch retry --events` makes it anew"
        )
    if record[SEAL] != seal_of(record):
        return Item(key, State.CHANGED, "what it says is not what was sealed")
    if sealed_bytes(record) != data:
        return Item(key, State.CHANGED, "it says the same in other bytes: somebody wrote it again")
    return Item(key, State.OK)


def _entered(record: Mapping[str, Any], lines: list[Line]) -> Item:
    """Check that a record is the one that the book entered last for its event."""
    seal = record.get(SEAL)
    if not lines:
        return Item("book of seals", State.MISSING, "no record of this event was ever entered")
    if lines[-1].seal == seal:
        first = f"first sealed {lines[0].at:%Y-%m-%d %H:%M:%S} UTC"
        again = f", sealed again by {len(lines) - 1} later runs" if len(lines) > 1 else ""
        return Item("book of seals", State.OK, first + again)
    if any(line.seal == seal for line in lines):
        return Item("book of seals", State.CHANGED, "an earlier record was put in place of the latest one")
    return Item("book of seals", State.CHANGED, "this record was never entered: it was made outside Outwatch")


def _row(event: Event, record: Mapping[str, Any]) -> Item:
    """Check that the lake still says of an event what the record says."""
    then, now = record.get("event"), statement(event)
    if not isinstance(then, dict):
        return Item("event's row", State.MISSING, "the record does not say what the event was")
    differing = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    if differing:
        return Item("event's row", State.CHANGED, f"not as sealed: {', '.join(differing)}")
    return Item("event's row", State.OK)


def _objects(pipeline: Pipeline, key: str, record: Mapping[str, Any]) -> Iterator[Item]:
    """Yield how each input and each piece stands."""
    folder = key.rpartition("/")[0]
    outputs = {f"{folder}/{name}": digest for name, digest in record.get("outputs", {}).items()}
    for name, digest in {**record.get("inputs", {}), **outputs}.items():
        try:
            same = _sha256(pipeline, name) == digest
        except ObjectMissing:
            yield Item(name, State.MISSING)
        else:
            yield Item(name, State.OK if same else State.CHANGED)


def _sha256(pipeline: Pipeline, key: str) -> str:
    """Return the SHA-256 of an object of any size."""
    with tempfile.TemporaryDirectory(dir=pipeline.scratch) as folder:
        path = Path(folder) / "object"
        pipeline.store.download(key, path)
        return keys.sha256_file(path)


def _setup(pipeline: Pipeline, event: Event, record: Mapping[str, Any]) -> Iterator[Item]:
    """Yield how what was set then compares with what is set now."""
    then: Mapping[str, Any] = record.get("setup", {})
    try:
        now = _setup_now(pipeline, event)
    except (PermanentError, OSError) as error:
        yield Item("settings", State.DIFFERS, f"today's cannot be read: {error}")
        return
    for name in sorted(then):
        same = name in now and canonical_json(then[name]) == canonical_json(now[name])
        words = "" if same else "set otherwise today; the record keeps what was set"
        yield Item(f"setting {name}", State.OK if same else State.DIFFERS, words)


def _setup_now(pipeline: Pipeline, event: Event) -> dict[str, Any]:
    if event.clip_id is None:
        return setup_of_sensors(pipeline, event)
    clip = pipeline.ledger.clip(event.clip_id)
    if clip is None:
        raise ConfigInvalid(f"clip {event.clip_id} is not in the ledger")
    return setup_of_clip(pipeline, clip, event)


def _book(chain: Chain) -> Item:
    if chain.broken_at is not None:
        words = f"line {chain.broken_at} of {chain.lines} does not follow from the one before it"
        return Item("chain of the book", State.CHANGED, words)
    return Item("chain of the book", State.OK, f"{chain.lines} lines, head {chain.head[:16]}")
