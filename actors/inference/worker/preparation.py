"""What a row needs before its first step, made in threads of its own: the matcher of its schema or of its calls.

The sandbox has compiled the same grammar within its limits before, so this takes a second at most and ends. It must not be
done between two steps all the same, where everybody's tokens would wait for it. Native code works on it without Python's lock.
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
"""More than the sandbox's process has: what did not overflow there does not overflow here."""
PREPARING_SECONDS = 60.0
"""Far more than the sandbox allows; only on a machine that gives no processor time is it ever reached."""


@frozen(kw_only=True)
class Prepared:
    """What came of it."""

    row: Row
    needed: Any = None
    """What `Stepper.prepare` returned."""
    error: Exception | None = None


class Preparation:
    """Rows that wait for it. Its methods are the step loop's; the threads only put into ``done``."""

    def __init__(self, prepare: Callable[[Row], Any], done: Callable[[Prepared], None]) -> None:
        """``prepare`` may be called in any thread; ``done`` hears of each row and may block."""
        self._prepare = prepare
        self._done = done
        self._began_at: dict[int, float] = {}
        self._waiting: queue.SimpleQueue[Row] = queue.SimpleQueue()
        """No longer than the rows that the server admits."""
        self._has_threads = False
        self._was_used = False

    def __len__(self) -> int:
        return len(self._began_at)

    def begin(self, row: Row) -> None:
        """Prepare a row; ``done`` hears of it."""
        if not self._has_threads:
            self._start_threads()
        self._was_used = True
        self._began_at[row.row] = time.monotonic()
        self._waiting.put(row)

    def take(self, prepared: Prepared) -> bool:
        """Whether somebody still waits for that row."""
        return self._began_at.pop(prepared.row.row, None) is not None

    def take_used(self) -> bool:
        """Whether rows were prepared since this was asked last."""
        was_used, self._was_used = self._was_used, False
        return was_used

    def cancel(self, row: int) -> None:
        """Nobody waits for that row any more."""
        self._began_at.pop(row, None)

    def clear(self) -> None:
        """Nobody waits for any."""
        self._began_at.clear()

    def take_overdue(self) -> list[int]:
        """Rows that have waited for too long; nobody waits for them any more."""
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
            except Exception as error:  # noqa: BLE001  isolation border between rows
                prepared = Prepared(row=row, error=error)
            self._done(prepared)
