"""Table of tokens. Only their hashes are stored."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, MetaData, String, Table, Text

__all__ = ["access_tokens", "metadata"]

metadata = MetaData()

access_tokens = Table(
    "access_tokens",
    metadata,
    Column("token_id", String(12), primary_key=True),
    Column("name", String(64), nullable=False),
    # SHA-256, hexadecimal.
    Column("digest", String(64), nullable=False),
    # A JSON array; NULL opens all client ids.
    Column("client_ids", Text),
    # A JSON array.
    Column("roles", Text, nullable=False),
    # Times are POSIX milliseconds.
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
    Column("is_local", Boolean, nullable=False),
)
