"""Prepares rows before their first step, in threads of its own: builds the matcher of a schema or of tool calls.

The sandbox has already compiled the same grammar within its limits, so this takes a second at most and terminates. It must
still not happen between two steps, where every row would wait for it. The native code runs without the GIL.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from attrs import frozen

from actors.inference.worker.stepper import Row

__all__ = ["Preparation", "Prepared"]

THREADS = 2
STACK_BYTES = 64 * 1024 * 1024
"""More than the sandbox's process has: a grammar that did not overflow there does not overflow here."""
PREPARING_SECONDS = 60.0
"""Far more than the sandbox allows; reached only on a machine that grants no processor time."""


@frozen(kw_only=True)
class Prepared:
    """The result of preparing a row."""

    row: Row
    needed: Any = None
    """The return value of `Stepper.prepare`."""
    error: Exception | None = None


class Preparation:
    """Rows being prepared. Its methods belong to the step loop; the threads only call ``done``."""

    def __init__(self, prepare: Callable[[Row], Any], done: Callable[[Prepared], None]) -> None:
        """``prepare`` may be called from any thread; ``done`` is called with each result and may block."""
        self._prepare = prepare
        self._done = done
        self._began_at: dict[int, float] = {}
        self._waiting: queue.SimpleQueue[Row] = queue.SimpleQueue()
        """Bounded by the number of rows that the server admits."""
        self._has_threads = False
        self._was_used = False

    def __len__(self) -> int:
        return len(self._began_at)

    def begin(self, row: Row) -> None:
        """Starts preparing a row; ``done`` receives the result."""
        if not self._has_threads:
            self._start_threads()
        self._was_used = True
        self._began_at[row.row] = time.monotonic()
        self._waiting.put(row)

    def take(self, prepared: Prepared) -> bool:
        """Accepts a result. True if the row is still wanted."""
        return self._began_at.pop(prepared.row.row, None) is not None

    def take_used(self) -> bool:
        """True if rows were prepared since the last call."""
        was_used, self._was_used = self._was_used, False
        return was_used

    def cancel(self, row: int) -> None:
        """Discards a row."""
        self._began_at.pop(row, None)

    def clear(self) -> None:
        """Discards all rows."""
        self._began_at.clear()

    def take_overdue(self) -> list[int]:
        """Discards and returns the rows that have waited too long."""
        latest = time.monotonic() - PREPARING_SECONDS
        overdue = [row for row, began_at in self._began_at.items() if began_at < latest]
        for row in overdue:
            del self._began_at[row]
        return overdue

    def _start_threads(self) -> None:
        self._has_threads = True
        before = threading.stack_size(STACK_BYTES)
        try:
            for number in range(THREADS):
                threading.Thread(target=self._work, name=f"prepare-{number}", daemon=True).start()
        finally:
            threading.stack_size(before)

    def _work(self) -> None:
        while True:
            row = self._waiting.get()
            if row.row not in self._began_at:
                continue
            try:
                prepared = Prepared(row=row, needed=self._prepare(row))
            except Exception as error:  # noqa: BLE001  isolation boundary between rows
                prepared = Prepared(row=row, error=error)
            self._done(prepared)
