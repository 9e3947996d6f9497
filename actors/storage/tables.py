"""Storage's own tables: the clients' event logs and the idempotency records."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text

__all__ = ["client_logs", "events", "idempotency", "metadata"]

metadata = MetaData()

client_logs = Table(
    "client_logs",
    metadata,
    Column("client_id", String(64), primary_key=True),
    # Changes when a log was lost, so that old sequence numbers mean nothing.
    Column("epoch", String(32), nullable=False),
    Column("head", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("type", String(64), nullable=False),
    Column("channel", String(32), nullable=False),
    Column("priority", String(16), nullable=False),
    # POSIX milliseconds, in UTC by nature.
    Column("time_ms", BigInteger, nullable=False),
    # A JSON object as it goes over the wire.
    Column("data", Text, nullable=False),
    Column("bytes", Integer, nullable=False),
    Index("events_by_time", "time_ms"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("device_id", String(64), primary_key=True),
    Column("command_id", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    # The answer as JSON.
    Column("outcome", Text, nullable=False),
    Column("head", BigInteger),
    Column("time_ms", BigInteger, nullable=False),
    Index("idempotency_by_time", "time_ms"),
)
