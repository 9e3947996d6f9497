"""Prefill policy: which prompts to prefill together, how many tokens per step, and when new rows pause. Pure functions.

Chunked prefill keeps long prompts from stalling decoding: `PrefillBudget` bounds the prompt tokens of a step.

`read_together` groups prompts. Reading several at once costs little more than reading one, because fetching the weights
dominates. The cost is padding: all prompts of a group read as many tokens as the one with the most unread ones, and the
keys and values of all are as long as those of the longest.

`PrefillFirstPolicy` pauses decoding for a burst. Of 32 requests that arrive at the same moment the first eight could
decode at once, but each of their steps fetches all weights for eight rows, and so does each chunk read alongside. Reading
all prompts first lets all rows decode together: every answer ends sooner, and the waiting rows get their first tokens
sooner. The price is one pause after the first token, so it is bounded, and rows already decoding never pay it.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

__all__ = ["LONGEST_PAUSE_SECONDS", "PrefillBudget", "PrefillFirstPolicy", "Waiting", "read_together"]


MOST_TOKENS = 512
"""Largest chunk while no row decodes: large enough for efficient matrix products, small enough to react to a cancellation."""
MOST_SECONDS = 3.0
"""Chunks that would take longer are made smaller: with a large model a cancelled prompt would otherwise delay the next."""
LEAST_TOKENS = 4
"""Smallest chunk: a prompt makes progress in every step that reads."""
SHARE = 1.0
"""Reading may lengthen a step by this multiple of the decoding time, and by half as much again where the pass is
rounded up; this keeps the gap between tokens below three times the decoding time."""
SMOOTHING = 0.2
YOUNG_SECONDS = 6.0
"""Total step time, warm-up included, during which a process counts as young."""
LARGE_TOKENS = 128
"""Chunks of at least this size show the unthrottled cost of reading."""
COMPUTED_BY = 8
"""A pass, decoding rows included, costs about as much as one of the next multiple of this many tokens."""
MEASURED_EVERY = 32
"""Passes that both read and decode reveal nothing about decoding alone: after this many, one step decodes alone to measure
it."""
ALIKE = 0.25
"""Relative change in the number of rows that still counts as the same measurement."""
FIRST_CHUNKS = 2
SMALL_TOKENS = 64
"""Chunks shrink in multiples of this and never below it: smaller ones would cost much more per token."""
FIRST_TOKENS = SMALL_TOKENS
"""First chunks of a prompt in a young process. Otherwise repeated kills soon after the start would find the same prompt in
the first step each time, and a prompt found there three times is blamed for the crashes."""

ROWS = 8
"""Most prompts read together, short remainders excepted."""
SHORT_TOKENS = 256
"""After cached prefixes the remainder is often short: then as many rows as keep the total within this are read together."""
SIMILAR = 0.7
"""Least unread length in a group, as a share of the greatest."""
PADDED = 1.5
"""Most padded size of a group's keys and values, as a multiple of their own size."""

LONGEST_PAUSE_SECONDS = 2.5
"""Longest time, roughly, between a row's first token and its second for the sake of others."""


class PrefillBudget:
    """Learns the cost of decoding and reading on this machine, and divides a step between them."""

    def __init__(self) -> None:
        self._decode_seconds: float | None = None
        self._decoded_rows = 0
        self._since_measured = 0
        self._token_seconds: float | None = None
        self._large_token_seconds: float | None = None
        self._stepped_seconds = 0.0

    def decoded(self, seconds: float, rows: int) -> None:
        """Records the time of a step that decoded one token for each of ``rows`` rows and did nothing else."""
        self._stepped_seconds += seconds
        is_alike = self._are_alike(rows)
        self._decode_seconds = _smoothed(self._decode_seconds if is_alike else None, seconds)
        self._decoded_rows, self._since_measured = rows, 0

    def read(self, seconds: float, tokens: int) -> None:
        """Records the time of a step that read this many tokens and did nothing else."""
        self._stepped_seconds += seconds
        self._note_rate(seconds / tokens, tokens)

    def read_beside(self, seconds: float, tokens: int) -> None:
        """Records the time of a step that read this many tokens and decoded as well."""
        self._stepped_seconds += seconds
        self._since_measured += 1
        decoding = self._decode_seconds or 0.0
        # Never zero, however noisy the measurement: it sizes the next chunk.
        self._note_rate(max(seconds - decoding, 0.1 * seconds) / tokens, tokens)

    def knows_decoding_of(self, rows: int) -> bool:
        """True if the cost of decoding this many rows was measured recently; otherwise the next step has to decode alone."""
        return self._since_measured < MEASURED_EVERY and self._are_alike(rows)

    def _are_alike(self, rows: int) -> bool:
        return abs(rows - self._decoded_rows) <= ALIKE * self._decoded_rows and self._decode_seconds is not None

    def _note_rate(self, rate: float, tokens: int) -> None:
        self._token_seconds = _smoothed(self._token_seconds, rate)
        if tokens >= LARGE_TOKENS:
            self._large_token_seconds = _smoothed(self._large_token_seconds, rate)

    @property
    def large_chunk_token_seconds(self) -> float | None:
        """Seconds per token in large chunks, or in any chunk while none was large; None before the first."""
        return self._token_seconds if self._large_token_seconds is None else self._large_token_seconds

    def tokens(self, *, decoding_rows: int, reading_rows: int, chunks_read: int = FIRST_CHUNKS) -> int:
        """Most prompt tokens for the next step, for prompts that have had ``chunks_read`` chunks.

        The share of reading grows with the number of waiting prompts relative to decoding rows: twenty users who see
        nothing yet weigh more than one whose text pauses.
        """
        most = FIRST_TOKENS if self._stepped_seconds < YOUNG_SECONDS and chunks_read < FIRST_CHUNKS else MOST_TOKENS
        if self.large_chunk_token_seconds:
            in_time = SMALL_TOKENS * int(MOST_SECONDS / self.large_chunk_token_seconds / SMALL_TOKENS)
            most = min(most, max(SMALL_TOKENS, in_time))
        if decoding_rows == 0:
            return most
        if self._decode_seconds is None or self._token_seconds is None:
            return LEAST_TOKENS * 2
        share = SHARE * max(1.0, reading_rows / decoding_rows)
        wanted = share * self._decode_seconds / self._token_seconds
        together = COMPUTED_BY * int((wanted + decoding_rows) / COMPUTED_BY + 0.5)
        return max(LEAST_TOKENS, min(most, together - decoding_rows))


def _smoothed(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)


@frozen
class Waiting:
    """A prompt waiting to be read."""

    length: int
    """Tokens of the prompt and of the answer so far."""
    known: int
    """Tokens at its beginning with cached keys and values; less than the length."""

    @property
    def unread(self) -> int:
        """Tokens to read, at least one."""
        return self.length - self.known


def read_together(waiting: Sequence[Waiting]) -> list[int]:
    """Indexes of the prompts to read together with the first, in order; the first is always included."""
    first = waiting[0]
    group = [0]
    least = most = first.unread
    longest = total = first.length
    for index, one in enumerate(waiting[1:], start=1):
        new_least, new_most = min(least, one.unread), max(most, one.unread)
        new_longest, new_total, rows = max(longest, one.length), total + one.length, len(group) + 1
        if rows > ROWS and rows * new_most > SHORT_TOKENS:
            continue
        if new_least < SIMILAR * new_most or rows * new_longest > PADDED * new_total:
            continue
        group.append(index)
        least, most, longest, total = new_least, new_most, new_longest, new_total
    return group


class PrefillFirstPolicy:
    """Tracks one pause: call `waits` before each step, and `waited` after a step that was part of the pause."""

    def __init__(self) -> None:
        self._paused_seconds = 0.0

    def waits(self, *, all_just_began: bool, unread_tokens: int, token_seconds: float | None) -> bool:
        """True if the rows of the batch sit out the next step.

        ``all_just_began``: the batch has rows, and none has emitted more than its first token. ``unread_tokens`` counts
        all prompts that wait or are being read; ``token_seconds`` is the time to read one token, None if unknown.
        """
        is_known_short = (
            token_seconds is not None and self._paused_seconds + unread_tokens * token_seconds <= LONGEST_PAUSE_SECONDS
        )
        if all_just_began and unread_tokens and is_known_short:
            return True
        self._paused_seconds = 0.0
        return False

    def waited(self, seconds: float) -> None:
        """Adds a step of this length to the current pause."""
        self._paused_seconds += seconds
