"""Leaves out the oldest turns of a chat that is too long for the model's context (`truncation: auto`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from actors.inference.messages import PromptSize
from actors.rest.responses.items import Chat

__all__ = ["drop_oldest"]

ANSWER_TOKENS = 1024
"""So much of the context is kept free for an answer, or a quarter where that is less."""
MEASUREMENTS = 24
"""A chat that is still too long after so many is left for the engine to refuse."""
EACH_TIME = 0.9
"""Of what seems to be enough: the last few turns are found by measuring again, and none goes that could stay."""


async def drop_oldest(
    chat: Chat, measure: Callable[[], Awaitable[PromptSize]], *, answer_tokens: int | None, keeps: int
) -> int:
    """Leave out as few turns as will do; how many items of the chat that were.

    ``measure`` tells how long the chat is now. The first ``keeps`` messages and the last turn stay.
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
