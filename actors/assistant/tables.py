"""The assistant's tables: conversations with their turns, and the commands that are being answered."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text

__all__ = ["assists", "conversations", "metadata", "turns"]

metadata = MetaData()

conversations = Table(
    "conversations",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    # POSIX milliseconds, as all times here.
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    # Set for good: a late answer must not bring back what was deleted.
    Column("deleted_ms", BigInteger),
    Column("last_turn", BigInteger, nullable=False),
    # First turn that is kept, and the first that the model is shown.
    Column("first_turn", BigInteger, nullable=False),
    Column("window_start", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    # The command that is being answered, and its stream.
    Column("running_command", String(64)),
    Column("running_stream", String(256)),
)

turns = Table(
    "turns",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("role", String(16), nullable=False),
    Column("content", Text, nullable=False),
    # What the model was sent for it, where that is more than the content; the same again keeps the prefix cache of use.
    Column("prompt", Text),
    Column("intent", String(16)),
    Column("is_partial", Boolean, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
)

assists = Table(
    "assists",
    metadata,
    Column("stream", String(256), primary_key=True),
    Column("client_id", String(64), nullable=False),
    Column("domain", String(256), nullable=False),
    Column("command_id", String(64), nullable=False),
    Column("conversation", String(64)),
    # Number of the user's turn.
    Column("turn", BigInteger),
    Column("intent", String(16)),
    # What starts it again after a restart of the server, as JSON; null where its end is the client's leaving.
    Column("restart", Text),
    Column("started_ms", BigInteger, nullable=False),
    Index("assists_by_client", "client_id"),
)
