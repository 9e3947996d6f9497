"""A timing wheel: one data structure schedules the keepalive checks of all connections. Pure.

A timing wheel as Varghese and Lauck describe it (1987): adding a name is one list append, and a turn touches
only the names that are due. Each name is in one slot at most; a later appointment replaces the earlier one.
"""

from __future__ import annotations

__all__ = ["TimingWheel"]


class TimingWheel:
    """Slots of ``tick_seconds``; appointments further away than a turn come at its end, early rather than never."""

    def __init__(self, *, slots: int = 64, tick_seconds: float = 1.0) -> None:
        self._slots: list[dict[str, None]] = [{} for _ in range(slots)]
        self._slot_of: dict[str, int] = {}
        self._now = 0
        self.tick_seconds = tick_seconds

    def __len__(self) -> int:
        return len(self._slot_of)

    def put(self, name: str, seconds: float) -> None:
        """Look at ``name`` in so many seconds, rounded up to a tick, and not before as was arranged."""
        self.remove(name)
        ticks = max(1, min(len(self._slots) - 1, -int(-seconds // self.tick_seconds)))
        slot = (self._now + ticks) % len(self._slots)
        self._slots[slot][name] = None
        self._slot_of[name] = slot

    def remove(self, name: str) -> None:
        """Look at it no more."""
        slot = self._slot_of.pop(name, None)
        if slot is not None:
            del self._slots[slot][name]

    def turn(self) -> list[str]:
        """One tick has passed: who is due. Each is out of the wheel then."""
        self._now = (self._now + 1) % len(self._slots)
        due = list(self._slots[self._now])
        for name in due:
            self.remove(name)
        return due
