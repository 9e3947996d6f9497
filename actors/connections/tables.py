"""Tables of each device's subscription and acknowledgements."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table, Text

__all__ = ["acknowledgements", "metadata", "subscriptions"]

metadata = MetaData()

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("device_id", String(64), primary_key=True),
    # A JSON array of names; NULL means all.
    Column("channels", Text),
    Column("min_priority", String(16), nullable=False),
    Column("max_events_per_second", Float),
    Column("batch_ms", Integer, nullable=False),
)

acknowledgements = Table(
    "acknowledgements",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("device_id", String(64), primary_key=True),
    Column("stream", String(256), primary_key=True),
    Column("epoch", String(64), nullable=False),
    Column("seq", BigInteger, nullable=False),
    # POSIX milliseconds.
    Column("time_ms", BigInteger, nullable=False),
    Index("acknowledgements_by_time", "time_ms"),
)
