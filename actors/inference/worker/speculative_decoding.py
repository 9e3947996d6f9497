"""What the row that decodes alone may go on with, and what came of it.

In company a step's time goes up with every column of every row, and others wait; alone, eight columns cost less than
two steps of one (measured, embedded model, two cores: 86 ms against 49).
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
from attrs import frozen

from actors.inference.worker.sampler import sample
from actors.inference.worker.stepper import Row

__all__ = [
    "DRAFT_TOKENS",
    "LONGEST_MATCH",
    "SHORTEST_MATCH",
    "DraftTokens",
    "NgramProposer",
    "SpeculationGate",
    "SpeculativeDecoder",
    "verified",
]


DRAFT_TOKENS = 7
"""Most tokens of a draft; with the token before them a step has eight columns."""
SHORTEST_MATCH = 3
"""Ids that must agree; two agree by chance too often."""
LONGEST_MATCH = 8
"""More say no more."""
PLACES = 16
"""Earlier places that are compared, the latest first; so a proposal takes the same time however long the row is."""
MOST_IDS = 16_384
"""Ids that are surely looked through, the newest; twice as many are held at most."""
SMOOTHING = 0.2
FIRST_PAUSE_TOKENS = 4
LONGEST_PAUSE_TOKENS = 512


class SpeculativeDecoder:
    """Of one stepper. It looks at one row at a time, and forgets it when that is no longer the one."""

    def __init__(self) -> None:
        self.gate = SpeculationGate()
        self._row: Row | None = None
        self._source = NgramProposer(())
        self._taken = 0
        """Emitted ids of the row that the source has."""

    def draft(self, row: Row) -> list[int]:
        """Tokens that the row may emit next; none where there is no guess, or guesses have not been worth it."""
        if not _is_plain(row):
            return []
        self._follow(row)
        if not self.gate.is_open:
            return []
        # The step emits one token more than the draft has, and none past the row's end.
        draft = self._source.propose(min(DRAFT_TOKENS, row.max_tokens - len(row.emitted_ids) - 1))
        return [] if draft is None else draft.ids

    def forget(self) -> None:
        """No row decodes any more."""
        self._row, self._source = None, NgramProposer(())

    def _follow(self, row: Row) -> None:
        """Take what is new of this row; a row's number may come again, so it is known by itself."""
        if self._row is not row:
            self._row, self._source = row, NgramProposer(row.prompt_ids)
            self._taken = 0
            self.gate.begin_row()
        for position in range(self._taken, len(row.emitted_ids)):
            self._source.take(row.emitted_ids[position])
        self._taken = len(row.emitted_ids)


def _is_plain(row: Row) -> bool:
    """Whether its next token is the likeliest one, whatever came before."""
    return (
        row.sampling.temperature == 0
        and not row.sampling.changes_logits
        and row.response_schema is None
        and row.call_rule is None
        and row.alternatives is None
    )


def verified(logits: mx.array, draft: Sequence[int], row: Row) -> list[tuple[int, float]]:
    """The row's next tokens with their log-probabilities: what the draft foretold, and the one behind that.

    ``logits`` (1 + drafted, vocabulary) are those behind the row's last token and behind each drafted one, so each token
    that is given was chosen after the very tokens that the row has before it.
    """
    chosen = sample(logits, [row] * (1 + len(draft)), {})
    right = 0
    while right < len(draft) and draft[right] == chosen.token_ids[right]:
        right += 1
    return list(zip(chosen.token_ids, chosen.log_probabilities, strict=True))[: right + 1]


@frozen
class DraftTokens:
    """Ids that may come next."""

    ids: list[int]
    matched: int
    """Ids before them that agree with the row's end, `SHORTEST_MATCH` to `LONGEST_MATCH`."""


class NgramProposer:
    """The ids of one row, and where each run of `SHORTEST_MATCH` ids ended. Taking an id and proposing take O(1)."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids: list[int] = []
        self._latest: dict[tuple[int, ...], int] = {}
        """Runs to the place just behind their latest occurrence."""
        self._before: list[int] = []
        """For each place the one before it that had the same run behind it; 0 where there is none."""
        for one in ids[-MOST_IDS:]:
            self.take(one)

    def take(self, token_id: int) -> None:
        """The row's next id."""
        if len(self._ids) >= 2 * MOST_IDS:
            newest = self._ids[-MOST_IDS:]
            self._ids, self._latest, self._before = [], {}, []
            for one in newest:
                self.take(one)
        self._ids.append(token_id)
        place = len(self._ids)
        before = 0
        if place >= SHORTEST_MATCH:
            run = tuple(self._ids[-SHORTEST_MATCH:])
            before = self._latest.get(run, 0)
            self._latest[run] = place
        self._before.append(before)

    def propose(self, most: int) -> DraftTokens | None:
        """Up to ``most`` ids that followed where most ids agree with the row's end, the latest such place.

        None where not even `SHORTEST_MATCH` do.
        """
        if not self._ids or most < 1:
            return None
        best, matched = 0, 0
        place = self._before[-1]
        for _ in range(PLACES):
            if not place or matched == LONGEST_MATCH:
                break
            agreeing = self._agreeing(place)
            if agreeing > matched:
                best, matched = place, agreeing
            place = self._before[place - 1]
        return DraftTokens(self._following(best, most), matched) if matched else None

    def _following(self, place: int, count: int) -> list[int]:
        """Ids from a place on; where they reach the end they go on with themselves, as a text that repeats itself does."""
        ids = self._ids[place : place + count]
        while len(ids) < count:
            ids.append(ids[len(ids) + place - len(self._ids)])
        return ids

    def _agreeing(self, place: int) -> int:
        """How many ids before a place agree with those at the end; the last `SHORTEST_MATCH` do."""
        ids = self._ids
        count = SHORTEST_MATCH
        while count < LONGEST_MATCH and count < place and ids[place - count - 1] == ids[-count - 1]:
            count += 1
        return count


class SpeculationGate:
    """Holds what drafted steps brought against what as many plain ones would have taken.

    Where they lost time, none is tried for some tokens, each time for twice as many: a row that drafts never help tries
    five in its first hundred tokens. Where eight columns cost less than two, each loses less than a plain step.
    """

    def __init__(self) -> None:
        self._plain_seconds: float | None = None
        self._won_seconds = 0.0
        """By a drafted step, the latest weighing most."""
        self._pause_tokens = 0
        self._next_pause_tokens = FIRST_PAUSE_TOKENS

    def begin_row(self) -> None:
        """Another row: what drafts brought the one before says nothing of it."""
        self._won_seconds = 0.0
        self._pause_tokens = 0
        self._next_pause_tokens = FIRST_PAUSE_TOKENS

    @property
    def is_open(self) -> bool:
        """Whether a draft may be tried. Not before a plain step was measured: there is nothing to hold it against."""
        return self._plain_seconds is not None and not self._pause_tokens

    def plain(self, seconds: float) -> None:
        """A step of the row alone, without a draft, took this long."""
        old = self._plain_seconds
        self._plain_seconds = seconds if old is None else old + SMOOTHING * (seconds - old)
        self._pause_tokens = max(0, self._pause_tokens - 1)

    def drafted(self, seconds: float, tokens: int) -> None:
        """A step with a draft took this long and brought so many tokens, one of which a plain step brings too."""
        assert self._plain_seconds is not None, "it is closed until one was measured"
        won = tokens * self._plain_seconds - seconds
        self._won_seconds += SMOOTHING * (won - self._won_seconds)
        if self._won_seconds >= 0:
            self._next_pause_tokens = FIRST_PAUSE_TOKENS
            return
        self._won_seconds = 0.0
        self._pause_tokens = self._next_pause_tokens
        self._next_pause_tokens = min(2 * self._next_pause_tokens, LONGEST_PAUSE_TOKENS)
