"""What remote sources showed and what was taken from them."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table of pulled files."""


def downgrade() -> None:
    """Remove it."""
