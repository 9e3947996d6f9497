"""Measuring until it is over, or until somebody says that it shall end (SIGINT, SIGTERM).

What was started for the measurement is ended on the way out of its own block, and what was measured is there afterwards.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import define

__all__ = ["Ending", "until_told_to_end"]


@define
class Ending:
    """How a measurement came to its end."""

    told_by: signal.Signals | None = None
    """None where nobody said that it shall end."""

    @property
    def status(self) -> int:
        """Of the program, as a shell has it for one that the signal ended; 0 where nobody did."""
        return 0 if self.told_by is None else 128 + self.told_by

    def say(self, what: str) -> None:
        """Tell a person that ``what`` is not whole, where it is not."""
        if self.told_by is not None:
            print(f"told to end by {self.told_by.name}: {what}", file=sys.stderr, flush=True)


@contextmanager
def until_told_to_end() -> Iterator[Ending]:
    """Leave the block, without an error, when a signal says so; once out of it nobody has said anything."""
    ending = Ending()
    told: list[signal.Signals] = []

    def pass_on(*_: object) -> None:
        # Trio raises KeyboardInterrupt where its own state stays whole, and for SIGINT alone.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        told.append(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    # The interruption may come between the making of a coroutine and its await, of which Python would tell the person.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    # Where SIGINT is ignored (a shell's job in the background, `nohup`) it would be raised in vain, and Trio puts its own
    # handler in the place of this one alone.
    interrupted_before: Any = signal.signal(signal.SIGINT, signal.default_int_handler)
    before: Any = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield ending
    except BaseException as error:
        if not _holds_interrupt(error):
            raise
        ending.told_by = told[0] if told else signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupted_before)


def _holds_interrupt(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        # What else is in it came of the interruption: connections that were cut, waits that were cancelled.
        return any(_holds_interrupt(one) for one in error.exceptions)
    return isinstance(error, KeyboardInterrupt)
