"""Claims of tasks: leases of agents that work on them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make their table."""
    op.create_table(
        "task_claims",
        sa.Column("task_id", sa.String(36), sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("lease", sa.String(36), nullable=False),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
        sa.Column("from_status", sa.String(16), nullable=False),
        sa.Column("from_assignee", sa.String(128)),
    )
    op.create_index("claims_by_end", "task_claims", ["until_ms"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("task_claims")
