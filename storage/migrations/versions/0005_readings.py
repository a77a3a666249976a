"""The inbox of sensor readings, where each feed stands, and when each sensor was last heard."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_TIME = sa.DateTime(timezone=True)
_TABLES = ("reading_inbox", "refused_inbox", "sensors_seen", "feed_cursors")


def upgrade() -> None:
    op.create_table(
        "reading_inbox",
        sa.Column("reading_id", sa.String, nullable=False),
        sa.Column("window_id", sa.String, nullable=False),
        sa.Column("may_repeat", sa.Boolean, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("reading_id", name="pk_reading_inbox"),
    )
    op.create_index("ix_reading_inbox_window_id", "reading_inbox", ["window_id"])
    op.create_table(
        "refused_inbox",
        sa.Column("refusal_id", sa.String, nullable=False),
        sa.Column("window_id", sa.String, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("refusal_id", "window_id", name="pk_refused_inbox"),
    )
    op.create_index("ix_refused_inbox_window_id", "refused_inbox", ["window_id"])
    op.create_table(
        "sensors_seen",
        sa.Column("sensor_id", sa.String, nullable=False),
        sa.Column("feed", sa.String),
        sa.Column("last_at", _TIME),
        sa.Column("last_received_at", _TIME),
        sa.Column("last_kind", sa.String),
        sa.Column("last_value", sa.Float),
        sa.Column("accepted", sa.BigInteger, nullable=False),
        sa.Column("refused", sa.BigInteger, nullable=False),
        sa.Column("watched_since", _TIME),
        sa.Column("silent_since", _TIME),
        sa.PrimaryKeyConstraint("sensor_id", name="pk_sensors_seen"),
    )
    op.create_table(
        "feed_cursors",
        sa.Column("feed", sa.String, nullable=False),
        sa.Column("cursor", sa.JSON),
        sa.Column("listened_at", _TIME),
        sa.Column("accepted", sa.BigInteger, nullable=False),
        sa.Column("refused", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("feed", name="pk_feed_cursors"),
    )


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_table(table)
