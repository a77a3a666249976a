"""The SQL tables, as the newest migration leaves them.

Belongs here: columns, keys, checks. Not here: how an older database gets there
(``storage/migrations/``; a test keeps the two equal) and what rows mean (``ledger.py``, ``alert_book.py``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
)

from outwatch.domain.types import require_utc


class WorkState(StrEnum):
    """Where a piece of work stands."""

    OPEN = "open"
    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"


class FileState(StrEnum):
    """What became of a file that landed."""

    LANDED = "landed"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    DUPLICATE = "duplicate"
    SET_ASIDE = "set_aside"
    """A card's companion that is no footage of its own: a low-resolution copy, a thumbnail, a log, junk."""
    ABANDONED = "abandoned"
    """Announced, and never came whole."""


class PullState(StrEnum):
    """What became of a remote file, as it was when last listed."""

    WAITING = "waiting"
    TAKEN = "taken"
    REFUSED = "refused"


class DeliveryState(StrEnum):
    """Where one channel's delivery of an alert stands."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    REFUSED = "refused"


class PlaceState(StrEnum):
    """What a person said of a thing that stands at a place on every flight."""

    CANDIDATE = "candidate"
    """Nobody said anything yet."""
    WITHDRAWN = "withdrawn"
    """A flight did not see it before anyone said anything."""
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    REMOVED = "removed"
    """It was confirmed, and a person took that back."""


class UtcDateTime(TypeDecorator[datetime]):
    """A time that goes in and comes out UTC-aware on both engines; SQLite itself keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _: Dialect) -> datetime | None:
        """Refuse a time that is not UTC-aware."""
        return None if value is None else require_utc(value, name="time for the database")

    def process_result_value(self, value: datetime | None, _: Dialect) -> datetime | None:
        """Return the time as UTC, whatever the session's zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _one_of(column: str, states: type[StrEnum]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(state.value) for state in states)})", name=column)


uploads = Table(
    "uploads",
    metadata,
    Column("upload_id", String, primary_key=True),
    Column("declared", JSON, nullable=False),
    Column("received_at", UtcDateTime, nullable=False, index=True),
)

landed_files = Table(
    "landed_files",
    metadata,
    Column("upload_id", ForeignKey("uploads.upload_id"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("sha256", String, nullable=False, index=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("modified_at", UtcDateTime),
    Column("outcome", String, nullable=False),
    Column("reason", String),
    Column("clip_id", String, index=True),
    Column("key", String, nullable=False),
    _one_of("outcome", FileState),
)

clips = Table(
    "clips",
    metadata,
    Column("clip_id", String, primary_key=True),
    Column("started_at", UtcDateTime, nullable=False, index=True),
    Column("body", JSON, nullable=False),
)

work = Table(
    "work",
    metadata,
    Column("step", String, primary_key=True),
    Column("subject", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("worker", String),
    Column("lease_until", UtcDateTime),
    Column("claim_number", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", String),
    Column("outcome", JSON(none_as_null=True)),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    _one_of("state", WorkState),
    Index(None, "state", "step"),
)

reading_inbox = Table(
    "reading_inbox",
    metadata,
    Column("reading_id", String, primary_key=True),
    Column("window_id", String, nullable=False, index=True),
    Column("may_repeat", Boolean, nullable=False),
    Column("body", JSON, nullable=False),
)

refused_inbox = Table(
    "refused_inbox",
    metadata,
    Column("refusal_id", String, primary_key=True),
    Column("window_id", String, primary_key=True, index=True),
    Column("body", JSON, nullable=False),
)

sensors_seen = Table(
    "sensors_seen",
    metadata,
    Column("sensor_id", String, primary_key=True),
    Column("feed", String),
    Column("last_at", UtcDateTime),
    Column("last_received_at", UtcDateTime),
    Column("last_kind", String),
    Column("last_value", Float),
    Column("accepted", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("watched_since", UtcDateTime),
    Column("silent_since", UtcDateTime),
)

feed_cursors = Table(
    "feed_cursors",
    metadata,
    Column("feed", String, primary_key=True),
    Column("cursor", JSON(none_as_null=True)),
    Column("listened_at", UtcDateTime),
    Column("accepted", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", String, primary_key=True),
    Column("dedup_key", String, nullable=False),
    Column("priority", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("outpost_id", String, nullable=False),
    Column("control_room", String, nullable=False),
    Column("raised_at", UtcDateTime, nullable=False, index=True),
    Column("captured_from", UtcDateTime, nullable=False),
    Column("captured_to", UtcDateTime, nullable=False),
    Column("message_en", String, nullable=False),
    Column("message_ur", String, nullable=False),
    Column("state", String, nullable=False),
    Column("payload", JSON, nullable=False),
    Index(None, "dedup_key", "captured_to"),
    Index(None, "control_room", "state"),
)

alert_events = Table(
    "alert_events",
    metadata,
    Column("event_id", String, primary_key=True),
    Column("alert_id", ForeignKey("alerts.alert_id"), nullable=False, index=True),
    Column("position", Integer, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", String, primary_key=True),
    Column("alert_id", ForeignKey("alerts.alert_id"), nullable=False, index=True),
    Column("channel", String, nullable=False),
    Column("state", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", UtcDateTime),
    Column("worker", String),
    Column("lease_until", UtcDateTime),
    Column("last_error", String),
    Column("answer", String),
    Column("updated_at", UtcDateTime, nullable=False),
    _one_of("state", DeliveryState),
    Index(None, "state", "next_attempt_at"),
)

pulled_files = Table(
    "pulled_files",
    metadata,
    Column("source", String, primary_key=True),
    Column("path", String, primary_key=True),
    Column("size_bytes", BigInteger),
    Column("modified_at", UtcDateTime),
    Column("etag", String),
    Column("first_seen_at", UtcDateTime, nullable=False),
    Column("last_seen_at", UtcDateTime, nullable=False),
    Column("unchanged_since", UtcDateTime, nullable=False),
    Column("state", String, nullable=False),
    Column("upload_id", String),
    Column("reason", String),
    Column("sha256", String),
    _one_of("state", PullState),
)

event_index = Table(
    "event_index",
    metadata,
    Column("event_id", String, primary_key=True),
    Column("subject", String, nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("outpost_id", String, nullable=False),
    Column("started_at", UtcDateTime, nullable=False, index=True),
    Column("ended_at", UtcDateTime, nullable=False, index=True),
    Column("clock_doubt_s", Float, nullable=False),
    Column("lat_deg", Float),
    Column("lon_deg", Float),
    Column("alt_m", Float),
    Column("east_east_m2", Float, nullable=False),
    Column("east_north_m2", Float, nullable=False),
    Column("north_north_m2", Float, nullable=False),
    Column("method", String, nullable=False),
    Column("count", Integer, nullable=False),
)

incidents = Table(
    "incidents",
    metadata,
    Column("incident_id", String, primary_key=True),
    Column("merged_into", String, index=True),
    Column("changed_at", UtcDateTime, nullable=False),
)

incident_members = Table(
    "incident_members",
    metadata,
    Column("event_id", String, primary_key=True),
    Column("incident_id", ForeignKey("incidents.incident_id"), nullable=False, index=True),
    Column("joined_at", UtcDateTime, nullable=False),
    Column("by", String, nullable=False),
    Column("near_event_id", String),
    Column("distance_m", Float),
    Column("mahalanobis", Float),
    Column("gap_s", Float),
    Column("note", String),
)

incident_decisions = Table(
    "incident_decisions",
    metadata,
    Column("decision_id", Integer, primary_key=True),
    Column("verdict", String, nullable=False),
    Column("undoes", ForeignKey("incident_decisions.decision_id"), index=True),
    Column("who", String, nullable=False),
    Column("why", String, nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    CheckConstraint("verdict IN ('join', 'separate', 'undo')", name="verdict"),
)

decided_events = Table(
    "decided_events",
    metadata,
    Column("decision_id", ForeignKey("incident_decisions.decision_id"), primary_key=True),
    Column("event_id", String, primary_key=True),
    Column("side", Integer, nullable=False),
    Column("source", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("outpost_id", String, nullable=False),
    Column("started_at", UtcDateTime, nullable=False, index=True),
    Column("ended_at", UtcDateTime, nullable=False),
    Column("lat_deg", Float),
    Column("lon_deg", Float),
)

clip_looks = Table(
    "clip_looks",
    metadata,
    Column("clip_id", String, primary_key=True),
    Column("flight_id", String, nullable=False),
    Column("started_at", UtcDateTime, nullable=False, index=True),
    Column("ground_wkb", LargeBinary, nullable=False),
)

baseline_places = Table(
    "baseline_places",
    metadata,
    Column("place_id", String, primary_key=True),
    Column("outpost_id", String, nullable=False, index=True),
    Column("lat_deg", Float, nullable=False),
    Column("lon_deg", Float, nullable=False),
    Column("radius_m", Float, nullable=False),
    Column("count", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("flights", JSON, nullable=False),
    Column("first_at", UtcDateTime, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
    Column("absent_flight", String),
    _one_of("state", PlaceState),
)

baseline_decisions = Table(
    "baseline_decisions",
    metadata,
    Column("decision_id", Integer, primary_key=True),
    Column("place_id", ForeignKey("baseline_places.place_id"), nullable=False, index=True),
    Column("state", String, nullable=False),
    Column("who", String, nullable=False),
    Column("why", String, nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
)

evidence_seals = Table(
    "evidence_seals",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", String, nullable=False, index=True),
    Column("seal", String, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("link", String, nullable=False),
)

flight_corrections = Table(
    "flight_corrections",
    metadata,
    Column("flight_id", String, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("body", JSON(none_as_null=True)),
    Column("who", String, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)
