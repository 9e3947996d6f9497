"""Tasks, their history and the settings of boards."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make its tables."""


def downgrade() -> None:
    """Drop them."""
