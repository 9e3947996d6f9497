"""Owners of running work, among the nodes of a cluster.

A node names itself in each session with PostgreSQL (`leanvibe.node`), and the column `owner` of what it begins is filled
from there. A server in no cluster names nothing and owns everything.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, literal_column, or_, true

__all__ = ["LEASE_MILLISECONDS", "is_ours"]

LEASE_MILLISECONDS = 10_000
"""A node that has not renewed its lease for so long is not there."""
_HERE = "current_setting('leanvibe.node', true)"
_OTHERS = (
    f"EXISTS (SELECT 1 FROM nodes WHERE nodes.node <> {_HERE} AND nodes.state = 'alive' "  # noqa: S608  numbers of our own
    f"AND nodes.seen_ms > extract(epoch FROM clock_timestamp()) * 1000 - {LEASE_MILLISECONDS})"
)


def is_ours(connection: Connection, owner: Column[Any]) -> ColumnElement[bool]:
    """Return the condition that a row is this node's, or that this node is the only one.

    What a node left when it died waits until that node is back, or until a node starts while no other is there.
    """
    if connection.dialect.name != "postgresql":
        return true()
    return or_(
        literal_column(f"coalesce({_HERE}, '') = ''").is_(True), owner == literal_column(_HERE),
        literal_column(f"NOT {_OTHERS}").is_(True),
    )  # fmt: skip
