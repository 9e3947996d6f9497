"""Responses of OpenAI's API, which outlive connection and server."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make its table."""
    op.create_table(
        "responses",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("domain", sa.String(256), nullable=False),
        sa.Column("previous_id", sa.String(64)),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("response", sa.Text, nullable=False),
        sa.Column("restart", sa.Text),
        sa.Column("ending", sa.Text),
        sa.Column("text", sa.Text),
        sa.Column("logprobs", sa.Text),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.create_index("responses_by_client", "responses", ["client_id", "created_ms"])
    op.create_index("responses_by_end", "responses", ["ended_ms"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("responses")
