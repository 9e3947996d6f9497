"""Variants of `Generate` that are internal to the server: chats with tools, and prompts given as token ids.

Other services import them from `messages`.
"""

from __future__ import annotations

import json
from typing import Any

import attrs
from attrs import field, frozen

from actors.inference.answer_forms import ARGUMENT_SYNTAXES, ReasoningForm, ReasoningMarks, ToolCallFormat
from protocol.generation import Generate

__all__ = [
    "CallableFunction",
    "GenerateFromIds",
    "GenerateWithTools",
    "ReasoningForm",
    "ReasoningMarks",
    "ToolCallConstraint",
    "ToolCallFormat",
    "is_held",
]


@frozen(kw_only=True)
class CallableFunction:
    """A function that an answer may call."""

    name: str
    """Letters, digits, dashes and underscores."""
    parameters: dict[str, Any] | None = field(default=None, repr=False)
    """JSON Schema of its arguments; None if it takes none."""
    path: str
    """Name of the parameters in the request, for errors: `tools[0].function.parameters`."""


@frozen(kw_only=True)
class ToolCallConstraint:
    """Constrains an answer's tool calls. The arguments of every call conform to its parameters."""

    tool_call_format: ToolCallFormat
    functions: tuple[CallableFunction, ...]
    """Functions that may be called; at least one."""
    is_required: bool
    """True if the answer consists of calls; otherwise it may be text that may end in calls."""
    most_calls: int
    """Maximum number of calls; at least 1."""
    source_field: str
    """The field that requests this, for errors: `tool_choice`."""
    answer_schema: dict[str, Any] | None = field(default=None, repr=False)
    """JSON Schema of an answer without calls; None allows any text."""

    def as_text(self) -> str:
        """Encodes the constraint for a frame to the worker. JSON, because schemas may contain integers too large for
        frames."""
        return json.dumps({**attrs.asdict(self), "tool_call_format": self.tool_call_format.name})

    @classmethod
    def from_text(cls, text: str) -> ToolCallConstraint:
        """Inverse of `as_text`."""
        data = json.loads(text)
        return cls(
            **{
                **data,
                "tool_call_format": ToolCallFormat[data["tool_call_format"]],
                "functions": tuple(CallableFunction(**one) for one in data["functions"]),
            }
        )


@frozen(kw_only=True)
class GenerateWithTools(Generate):
    """A chat whose turns may contain tool calls and their results.

    ``messages`` has the same turns without the parts that only templates understand; results of tools are the user's.
    """

    turns: list[dict[str, Any]] = field(repr=False)
    """Turns in the form of chat templates: `role`, `content`, `tool_calls` with arguments as objects, `tool_call_id`.
    """
    tools: list[dict[str, Any]] | None = field(default=None, repr=False)
    """Functions in OpenAI's form that the model may call; None if it may call none."""
    tool_call_format: ToolCallFormat
    """Format that the caller parses; a model with another format is refused."""
    call_rule: ToolCallConstraint | None = field(default=None, repr=False)
    """Constraint on its calls; None leaves the model free."""
    thinks: bool | None = None
    """True to reason before answering, False not to; None leaves it to the model's template."""
    reasoning_effort: str | None = None
    """Amount of reasoning, in OpenAI's words, for templates that accept it."""

    @property
    def free_calls(self) -> ToolCallFormat | None:
        """Format of optional calls whose arguments are constrained to JSON because nothing else is constrained; None if
        there are none.

        In formats that write arguments one by one the parser makes the JSON.
        """
        is_free = self.tools is not None and self.call_rule is None and self.response_schema is None
        return self.tool_call_format if is_free and self.tool_call_format not in ARGUMENT_SYNTAXES else None


def is_held(request: Generate) -> bool:
    """True if the whole answer is constrained, so that the model cannot reason first."""
    rule = request.call_rule if isinstance(request, GenerateWithTools) else None
    is_calls = rule is not None and (rule.is_required or rule.answer_schema is not None)
    return is_calls or request.response_schema is not None


@frozen(kw_only=True)
class GenerateFromIds(Generate):
    """Continues token ids as they are, without template or special tokens. ``prompt`` is only a placeholder."""

    prompt_ids: list[int] = field(repr=False)
    """At least one, each at least 0 and within the vocabulary."""
