"""Long texts of clients are read one at a time, and everybody else has a turn between two steps of it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

import trio

from protocol.json_text import STEP_CHARACTERS, all_steps

__all__ = ["LongTexts", "is_long"]

Result = TypeVar("Result")


def is_long(text: str | bytes) -> bool:
    """Whether reading it takes steps."""
    return len(text) > STEP_CHARACTERS


class LongTexts:
    """The one place of a door at which long texts are read: however many come at once, a turn of the loop has one step of one."""

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def read(
        self, text: str | bytes, steps: Generator[None, None, Result], may_be_read: Callable[[], None] = lambda: None
    ) -> Result:
        """What ``steps`` of reading ``text`` come to; raises what they raise.

        ``may_be_read`` is called when its turn has come, and raises where its sender has lost it meanwhile. Cancelled, it
        is not read to its end.
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
