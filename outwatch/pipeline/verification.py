"""Prove that an event's evidence is what was sealed, or name what changed.

Belongs here: recomputing every digest of a record and walking the book of seals. Not here: what a record says
(``evidence_record.py``), and how the answer is shown (``outwatch/commands/evidence.py``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from outwatch.domain.errors import ConfigInvalid, KeyInvalid, ObjectMissing, PermanentError, UnsupportedFormat
from outwatch.domain.types import Event
from outwatch.pipeline.evidence_record import setup_of_clip, setup_of_sensors, statement
from outwatch.pipeline.wiring import Pipeline
from storage import keys, schemas
from storage.seals import SEAL, Chain, Line, canonical_json, read_record, seal_of, sealed_bytes
from storage.tables import WorkState

LEAST_ID_LETTERS = 8
"""Of the beginning of an event's id: as many as people copy off a screen."""
_REMAKE = "`outwatch retry --events`, then `outwatch run`, makes it anew from its inputs"
_UNKNOWN = "(no such setting)"
_BRING_BACK = "an input: bring it back from a copy, and ask who could write to the store"


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
    event, known_id, key = _whereabouts(pipeline, event_id)
    chain = pipeline.seals.check()
    lines = pipeline.seals.of_event(known_id)
    items = [_event_stands(event, lines)]
    items += _unfinished(pipeline, event) if event is not None else ()
    items += _sealed(pipeline, event, key, lines=lines)
    items.append(_book(chain))
    return Verdict(known_id, tuple(items), chain)


def _sealed(
    pipeline: Pipeline, event: Event | None, key: str | None, *, lines: Sequence[Line]
) -> Iterator[Item]:
    """Yield how the record stands, and all that it names."""
    gone = Item(key or keys.RECORD, State.MISSING, f"the record itself is gone; {_REMAKE}")
    if key is None:
        yield gone
        return
    try:
        data = pipeline.store.get(key)
        record = read_record(data, name=key)
    except ObjectMissing:
        yield gone
        return
    except UnsupportedFormat as error:
        yield Item(key, State.CHANGED, str(error))
        return
    yield _record(key, data, record)
    yield _entered(record, lines)
    if event is not None:
        yield _row(event, key, record)
    yield from _objects(pipeline, key, record)
    if event is not None:
        yield from _setup(pipeline, event, record)


def _whereabouts(pipeline: Pipeline, event_id: str) -> tuple[Event | None, str, str | None]:
    """Return the event, its id, and its record's key: None for what is gone of an event that there was."""
    try:
        event = find_event(pipeline, event_id)
    except ObjectMissing:
        if len(event_id) < LEAST_ID_LETTERS:
            raise
        records = {key.split("/")[-2]: key for key in _records(pipeline)}
        there_was = {*records, *pipeline.seals.sealed_events(event_id)}
        known = [known_id for known_id in there_was if known_id.startswith(event_id)]
        if len(known) != 1:
            raise
        return None, known[0], records.get(known[0])
    ends = f"/{event.id}/{keys.RECORD}"
    named = [key for key in event.evidence_keys if key.endswith(ends)]
    return event, event.id, next((key for key in named or _records(pipeline) if key.endswith(ends)), None)


def _records(pipeline: Pipeline) -> Iterator[str]:
    """Yield the keys of all records in the store."""
    found = (info.key for info in pipeline.store.list(keys.evidence_prefix()))
    return (key for key in found if key.endswith(f"/{keys.RECORD}"))


def _event_stands(event: Event | None, lines: Sequence[Line]) -> Item:
    if event is not None:
        return Item("event", State.OK)
    words = "it is no longer in the lake's events: a later run withdrew it, or somebody removed it"
    if lines:
        words += f"; last sealed {lines[-1].at:%Y-%m-%d %H:%M:%S} UTC"
    return Item("event", State.MISSING, words)


def _unfinished(pipeline: Pipeline, event: Event) -> Iterator[Item]:
    """Yield the work that may yet write the event or what it is made from anew."""
    of_clip, of_window = ("detect_clips", "publish_events"), ("write_readings", "publish_sensor_events")
    for step in of_window if event.window else of_clip:
        work = pipeline.ledger.work_on(step, event.window or event.clip_id or "")
        if work is not None and work.state is not WorkState.DONE:
            words = f"it is {work.state.value}: what it writes may not match yet; end it by `outwatch run`"
            if work.state is WorkState.FAILED:
                words = f"it failed half-way: `outwatch retry`, then `outwatch run` ({work.error})"
            yield Item(f"step {step}", State.DIFFERS, f"{words}, then verify again")


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


def _entered(record: Mapping[str, Any], lines: Sequence[Line]) -> Item:
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


def _row(event: Event, key: str, record: Mapping[str, Any]) -> Item:
    """Check that the lake still says of an event what the record says, and names the sealed pieces.

    What this software knows of an event and the one that sealed it did not is no change.
    """
    then, now = record.get("event"), statement(event)
    if not isinstance(then, dict):
        return Item("event's row", State.MISSING, "the record does not say what the event was")
    differing = sorted(name for name in then if then[name] != now.get(name))
    folder = key.rpartition("/")[0]
    if {*event.evidence_keys} != {key, *(f"{folder}/{name}" for name in _digests(record, "outputs"))}:
        differing.append("evidence_keys")
    if differing:
        return Item("event's row", State.CHANGED, f"not as sealed: {', '.join(differing)}")
    return Item("event's row", State.OK)


def _objects(pipeline: Pipeline, key: str, record: Mapping[str, Any]) -> Iterator[Item]:
    """Yield how each input and each piece stands."""
    folder = key.rpartition("/")[0]
    outputs = {f"{folder}/{name}": digest for name, digest in _digests(record, "outputs").items()}
    for name, digest in {**_digests(record, "inputs"), **outputs}.items():
        advice = _REMAKE if name in outputs else _BRING_BACK
        try:
            same = _sha256(pipeline, name) == digest
        except ObjectMissing:
            yield Item(name, State.MISSING, advice)
        except KeyInvalid as error:  # a forged record may name anything
            yield Item(name, State.CHANGED, str(error))
        else:
            yield Item(name, State.OK) if same else Item(name, State.CHANGED, advice)


def _digests(record: Mapping[str, Any], field: str) -> dict[str, Any]:
    """Return the digests in a field by name; none where a forged record holds something else."""
    found = record.get(field)
    return found if isinstance(found, dict) else {}


def _sha256(pipeline: Pipeline, key: str) -> str:
    """Return the SHA-256 of an object of any size."""
    with tempfile.TemporaryDirectory(dir=pipeline.scratch) as folder:
        path = Path(folder) / "object"
        pipeline.store.download(key, path)
        return keys.sha256_file(path)


def _setup(pipeline: Pipeline, event: Event, record: Mapping[str, Any]) -> Iterator[Item]:
    """Yield how what was set then compares with what is set now."""
    then = _digests(record, "setup")
    try:
        now = _setup_now(pipeline, event)
    except (PermanentError, OSError) as error:
        yield Item("settings", State.DIFFERS, f"today's cannot be read: {error}")
        return
    for name in sorted(then):
        same = name in now and canonical_json(then[name]) == canonical_json(now[name])
        words = "" if same else f"{_otherwise(then[name], now.get(name))}; the record keeps what was set"
        yield Item(f"setting {name}", State.OK if same else State.DIFFERS, words)


def _otherwise(then: object, now: object) -> str:
    """Return in words how a setting differs from what it was."""
    values = [value.get("value") if isinstance(value, dict) else None for value in (then, now)]
    before, today = values
    if not isinstance(before, dict) or not isinstance(today, dict):
        return "not the same today"
    names = sorted(n for n in before.keys() | today.keys() if before.get(n) != today.get(n))
    return "then and today: " + ", ".join(
        f"{n} {before.get(n, _UNKNOWN)} and {today.get(n, _UNKNOWN)}" for n in names
    )


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
