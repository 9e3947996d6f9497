"""Conversations and what the assistant keeps."""

from __future__ import annotations

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make its tables."""


def downgrade() -> None:
    """Drop them."""
