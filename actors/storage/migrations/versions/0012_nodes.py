"""Nodes of a cluster, and whose node each running piece of work is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_OWNED = ("assists", "generations", "responses")


def upgrade() -> None:
    """Make the table, and the columns of owners: PostgreSQL fills them with the name of the node that inserts."""
    op.create_table(
        "nodes",
        sa.Column("node", sa.String(63), primary_key=True),
        sa.Column("incarnation", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("address", sa.String(256), nullable=False),
    )
    is_shared = op.get_bind().dialect.name == "postgresql"
    default = sa.text("current_setting('leanvibe.node', true)") if is_shared else None
    for table in _OWNED:
        op.add_column(table, sa.Column("owner", sa.String(63)))
        if default is not None:
            # Behind the column: rows that were there belong to nobody.
            op.alter_column(table, "owner", server_default=default)


def downgrade() -> None:
    """Drop them."""
    for table in _OWNED:
        op.drop_column(table, "owner")
    op.drop_table("nodes")
