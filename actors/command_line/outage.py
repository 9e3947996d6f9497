"""Messages shown while the server is away."""

from __future__ import annotations

from collections.abc import Callable

from actors.command_line.printing import print_line
from protocol.client import Change

__all__ = ["Outage"]

LONG_SECONDS = 60
"""Longer than any of our pauses."""


class Outage:
    """Says once that the connection was lost, and once that the server is back: lines for `on_change`."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say or _say
        self.is_away = False
        """Whether it was lost and is not back."""

    def take(self, change: Change) -> None:
        """Hear of a change of the connection."""
        match change.state:
            case "disconnected":
                if not self.is_away:
                    self.is_away = True
                    self._say("the connection was lost: the server is away; waiting for it to come back")
                if (change.delay_seconds or 0) >= LONG_SECONDS:
                    self._say(f"the server asks to be left alone for {change.delay_seconds:.0f} s")
            case "connected" if self.is_away:
                self.is_away = False
                self._say("the server is back")


def _say(text: str) -> None:
    print_line(f"leanvibe: {text}", style="yellow", err=True)
