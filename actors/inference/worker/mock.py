"""The mock engine's step function: the same worker, pipe and batch rules, and no model.

Its answers are a plain function of the prompt: ``count to N`` is answered with the numbers, ``which model`` with
its name, what begins with `<think>` as if the model had thought so, anything else with the prompt itself. Where an answer is held to a schema, or to calls of tools, it is as much of this
text as fits, and otherwise as little as the form allows. It serves fast tests and development, and nothing in health pretends otherwise.
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
"""Prompt tokens that a step reads, all rows together; longer prompts take several steps, as on a real model."""
_ENDINGS = (MockText.END, *b'"}],0a')
"""What an answer that is held to a form takes where it may, the first that is allowed; a bracket in a string ends nothing."""
_COUNT = re.compile(r"count to (\d{1,6})")


class MockStepper:
    """Rows of bytes."""

    def __init__(self, *, step_seconds: float = 0.0, name: str = "mock") -> None:
        """``step_seconds`` is what each step takes, for tests that need a busy engine."""
        self._name = name
        self._step_seconds = step_seconds
        self._rows: dict[int, _Answer] = {}
        self._grammars: Grammars | None = None
        self._unread: dict[int, int] = {}
        """Prompt tokens that no step has read yet, by row."""
        self._warm_steps = warm_up(self, b"warm")

    def report(self) -> dict[str, Any]:
        """Says plainly that there is no model."""
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
        """The matcher that a row needs. In any thread. Raises `BadSchema`."""
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
        """Take a row, with what `prepare` made for it."""
        self._rows[row.row] = _Answer(
            row, _answer(bytes(one for one in row.prompt_ids if one != MockText.END), self._name), prepared
        )
        self._unread[row.row] = max(1, len(row.prompt_ids) + len(row.emitted_ids))

    def cancel(self, row: int) -> None:
        """Drop a row."""
        self._rows.pop(row, None)
        self._unread.pop(row, None)

    def clear(self) -> None:
        """Drop all rows."""
        self._rows.clear()
        self._unread.clear()

    def has_work(self) -> bool:
        """Whether there are rows."""
        return bool(self._rows)

    def step(self) -> StepOutput:
        """Read some of the prompts, then one token for each row whose prompt is read."""
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
                # What was accepted may turn out to be too complex on the way; that ends its own row.
                failed.append((number, RowFailure.of(error)))
                del self._rows[number]
                continue
            row.emitted_ids.append(token)
            finish: Finish | None = "stop" if token in row.stop_ids else None
            if finish is None and len(row.emitted_ids) >= row.max_tokens:
                finish = "length"
            if finish is not None:
                del self._rows[number]
            # Every byte is certain, so its log-probability is that of certainty.
            alternatives = None if row.alternatives is None else [(token, 0.0)][: row.alternatives]
            emitted.append(SampledToken(number, token, 0.0, finish, alternatives))
        return StepOutput(
            emitted=emitted, scored=scored, failed=failed, rows=rows, reading=reading, prefilled_tokens=prefilled
        )

    def memory(self) -> dict[str, float]:
        """The process alone."""
        return {"resident": resident_bytes()}


def _certain(row: Row, first: int, count: int) -> ScoredPrompt:
    """Of so many tokens of the prompt, the ones behind the first: as certain as the answer's are."""
    begin, end = max(1, first), min(first + count, len(row.prompt_ids))
    ids = row.prompt_ids[begin:end]
    return ScoredPrompt(row.row, begin, [0.0] * len(ids), [[(one, 0.0)][: row.prompt_alternatives] for one in ids])


class _Answer:
    """One row's answer, token by token."""

    def __init__(self, row: Row, text: bytes, matcher: AnyMatcher | None) -> None:
        """Of a row that goes on after a worker's death the tokens so far are taken again."""
        self.row = row
        self._text = text
        self._matcher = matcher
        self._told = 0
        """Bytes of the text that are in the answer."""
        for token in row.emitted_ids:
            self._take(token)

    def next_token(self) -> int:
        """The next byte of the text, or the end; where that is not allowed, what comes soonest to an end. Raises `BadSchema`."""
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
        # As a model does that thinks first.
        return prompt
    return b"You said: " + prompt
