"""Conversations and what the assistant keeps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make its tables."""
    op.create_table(
        "conversations",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("deleted_ms", sa.BigInteger),
        sa.Column("last_turn", sa.BigInteger, nullable=False),
        sa.Column("first_turn", sa.BigInteger, nullable=False),
        sa.Column("window_start", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("running_command", sa.String(64)),
        sa.Column("running_stream", sa.String(256)),
    )
    op.create_table(
        "turns",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text),
        sa.Column("intent", sa.String(16)),
        sa.Column("is_partial", sa.Boolean, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "assists",
        sa.Column("stream", sa.String(256), primary_key=True),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("domain", sa.String(256), nullable=False),
        sa.Column("command_id", sa.String(64), nullable=False),
        sa.Column("conversation", sa.String(64)),
        sa.Column("turn", sa.BigInteger),
        sa.Column("intent", sa.String(16)),
        sa.Column("restart", sa.Text),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("assists_by_client", "assists", ["client_id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("assists")
    op.drop_table("turns")
    op.drop_table("conversations")
