"""What a person is told while the server is away."""

from __future__ import annotations

from collections.abc import Callable

from actors.command_line.printing import print_line
from protocol.client import Change

__all__ = ["Outage"]


class Outage:
    """Says once that the server is away, now and then how it goes on, and that it is back: lines for `on_change`."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say or _say
        self._attempts = 0
        self._told_at = 0
        self._said = ""

    def take(self, change: Change) -> None:
        """Hear of a change of the connection."""
        match change.state:
            case "disconnected":
                self._attempts += 1
                # The first, second, fourth, eighth … and each that is a pause of some length.
                if self._attempts >= 2 * self._told_at or (change.delay_seconds or 0) >= 60:
                    self._told_at = self._attempts
                    self._say_new(f"the server is away, trying again in {_seconds(change.delay_seconds)}")
            case "connected" if self._attempts:
                self._attempts = self._told_at = 0
                self._say_new("the server is back")

    def _say_new(self, text: str) -> None:
        """Say it unless it was the last thing said."""
        if text != self._said:
            self._said = text
            self._say(text)


def _seconds(seconds: float | None) -> str:
    return "a moment" if not seconds or seconds < 1 else f"{seconds:.0f} s"


def _say(text: str) -> None:
    print_line(f"leanvibe: {text}", style="yellow", err=True)
