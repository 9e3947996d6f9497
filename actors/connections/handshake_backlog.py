"""Caps connections that have not sent `hello`, evicting the oldest, so idle peers cannot lock out real clients."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["HandshakeBacklog"]


class HandshakeBacklog:
    """Names of connections without a `welcome` yet, oldest first. Pure but for calling ``turn_away``."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._waiting: dict[str, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, name: str, evict: Callable[[], None]) -> str | None:
        """Add a connection. If there are too many, evict the oldest and return its name.

        An honest client sends `hello` within milliseconds, so the oldest connection is the least likely to.
        """
        evicted = None
        if len(self._waiting) >= self._maximum:
            evicted = next(iter(self._waiting))
            self._waiting.pop(evicted)()
        self._waiting[name] = evict
        return evicted

    def remove(self, name: str) -> None:
        """Remove a connection that has sent `hello` or ended. Idempotent."""
        self._waiting.pop(name, None)
