"""The responses service's tables."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, MetaData, String, Table, Text

__all__ = ["conversation_items", "metadata", "response_conversations", "responses"]

metadata = MetaData()

responses = Table(
    "responses",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("client_id", String(64), nullable=False),
    # Whose cached keys and values it may use.
    Column("domain", String(256), nullable=False),
    Column("previous_id", String(64)),
    # The conversation that gets its input and output once it has ended.
    Column("conversation_id", String(64)),
    # POSIX milliseconds, as all times here.
    Column("created_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    # JSON, all of these: escapes keep U+0000 out of the database.
    Column("response", Text, nullable=False),
    # What makes it again after a restart of the server; null once it has ended.
    Column("restart", Text),
    Column("ending", Text),
    Column("text", Text),
    Column("logprobs", Text),
    Column("bytes", BigInteger, nullable=False),
    Index("responses_by_client", "client_id", "created_ms"),
    Index("responses_by_end", "ended_ms"),
    Index("responses_by_conversation", "conversation_id", "ended_ms"),
)

response_conversations = Table(
    "response_conversations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("client_id", String(64), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("metadata", Text, nullable=False),
    # Counts every change of its items, so that a response is not appended to another history than it was made of.
    Column("version", BigInteger, nullable=False),
    Column("last_position", BigInteger, nullable=False),
    Column("items", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Index("response_conversations_by_client", "client_id", "created_ms"),
)

conversation_items = Table(
    "conversation_items",
    metadata,
    Column("conversation_id", String(64), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String(256), nullable=False),
    # JSON, as above.
    Column("item", Text, nullable=False),
    Index("conversation_items_by_id", "conversation_id", "id", unique=True),
)
