"""What joining events into incidents works on, and what it says of each event.

Belongs here: the values that the joining (``detection/incidents.py``) and the book of incidents
(``storage/incidents.py``) exchange. Not here: either of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from outwatch.domain.types import EventKind, GeoPoint, Incident, require_utc

Verdict = Literal["join", "separate", "undo"]
"""What a person may decide; an undoing takes an earlier decision back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What must be known of an event to tell whether another is of the same happening."""

    event_id: str
    subject: str
    """The clip that shows it, or the window of readings in which it starts."""
    kind: EventKind
    outpost_id: str
    started_at: datetime
    ended_at: datetime
    clock_doubt_s: float
    """How far off its times may be, either way."""
    point: GeoPoint | None
    """None where its place is not known: such an event stays alone."""
    covariance_m2: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Of the place: east-east, east-north, north-north."""
    method: Literal["flat_ground", "dem", "sensor", "none"] = "none"
    """How the place is known, as in ``GroundFix.method``."""
    count: int = 1

    def __post_init__(self) -> None:
        require_utc(self.started_at, name="started_at")
        require_utc(self.ended_at, name="ended_at")

    @property
    def clip_id(self) -> str | None:
        """Return the clip that shows it, None where sensors report it."""
        return None if self.kind is EventKind.SENSOR_TRIP else self.subject

    @property
    def source(self) -> str:
        """Return what reports it, the same after its step has run again: its clip, or ``sensors``."""
        return self.clip_id or "sensors"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a person said of two events; it goes before what places and times say."""

    one: str
    other: str
    verdict: Verdict
    by: str
    """Who, and which decision: ``person:afridi#3``."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Why an event belongs to its incident: the link by which it does, with the gate's figures."""

    event_id: str
    by: str
    """The version of the rule, or ``person:<who>#<decision>``."""
    near_event_id: str | None = None
    """The event that it was joined to; None where nothing came nearer or it stands alone."""
    distance_m: float | None = None
    mahalanobis: float | None = None
    gap_s: float | None = None
    """Between the two in time; 0 where they overlap."""
    note: str | None = None
    """What a person should know: another incident would have fitted too."""


@dataclass(frozen=True, slots=True)
class Joined:
    """One incident as the joining gives it, its events in order of start."""

    members: tuple[Membership, ...]

    @property
    def event_ids(self) -> tuple[str, ...]:
        """Return its events, the earliest first."""
        return tuple(member.event_id for member in self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """An incident as it stood after a change; the last of an id counts."""

    incident_id: str
    revised_at: datetime
    merged_into: str | None
    """Where its events went, None where it stands or they are gone."""
    incident: Incident | None
    """None where it does not stand any more."""
    by: tuple[str, ...] = ()
    """The rules and the people by whom its events are in it."""
