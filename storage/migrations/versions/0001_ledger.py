"""Uploads, landed files, clips and work."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("upload_id", sa.String, nullable=False),
        sa.Column("declared", sa.JSON, nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("upload_id", name="pk_uploads"),
    )
    op.create_index("ix_uploads_received_at", "uploads", ["received_at"])
    op.create_table(
        "landed_files",
        sa.Column("upload_id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sa.Column("modified_at", _TIME),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("clip_id", sa.String),
        sa.Column("key", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("upload_id", "name", name="pk_landed_files"),
        sa.ForeignKeyConstraint(["upload_id"], ["uploads.upload_id"], name="fk_landed_files_upload_id"),
        sa.CheckConstraint(
            "outcome IN ('landed', 'accepted', 'refused', 'duplicate')", name=op.f("ck_landed_files_outcome")
        ),
    )
    op.create_index("ix_landed_files_sha256", "landed_files", ["sha256"])
    op.create_index("ix_landed_files_clip_id", "landed_files", ["clip_id"])
    op.create_table(
        "clips",
        sa.Column("clip_id", sa.String, nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("clip_id", name="pk_clips"),
    )
    op.create_index("ix_clips_started_at", "clips", ["started_at"])
    op.create_table(
        "work",
        sa.Column("step", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("worker", sa.String),
        sa.Column("lease_until", _TIME),
        sa.Column("claim_number", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.String),
        sa.Column("outcome", sa.JSON),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("step", "subject", name="pk_work"),
        sa.CheckConstraint("state IN ('open', 'claimed', 'done', 'failed')", name=op.f("ck_work_state")),
    )
    op.create_index("ix_work_state_step", "work", ["state", "step"])
