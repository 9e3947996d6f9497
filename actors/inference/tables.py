"""The inference service's table: generations that must survive a restart of the server."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, FetchedValue, Index, MetaData, String, Table, Text

__all__ = ["generations", "metadata"]

metadata = MetaData()

generations = Table(
    "generations",
    metadata,
    Column("stream", String(256), primary_key=True),
    Column("client_id", String(64), nullable=False),
    # Key of the command that it answers, if there was one.
    Column("device_id", String(64)),
    Column("command_id", String(64)),
    Column("digest", String(64)),
    # Security domain of the cached keys and values that it may use.
    Column("domain", String(256), nullable=False),
    # The command's data as JSON, including the seed drawn for it.
    Column("request", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    # POSIX milliseconds.
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    # Set at its end: the whole text, and the last event as JSON.
    Column("text", Text),
    Column("last", Text),
    # The node that computes it; null on a server of its own.
    Column("owner", String(63), server_default=FetchedValue()),
    Index("generations_by_end", "ended_ms"),
)
