"""Subscriptions, acknowledgements and generations that outlive their connection."""

from __future__ import annotations

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make its tables."""


def downgrade() -> None:
    """Drop them."""
