"""How long a worker's step may take before it counts as a hang: pure rules over measured steps and what the next may have to do."""

from __future__ import annotations

__all__ = ["PREFILL_TOKENS_PER_STEP", "InFlightWork", "LatencyModel", "may_prepare_standby"]

MINIMUM_SECONDS = 1.0
TIMES_PREDICTED = 8.0
FIRST_STEP_SECONDS = 15.0
"""Allowed while nothing comparable was measured yet."""
SMOOTHING = 0.2
PREFILL_TOKENS_PER_STEP = 512
"""The worker reads no more in one step (`PrefillBudget`)."""
FRAMES_UNTIL_LEFT = 2
"""A row that the worker is told to drop may be in the step whose frame comes next, and where that one is on its way
already, in the one after it."""
SETTLED_IDLE_SECONDS = 2.0
SETTLED_BUSY_SECONDS = 10.0


class LatencyModel:
    """Learns seconds per decoded row and per prefilled token, and predicts the next step."""

    def __init__(self) -> None:
        self._decode_seconds: float | None = None
        # Sums that fade, so that a chunk of three tokens, which costs nearly what one of fifty does, weighs little.
        self._prefill_seconds = 0.0
        self._prefill_tokens = 0.0
        self._drafted_seconds: float | None = None
        self.allocation_bytes_per_second: float | None = None
        """How fast the worker was found to get memory that was not in use before; None where nobody looked."""

    def measured(self, seconds: float, decoded_rows: int, prefilled_tokens: int, drafted_tokens: int = 0) -> None:
        """One step took this long. Steps that did both are charged to the prefill, the larger part.

        One that judged drafted tokens teaches nothing but how long those take.
        """
        if prefilled_tokens > 0:
            self._prefill_seconds += seconds - SMOOTHING * self._prefill_seconds
            self._prefill_tokens += prefilled_tokens - SMOOTHING * self._prefill_tokens
        elif drafted_tokens > 0:
            self._drafted_seconds = _smoothed(self._drafted_seconds, seconds)
        elif decoded_rows > 0:
            # A step of one row costs nearly what one of eight does, so the whole step is what is learned.
            self._decode_seconds = _smoothed(self._decode_seconds, seconds)

    def deadline_seconds(self, prefill_tokens: int, drafted_tokens: int = 0, held_bytes: float = 0.0) -> float:
        """Longest acceptable step when up to ``prefill_tokens`` of prompts may be read, or so many drafted ones judged.

        ``held_bytes`` are those of keys and values, all of which a step may have to move.
        """
        if self._decode_seconds is None or (prefill_tokens and not self._prefill_tokens):
            return FIRST_STEP_SECONDS
        predicted = self._decode_seconds
        if prefill_tokens:
            predicted += prefill_tokens * self._prefill_seconds / self._prefill_tokens
        elif drafted_tokens:
            predicted = max(predicted, self._predicted_drafted_seconds(drafted_tokens))
        if self.allocation_bytes_per_second:
            # A step in which rows come or go moves all of it, which with a large model takes many times what computing does.
            predicted += held_bytes / self.allocation_bytes_per_second
        return max(MINIMUM_SECONDS, TIMES_PREDICTED * predicted)

    def _predicted_drafted_seconds(self, drafted_tokens: int) -> float:
        """As measured; before that as if the drafted tokens were read like those of a prompt."""
        assert self._decode_seconds is not None
        if self._drafted_seconds is not None:
            return self._drafted_seconds
        if not self._prefill_tokens:
            return self._decode_seconds
        return self._decode_seconds + drafted_tokens * self._prefill_seconds / self._prefill_tokens


class InFlightWork:
    """The rows that a worker has, and how many tokens of theirs the step under way may have to read."""

    def __init__(self) -> None:
        self.rows: set[int] = set()
        self._unread: dict[int, int] = {}
        self._dropped: list[tuple[int, int]] = []
        """Of rows that were told to leave while unread: tokens, and how many frames until no step computes them."""

    @property
    def unread_rows(self) -> int:
        """Rows without a token so far."""
        return len(self._unread)

    @property
    def unread_tokens(self) -> int:
        """Most prompt tokens that one step may read now."""
        return min(PREFILL_TOKENS_PER_STEP, sum(self._unread.values()) + sum(tokens for tokens, _ in self._dropped))

    def admitted(self, row: int, tokens: int) -> None:
        """The worker was given a row with so many tokens to read."""
        self.rows.add(row)
        self._unread[row] = tokens

    def dropped(self, row: int) -> None:
        """The worker was told to drop a row; the step under way may still be reading it."""
        self.rows.discard(row)
        if tokens := self._unread.pop(row, 0):
            self._dropped.append((tokens, FRAMES_UNTIL_LEFT))

    def emitted(self, row: int, *, is_last: bool) -> None:
        """A step gave a token of a row, so that row is read."""
        self._unread.pop(row, None)
        if is_last:
            self.rows.discard(row)

    def failed(self, row: int) -> None:
        """A step ended a row by an error."""
        self.emitted(row, is_last=True)

    def frame_came(self) -> None:
        """A step was over, or there was none."""
        self._dropped = [(tokens, frames - 1) for tokens, frames in self._dropped if frames > 1]

    def cleared(self) -> None:
        """The worker was told to drop all rows."""
        self.rows.clear()
        self._unread.clear()
        self._dropped.clear()


def _smoothed(old: float | None, seconds: float) -> float:
    return seconds if old is None else old + SMOOTHING * (seconds - old)


def may_prepare_standby(ready_seconds: float, *, is_idle: bool) -> bool:
    """Whether a spare worker may be started now: importing takes seconds of a processor from whoever waits for a first answer."""
    return ready_seconds >= (SETTLED_IDLE_SECONDS if is_idle else SETTLED_BUSY_SECONDS)
