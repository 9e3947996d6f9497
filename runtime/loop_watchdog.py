"""Event-loop watchdog: finds the task that blocks the loop, from a thread, while it still does.

Trio is cooperative, so a handler that computes for a second stops everything else. An Instrument records
the start and the task of each step; a daemon thread polls every few milliseconds and, when a step is old,
samples the loop thread's stack, even if the step never ends.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable

import trio
from attrs import frozen

from runtime.incarnation import ActorIncarnation, current_incarnation

__all__ = ["LoopWatchdog", "SlowStep"]

_log = logging.getLogger("runtime.loop")

SLOW_SECONDS = 0.050
"""A step older than this is reported with its stack."""
UNRESPONSIVE_SECONDS = 1.0
"""A step older than this makes its actor unresponsive in health."""
REMEMBERED_SECONDS = 10.0
"""Time for which health keeps naming a task that has blocked the loop."""
KEPT = 32


@frozen
class SlowStep:
    """A step that blocked the loop."""

    task: str
    """Name of the task."""
    path: str | None
    """Path of its actor, if it belongs to one."""
    seconds: float
    """Age of the step when it was sampled."""
    stack: str
    """The loop thread's Python stack at that moment."""


class LoopWatchdog(trio.abc.Instrument):
    """Installed with `start`; read `slow_steps`, `unresponsive` and `age_seconds` from any thread."""

    def __init__(
        self,
        *,
        slow_seconds: float = SLOW_SECONDS,
        unresponsive_seconds: float = UNRESPONSIVE_SECONDS,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.slow_seconds = slow_seconds
        self.unresponsive_seconds = unresponsive_seconds
        self.slow_steps: deque[SlowStep] = deque(maxlen=KEPT)
        """The newest ones, oldest first."""
        self.slow_count = 0
        self._clock = clock
        self._step: tuple[float, trio.lowlevel.Task] | None = None
        self._reported: tuple[float, trio.lowlevel.Task] | None = None
        self._warned: tuple[float, trio.lowlevel.Task] | None = None
        self._last_held: tuple[float, str] | None = None
        self._loop_thread = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by Trio before each step; a single assignment, so that the thread sees a consistent pair."""
        self._step = (self._clock(), task)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by Trio after each step."""
        self._step = None

    def start(self) -> None:
        """Starts watching the loop of the calling thread."""
        self._loop_thread = threading.get_ident()
        trio.lowlevel.add_instrument(self)
        self._thread = threading.Thread(target=self._sample, name="loop-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops watching. The thread ends by itself within one sampling period."""
        trio.lowlevel.remove_instrument(self)
        self._stop.set()
        # The step that calls this is no longer watched, so its end will not be reported.
        self._step = None

    @property
    def age_seconds(self) -> float:
        """Age of the running step; 0 between steps and while the loop waits."""
        step = self._step
        return 0.0 if step is None else self._clock() - step[0]

    def unresponsive(self) -> str | None:
        """Path or task name of the step that blocks the loop right now, if it is too old. Safe from any thread."""
        step = self._step
        if step is None or self._clock() - step[0] < self.unresponsive_seconds:
            return None
        holder = _path(step[1]) or step[1].name
        self._last_held = (self._clock(), holder)
        return holder

    def recently_unresponsive(self) -> str | None:
        """The step that blocks the loop now, or did within the last `REMEMBERED_SECONDS`.

        Health is served by the same loop, so nobody can query it while it is blocked; this is the report afterwards.
        """
        now = self.unresponsive()
        if now is not None or self._last_held is None:
            return now
        seen_at, holder = self._last_held
        return holder if self._clock() - seen_at < REMEMBERED_SECONDS else None

    def _sample(self) -> None:
        while not self._stop.wait(self.slow_seconds / 4):
            step = self._step
            if step is None:
                continue
            age = self._clock() - step[0]
            holder = self.unresponsive()  # also records it
            if holder is not None and step is not self._warned:
                self._warned = step
                _log.warning("%s has held the loop for %.1f s, so no request is answered", holder, age)
            if age >= self.slow_seconds and step is not self._reported:
                frame = sys._current_frames().get(self._loop_thread)
                if frame is None or self._step is not step:
                    continue  # it moved on meanwhile
                self._reported = step
                self._report(SlowStep(step[1].name, _path(step[1]), age, "".join(traceback.format_stack(frame))))

    def _report(self, slow: SlowStep) -> None:
        self.slow_count += 1
        holder = slow.path or slow.task
        # One line for the log; the stack is for debugging.
        _log.info("%s has held the loop for %.0f ms (slow step %d)", holder, slow.seconds * 1000, self.slow_count)
        _log.debug("slow step %d, %s:\n%s", self.slow_count, holder, slow.stack)
        # Last, so that a reader who finds the step also finds its log lines.
        self.slow_steps.append(slow)


def _path(task: trio.lowlevel.Task) -> str | None:
    life: ActorIncarnation | None = task.context.get(current_incarnation)
    return None if life is None else life.record.path
