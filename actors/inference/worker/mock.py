"""The mock engine's stepper: the same worker, pipe and batch rules without a model.

Its answers are a plain function of the prompt: ``count to N`` yields the numbers, ``which model`` its name, a prompt that
begins with `<think>` is repeated as if the model had thought so, and anything else is echoed. An answer constrained by a
schema or by tool calls contains as much of this text as fits, and otherwise the least that the grammar allows. It serves
fast tests and development, and health reports it as a mock.
"""

from __future__ import annotations

import re
import time
from typing import Any

from actors.inference.structured_output import AnyMatcher, BadSchema, Grammars
from actors.inference.text.mock_grammars import mock_grammars
from actors.inference.text.text_model import MockText
from actors.inference.worker.stepper import Row, warm_up
from actors.inference.worker_frames import Finish, RowFailure, SampledToken, ScoredPrompt, StepOutput
from actors.process_memory import resident_bytes

__all__ = ["MockStepper"]

READ_TOKENS = 512
"""Prompt tokens read per step over all rows; longer prompts take several steps, as on a real model."""
_ENDINGS = (MockText.END, *b'"}],0a')
"""Tokens that a constrained answer prefers, first allowed first, to reach its end; a bracket inside a string ends nothing."""
_COUNT = re.compile(r"count to (\d{1,6})")


class MockStepper:
    """A batch of byte sequences."""

    def __init__(self, *, step_seconds: float = 0.0, name: str = "mock") -> None:
        """``step_seconds`` is the duration of each step, for tests that need a busy engine."""
        self._name = name
        self._step_seconds = step_seconds
        self._rows: dict[int, _Answer] = {}
        self._grammars: Grammars | None = None
        self._unread: dict[int, int] = {}
        """Unread prompt tokens, by row."""
        self._warm_steps = warm_up(self, b"warm")

    def report(self) -> dict[str, Any]:
        """States plainly that there is no model."""
        return {
            "model": self._name,
            "backend": "cpu",
            "blas": "none",
            "dtype": "none",
            "has_pretrained_weights": False,
            "canary_nll": None,
            "parameter_bytes": 0,
            "warm_steps": self._warm_steps,
            "warnings": ["the mock engine echoes prompts; no model is loaded"],
        }

    def prepare(self, row: Row) -> AnyMatcher | None:
        """Builds the matcher that a row needs. Callable from any thread. Raises `BadSchema`."""
        followed = row.response_schema if row.call_rule is None else row.call_rule
        if followed is None and row.free_calls is None:
            return None
        if self._grammars is None:
            self._grammars = mock_grammars()
        if followed is None:
            assert row.free_calls is not None
            return self._grammars.free_calls(row.free_calls, ())
        return self._grammars.matcher(followed, ())

    def admit(self, row: Row, prepared: Any = None) -> None:
        """Adds a row, with the result of `prepare`."""
        self._rows[row.row] = _Answer(
            row, _answer(bytes(one for one in row.prompt_ids if one != MockText.END), self._name), prepared
        )
        self._unread[row.row] = max(1, len(row.prompt_ids) + len(row.emitted_ids))

    def cancel(self, row: int) -> None:
        """Drops a row."""
        self._rows.pop(row, None)
        self._unread.pop(row, None)

    def clear(self) -> None:
        """Drops all rows."""
        self._rows.clear()
        self._unread.clear()

    def has_work(self) -> bool:
        """True if there are rows."""
        return bool(self._rows)

    def step(self) -> StepOutput:
        """Reads some of the prompts, then emits one token for each row whose prompt is complete."""
        if self._step_seconds:
            time.sleep(self._step_seconds)
        emitted: list[SampledToken] = []
        failed: list[tuple[int, RowFailure]] = []
        rows = [number for number in self._rows if number not in self._unread]
        reading: list[tuple[int, int]] = []
        scored: list[ScoredPrompt] = []
        prefilled = 0
        for number in list(self._unread):
            taken = min(self._unread[number], READ_TOKENS - prefilled)
            if taken == 0:
                break
            rows.append(number)
            prefilled += taken
            self._unread[number] -= taken
            row = self._rows[number].row
            reading.append((number, len(row.prompt_ids) + len(row.emitted_ids) - self._unread[number]))
            if row.prompt_alternatives is not None:
                scored.append(_certain(row, len(row.prompt_ids) - self._unread[number] - taken, taken))
            if self._unread[number] == 0:
                del self._unread[number]
        for number in rows:
            if number in self._unread:
                continue
            answer = self._rows[number]
            try:
                row, token = answer.row, answer.next_token()
            except BadSchema as error:
                # An accepted schema may turn out to be too complex later; that ends its own row only.
                failed.append((number, RowFailure.of(error)))
                del self._rows[number]
                continue
            row.emitted_ids.append(token)
            finish: Finish | None = "stop" if token in row.stop_ids else None
            if finish is None and len(row.emitted_ids) >= row.max_tokens:
                finish = "length"
            if finish is not None:
                del self._rows[number]
            # Every byte is certain, so its log-probability is 0.
            alternatives = None if row.alternatives is None else [(token, 0.0)][: row.alternatives]
            emitted.append(SampledToken(number, token, 0.0, finish, alternatives))
        return StepOutput(
            emitted=emitted, scored=scored, failed=failed, rows=rows, reading=reading, prefilled_tokens=prefilled
        )

    def memory(self) -> dict[str, float]:
        """Resident memory of the process."""
        return {"resident": resident_bytes()}


def _certain(row: Row, first: int, count: int) -> ScoredPrompt:
    """Scores ``count`` prompt tokens from ``first`` on: as certain as the answer's tokens."""
    begin, end = max(1, first), min(first + count, len(row.prompt_ids))
    ids = row.prompt_ids[begin:end]
    return ScoredPrompt(row.row, begin, [0.0] * len(ids), [[(one, 0.0)][: row.prompt_alternatives] for one in ids])


class _Answer:
    """One row's answer, token by token."""

    def __init__(self, row: Row, text: bytes, matcher: AnyMatcher | None) -> None:
        """Replays the emitted tokens of a row resumed after a worker's death."""
        self.row = row
        self._text = text
        self._matcher = matcher
        self._told = 0
        """Bytes of the text already in the answer."""
        for token in row.emitted_ids:
            self._take(token)

    def next_token(self) -> int:
        """The next byte of the text, or the end; if that is not allowed, the token that ends the answer soonest. Raises
        `BadSchema`."""
        token = self._text[self._told] if self._told < len(self._text) else MockText.END
        words = None if self._matcher is None else self._matcher.mask()
        if words is not None:
            allowed = [one for one in range(MockText.END + 1) if words[one >> 5] >> (one & 31) & 1]
            if token not in allowed:
                token = next((one for one in _ENDINGS if one in allowed), allowed[-1])
        self._take(token)
        return token

    def _take(self, token: int) -> None:
        if self._told < len(self._text) and token == self._text[self._told]:
            self._told += 1
        if self._matcher is not None and token != MockText.END:
            self._matcher.take(token)


def _answer(prompt: bytes, name: str) -> bytes:
    counted = _COUNT.search(prompt.decode("utf-8", "replace"))
    if counted is not None:
        return " ".join(str(number) for number in range(1, int(counted[1]) + 1)).encode()
    if prompt.startswith(b"which model"):
        return name.encode()
    if prompt.startswith(b"<think>"):
        # Echo it, as a model that thinks first would answer.
        return prompt
    return b"You said: " + prompt
