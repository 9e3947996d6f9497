"""Tables of the notifications service: notifications, deliveries, devices, preferences."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text

__all__ = ["clients", "deliveries", "devices", "high_water_marks", "metadata", "notifications"]

metadata = MetaData()

clients = Table(
    "notification_clients",
    metadata,
    Column("client_id", String(64), primary_key=True),
    # Order of the client's notifications, without holes.
    Column("last_number", BigInteger, nullable=False),
    # JSON of `Preferences`; null for the defaults.
    Column("preferences", Text),
)

notifications = Table(
    "notifications",
    metadata,
    Column("notification_id", String(64), primary_key=True),
    Column("client_id", String(64), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("priority", String(16), nullable=False),
    # As the client's own language and the in-app lengths have it; each push renders its own from the fields.
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    # JSON objects: the template's fields, and what a program needs to open the thing.
    Column("fields", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("read_ms", BigInteger),
    # A digest tells of others; it is no notification of its own in lists and counts.
    Column("is_digest", Boolean, nullable=False),
    Index("notifications_by_client", "client_id", "number", unique=True),
    Index("notifications_by_time", "created_ms"),
)

devices = Table(
    "notification_devices",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("device_id", String(64), primary_key=True),
    Column("channel", String(16), nullable=False),
    # Endpoint, device token or address, and the keys or secret that go with it: secrets, all of them.
    Column("address", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("environment", String(16)),
    Column("topic", String(255)),
    Column("app_version", String(64)),
    Column("device_model", String(128)),
    Column("timezone", String(64)),
    Column("locale", String(32)),
    Column("preferences", Text),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    # When the first of its waiting deliveries is to be tried; null while none waits.
    Column("due_ms", BigInteger),
    Index("notification_devices_due", "channel", "due_ms"),
)

deliveries = Table(
    "notification_deliveries",
    metadata,
    Column("notification_id", String(64), primary_key=True),
    Column("channel", String(16), primary_key=True),
    # Empty for the client's log, which all its devices read; a device's name where one acknowledged it.
    Column("device_id", String(64), primary_key=True),
    Column("client_id", String(64), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False),
    # While it is held: when to look at it again.
    Column("due_ms", BigInteger),
    # When it was let out by the preferences; what a rate limit counts.
    Column("released_ms", BigInteger),
    Column("sent_ms", BigInteger),
    Column("delivered_ms", BigInteger),
    Column("opened_ms", BigInteger),
    Column("digest_id", String(64)),
    Index("notification_deliveries_lane", "client_id", "device_id", "channel", "state", "number"),
    Index("notification_deliveries_due", "state", "due_ms"),
    Index("notification_deliveries_rate", "client_id", "device_id", "channel", "released_ms"),
)

high_water_marks = Table(
    "notification_acknowledgements",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("device_id", String(64), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
)
