"""What the row that decodes alone may go on with, and what came of it.

In company a step's time goes up with every column of every row, and others wait; alone, eight columns cost less than
two steps of one (measured, embedded model, two cores: 86 ms against 49).
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from actors.inference.worker.ngram_proposer import NgramProposer
from actors.inference.worker.sampler import sample
from actors.inference.worker.speculation_gate import SpeculationGate
from actors.inference.worker.stepper import Row

__all__ = ["DRAFT_TOKENS", "SpeculativeDecoder", "verified"]

DRAFT_TOKENS = 7
"""Most tokens of a draft; with the token before them a step has eight columns."""


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
