"""Speculative decoding for a row that decodes alone: n-gram proposer, gate and verification.

In a batch the time of a step grows with every column of every row, and others wait; alone, a step of eight tokens
costs less than two steps of one (embedded model, two cores: 86 ms against 49 ms each).

An answer about a text repeats parts of it, code above all. The tokens that followed an earlier occurrence of the row's
suffix are a guess that costs nothing ("prompt lookup decoding", Saxena 2023); the model verifies all of it in one forward
pass. The gate pauses drafting for rows where it loses time.
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
"""Longest draft; with the token before it a step has eight columns."""
SHORTEST_MATCH = 3
"""Shortest suffix that must match; two ids match by chance too often."""
LONGEST_MATCH = 8
"""Longer matches predict no better."""
PLACES = 16
"""Earlier occurrences compared, the latest first, so that a proposal takes constant time however long the row is."""
MOST_IDS = 16_384
"""The newest ids, which are always searched; at most twice as many are held."""
SMOOTHING = 0.2
FIRST_PAUSE_TOKENS = 4
LONGEST_PAUSE_TOKENS = 512


class SpeculativeDecoder:
    """Drafts for one stepper. It follows one row at a time, and forgets it when another takes its place."""

    def __init__(self) -> None:
        self.gate = SpeculationGate()
        self._row: Row | None = None
        self._source = NgramProposer(())
        self._taken = 0
        """Number of the row's emitted ids that the proposer has seen."""

    def draft(self, row: Row) -> list[int]:
        """Proposes tokens that the row may emit next; none without a match, or while drafts do not pay."""
        if not _is_plain(row):
            return []
        self._follow(row)
        if not self.gate.is_open:
            return []
        # A step emits one token more than the draft has, and must not pass the row's end.
        draft = self._source.propose(min(DRAFT_TOKENS, row.max_tokens - len(row.emitted_ids) - 1))
        return [] if draft is None else draft.ids

    def forget(self) -> None:
        """Forgets the row."""
        self._row, self._source = None, NgramProposer(())

    def _follow(self, row: Row) -> None:
        """Feeds the row's new ids to the proposer. Rows are compared by identity, since row numbers are reused."""
        if self._row is not row:
            self._row, self._source = row, NgramProposer(row.prompt_ids)
            self._taken = 0
            self.gate.begin_row()
        for position in range(self._taken, len(row.emitted_ids)):
            self._source.take(row.emitted_ids[position])
        self._taken = len(row.emitted_ids)


def _is_plain(row: Row) -> bool:
    """True if the row always takes the likeliest token."""
    return (
        row.sampling.temperature == 0
        and not row.sampling.changes_logits
        and row.response_schema is None
        and row.call_rule is None
        and row.alternatives is None
    )


def verified(logits: mx.array, draft: Sequence[int], row: Row) -> list[tuple[int, float]]:
    """The row's next tokens with their log-probabilities: the verified part of the draft and the token after it.

    ``logits`` (1 + drafted, vocabulary) are those after the row's last token and after each drafted one, so each token
    returned was chosen after exactly the tokens that precede it in the row.
    """
    chosen = sample(logits, [row] * (1 + len(draft)), {})
    right = 0
    while right < len(draft) and draft[right] == chosen.token_ids[right]:
        right += 1
    return list(zip(chosen.token_ids, chosen.log_probabilities, strict=True))[: right + 1]


@frozen
class DraftTokens:
    """Proposed next ids."""

    ids: list[int]
    matched: int
    """Length of the suffix that matched, `SHORTEST_MATCH` to `LONGEST_MATCH`."""


class NgramProposer:
    """Indexes where each run of `SHORTEST_MATCH` ids of one row last ended. Both `take` and `propose` are O(1)."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids: list[int] = []
        self._latest: dict[tuple[int, ...], int] = {}
        """Maps a run to the position just after its latest occurrence."""
        self._before: list[int] = []
        """For each position, the previous one preceded by the same run; 0 for none."""
        for one in ids[-MOST_IDS:]:
            self.take(one)

    def take(self, token_id: int) -> None:
        """Appends the row's next id."""
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
        """Up to ``most`` ids that followed the longest match of the row's suffix, the latest among equals.

        None if not even `SHORTEST_MATCH` ids match.
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
        """Ids from a position on; past the end they repeat themselves, as a text in a loop does."""
        ids = self._ids[place : place + count]
        while len(ids) < count:
            ids.append(ids[len(ids) + place - len(self._ids)])
        return ids

    def _agreeing(self, place: int) -> int:
        """Length of the match between the ids before a position and the row's suffix; at least `SHORTEST_MATCH`."""
        ids = self._ids
        count = SHORTEST_MATCH
        while count < LONGEST_MATCH and count < place and ids[place - count - 1] == ids[-count - 1]:
            count += 1
        return count


class SpeculationGate:
    """Decides whether drafts pay, by comparing the time of drafted steps with that of as many plain ones. Takes no
    measurements itself.

    When drafting loses time it pauses for some tokens, each time for twice as many: a row that drafts never help tries
    five in its first hundred tokens. Where eight columns cost less than two, each try loses less than a plain step.
    """

    def __init__(self) -> None:
        self._plain_seconds: float | None = None
        self._won_seconds = 0.0
        """Seconds won by a drafted step, as an exponential moving average."""
        self._pause_tokens = 0
        self._next_pause_tokens = FIRST_PAUSE_TOKENS

    def begin_row(self) -> None:
        """Resets for another row: the previous row's results do not predict this one's."""
        self._won_seconds = 0.0
        self._pause_tokens = 0
        self._next_pause_tokens = FIRST_PAUSE_TOKENS

    @property
    def is_open(self) -> bool:
        """True if a draft may be tried. False until a plain step was measured for comparison."""
        return self._plain_seconds is not None and not self._pause_tokens

    def plain(self, seconds: float) -> None:
        """Records the time of an undrafted step of the row alone."""
        old = self._plain_seconds
        self._plain_seconds = seconds if old is None else old + SMOOTHING * (seconds - old)
        self._pause_tokens = max(0, self._pause_tokens - 1)

    def drafted(self, seconds: float, tokens: int) -> None:
        """Records the time of a drafted step and the number of tokens it emitted, counting the one that a plain step emits
        too."""
        assert self._plain_seconds is not None, "it is closed until one was measured"
        won = tokens * self._plain_seconds - seconds
        self._won_seconds += SMOOTHING * (won - self._won_seconds)
        if self._won_seconds >= 0:
            self._next_pause_tokens = FIRST_PAUSE_TOKENS
            return
        self._won_seconds = 0.0
        self._pause_tokens = self._next_pause_tokens
        self._next_pause_tokens = min(2 * self._next_pause_tokens, LONGEST_PAUSE_TOKENS)
