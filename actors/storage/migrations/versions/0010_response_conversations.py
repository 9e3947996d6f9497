"""Conversations of OpenAI's API, and the responses that belong to one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make their tables."""
    op.add_column("responses", sa.Column("conversation_id", sa.String(64)))
    op.create_index("responses_by_conversation", "responses", ["conversation_id", "ended_ms"])
    op.create_table(
        "response_conversations",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("last_position", sa.BigInteger, nullable=False),
        sa.Column("items", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.create_index("response_conversations_by_client", "response_conversations", ["client_id", "created_ms"])
    op.create_table(
        "conversation_items",
        sa.Column("conversation_id", sa.String(64), primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(256), nullable=False),
        sa.Column("item", sa.Text, nullable=False),
    )
    op.create_index("conversation_items_by_id", "conversation_items", ["conversation_id", "id"], unique=True)


def downgrade() -> None:
    """Drop them."""
    op.drop_table("conversation_items")
    op.drop_table("response_conversations")
    op.drop_index("responses_by_conversation", "responses")
    op.drop_column("responses", "conversation_id")
