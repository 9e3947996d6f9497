"""Parses an answer's text into reasoning, content and calls as it arrives, in one model's formats. No I/O.

Every API of this server uses it, and converts the parts to its own form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from actors.inference.messages import (
    ARGUMENT_SYNTAXES,
    EngineHealth,
    GenerateWithTools,
    GenerationTokens,
    ReasoningForm,
    ReasoningMarks,
    ToolCallFormat,
    is_held,
)
from actors.rest.answer_reading.block_calls import BlockReader
from actors.rest.answer_reading.by_argument import Schemas
from actors.rest.answer_reading.harmony import HarmonyReader
from actors.rest.answer_reading.headed_calls import HeadedReader
from actors.rest.answer_reading.reasoning import Reasoning, ReasoningReader
from actors.rest.openai.tool_call_reader import CallArguments, Part, ToolCall, ToolCallReader, whole_calls
from protocol.commands import Generate

__all__ = ["AnswerPart", "AnswerReader", "Reasoning", "answer_reader", "joined", "whole_answer"]

AnswerPart = Part | Reasoning
"""Text of the answer (`str`), `Reasoning`, `CallStart` or `CallArguments`, in the order in which the model wrote
them.
"""


class AnswerReader:
    """Takes pieces of an answer and returns its parts, independently of how the text was split."""

    __slots__ = ("_calls", "_harmony", "_reasoning", "_said", "_undecided", "reasoning_tokens")

    def __init__(
        self,
        form: ReasoningForm,
        tool_call_format: ToolCallFormat,
        schemas: Schemas,
        *,
        begins_open: bool = False,
    ) -> None:
        """``schemas`` are the parameters of the functions that may be called, by name. ``begins_open``: the prompt
        opened reasoning.
        """
        self.reasoning_tokens = 0
        """Number of reasoning tokens, including their marks."""
        self._undecided: list[GenerationTokens] = []
        """Tokens that may be part of a mark."""
        self._said: list[GenerationTokens] = []
        is_harmony = form.marks is ReasoningMarks.HARMONY
        self._harmony = HarmonyReader(schemas) if is_harmony else None
        self._reasoning = ReasoningReader(form.marks, begins_open=begins_open)
        self._calls = _call_reader(tool_call_format, schemas)

    def take(self, tokens: Iterable[GenerationTokens]) -> list[AnswerPart]:
        """Return the parts that can no longer change after these tokens."""
        parts: list[AnswerPart] = []
        part_reader = self._harmony or self._reasoning
        for one in tokens:
            made = self.feed(one.text)
            parts += made
            self._undecided.append(one)
            if any(isinstance(part, str) for part in made) or part_reader.is_over:
                self._said += self._undecided
            elif part_reader.is_open and not made:
                continue
            else:
                self.reasoning_tokens += sum(len(other.token_ids) for other in self._undecided)
            self._undecided.clear()
        return joined(parts)

    @property
    def has_cut_call(self) -> bool:
        """True if the answer ended in the middle of a call, which cannot be carried out. Known at the end."""
        calls = self._harmony or self._calls
        return isinstance(calls, ToolCallReader | HeadedReader | HarmonyReader) and calls.has_cut_call

    def take_said(self) -> list[GenerationTokens]:
        """Return the tokens since the last call that are not reasoning, for their log-probabilities."""
        said, self._said = self._said, []
        return said

    def feed(self, piece: str) -> list[AnswerPart]:
        """Like `take`, for a text."""
        if self._harmony is not None:
            return self._harmony.feed(piece)
        thought, rest = self._reasoning.feed(piece)
        return [*_thought(thought), *self._rest(rest)]

    def finish(self, *, is_cut: bool = False, is_forced: bool = False) -> list[AnswerPart]:
        """Return what was held back, after the last text. ``is_cut`` and ``is_forced`` as in `ToolCallReader.finish`."""
        self._said += self._undecided
        self._undecided.clear()
        if self._harmony is not None:
            return self._harmony.finish(is_cut=is_cut, is_forced=is_forced)
        thought, rest = self._reasoning.finish()
        said = self._rest(rest)
        if self._calls is not None:
            said = [*said, *self._calls.finish(is_cut=is_cut, is_forced=is_forced)]
        return joined([*_thought(thought), *said])

    def _rest(self, text: str) -> Sequence[Part]:
        if self._calls is not None:
            said: list[Part] = self._calls.feed(text)
            return said
        return [text] if text else []


def answer_reader(health: EngineHealth, generate: Generate, schemas: Schemas) -> Callable[[], AnswerReader]:
    """Return a factory of readers for the answers to this request, which may call the functions in ``schemas``."""
    thinks = generate.thinks if isinstance(generate, GenerateWithTools) else None
    form = health.reasoning
    return partial(
        AnswerReader,
        form,
        health.tool_call_format,
        schemas,
        begins_open=form.begins_open(thinks=thinks, is_held=is_held(generate)),
    )


def whole_answer(parts: Iterable[AnswerPart]) -> tuple[str, list[str | ToolCall]]:
    """Return all reasoning, and the rest with each call in one piece."""
    listed = list(parts)
    thought = "".join(one.text for one in listed if isinstance(one, Reasoning))
    return thought, whole_calls(one for one in listed if not isinstance(one, Reasoning))


def joined(parts: Sequence[AnswerPart]) -> list[AnswerPart]:
    """Join adjacent pieces of the same kind."""
    made: list[AnswerPart] = []
    for part in parts:
        last = made[-1] if made else None
        if isinstance(part, str) and isinstance(last, str):
            made[-1] = last + part
        elif isinstance(part, Reasoning) and isinstance(last, Reasoning):
            made[-1] = Reasoning(last.text + part.text)
        elif isinstance(part, CallArguments) and isinstance(last, CallArguments):
            made[-1] = CallArguments(last.text + part.text)
        else:
            made.append(part)
    return made


def _thought(text: str) -> list[AnswerPart]:
    return [Reasoning(text)] if text else []


def _call_reader(form: ToolCallFormat, schemas: Schemas) -> Any:
    """Make a reader of calls; None if no functions are offered."""
    if not schemas:
        return None
    if form in ARGUMENT_SYNTAXES:
        return BlockReader(form, schemas)
    if form in (ToolCallFormat.MISTRAL, ToolCallFormat.KIMI_K2):
        return HeadedReader(form, schemas)
    return ToolCallReader(form, schemas)
