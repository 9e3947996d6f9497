"""Queues of what waits to be handed to the carrier, bounded: each kind has a policy for when it is full. Pure."""

from __future__ import annotations

__all__ = ["EVERYTHING", "AnnouncementLane"]

EVERYTHING = ""
"""Key of an announcement that stands for every key of its topic."""


class AnnouncementLane:
    """Announcements conflate: one for each key waits, and where there are too many keys, one for everything."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return sum(len(keys) for keys in self._waiting.values())

    def put(self, topic: str, key: str) -> None:
        """Add one; what is said already is not said twice."""
        keys = self._waiting.setdefault(topic, {})
        if EVERYTHING in keys:
            return
        if key == EVERYTHING or len(keys) >= self._most:
            self._waiting[topic] = {EVERYTHING: None}
        else:
            keys[key] = None

    def take(self) -> tuple[str, str] | None:
        """Remove and return the oldest of some topic; None if nothing waits."""
        for topic, keys in self._waiting.items():
            key = next(iter(keys))
            del keys[key]
            if not keys:
                del self._waiting[topic]
            return topic, key
        return None
