"""Keepalive: a peer is alive if it sends anything, still reads what is sent to it, or answers a ping.

`Keepalive` judges one peer; one `TimingWheel` schedules the checks of all connections. No I/O but the ping.
"""

from __future__ import annotations

from actors.connections.transport import WebSocketTransport
from protocol.codec import wire_time

__all__ = ["PING_INTERVAL_SECONDS", "PING_TIMEOUT_SECONDS", "Keepalive", "TimingWheel"]

PING_INTERVAL_SECONDS = 25.0
PING_TIMEOUT_SECONDS = 8.0
READ_BYTES_PER_SECOND = 16 * 1024
"""A peer that reads this slowly reaches the ping only after everything sent before it."""
LONGEST_READING_SECONDS = 60.0


class Keepalive:
    """Pings a silent peer, and allows for what the peer still has to read before it can answer."""

    def __init__(self, transport: WebSocketTransport) -> None:
        self._transport = transport
        self._untaken_bytes = 0

    def check(self, now: float) -> float | None:
        """Return the seconds until the next check, or None if the peer is gone."""
        transport = self._transport
        if transport.pinged_at is None:
            if now - transport.last_heard < PING_INTERVAL_SECONDS:
                return transport.last_heard + PING_INTERVAL_SECONDS - now
            self._untaken_bytes = transport.untaken_bytes
            transport.pinged_at = now
            transport.send({"type": "ping", "time": wire_time(), "data": {}})
            return PING_TIMEOUT_SECONDS
        reading_seconds = min(LONGEST_READING_SECONDS, transport.sent_since_heard / READ_BYTES_PER_SECOND)
        left_seconds = transport.pinged_at + PING_TIMEOUT_SECONDS + reading_seconds - now
        if left_seconds > 0:
            return left_seconds
        if transport.is_writing or self._still_takes():
            # The ping has not reached the peer yet. The writer enforces its own minimum pace.
            transport.pinged_at = now
            return PING_TIMEOUT_SECONDS
        return None

    def _still_takes(self) -> bool:
        """True if fewer bytes sent before the ping are still in transit than at the last check."""
        before, self._untaken_bytes = self._untaken_bytes, self._transport.untaken_bytes
        return self._untaken_bytes < before


class TimingWheel:
    """A timing wheel after Varghese and Lauck (1987), with slots of ``tick_seconds``.

    Adding a name is one list append, and a turn touches only the names that are due. Each name is in one slot at most;
    a later appointment replaces the earlier one. Appointments beyond one revolution come at its end, early rather than
    never.
    """

    def __init__(self, *, slots: int = 64, tick_seconds: float = 1.0) -> None:
        self._slots: list[dict[str, None]] = [{} for _ in range(slots)]
        self._slot_of: dict[str, int] = {}
        self._now = 0
        self.tick_seconds = tick_seconds

    def __len__(self) -> int:
        return len(self._slot_of)

    def put(self, name: str, seconds: float) -> None:
        """Schedule ``name`` in so many seconds, rounded up to a tick, in place of its earlier appointment."""
        self.remove(name)
        ticks = max(1, min(len(self._slots) - 1, -int(-seconds // self.tick_seconds)))
        slot = (self._now + ticks) % len(self._slots)
        self._slots[slot][name] = None
        self._slot_of[name] = slot

    def remove(self, name: str) -> None:
        """Cancel the appointment of ``name``."""
        slot = self._slot_of.pop(name, None)
        if slot is not None:
            del self._slots[slot][name]

    def turn(self) -> list[str]:
        """Advance by one tick. Returns the names that are due, which leave the wheel."""
        self._now = (self._now + 1) % len(self._slots)
        due = list(self._slots[self._now])
        for name in due:
            self.remove(name)
        return due
