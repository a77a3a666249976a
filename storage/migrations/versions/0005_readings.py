"""The inbox of sensor readings, where each feed stands, and when each sensor was last heard."""

from __future__ import annotations

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the tables."""


def downgrade() -> None:
    """Remove them."""
