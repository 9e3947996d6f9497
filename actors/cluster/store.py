"""Nodes in the database: plain functions over a connection, run by storage. Their clock is PostgreSQL's, never a node's."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from sqlalchemy import BigInteger, Connection, delete, insert, literal_column, select, update

from actors.cluster.messages import NodeDescription
from actors.cluster.tables import nodes
from actors.errors import CommandError
from actors.storage.messages import (
    LEASE_MILLISECONDS,
    SHARE_EPOCHS_NAME,
    FurtherWrite,
    Operation,
    Outcome,
    Query,
    client_logs,
)
from protocol.errors import ErrorCode

__all__ = [
    "LEAVE_NODE",
    "LIST_NODES",
    "LOG_HEADS",
    "OPERATIONS",
    "QUERIES",
    "REAP_NODES",
    "REGISTER_NODE",
    "RENEW_NODE",
    "NodeKey",
    "Registration",
    "Renewed",
    "list_nodes",
]

KEPT_MILLISECONDS = 24 * 3600 * 1000
"""So long a node that is gone is listed."""
_NOW = literal_column("(extract(epoch FROM clock_timestamp()) * 1000)::bigint", BigInteger)


@frozen(kw_only=True)
class NodeKey:
    """One incarnation of a node."""

    node: str
    incarnation: str


@frozen(kw_only=True)
class Registration:
    """A node that comes."""

    key: NodeKey
    version: str
    model: str
    address: str


@frozen(kw_only=True)
class Renewed:
    """A renewal."""

    is_held: bool
    """False if the row is another's now, or was found dead: the node is fenced out."""
    now_ms: int


def _register(connection: Connection, wanted: Registration) -> Outcome[Renewed]:
    """Take a name, unless another incarnation holds it. Refused with `conflict`."""
    key = wanted.key
    now = _now(connection)
    row = connection.execute(select(nodes).where(nodes.c.node == key.node)).first()
    if row is not None and row.incarnation != key.incarnation and row.state == "alive":
        age = now - row.seen_ms
        if age < LEASE_MILLISECONDS:
            raise CommandError(
                ErrorCode.CONFLICT,
                f"another server is the node {key.node!r}: the one at {row.address}, heard of {age / 1000:.0f} s ago; "
                "give one of them another name by the setting `node`",
                retry_after_ms=LEASE_MILLISECONDS - age,
            )
    others = (nodes.c.node != key.node) & (nodes.c.state == "alive") & (nodes.c.seen_ms > now - LEASE_MILLISECONDS)
    is_first = connection.execute(select(nodes.c.node).where(others).limit(1)).first() is None
    connection.execute(delete(nodes).where(nodes.c.node == key.node))
    connection.execute(
        insert(nodes).values(
            node=key.node,
            incarnation=key.incarnation,
            state="alive",
            seen_ms=now,
            version=wanted.version,
            model=wanted.model,
            address=wanted.address,
        )
    )
    share = FurtherWrite(operation=SHARE_EPOCHS_NAME, command=is_first)
    return Outcome(value=Renewed(is_held=True, now_ms=now), further=(share,))


def _renew(connection: Connection, key: NodeKey) -> Outcome[Renewed]:
    now = _now(connection)
    held = connection.execute(update(nodes).where(*_alive(key)).values(seen_ms=now)).rowcount
    return Outcome(value=Renewed(is_held=held == 1, now_ms=now))


def _leave(connection: Connection, key: NodeKey) -> Outcome[None]:
    connection.execute(update(nodes).where(*_alive(key)).values(state="left"))
    return Outcome(value=None)


def _reap(connection: Connection, _: None) -> Outcome[list[str]]:
    """Declare nodes dead whose lease is over; returns their names."""
    now = _now(connection)
    over = (nodes.c.state == "alive") & (nodes.c.seen_ms <= now - LEASE_MILLISECONDS)
    dead = connection.execute(update(nodes).where(over).values(state="dead").returning(nodes.c.node)).scalars().all()
    connection.execute(delete(nodes).where(nodes.c.state != "alive", nodes.c.seen_ms < now - KEPT_MILLISECONDS))
    return Outcome(value=sorted(dead))


def list_nodes(connection: Connection, _: None) -> tuple[NodeDescription, ...]:
    """Every node that was there within a day, by name."""
    now = _now(connection)
    return tuple(
        NodeDescription(
            node=row.node,
            incarnation=row.incarnation,
            state="silent" if row.state == "alive" and now - row.seen_ms >= LEASE_MILLISECONDS else row.state,
            age_ms=max(0, now - row.seen_ms),
            version=row.version,
            model=row.model,
            address=row.address,
        )
        for row in connection.execute(select(nodes).order_by(nodes.c.node))
    )


def _log_heads(connection: Connection, client_ids: frozenset[str]) -> dict[str, int]:
    """The newest sequence number of each client's log, as far as it has begun."""
    wanted = select(client_logs.c.client_id, client_logs.c.head).where(client_logs.c.client_id.in_(client_ids))
    return {row.client_id: row.head for row in connection.execute(wanted)}


def _alive(key: NodeKey) -> tuple[Any, ...]:
    return (nodes.c.node == key.node, nodes.c.incarnation == key.incarnation, nodes.c.state == "alive")


def _now(connection: Connection) -> int:
    return int(connection.execute(select(_NOW)).scalar_one())


REGISTER_NODE: Operation[Registration, Renewed] = Operation("cluster_register_node", _register, Renewed)
RENEW_NODE: Operation[NodeKey, Renewed] = Operation("cluster_renew_node", _renew, Renewed)
LEAVE_NODE: Operation[NodeKey, None] = Operation("cluster_leave_node", _leave, None)
REAP_NODES: Operation[None, list[str]] = Operation("cluster_reap_nodes", _reap, list[str])
LIST_NODES: Query[None, tuple[NodeDescription, ...]] = Query("cluster_list_nodes", list_nodes)
LOG_HEADS: Query[frozenset[str], dict[str, int]] = Query("cluster_log_heads", _log_heads)

OPERATIONS = (REGISTER_NODE, RENEW_NODE, LEAVE_NODE, REAP_NODES)
QUERIES = (LIST_NODES, LOG_HEADS)
