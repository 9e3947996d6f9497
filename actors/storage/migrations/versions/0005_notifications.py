"""Notifications, deliveries, devices and preferences."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make its tables."""
    op.create_table(
        "notification_clients",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("last_number", sa.BigInteger, nullable=False),
        sa.Column("preferences", sa.Text),
    )
    op.create_table(
        "notifications",
        sa.Column("notification_id", sa.String(64), primary_key=True),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("fields", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("read_ms", sa.BigInteger),
        sa.Column("is_digest", sa.Boolean, nullable=False),
    )
    op.create_index("notifications_by_client", "notifications", ["client_id", "number"], unique=True)
    op.create_index("notifications_by_time", "notifications", ["created_ms"])
    op.create_table(
        "notification_devices",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("device_id", sa.String(64), primary_key=True),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("environment", sa.String(16)),
        sa.Column("topic", sa.String(255)),
        sa.Column("app_version", sa.String(64)),
        sa.Column("device_model", sa.String(128)),
        sa.Column("timezone", sa.String(64)),
        sa.Column("locale", sa.String(32)),
        sa.Column("preferences", sa.Text),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("due_ms", sa.BigInteger),
    )
    op.create_index("notification_devices_due", "notification_devices", ["channel", "due_ms"])
    op.create_table(
        "notification_deliveries",
        sa.Column("notification_id", sa.String(64), primary_key=True),
        sa.Column("channel", sa.String(16), primary_key=True),
        sa.Column("device_id", sa.String(64), primary_key=True),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_ms", sa.BigInteger),
        sa.Column("released_ms", sa.BigInteger),
        sa.Column("sent_ms", sa.BigInteger),
        sa.Column("delivered_ms", sa.BigInteger),
        sa.Column("opened_ms", sa.BigInteger),
        sa.Column("digest_id", sa.String(64)),
    )
    op.create_index(
        "notification_deliveries_lane",
        "notification_deliveries",
        ["client_id", "device_id", "channel", "state", "number"],
    )
    op.create_index("notification_deliveries_due", "notification_deliveries", ["state", "due_ms"])
    op.create_index(
        "notification_deliveries_rate", "notification_deliveries", ["client_id", "device_id", "channel", "released_ms"]
    )
    op.create_table(
        "notification_acknowledgements",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("device_id", sa.String(64), primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("notification_acknowledgements")
    op.drop_table("notification_deliveries")
    op.drop_table("notification_devices")
    op.drop_table("notifications")
    op.drop_table("notification_clients")
