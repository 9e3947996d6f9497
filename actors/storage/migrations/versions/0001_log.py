"""Event logs and idempotency records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables of storage itself."""
    op.create_table(
        "client_logs",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("epoch", sa.String(32), nullable=False),
        sa.Column("head", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("channel", sa.String(32), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
    )
    op.create_index("events_by_time", "events", ["time_ms"])
    op.create_table(
        "idempotency",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("device_id", sa.String(64), primary_key=True),
        sa.Column("command_id", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("head", sa.BigInteger),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("idempotency_by_time", "idempotency", ["time_ms"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("idempotency")
    op.drop_table("events")
    op.drop_table("client_logs")
