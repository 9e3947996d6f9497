"""The inference room's table: generations that a restart of the server must not end."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, MetaData, String, Table, Text

__all__ = ["generations", "metadata"]

metadata = MetaData()

generations = Table(
    "generations",
    metadata,
    Column("stream", String(256), primary_key=True),
    Column("client_id", String(64), nullable=False),
    # Of the command that it answers, where one did.
    Column("device_id", String(64)),
    Column("command_id", String(64)),
    Column("digest", String(64)),
    # Whose kept keys and values it may use.
    Column("domain", String(256), nullable=False),
    # The command's data as JSON, with the seed that was drawn for it.
    Column("request", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    # POSIX milliseconds.
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    # Once it has ended: the whole text and the last event as JSON.
    Column("text", Text),
    Column("last", Text),
    Index("generations_by_end", "ended_ms"),
)
