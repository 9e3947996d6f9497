"""Tables of the responses service."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, FetchedValue, Index, MetaData, String, Table, Text

__all__ = ["metadata", "responses"]

metadata = MetaData()

responses = Table(
    "responses",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("client_id", String(64), nullable=False),
    # Security domain of its prompt cache.
    Column("domain", String(256), nullable=False),
    Column("previous_id", String(64)),
    # The conversation to append input and output to once it has ended.
    Column("conversation_id", String(64)),
    # POSIX milliseconds, as all times here.
    Column("created_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    # These are JSON, whose escapes keep U+0000 out of the database.
    Column("response", Text, nullable=False),
    # The request that generates it again after a restart; null once it has ended.
    Column("restart", Text),
    # The node that computes it; null on a server of its own.
    Column("owner", String(63), server_default=FetchedValue()),
    Column("ending", Text),
    Column("text", Text),
    Column("logprobs", Text),
    Column("bytes", BigInteger, nullable=False),
    Index("responses_by_client", "client_id", "created_ms"),
    Index("responses_by_end", "ended_ms"),
    Index("responses_by_conversation", "conversation_id", "ended_ms"),
)
