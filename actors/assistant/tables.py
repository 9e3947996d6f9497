"""Tables of the assistant: conversations with their turns, and running commands."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, FetchedValue, Index, Integer, MetaData, String, Table, Text

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
    # Never reset: a late answer must not restore a deleted conversation.
    Column("deleted_ms", BigInteger),
    # Highest number of a turn so far.
    Column("last_turn", BigInteger, nullable=False),
    # One more than the number of forgotten turns, and the first turn that the model is shown.
    Column("first_turn", BigInteger, nullable=False),
    Column("window_start", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    # The command being answered, and its stream.
    Column("running_command", String(64)),
    Column("running_stream", String(256)),
    # Last turn of the active branch; 0 if it is empty.
    Column("leaf", BigInteger, nullable=False),
    # Messages on the active branch, and on the others.
    Column("way_turns", BigInteger, nullable=False),
    Column("other_turns", BigInteger, nullable=False),
    # JSON: metadata set through OpenAI's API.
    Column("metadata", Text, nullable=False),
    # Incremented with every change of its items, so that a response is added only to the history it was made from.
    Column("version", BigInteger, nullable=False),
    # True if it rejects more items instead of forgetting the oldest, as in OpenAI's API.
    Column("keeps_all", Boolean, nullable=False),
)

turns = Table(
    "turns",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    # `user`, `assistant`, or a step: `system`, `call`, `result`, `reasoning`.
    Column("role", String(16), nullable=False),
    Column("content", Text, nullable=False),
    # The text sent to the model, if it differs from the content; repeating it exactly keeps the prefix cache useful.
    Column("prompt", Text),
    Column("intent", String(16)),
    Column("is_partial", Boolean, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    # Number of the preceding turn, which may be forgotten; 0 for a first turn.
    Column("parent", BigInteger, nullable=False),
    # An item of OpenAI's API as complete JSON, whose escapes keep U+0000 out of the database.
    Column("item_id", String(256)),
    Column("item", Text),
    Index("turns_by_item", "client_id", "name", "item_id", unique=True),
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
    # Data to generate the answer again after a restart, as JSON; null if the command was to end with its connection.
    Column("restart", Text),
    # The node that computes it; null on a server of its own.
    Column("owner", String(63), server_default=FetchedValue()),
    Column("started_ms", BigInteger, nullable=False),
    Index("assists_by_client", "client_id"),
)
