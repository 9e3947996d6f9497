"""Parses long client texts one at a time, yielding to other tasks between steps."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

import trio

from protocol.json_text import STEP_CHARACTERS, all_steps

__all__ = ["LongTexts", "is_long"]

Result = TypeVar("Result")


def is_long(text: str | bytes) -> bool:
    """True if the text must be read in steps."""
    return len(text) > STEP_CHARACTERS


class LongTexts:
    """Serialises the reading of long texts of a transport: each turn of the event loop runs one step of one text."""

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def read(
        self, text: str | bytes, steps: Generator[None, None, Result], may_be_read: Callable[[], None] = lambda: None
    ) -> Result:
        """Run ``steps`` over ``text`` and return their result; raises what they raise.

        ``may_be_read`` is called when its turn comes, and raises if its sender is gone or refused by then. If cancelled,
        reading stops.
        """
        if not is_long(text):
            return all_steps(steps)
        async with self._lock:
            may_be_read()
            while True:
                await trio.lowlevel.checkpoint()
                try:
                    next(steps)
                except StopIteration as end:
                    result: Result = end.value
                    return result
