"""Commands that were rejected after their ids were stored: a retry is rejected with the same error. No I/O."""

from __future__ import annotations

from collections import OrderedDict

from attrs import frozen

from actors.errors import CommandError
from actors.storage.messages import IdempotencyKey

__all__ = ["RejectedCommands"]

KEPT_SECONDS = 600.0
"""Same retention as the ids in storage."""
KEPT_COMMANDS = 1024
"""Beyond this number the oldest is dropped. Each was started and cancelled, so the engine's limits bound the rate."""


@frozen(kw_only=True)
class _Kept:
    at: float
    refusal: CommandError


class RejectedCommands:
    """Rejections in memory. If a restart loses one, a retry only learns that the stream has ended."""

    def __init__(self) -> None:
        self._kept: OrderedDict[IdempotencyKey, _Kept] = OrderedDict()

    def keep(self, key: IdempotencyKey, refusal: CommandError, now: float) -> None:
        """Record a rejection; ``now`` in seconds of a monotonic clock."""
        self._kept[key] = _Kept(at=now, refusal=refusal)
        while len(self._kept) > KEPT_COMMANDS:
            self._kept.popitem(last=False)

    def check(self, key: IdempotencyKey, now: float) -> None:
        """Raise the recorded `CommandError` if this command was rejected."""
        while self._kept and now - next(iter(self._kept.values())).at > KEPT_SECONDS:
            self._kept.popitem(last=False)
        kept = self._kept.get(key)
        if kept is not None:
            first = kept.refusal
            # A new exception, because one that is raised twice accumulates tracebacks.
            raise CommandError(
                first.code,
                first.message,
                field=first.field,
                retry_after_ms=first.retry_after_ms,
                current=first.current,
            )
