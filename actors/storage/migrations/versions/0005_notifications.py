"""Notifications, deliveries, devices and preferences."""

from __future__ import annotations

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make its tables."""


def downgrade() -> None:
    """Drop them."""
