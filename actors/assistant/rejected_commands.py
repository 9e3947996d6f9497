"""Commands that were refused after their ids were stored: the same id again is refused in the same words. Pure."""

from __future__ import annotations

from collections import OrderedDict

from attrs import frozen

from actors.refusals import CommandRefused
from actors.storage.messages import IdempotencyKey

__all__ = ["RejectedCommands"]

KEPT_SECONDS = 600.0
"""As long as storage keeps the ids."""
KEPT_COMMANDS = 1024
"""More push the oldest out; each was begun and cancelled, which the engine's own limits bound."""


@frozen(kw_only=True)
class _Kept:
    at: float
    refusal: CommandRefused


class RejectedCommands:
    """In memory: what a restart forgets is a stream that has ended, and is told so."""

    def __init__(self) -> None:
        self._kept: OrderedDict[IdempotencyKey, _Kept] = OrderedDict()

    def keep(self, key: IdempotencyKey, refusal: CommandRefused, now: float) -> None:
        """Note a refusal; ``now`` in seconds of a clock that never goes back."""
        self._kept[key] = _Kept(at=now, refusal=refusal)
        while len(self._kept) > KEPT_COMMANDS:
            self._kept.popitem(last=False)

    def check(self, key: IdempotencyKey, now: float) -> None:
        """Raises `CommandRefused` for a command that was refused before."""
        while self._kept and now - next(iter(self._kept.values())).at > KEPT_SECONDS:
            self._kept.popitem(last=False)
        kept = self._kept.get(key)
        if kept is not None:
            first = kept.refusal
            # A new one: an exception that is raised twice carries both ways.
            raise CommandRefused(
                first.code,
                first.message,
                field=first.field,
                retry_after_ms=first.retry_after_ms,
                current=first.current,
            )
