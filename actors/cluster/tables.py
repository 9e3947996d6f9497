"""The cluster's table: its nodes and their leases."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, MetaData, String, Table

__all__ = ["metadata", "nodes"]

metadata = MetaData()

nodes = Table(
    "nodes",
    metadata,
    Column("node", String(63), primary_key=True),
    # Of the server that has the name: another after each start, and after it lost its lease.
    Column("incarnation", String(32), nullable=False),
    # `alive`, `left` (it stopped in order) or `dead` (another node has found its lease over).
    Column("state", String(16), nullable=False),
    # The last renewal, POSIX milliseconds by the database's clock.
    Column("seen_ms", BigInteger, nullable=False),
    Column("version", String(64), nullable=False),
    Column("model", String(256), nullable=False),
    Column("address", String(256), nullable=False),
)
