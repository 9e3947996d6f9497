"""What crosses the wire about notifications: one attrs class per thing and per command."""

from __future__ import annotations

from protocol.command_type import CommandType

__all__ = ["NOTIFICATION_COMMANDS"]

NOTIFICATION_COMMANDS: dict[str, CommandType] = {}
"""Commands about notifications by their wire names."""
