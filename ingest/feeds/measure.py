"""Declared fields of a payload as observations.

Belongs here: one payload with several values, each with its kind, unit and scale. Not here: where in a
format those values stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from ingest.feeds.mapping import FieldMapping
from ingest.feeds.values import Unreadable, look_up, names_in, number_of
from outwatch.domain.types import Observation


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a payload, or one field of it, gives no observation, in words a person can act on."""

    why: str


def measured(
    record: Mapping[str, Any],
    fields: Mapping[str, FieldMapping],
    *,
    sensor: str,
    at: datetime | None,
    source_id: str | None,
    details: Mapping[str, str] = MappingProxyType({}),
) -> list[Observation | Problem]:
    """Return an observation of each declared field that is there, and a problem for each bad one.

    Devices leave fields out that they did not measure this time; a record with none of them is a problem.
    """
    found: list[Observation | Problem] = []
    for path, what in fields.items():
        value = look_up(record, path)
        if value is None:
            continue
        try:
            number = number_of(value, name=path)
        except Unreadable as problem:
            found.append(Problem(str(problem)))
            continue
        found.append(
            Observation(
                sensor=sensor,
                kind=what.kind,
                value=number * what.scale + what.offset,
                at=at,
                unit=what.unit,
                source_id=f"{source_id}/{path}" if source_id else None,
                details=details,
            )
        )
    if not found:
        declared = ", ".join(fields)
        found.append(
            Problem(f"payload has none of the declared fields {declared}; it has: {names_in(record)}")
        )
    return found
