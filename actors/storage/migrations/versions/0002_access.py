"""Tokens, and the client ids and roles they open."""

from __future__ import annotations

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make its tables."""


def downgrade() -> None:
    """Drop them."""
