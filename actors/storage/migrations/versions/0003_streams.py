"""Subscriptions, acknowledgements and generations that outlive their connection."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make its tables."""
    op.create_table(
        "generations",
        sa.Column("stream", sa.String(256), primary_key=True),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("device_id", sa.String(64)),
        sa.Column("command_id", sa.String(64)),
        sa.Column("digest", sa.String(64)),
        sa.Column("domain", sa.String(256), nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("text", sa.Text),
        sa.Column("last", sa.Text),
    )
    op.create_index("generations_by_end", "generations", ["ended_ms"])
    op.create_table(
        "subscriptions",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("device_id", sa.String(64), primary_key=True),
        sa.Column("channels", sa.Text),
        sa.Column("min_priority", sa.String(16), nullable=False),
        sa.Column("max_events_per_second", sa.Float),
        sa.Column("batch_ms", sa.Integer, nullable=False),
    )
    op.create_table(
        "acknowledgements",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("device_id", sa.String(64), primary_key=True),
        sa.Column("stream", sa.String(256), primary_key=True),
        sa.Column("epoch", sa.String(64), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("acknowledgements_by_time", "acknowledgements", ["time_ms"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("acknowledgements")
    op.drop_table("subscriptions")
    op.drop_table("generations")
