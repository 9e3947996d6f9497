"""What crosses the wire about conversations: one attrs class per thing and per command."""

from __future__ import annotations

from protocol.command_type import CommandType

__all__ = ["CONVERSATION_COMMANDS"]

CONVERSATION_COMMANDS: dict[str, CommandType] = {}
"""Commands about conversations by their wire names."""
