"""Timers that send messages: one heap and one task for all of them, each bound to an incarnation."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import trio

__all__ = ["Timer", "TimerService"]


class Timer:
    """A scheduled message. Created by `Context.after` and `Context.every`."""

    __slots__ = ("_fire", "cancelled", "deadline", "owner", "period_seconds")

    def __init__(self, deadline: float, period_seconds: float | None, fire: Callable[[], None]) -> None:
        self.deadline = deadline
        self.period_seconds = period_seconds
        self.cancelled = False
        self.owner: set[Timer] | None = None
        """The incarnation's live timers; a cancelled one leaves the set."""
        self._fire: Callable[[], None] | None = fire

    def cancel(self) -> None:
        """Cancels the timer: no further message is sent. Idempotent; never waits."""
        self.cancelled = True
        # Dropping the callback frees the actor at once, though the heap keeps the timer until its time.
        self._fire = None
        if self.owner is not None:
            self.owner.discard(self)

    def fire(self) -> None:
        """Sends the message (for the service only)."""
        if self._fire is not None:
            self._fire()


class TimerService:
    """Fires timers in order of deadline. `run` belongs to the actor system's own nursery."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._sleep: trio.CancelScope | None = None

    def __len__(self) -> int:
        return len(self._heap)

    def call_at(self, deadline: float, fire: Callable[[], None], *, period_seconds: float | None = None) -> Timer:
        """Calls ``fire`` at ``deadline`` (Trio clock), then every ``period_seconds`` if given."""
        timer = Timer(deadline, period_seconds, fire)
        self._push(timer)
        return timer

    async def run(self) -> None:
        """Fires due timers until cancelled; remaining timers never fire."""
        while True:
            now = trio.current_time()
            while self._heap and (self._heap[0][0] <= now or self._heap[0][2].cancelled):
                timer = heapq.heappop(self._heap)[2]
                if timer.cancelled:
                    continue
                timer.fire()
                if timer.period_seconds is not None and not timer.cancelled:
                    # Counted from the deadline, so that periods do not drift; a late loop skips missed ones.
                    timer.deadline = max(timer.deadline + timer.period_seconds, now)
                    self._push(timer)
            with trio.CancelScope(deadline=self._heap[0][0] if self._heap else float("inf")) as self._sleep:
                await trio.sleep_forever()
            self._sleep = None

    def _push(self, timer: Timer) -> None:
        heapq.heappush(self._heap, (timer.deadline, next(self._order), timer))
        if self._sleep is not None and self._heap[0][2] is timer:
            self._sleep.cancel(reason="an earlier timer")
