"""Alerts, the events that belong to them, and their deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.String, nullable=False),
        sa.Column("dedup_key", sa.String, nullable=False),
        sa.Column("priority", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("outpost_id", sa.String, nullable=False),
        sa.Column("control_room", sa.String, nullable=False),
        sa.Column("raised_at", _TIME, nullable=False),
        sa.Column("captured_from", _TIME, nullable=False),
        sa.Column("captured_to", _TIME, nullable=False),
        sa.Column("message_en", sa.String, nullable=False),
        sa.Column("message_ur", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("alert_id", name="pk_alerts"),
    )
    op.create_index("ix_alerts_raised_at", "alerts", ["raised_at"])
    op.create_index("ix_alerts_dedup_key_captured_to", "alerts", ["dedup_key", "captured_to"])
    op.create_index("ix_alerts_control_room_state", "alerts", ["control_room", "state"])
    op.create_table(
        "alert_events",
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("alert_id", sa.String, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_alert_events"),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.alert_id"], name="fk_alert_events_alert_id"),
    )
    op.create_index("ix_alert_events_alert_id", "alert_events", ["alert_id"])
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.String, nullable=False),
        sa.Column("alert_id", sa.String, nullable=False),
        sa.Column("channel", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", _TIME),
        sa.Column("worker", sa.String),
        sa.Column("lease_until", _TIME),
        sa.Column("last_error", sa.String),
        sa.Column("answer", sa.String),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("delivery_id", name="pk_deliveries"),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.alert_id"], name="fk_deliveries_alert_id"),
        sa.CheckConstraint(
            "state IN ('pending', 'sending', 'delivered', 'refused')", name=op.f("ck_deliveries_state")
        ),
    )
    op.create_index("ix_deliveries_alert_id", "deliveries", ["alert_id"])
    op.create_index("ix_deliveries_state_next_attempt_at", "deliveries", ["state", "next_attempt_at"])
