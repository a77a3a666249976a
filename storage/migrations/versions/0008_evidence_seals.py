"""The book of seals over records of evidence."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "evidence_seals",
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("seal", sa.String, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("link", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_evidence_seals"),
    )
    op.create_index("ix_evidence_seals_event_id", "evidence_seals", ["event_id"])


def downgrade() -> None:
    op.drop_table("evidence_seals")
