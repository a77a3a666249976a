"""Read PX4's log format, ULog, as columns: any topics, from any bytes.

Belongs here: the format. Not here: which topics say what (``px4_ulog.py``). Our own reader, as pyulog can run
for ever on a damaged log (docs/adr/2026-11-22-own-readers-for-flight-logs.md).

A log describes itself. A message is its length, its type and its body; F names the fields of a topic, A gives
a topic a number, D is a row of the topic of a number. There are no checksums: after damage, what counts is
the next place at which three messages in a row make sense.

Source: docs.px4.io, "ULog File Format".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = b"ULog\x01\x12\x35"
FILE_HEADER_BYTES = 16
MAX_COLUMNS = 4096
"""More than any topic has: it bounds what nested and repeated fields cost."""
_HEADER = struct.Struct("<HB")
_KINDS = frozenset(b"FIMPQARDLCSOB")
_START = re.compile(rb"(?s)..[FIMPQARDLCSOB]")
_FORMAT, _ADD, _DATA, _DROPOUT = b"F"[0], b"A"[0], b"D"[0], b"O"[0]
_TYPES = {
    "int8_t": "i1",
    "uint8_t": "u1",
    "int16_t": "<i2",
    "uint16_t": "<u2",
    "int32_t": "<i4",
    "uint32_t": "<u4",
    "int64_t": "<i8",
    "uint64_t": "<u8",
    "float": "<f4",
    "double": "<f8",
    "bool": "u1",
    "char": "u1",
}
_FIELD = re.compile(r"(\w{1,60})(?:\[(\d{1,5})\])? (\w{1,60})", re.ASCII)
_MAX_DEPTH = 8
"""Topics within topics; PX4 has two."""
_IN_A_ROW = 3
"""Messages that must follow on each other for a place to count as the start of one."""

Topic = Mapping[str, npt.NDArray[Any]]


@dataclass(slots=True)
class Log:
    """Topics by name, each with its fields' columns; arrays are one column an element, ``q[0]``."""

    topics: dict[str, Topic] = field(default_factory=dict)
    damaged: int = 0
    """Places at which messages were lost."""
    dropouts: int = 0
    """Times at which the autopilot could not write as fast as it logged."""


@dataclass(frozen=True, slots=True)
class _Subscription:
    """A topic that has a number, and the rows that came for it."""

    name: str
    layout: np.dtype[np.void]
    rows: bytearray = field(default_factory=bytearray)


def read_ulog(data: bytes, wanted: Collection[str]) -> Log:
    """Return the wanted topics of a log, the first instance of each; what is damaged is counted."""
    log = Log()
    formats: dict[str, str] = {}
    subscriptions: dict[int, _Subscription] = {}
    for kind, start, end in _messages(data, log):
        if kind == _DATA:
            told = subscriptions.get(data[start] | data[start + 1] << 8)
            if told is None:
                continue
            row = data[start + 2 : end][: told.layout.itemsize]  # padding may follow
            if len(row) == told.layout.itemsize:
                told.rows.extend(row)
            else:
                log.damaged += 1
        elif kind == _FORMAT:
            name, _, fields = data[start:end].decode("ascii", errors="replace").partition(":")
            formats.setdefault(name, fields)
        elif kind == _ADD:
            name, number = (
                data[start + 3 : end].decode("ascii", errors="replace"),
                data[start + 1] | data[start + 2] << 8,
            )
            layout = _layout(name, formats) if name in wanted else None
            if layout is not None and name not in {told.name for told in subscriptions.values()}:
                subscriptions.setdefault(number, _Subscription(name, layout))
        elif kind == _DROPOUT:
            log.dropouts += 1
    for told in subscriptions.values():
        table = np.frombuffer(told.rows, dtype=told.layout)
        log.topics[told.name] = {column: table[column] for column in told.layout.names or ()}
    return log


def _messages(data: bytes, log: Log) -> Iterator[tuple[int, int, int]]:
    """Yield type, start and end of each message's body."""
    at, size = FILE_HEADER_BYTES, len(data)
    while at + _HEADER.size <= size:
        length, kind = _HEADER.unpack_from(data, at)
        end = at + _HEADER.size + length
        if kind not in _KINDS or length < 3 * (kind in (_DATA, _ADD)) or end > size:
            log.damaged += 1
            at = _next_start(data, at + 1)
            continue
        yield kind, at + _HEADER.size, end
        at = end


def _next_start(data: bytes, at: int) -> int:
    """Return where messages go on after damage, the end of the file where they do not."""
    while (found := _START.search(data, at)) is not None:
        place = at = found.start()
        for _ in range(_IN_A_ROW):
            if place + _HEADER.size > len(data) or data[place + 2] not in _KINDS:
                break
            place += _HEADER.size + (data[place] | data[place + 1] << 8)
        else:
            if place <= len(data):
                return at
        at += 1
    return len(data)


def _layout(name: str, formats: Mapping[str, str]) -> np.dtype[np.void] | None:
    """Return how a topic's rows lie in the file, None where its description is missing or makes no sense."""
    columns: list[tuple[str, str]] = []
    try:
        _flatten(name, formats, prefix="", columns=columns, depth=0)
        while columns and columns[-1][0].startswith("_padding"):
            columns.pop()  # it is not written at the end
        layout = np.dtype(columns)
    except ValueError:  # a field that is named twice, or is of no known type
        return None
    return layout if layout.names and "timestamp" in layout.names else None


def _flatten(
    name: str, formats: Mapping[str, str], *, prefix: str, columns: list[tuple[str, str]], depth: int
) -> None:
    """Append a topic's fields and those of the topics within it."""
    if not formats.get(name) or depth > _MAX_DEPTH:
        raise ValueError(f"topic {name} is not described")
    for text in filter(None, formats[name].split(";")):
        found = _FIELD.fullmatch(text)
        if found is None:
            raise ValueError(f"field {text[:80]} of {name} is not one")
        kind, count, label = found.groups()
        labels = [label] if count is None else [f"{label}[{i}]" for i in range(int(count))]
        for each in labels:
            if len(columns) >= MAX_COLUMNS:
                raise ValueError(f"topic {name} has more fields than any has")
            if kind in _TYPES:
                columns.append((prefix + each, _TYPES[kind]))
            else:
                _flatten(kind, formats, prefix=f"{prefix}{each}.", columns=columns, depth=depth + 1)
