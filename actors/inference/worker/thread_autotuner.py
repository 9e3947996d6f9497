"""Tunes the number of BLAS threads while other programs compete for the cores. No I/O.

The threads of one matrix product wait for each other, so a product with more threads than free cores waits for the
scheduler: with one busy program on two cores, one thread makes 13 tokens a second where two make 6, and with two programs
7 where two make 1.5 (on an idle machine: 12 and 20). No number is right permanently. When the threads get far less
processor time than they could use, their number is halved at once. When they get somewhat less, fewer are tried for some
steps and the faster number stays. Later, more are tried in the same way.
"""

from __future__ import annotations

import statistics
from collections import deque

__all__ = ["ThreadAutotuner"]

FAR_LESS = 0.8
SOMEWHAT_LESS = 0.9
"""Shares of the processor time that the threads could have used."""
FAR_LESS_STEPS = 2
TRIAL_STEPS = 3
WORTH_IT = 0.9
"""A trial is won if its steps take less than this share of the time,"""
HOPELESS = 1.5
"""and lost at the first step that takes more than this."""
FIRST_WAIT_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 60.0
SOON_SECONDS = 10.0
"""A reduction this soon after an increase doubles the next waiting time."""


class ThreadAutotuner:
    """Tries thread counts that double from one to ``most``; `threads` is the count for the next step."""

    def __init__(self, most: int) -> None:
        self.threads = most
        self._most = most
        self._usual = most
        """The count in use outside a trial."""
        self._shape: tuple[int, int] | None = None
        self._far_less_steps = 0
        self._usual_seconds: deque[float] = deque(maxlen=2 * TRIAL_STEPS)
        self._shares: deque[float] = deque(maxlen=2 * TRIAL_STEPS)
        self._trial_seconds: list[float] = []
        self._lost = 0
        """Trials since the last one that was won."""
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._since_seconds = FIRST_WAIT_SECONDS
        """Step time since the count changed or a trial ended."""

    def stepped(self, shape: tuple[int, int], seconds: float, processor_seconds: float) -> None:
        """Records a step: its shape (rows, prompt tokens), its wall time, and the processor time over all cores."""
        self._since_seconds += seconds
        share = processor_seconds / (seconds * self.threads)
        if self.threads == self._usual and self._is_far_less(share):
            self._wait_longer(self._since_seconds < SOON_SECONDS)
            self._settle(self._usual // 2)
        elif shape != self._shape:
            # Times of steps with different shapes are not comparable.
            self._shape = shape
            self._forget_steps()
            self.threads = self._usual
        elif self.threads == self._usual:
            self._usual_seconds.append(seconds)
            self._shares.append(share)
            self._consider()
        else:
            self._trial_seconds.append(seconds)
            self._judge()

    def _is_far_less(self, share: float) -> bool:
        self._far_less_steps = self._far_less_steps + 1 if share < FAR_LESS else 0
        return self._usual > 1 and self._far_less_steps >= FAR_LESS_STEPS

    def _consider(self) -> None:
        """Starts a trial if one is due."""
        if len(self._usual_seconds) < TRIAL_STEPS or self._since_seconds < self._wait_seconds:
            return
        is_short = statistics.median(self._shares) < SOMEWHAT_LESS
        others = self._lower() if is_short and self._usual > 1 else self._higher()
        if others:
            # If the nearest count is no better, a further one may be.
            self.threads = others[self._lost % len(others)]

    def _lower(self) -> list[int]:
        """Halves down to one, the nearest first."""
        found = []
        count = self._usual
        while count > 1:
            count //= 2
            found.append(count)
        return found

    def _higher(self) -> list[int]:
        found = []
        count = self._usual
        while count < self._most:
            count = min(self._most, 2 * count)
            found.append(count)
        return found

    def _judge(self) -> None:
        usual_seconds = statistics.median(self._usual_seconds)
        if self._trial_seconds[-1] > HOPELESS * usual_seconds:
            is_won = False
        elif len(self._trial_seconds) < TRIAL_STEPS:
            return
        else:
            is_won = statistics.median(self._trial_seconds) < WORTH_IT * usual_seconds
        self._lost = 0 if is_won else self._lost + 1
        self._wait_longer(not is_won)
        self._settle(self.threads if is_won else self._usual)

    def _wait_longer(self, is_longer: bool) -> None:
        self._wait_seconds = min(2 * self._wait_seconds, LONGEST_WAIT_SECONDS) if is_longer else FIRST_WAIT_SECONDS

    def _settle(self, threads: int) -> None:
        self.threads = self._usual = threads
        self._since_seconds = 0.0
        self._far_less_steps = 0
        self._forget_steps()

    def _forget_steps(self) -> None:
        self._usual_seconds.clear()
        self._trial_seconds.clear()
        self._shares.clear()
