"""Keepalive: a peer is alive if it sends anything, still reads what is sent to it, or answers a ping."""

from __future__ import annotations

from actors.connections.transport import WebSocketTransport
from protocol.codec import wire_time

__all__ = ["PING_INTERVAL_SECONDS", "PING_TIMEOUT_SECONDS", "Keepalive"]

PING_INTERVAL_SECONDS = 25.0
PING_TIMEOUT_SECONDS = 8.0
READ_BYTES_PER_SECOND = 16 * 1024
"""A peer that reads so slowly comes to our ping behind all that was sent before it."""
LONGEST_READING_SECONDS = 60.0


class Keepalive:
    """Pings a silent peer, and allows for what the peer still has to read before it can answer."""

    def __init__(self, transport: WebSocketTransport) -> None:
        self._transport = transport
        self._untaken_bytes = 0

    def check(self, now: float) -> float | None:
        """Seconds until the next check; None if the peer is gone."""
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
            # The ping has not come to it yet. How long it may take is for the pace of writing to say.
            transport.pinged_at = now
            return PING_TIMEOUT_SECONDS
        return None

    def _still_takes(self) -> bool:
        """Whether less of what was sent before the ping is on its way than at the last look."""
        before, self._untaken_bytes = self._untaken_bytes, self._transport.untaken_bytes
        return self._untaken_bytes < before
