"""Drafters whose guesses do not depend on how fast this machine happens to be."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from actors.inference.worker.speculative_decoding import DRAFT_TOKENS, SpeculationGate, SpeculativeDecoder
from actors.inference.worker.stepper import Row
from tests.inference.tiny_model import VOCABULARY


class OpenGate(SpeculationGate):
    """Every guess is tried, and what came of each is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.brought: list[int] = []
        """Tokens of each step that had a draft."""

    @property
    def is_open(self) -> bool:
        return True

    def drafted(self, seconds: float, tokens: int) -> None:
        self.brought.append(tokens)


class EagerDrafter(SpeculativeDecoder):
    """The worker's own guesses, all of them tried."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: OpenGate = OpenGate()


class Foreteller(EagerDrafter):
    """Knows the answers by row number: its drafts are right for as many tokens as it likes, then wrong."""

    def __init__(self, answers: Mapping[int, Sequence[int]], seed: int | None = None) -> None:
        """Without a seed all of it is right."""
        super().__init__()
        self._answers = answers
        self._random = None if seed is None else random.Random(seed)

    def draft(self, row: Row) -> list[int]:
        at = len(row.emitted_ids)
        draft = list(self._answers[row.row][at : at + min(DRAFT_TOKENS, row.max_tokens - at - 1)])
        if self._random is None or not draft:
            return draft
        right = self._random.randrange(len(draft) + 1)
        return draft[:right] + [(one + 1) % VOCABULARY for one in draft[right:]]
