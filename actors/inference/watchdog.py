"""Decides when a worker's step counts as a hang, from measured steps and the processor time that the worker was denied.

Run-queue delay is no hang, and a new worker would fare no better. Linux counts, for each thread, the time it was runnable and
waited for its turn (`/proc/PID/task/TID/schedstat`, second number, nanoseconds; Documentation/scheduler/sched-stats). A thread
that sleeps, is stopped or waits for a lock accrues nothing, so a hung worker is excused nothing. An endless computation looks
like work, so on a busy machine it is detected later by the time it waited, at most `LONGEST_EXCUSE_SECONDS`. Other systems
report nothing, and nothing is excused.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "LONGEST_EXCUSE_SECONDS",
    "PREFILL_TOKENS_PER_STEP",
    "InFlightWork",
    "LatencyModel",
    "RunQueueDelay",
    "may_prepare_standby",
]

MINIMUM_SECONDS = 1.0
TIMES_PREDICTED = 8.0
FIRST_STEP_SECONDS = 15.0
"""Deadline until something comparable has been measured."""
SMOOTHING = 0.2
PREFILL_TOKENS_PER_STEP = 512
"""The worker reads at most this many in one step (`PrefillBudget`)."""
FRAMES_UNTIL_LEFT = 2
"""A dropped row may still be part of the step whose frame comes next, and if that frame is already on its way, of the
one after it."""
SETTLED_IDLE_SECONDS = 2.0
SETTLED_BUSY_SECONDS = 10.0
LONGEST_EXCUSE_SECONDS = 10.0
"""A step that waited longer than this is late for whatever reason."""
_PROCESSES = Path("/proc")


class LatencyModel:
    """Learns seconds per decode step and per prefilled token, and predicts the next step."""

    def __init__(self) -> None:
        self._decode_seconds: float | None = None
        # Decaying sums, so that a chunk of three tokens, which takes nearly as long as one of fifty, weighs little.
        self._prefill_seconds = 0.0
        self._prefill_tokens = 0.0
        self._drafted_seconds: float | None = None
        self.allocation_bytes_per_second: float | None = None
        """Measured rate at which the worker gets fresh memory; None if not measured."""

    def measured(self, seconds: float, decoded_rows: int, prefilled_tokens: int, drafted_tokens: int = 0) -> None:
        """Learns from a finished step. A step that did both is attributed to prefill, the larger part.

        A step that verified drafted tokens updates only the time for those.
        """
        if prefilled_tokens > 0:
            self._prefill_seconds += seconds - SMOOTHING * self._prefill_seconds
            self._prefill_tokens += prefilled_tokens - SMOOTHING * self._prefill_tokens
        elif drafted_tokens > 0:
            self._drafted_seconds = _smoothed(self._drafted_seconds, seconds)
        elif decoded_rows > 0:
            # A step of one row takes nearly as long as one of eight, so the whole step is learned.
            self._decode_seconds = _smoothed(self._decode_seconds, seconds)

    def deadline_seconds(self, prefill_tokens: int, drafted_tokens: int = 0, held_bytes: float = 0.0) -> float:
        """Longest acceptable step that may read up to ``prefill_tokens`` of prompts, or verify ``drafted_tokens``.

        ``held_bytes`` is the size of keys and values, all of which a step may have to move.
        """
        if self._decode_seconds is None or (prefill_tokens and not self._prefill_tokens):
            return FIRST_STEP_SECONDS
        predicted = self._decode_seconds
        if prefill_tokens:
            predicted += prefill_tokens * self._prefill_seconds / self._prefill_tokens
        elif drafted_tokens:
            predicted = max(predicted, self._predicted_drafted_seconds(drafted_tokens))
        if self.allocation_bytes_per_second:
            # A step in which rows join or leave copies all of it, which for a large model takes many times longer than
            # computing.
            predicted += held_bytes / self.allocation_bytes_per_second
        return max(MINIMUM_SECONDS, TIMES_PREDICTED * predicted)

    def _predicted_drafted_seconds(self, drafted_tokens: int) -> float:
        """As measured; before that, estimated as if drafted tokens were prefilled."""
        assert self._decode_seconds is not None
        if self._drafted_seconds is not None:
            return self._drafted_seconds
        if not self._prefill_tokens:
            return self._decode_seconds
        return self._decode_seconds + drafted_tokens * self._prefill_seconds / self._prefill_tokens


class InFlightWork:
    """The rows in the worker, and their tokens that the current step may have to read."""

    def __init__(self) -> None:
        self.rows: set[int] = set()
        self._unread: dict[int, int] = {}
        self._dropped: list[tuple[int, int]] = []
        """Dropped rows that were unread: their tokens, and the frames until no step computes them."""

    @property
    def unread_rows(self) -> int:
        """Rows without a token so far."""
        return len(self._unread)

    @property
    def unread_tokens(self) -> int:
        """Most prompt tokens that one step may read now."""
        return min(PREFILL_TOKENS_PER_STEP, sum(self._unread.values()) + sum(tokens for tokens, _ in self._dropped))

    def admitted(self, row: int, tokens: int) -> None:
        """Notes a row admitted to the worker with this many tokens to read."""
        self.rows.add(row)
        self._unread[row] = tokens

    def dropped(self, row: int) -> None:
        """Notes a dropped row; the current step may still be reading it."""
        self.rows.discard(row)
        if tokens := self._unread.pop(row, 0):
            self._dropped.append((tokens, FRAMES_UNTIL_LEFT))

    def emitted(self, row: int, *, is_last: bool) -> None:
        """Notes a token of a row, which has therefore been read."""
        self._unread.pop(row, None)
        if is_last:
            self.rows.discard(row)

    def failed(self, row: int) -> None:
        """Notes a row that a step ended with an error."""
        self.emitted(row, is_last=True)

    def frame_came(self) -> None:
        """Notes the end of a step, or an idle report."""
        self._dropped = [(tokens, frames - 1) for tokens, frames in self._dropped if frames > 1]

    def cleared(self) -> None:
        """Notes that the worker was told to drop all rows."""
        self.rows.clear()
        self._unread.clear()
        self._dropped.clear()


class RunQueueDelay:
    """Run-queue delay of one process since the last `begin`. Reads a few small files, without blocking."""

    def __init__(self, pid: int) -> None:
        self._threads = _PROCESSES / str(pid) / "task"
        self._before: dict[str, int] = {}

    def begin(self) -> None:
        """Starts counting from now."""
        self._before = self._waited_nanoseconds()

    def seconds(self) -> float:
        """Delay of the thread that waited longest, at most `LONGEST_EXCUSE_SECONDS`; 0 if unknown.

        Threads wait concurrently, so their sum would exceed the time that passed.
        """
        waits = (now - self._before.get(thread, now) for thread, now in self._waited_nanoseconds().items())
        return min(LONGEST_EXCUSE_SECONDS, max(waits, default=0) / 1e9)

    def _waited_nanoseconds(self) -> dict[str, int]:
        found: dict[str, int] = {}
        try:
            for thread in self._threads.iterdir():
                found[thread.name] = int((thread / "schedstat").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            pass  # the thread has just ended, or the system does not count
        return found


def may_prepare_standby(ready_seconds: float, *, is_idle: bool) -> bool:
    """True if a standby worker may be started now; importing uses seconds of processor time that first answers may be
    waiting for."""
    return ready_seconds >= (SETTLED_IDLE_SECONDS if is_idle else SETTLED_BUSY_SECONDS)


def _smoothed(old: float | None, seconds: float) -> float:
    return seconds if old is None else old + SMOOTHING * (seconds - old)
