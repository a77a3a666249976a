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
