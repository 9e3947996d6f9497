"""Whether the peer of a connection lives: it was heard, or it still takes what is sent to it, or it answers a ping."""

from __future__ import annotations

from actors.connections.link import Link
from protocol.codec import wire_time

__all__ = ["PONG_SECONDS", "SILENCE_SECONDS", "LifeSigns"]

SILENCE_SECONDS = 25.0
PONG_SECONDS = 8.0
READ_BYTES_PER_SECOND = 16 * 1024
"""A peer that reads so slowly comes to our ping behind all that was sent before it."""
LONGEST_READING_SECONDS = 60.0


class LifeSigns:
    """Asks a silent peer, and judges its silence by what it still has to read."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._untaken_bytes = 0

    def check(self, now: float) -> float | None:
        """Seconds until the next look; None for a peer that is gone."""
        link = self._link
        if link.pinged_at is None:
            if now - link.last_heard < SILENCE_SECONDS:
                return link.last_heard + SILENCE_SECONDS - now
            self._untaken_bytes = link.untaken_bytes
            link.pinged_at = now
            link.send({"type": "ping", "time": wire_time(), "data": {}})
            return PONG_SECONDS
        reading_seconds = min(LONGEST_READING_SECONDS, link.sent_since_heard / READ_BYTES_PER_SECOND)
        left_seconds = link.pinged_at + PONG_SECONDS + reading_seconds - now
        if left_seconds > 0:
            return left_seconds
        if link.is_writing or self._still_takes():
            # The ping has not come to it yet. How long it may take is for the pace of writing to say.
            link.pinged_at = now
            return PONG_SECONDS
        return None

    def _still_takes(self) -> bool:
        """Whether less of what was sent before the ping is on its way than at the last look."""
        before, self._untaken_bytes = self._untaken_bytes, self._link.untaken_bytes
        return self._untaken_bytes < before
