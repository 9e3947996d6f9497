"""What a client can meet.

::

    CommandFailed    the server said no: `data` is its `error` or `failed`
    Disconnected     the connection ended, and no other will follow; or an answer was lost with it
"""

from __future__ import annotations

from typing import Any

__all__ = ["CommandFailed", "Disconnected"]


class CommandFailed(Exception):
    """The server answered with `error`, or a stream ended with `failed`; ``data`` is what it said."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(f"{data.get('code')}: {data.get('message')}")
        self.data = data

    @property
    def code(self) -> str:
        """One of the protocol's error codes."""
        return str(self.data.get("code"))


class Disconnected(Exception):
    """The connection ended; ``code`` and ``reason`` are those of its close frame, if there was one."""

    def __init__(self, code: int | None, reason: str | None) -> None:
        super().__init__(f"the connection ended ({code}{': ' + reason if reason else ''})")
        self.code = code
        self.reason = reason
