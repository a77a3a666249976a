"""What remote sources showed and what was taken from them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "pulled_files",
        sa.Column("source", sa.String, nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("modified_at", _TIME),
        sa.Column("etag", sa.String),
        sa.Column("first_seen_at", _TIME, nullable=False),
        sa.Column("last_seen_at", _TIME, nullable=False),
        sa.Column("unchanged_since", _TIME, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("upload_id", sa.String),
        sa.Column("reason", sa.String),
        sa.Column("sha256", sa.String),
        sa.PrimaryKeyConstraint("source", "path", name="pk_pulled_files"),
        sa.CheckConstraint("state IN ('waiting', 'taken', 'refused')", name=op.f("ck_pulled_files_state")),
    )


def downgrade() -> None:
    op.drop_table("pulled_files")
