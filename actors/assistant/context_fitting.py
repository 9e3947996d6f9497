"""Fits a command into the model's context by deciding, step by step, what to leave out next. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from attrs import field, frozen

from actors.assistant.code_window import CodeWindow, window_around
from actors.assistant.completion import CompletionRule, Dropped
from actors.assistant.conversation_rules import AskedTurn, StoredTurn, half_window, history_of
from actors.assistant.prompts import SYSTEM, language_of, user_text, with_history
from actors.errors import CommandError
from protocol.commands import Assist, Generate, Intent, Role
from protocol.errors import ErrorCode
from protocol.validation import text_problem

__all__ = ["PromptPlan", "answer_room", "plan_of", "shrink"]

ANSWER_TOKENS = 1024
"""Tokens of the context reserved for the answer, or a quarter of the context if that is less."""
MOST_TURNS = 1000
"""Of a request; a conversation that keeps all of its turns may have more, and its older ones are dropped."""
NEAR_CHARACTERS = 2000
"""Code within this distance of the cursor is kept until the older turns are gone."""


@frozen(kw_only=True)
class PromptPlan:
    """A prompt under construction."""

    source: Assist | Generate = field(repr=False)
    turns: Sequence[StoredTurn] = field(default=(), repr=False)
    """The conversation's turns that the model is shown."""
    code: CodeWindow = field(repr=False)
    turns_before: int = 0
    """Number of older turns that are not shown."""
    asked: AskedTurn | None = None
    """The user's turn that is answered again."""

    @property
    def intent(self) -> Intent | None:
        """The intent of `assist`."""
        return self.source.intent if isinstance(self.source, Assist) else None

    @property
    def content(self) -> str:
        """The user's message as it is stored."""
        if isinstance(self.source, Assist):
            return self.source.content
        if self.asked is not None:
            return self.asked.content
        assert self.source.messages is not None
        return self.source.messages[-1].content

    @property
    def message(self) -> str:
        """The user's message as the model receives it."""
        if isinstance(self.source, Assist):
            return user_text(self.source, self.code)
        return self.content if self.asked is None or self.asked.prompt is None else self.asked.prompt

    def generate(self, max_tokens: int | None = None) -> Generate:
        """Build the engine's request."""
        history = history_of(self.turns)
        if isinstance(self.source, Assist):
            return Generate(
                messages=with_history(SYSTEM, history, self.message),
                max_tokens=max_tokens,
                # Greedy decoding, so that the answer is always the same: randomness does not help code.
                temperature=0.0,
                seed=0,
                on_disconnect=self.source.on_disconnect,
            )
        first = self.source.messages[0] if self.source.messages else None
        system = first.content if first is not None and first.role is Role.SYSTEM else None
        if system is None and self.asked is not None and self.asked.intent is not None:
            system = SYSTEM
        messages = with_history(system, history, self.message)
        return attrs.evolve(self.source, messages=messages, conversation=None, parent=None, answers=None)

    def rule(self) -> CompletionRule:
        """Return the rule for the last fields of `done`."""
        dropped = Dropped(
            lines_before=self.code.lines_before, lines_after=self.code.lines_after, turns=self.turns_before
        )
        if isinstance(self.source, Assist):
            return CompletionRule(
                intent=self.source.intent,
                content=self.source.content,
                language=language_of(self.source),
                dropped=dropped,
            )
        return CompletionRule(dropped=dropped)


def plan_of(
    source: Assist | Generate,
    turns: Sequence[StoredTurn] = (),
    turns_before: int = 0,
    asked: AskedTurn | None = None,
) -> PromptPlan:
    """Build a plan with everything included. Raises `CommandError` for a `generate` that is not a valid turn.

    Also raises it for an `assist` whose content differs from ``asked``, the turn that it answers again.
    """
    if isinstance(source, Assist) and asked is not None and source.content != asked.content:
        raise CommandError(
            ErrorCode.INVALID_FIELD,
            "content must equal that of the turn that is answered again",
            field="data.content",
        )
    if isinstance(source, Generate):
        _check_turn(source)
        code = CodeWindow(text="", lines_before=0, lines_after=0, cursor=None)
    else:
        code = CodeWindow(text=source.content, lines_before=0, lines_after=0, cursor=source.cursor)
    while len(turns) > MOST_TURNS:
        kept = half_window(turns)
        turns, turns_before = kept, turns_before + len(turns) - len(kept)
    return PromptPlan(source=source, turns=turns, code=code, turns_before=turns_before, asked=asked)


def _check_turn(generate: Generate) -> None:
    if generate.answers is not None:
        if generate.messages and [one.role for one in generate.messages] != [Role.SYSTEM]:
            raise CommandError(
                ErrorCode.INVALID_FIELD,
                "only a system message may be given when a turn is answered again",
                field="data.messages",
            )
        return
    if generate.messages is None:
        raise CommandError(ErrorCode.INVALID_FIELD, "a conversation takes messages, not prompt", field="data.prompt")
    roles = [one.role for one in generate.messages]
    if roles not in ([Role.USER], [Role.SYSTEM, Role.USER]):
        raise CommandError(
            ErrorCode.INVALID_FIELD,
            "a turn of a conversation is one user message, optionally preceded by a system message; "
            "the server keeps the history",
            field="data.messages",
        )
    for index, one in enumerate(generate.messages):
        # A system message may be empty, a question may not.
        problem = text_problem(one.content) if one.role is Role.USER or one.content.strip() else None
        if problem is not None:
            at = f"data.messages[{index}].content"
            raise CommandError(ErrorCode.INVALID_FIELD, f"{at} {problem}", field=at)


def answer_room(context_tokens: int, max_tokens: int | None) -> int:
    """Tokens of the context that a prompt must leave for the answer."""
    return min(ANSWER_TOKENS, context_tokens // 4) if max_tokens is None else max_tokens


def shrink(plan: PromptPlan, prompt_tokens: int, room_tokens: int, context_tokens: int) -> PromptPlan:
    """Return a smaller plan: distant code goes first, then the older half of the turns, then nearby code.

    ``prompt_tokens`` is the current size and ``room_tokens`` the limit. Raises `CommandError` with both numbers if nothing more can be left out.
    """
    if plan.intent is not None and plan.intent is not Intent.ASK:
        assert isinstance(plan.source, Assist)
        # Estimated characters for the excess tokens, with a small margin.
        whole = sum(len(one.content) for one in plan.generate().messages or ())
        too_many = int((prompt_tokens - room_tokens) * whole / prompt_tokens * 1.05) + 1
        wanted = len(plan.code.text) - too_many
        if plan.turns:
            wanted = max(wanted, NEAR_CHARACTERS)
        if 0 < wanted < len(plan.code.text):
            smaller = window_around(plan.source.content, plan.source.cursor, wanted)
            if smaller is not None and len(smaller.text) < len(plan.code.text):
                return attrs.evolve(plan, code=smaller)
    if plan.turns:
        kept = half_window(plan.turns)
        return attrs.evolve(plan, turns=kept, turns_before=plan.turns_before + len(plan.turns) - len(kept))
    field_name = "data.content" if isinstance(plan.source, Assist) else "data.messages"
    raise CommandError(
        ErrorCode.CONTEXT_LENGTH_EXCEEDED,
        f"the prompt has {prompt_tokens} tokens and nothing in it can be left out; the model's context holds "
        f"{context_tokens}, including {context_tokens - room_tokens} for the answer",
        field=field_name,
    )
