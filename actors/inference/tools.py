"""A chat with tools as the inference room takes it: off the wire, for doors that know tools. Other rooms import it from `messages`."""

from __future__ import annotations

import json
from typing import Any

import attrs
from attrs import field, frozen

from actors.inference.answer_forms import ARGUMENT_SYNTAXES, ReasoningForm, ReasoningMarks, ToolCallFormat
from protocol.generation import Generate

__all__ = [
    "CallableFunction",
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
    """JSON Schema of its arguments; None where it takes none."""
    path: str
    """What the asker calls the parameters, for errors: `tools[0].function.parameters`."""


@frozen(kw_only=True)
class ToolCallConstraint:
    """What calls an answer is held to. Whatever it calls has arguments that its parameters allow."""

    tool_call_format: ToolCallFormat
    functions: tuple[CallableFunction, ...]
    """What may be called; at least one."""
    is_required: bool
    """Whether the answer is calls and nothing else; otherwise it may be text, and may end in calls."""
    most_calls: int
    """How many there may be; at least 1."""
    source_field: str
    """The field that asks for this, for errors: `tool_choice`."""
    answer_schema: dict[str, Any] | None = field(default=None, repr=False)
    """A JSON Schema of an answer that calls nothing; None lets it be any text."""

    def as_text(self) -> str:
        """For a frame to the worker. As JSON: integers of a schema may be larger than frames can hold."""
        return json.dumps({**attrs.asdict(self), "tool_call_format": self.tool_call_format.name})

    @classmethod
    def from_text(cls, text: str) -> ToolCallConstraint:
        """From what `as_text` made."""
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
    """A chat whose turns may call tools and be their results.

    ``messages`` has the same turns without what only the template knows, the results of tools as the user's.
    """

    turns: list[dict[str, Any]] = field(repr=False)
    """As chat templates know them: `role`, `content`, `tool_calls` with arguments as objects, `tool_call_id`."""
    tools: list[dict[str, Any]] | None = field(default=None, repr=False)
    """Functions in OpenAI's form that the model may call; None where it shall call none."""
    tool_call_format: ToolCallFormat
    """What the asker reads; a model that writes another is refused."""
    call_rule: ToolCallConstraint | None = field(default=None, repr=False)
    """What its calls are held to; None leaves the model free."""
    thinks: bool | None = None
    """Whether the model thinks before it answers; None leaves it to the model's template."""
    reasoning_effort: str | None = None
    """How much, in OpenAI's words, for templates that take it."""

    @property
    def free_calls(self) -> ToolCallFormat | None:
        """How calls are written whose arguments are held to JSON because nothing else is followed; None where there are none such.

        Of forms that write arguments one by one JSON is made by who reads them.
        """
        is_free = self.tools is not None and self.call_rule is None and self.response_schema is None
        return self.tool_call_format if is_free and self.tool_call_format not in ARGUMENT_SYNTAXES else None


def is_held(request: Generate) -> bool:
    """Whether the whole answer follows a form: such a model cannot think first."""
    rule = request.call_rule if isinstance(request, GenerateWithTools) else None
    is_calls = rule is not None and (rule.is_required or rule.answer_schema is not None)
    return is_calls or request.response_schema is not None
