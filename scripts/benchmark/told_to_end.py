"""Measuring until it is over, or until somebody says that it shall end (SIGINT, SIGTERM).

What was started for the measurement is ended on the way out of its own block, and what was measured is there afterwards.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import trio
from attrs import define

__all__ = ["Ending", "run_until_told", "until_told_to_end"]

Result = TypeVar("Result")


@define
class Ending:
    """The way in which a measurement ended."""

    told_by: signal.Signals | None = None
    """None where nobody said that it shall end."""

    @property
    def status(self) -> int:
        """Exit status as a shell reports it for a program ended by the signal; 0 without a signal."""
        return 0 if self.told_by is None else 128 + self.told_by

    def say(self, what: str) -> None:
        """Tell a person that ``what`` is not whole, where it is not."""
        if self.told_by is not None:
            print(f"told to end by {self.told_by.name}: {what}", file=sys.stderr, flush=True)


@contextmanager
def until_told_to_end() -> Iterator[Ending]:
    """Leave the block without an error when a signal arrives.

    What is async in it runs by `run_until_told`; everything else is interrupted where it is.
    """
    ending = Ending()

    def interrupt(number: int, _: object) -> None:
        # What was started is ended now; only a person who presses Ctrl-C once more may cut that short.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ending.told_by = ending.told_by or signal.Signals(number)
        raise KeyboardInterrupt

    # SIGINT too: in a shell's job in the background, or under `nohup`, it is ignored.
    before: dict[int, Any] = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ending
    except KeyboardInterrupt:
        if ending.told_by is None:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_until_told(work: Callable[..., Awaitable[Result]], *arguments: Any) -> Result:
    """`trio.run` for the block of `until_told_to_end`: a signal cancels ``work`` and then ends the block.

    Python by itself raises KeyboardInterrupt at an arbitrary point of the program. While a nursery is being opened, that
    leaves tasks without a parent that awaits them, and Trio ends with an internal error.
    """
    told: list[int] = []
    results: list[Result] = []
    tokens: list[trio.lowlevel.TrioToken] = []
    scope = trio.CancelScope()

    def cancel(number: int, _: object) -> None:
        told.append(number)
        for token in tokens:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(scope.cancel)

    async def run() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        with scope:
            if told:
                return
            results.append(await work(*arguments))

    before: dict[int, Any] = {number: signal.signal(number, cancel) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        trio.run(run)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if told:
            # Also where the cancelled work failed instead: that came of the signal.
            signal.raise_signal(told[0])
    return results[0]
