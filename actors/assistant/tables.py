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
    # Highest number that a turn has had.
    Column("last_turn", BigInteger, nullable=False),
    # One more than the turns that were forgotten, and the first that the model is shown.
    Column("first_turn", BigInteger, nullable=False),
    Column("window_start", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    # The command that is being answered, and its stream.
    Column("running_command", String(64)),
    Column("running_stream", String(256)),
    # Last turn of the chosen way; 0 where it has none.
    Column("leaf", BigInteger, nullable=False),
    # Turns that were said: on the chosen way, and beside it.
    Column("way_turns", BigInteger, nullable=False),
    Column("other_turns", BigInteger, nullable=False),
    # JSON: what clients of OpenAI's API say of it.
    Column("metadata", Text, nullable=False),
    # Counts every change of its items, so that a response is not added to another history than it was made of.
    Column("version", BigInteger, nullable=False),
    # Whether it refuses more instead of forgetting the oldest, as those of OpenAI's API do.
    Column("keeps_all", Boolean, nullable=False),
)

turns = Table(
    "turns",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    # `user`, `assistant`, or what nobody said: `system`, `call`, `result`, `reasoning`.
    Column("role", String(16), nullable=False),
    Column("content", Text, nullable=False),
    # What the model was sent for it, where that is more than the content; the same again keeps the prefix cache of use.
    Column("prompt", Text),
    Column("intent", String(16)),
    Column("is_partial", Boolean, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    # Number of the turn that it follows, perhaps one that is forgotten; 0 of a first one.
    Column("parent", BigInteger, nullable=False),
    # What came as an item of OpenAI's API, as JSON and whole; its escapes keep U+0000 out of the database.
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
    # What starts it again after a restart of the server, as JSON; null where its end is the client's leaving.
    Column("restart", Text),
    Column("started_ms", BigInteger, nullable=False),
    Index("assists_by_client", "client_id"),
)
