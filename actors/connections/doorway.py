"""Those who have connected and not yet entered: few, and the newest first, so that idle strangers shut nobody out."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Doorway"]


class Doorway:
    """Names of connections without a `welcome` yet, oldest first. Pure but for calling ``turn_away``."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._waiting: dict[str, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def arrive(self, name: str, turn_away: Callable[[], None]) -> str | None:
        """One more; the oldest is turned away where they are too many. Returns the name of that one.

        An honest client says hello within milliseconds; whoever has stood there longest is the least likely to.
        """
        turned_away = None
        if len(self._waiting) >= self._maximum:
            turned_away = next(iter(self._waiting))
            self._waiting.pop(turned_away)()
        self._waiting[name] = turn_away
        return turned_away

    def leave(self, name: str) -> None:
        """It has entered, or is gone. Nothing happens the second time."""
        self._waiting.pop(name, None)
