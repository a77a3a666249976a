"""Two more outcomes of a landed file: set aside, and abandoned."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_BEFORE = "outcome IN ('landed', 'accepted', 'refused', 'duplicate')"
_AFTER = "outcome IN ('landed', 'accepted', 'refused', 'duplicate', 'set_aside', 'abandoned')"


def upgrade() -> None:
    _check(_AFTER)


def downgrade() -> None:
    _check(_BEFORE)


def _check(condition: str) -> None:
    with op.batch_alter_table("landed_files") as files:
        files.drop_constraint(op.f("ck_landed_files_outcome"), type_="check")
        files.create_check_constraint(op.f("ck_landed_files_outcome"), condition)
