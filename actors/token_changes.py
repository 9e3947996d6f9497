"""Waits for changes of tokens, for work that must end with the token that began it."""

from __future__ import annotations

import structlog
import trio

from actors.access.messages import AwaitTokenChange
from runtime import ActorRef, RuntimeFault

__all__ = ["LOOK_SECONDS", "until_tokens_may_have_changed"]

_log = structlog.get_logger("access")

LOOK_SECONDS = 0.5
"""Longest wait without a change: a token may have expired, and a message may be lost with the access actor."""
ASK_SECONDS = 2.0


async def until_tokens_may_have_changed(access: ActorRef[AwaitTokenChange], seen: int | None) -> int | None:
    """Wait, for a bounded time, until tokens have changed since ``seen``. Returns the new value of ``seen`` for the next call.

    A revocation is noticed as soon as it is stored. Faults of the access actor are not raised.
    """
    try:
        changes: int = await access.ask(AwaitTokenChange(seen, LOOK_SECONDS), timeout=LOOK_SECONDS + ASK_SECONDS)
    except RuntimeFault as error:
        # It is being started again, and is asked anew in a moment.
        _log.debug("token changes not received", error=str(error))
        await trio.sleep(LOOK_SECONDS)
        return None
    return changes
