"""What crosses the wire about tasks: one attrs class per thing and per command."""

from __future__ import annotations

from protocol.command_type import CommandType

__all__ = ["TASK_COMMANDS"]

TASK_COMMANDS: dict[str, CommandType] = {}
"""Commands about tasks by their wire names."""
