"""Drops the oldest turns of a chat that exceeds the model's context (`truncation: auto`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from actors.inference.messages import PromptSize
from actors.rest.responses.items import Chat

__all__ = ["drop_oldest"]

ANSWER_TOKENS = 1024
"""Tokens of the context reserved for the answer, or a quarter of the context if that is less."""
MEASUREMENTS = 24
"""Maximum number of measurements. A chat that is still too long is left for the engine to reject."""
EACH_TIME = 0.9
"""Fraction of the estimated excess to drop at once. The rest is found by measuring again, so that no turn is dropped
needlessly.
"""


async def drop_oldest(
    chat: Chat, measure: Callable[[], Awaitable[PromptSize]], *, answer_tokens: int | None, keeps: int
) -> int:
    """Drop as few turns as necessary, and return the number of dropped items.

    ``measure`` returns the current length of the chat. The first ``keeps`` messages and the last turn stay.
    """
    dropped = 0
    for _ in range(MEASUREMENTS):
        size = await measure()
        room = min(answer_tokens or ANSWER_TOKENS, size.context_tokens // 4)
        too_many = size.prompt_tokens + room - size.context_tokens
        if too_many <= 0:
            break
        enough = EACH_TIME * chat.characters * too_many / max(1, size.prompt_tokens)
        before, gone = chat.characters, 0
        while (count := chat.without_oldest(keeps)) > 0:
            gone += count
            if before - chat.characters >= enough:
                break
        if gone == 0:
            break
        dropped += gone
    return dropped
