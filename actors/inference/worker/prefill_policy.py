"""How many prompt tokens a step may read, so that long prompts do not freeze everyone's tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

__all__ = ["LONGEST_PAUSE_SECONDS", "PrefillBudget", "PrefillFirstPolicy", "Waiting", "read_together"]


MOST_TOKENS = 512
"""Chunk when nobody decodes: large enough for the matrix products, small enough to notice a cancellation."""
MOST_SECONDS = 3.0
"""A chunk that would take longer is made smaller: with a large model a cancelled prompt would hold up the next for longer."""
LEAST_TOKENS = 4
"""A prompt makes progress in every step that reads, whatever the others do."""
SHARE = 1.0
"""Reading may make a step longer by this many times what the decoding alone takes, and by half as much again where the pass is
rounded up; with it the gap stays below three times."""
SMOOTHING = 0.2
YOUNG_SECONDS = 6.0
"""Of steps, those of the warm-up among them."""
LARGE_TOKENS = 128
"""Chunks of at least this many show what reading costs where it is not held back."""
COMPUTED_BY = 8
"""Tokens of a pass, those of decoding rows among them, cost about as much as the next multiple of this."""
MEASURED_EVERY = 32
"""Steps that read and decode in one pass say nothing of decoding alone: after so many, one decodes alone and is measured."""
ALIKE = 0.25
"""What so much fewer or more rows take is not measured anew."""
FIRST_CHUNKS = 2
SMALL_TOKENS = 64
"""Chunks are made smaller by multiples of this, and no smaller: they would cost much more for each token."""
FIRST_TOKENS = SMALL_TOKENS
"""In a young process a prompt begins with this little. Whoever kills workers soon after their start would otherwise
find the same prompt in its first step each time, and a prompt found there thrice is taken for the killer."""

ROWS = 8
"""Prompts read side by side at most, save for short ends."""
SHORT_TOKENS = 256
"""What is left of kept prompts is often short: then as many rows as keep their tokens within this."""
SIMILAR = 0.7
"""The one that has the least to read has at least this share of the one that has the most."""
PADDED = 1.5
"""Keys and values of a group may take this many times the room of its members' own."""

LONGEST_PAUSE_SECONDS = 2.5
"""Between the first token of a row and its second, at most about this long for the sake of others."""


class PrefillBudget:
    """Learns what decoding and reading cost here, and divides a step between them."""

    def __init__(self) -> None:
        self._decode_seconds: float | None = None
        self._decoded_rows = 0
        self._since_measured = 0
        self._token_seconds: float | None = None
        self._large_token_seconds: float | None = None
        self._stepped_seconds = 0.0

    def decoded(self, seconds: float, rows: int) -> None:
        """A token for each of so many rows, and nothing else, took this long."""
        self._stepped_seconds += seconds
        is_alike = self._are_alike(rows)
        self._decode_seconds = _smoothed(self._decode_seconds if is_alike else None, seconds)
        self._decoded_rows, self._since_measured = rows, 0

    def read(self, seconds: float, tokens: int) -> None:
        """Reading this many tokens, and nothing else, took this long."""
        self._stepped_seconds += seconds
        self._note_rate(seconds / tokens, tokens)

    def read_beside(self, seconds: float, tokens: int) -> None:
        """Reading this many tokens and decoding took this long together."""
        self._stepped_seconds += seconds
        self._since_measured += 1
        decoding = self._decode_seconds or 0.0
        # Never nothing, whatever noise there is: the next chunk is sized by it.
        self._note_rate(max(seconds - decoding, 0.1 * seconds) / tokens, tokens)

    def knows_decoding_of(self, rows: int) -> bool:
        """Whether it was measured of late what so many rows take; else the next step has to decode alone."""
        return self._since_measured < MEASURED_EVERY and self._are_alike(rows)

    def _are_alike(self, rows: int) -> bool:
        return abs(rows - self._decoded_rows) <= ALIKE * self._decoded_rows and self._decode_seconds is not None

    def _note_rate(self, rate: float, tokens: int) -> None:
        self._token_seconds = _smoothed(self._token_seconds, rate)
        if tokens >= LARGE_TOKENS:
            self._large_token_seconds = _smoothed(self._large_token_seconds, rate)

    @property
    def large_chunk_token_seconds(self) -> float | None:
        """What a token takes in large chunks, or in any as long as none was large; None before the first."""
        return self._token_seconds if self._large_token_seconds is None else self._large_token_seconds

    def tokens(self, *, decoding_rows: int, reading_rows: int, chunks_read: int = FIRST_CHUNKS) -> int:
        """Most prompt tokens for the next step, for prompts of which so many chunks were read.

        The more prompts wait beside the rows that decode, the larger is their share: twenty people who see
        nothing yet weigh more than one who sees his text pause.
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
    """A prompt that waits to be read."""

    length: int
    """Tokens of it, with those already emitted after it."""
    known: int
    """Tokens at its beginning whose keys and values are kept; less than the length."""

    @property
    def unread(self) -> int:
        """Tokens still to be read, at least one."""
        return self.length - self.known


def read_together(waiting: Sequence[Waiting]) -> list[int]:
    """Indexes of the prompts to read with the first, in their order; the first is always among them."""
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
    """Follows one pause: `waits` before each step, `waited` after a step that was part of it."""

    def __init__(self) -> None:
        self._paused_seconds = 0.0

    def waits(self, *, all_just_began: bool, unread_tokens: int, token_seconds: float | None) -> bool:
        """Whether the rows of the batch sit out the next step.

        ``all_just_began``: there are such rows, and none has emitted more than its first token. ``unread_tokens`` are those of
        all prompts that wait or are being read; ``token_seconds`` is what one of them takes, None where nothing is known.
        """
        is_known_short = (
            token_seconds is not None and self._paused_seconds + unread_tokens * token_seconds <= LONGEST_PAUSE_SECONDS
        )
        if all_just_began and unread_tokens and is_known_short:
            return True
        self._paused_seconds = 0.0
        return False

    def waited(self, seconds: float) -> None:
        """A step took this long while they sat out."""
        self._paused_seconds += seconds
