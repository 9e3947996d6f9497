"""Parses the options of each API that turn reasoning on or off and set its effort. Pure functions."""

from __future__ import annotations

from typing import Any

from attrs import Attribute, frozen

from protocol.json_text import json_type
from protocol.validation import FieldFault

__all__ = [
    "EFFORTS",
    "Thinking",
    "check_effort",
    "check_template_options",
    "thinking_of_anthropic",
    "thinking_of_ollama",
    "thinking_of_openai",
    "unread_template_options",
]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_TEMPLATE_OPTIONS = ("enable_thinking", "thinking", "reasoning_effort")


@frozen(kw_only=True)
class Thinking:
    """The client's wishes about reasoning; None leaves it to the model's template."""

    thinks: bool | None = None
    effort: str | None = None

    @property
    def is_asked(self) -> bool:
        """True if the client asked for anything."""
        return self.thinks is not None or self.effort is not None


def check_effort(_: object, attribute: Attribute[Any], value: Any) -> None:
    """Validate one of OpenAI's words; None passes."""
    if value is not None and value not in EFFORTS:
        raise FieldFault(attribute.name, f"must be one of {', '.join(EFFORTS)}")


def check_template_options(_: object, attribute: Attribute[Any], value: dict[str, Any] | None) -> None:
    """Validate `chat_template_kwargs`."""
    for name in ("enable_thinking", "thinking"):
        if not isinstance((value or {}).get(name), bool | None):
            raise FieldFault(f"{attribute.name}.{name}", "must be true or false")
    if (value or {}).get("reasoning_effort") not in (None, *EFFORTS):
        raise FieldFault(f"{attribute.name}.reasoning_effort", f"must be one of {', '.join(EFFORTS)}")


def unread_template_options(value: Any) -> list[str]:
    """Return the paths of ignored template options."""
    if not isinstance(value, dict):
        return []
    return [f"chat_template_kwargs.{name}" for name in value if name not in _TEMPLATE_OPTIONS]


def thinking_of_openai(
    effort: str | None, enable_thinking: bool | None, template_options: dict[str, Any] | None
) -> Thinking:
    """Read the options of a chat completion; template options take precedence."""
    options = template_options or {}
    effort = options.get("reasoning_effort") or effort
    thinks = options.get("enable_thinking", options.get("thinking"))
    thinks = enable_thinking if thinks is None else thinks
    if thinks is None and effort is not None:
        thinks = effort != "none"
    return Thinking(thinks=thinks, effort=effort)


def thinking_of_anthropic(value: Any) -> Thinking:
    """Read `thinking` of a message. Raises `FieldFault`."""
    if value is None:
        return Thinking()
    if not isinstance(value, dict):
        raise FieldFault("thinking", f"must be an object, not {json_type(value)}")
    kind, budget = value.get("type"), value.get("budget_tokens")
    if kind not in ("enabled", "disabled", "adaptive"):
        raise FieldFault("thinking.type", "must be enabled, disabled or adaptive")
    if budget is not None and (not isinstance(budget, int) or isinstance(budget, bool) or budget < 1):
        raise FieldFault("thinking.budget_tokens", "must be an integer of at least 1")
    return Thinking(thinks={"enabled": True, "disabled": False}.get(kind))


def thinking_of_ollama(value: Any) -> Thinking:
    """Read `think` of a chat or a prompt. Raises `FieldFault`."""
    if value is None or isinstance(value, bool):
        return Thinking(thinks=value)
    if value not in ("low", "medium", "high", "max"):
        raise FieldFault("think", "must be true, false, low, medium, high or max")
    return Thinking(thinks=True, effort=value)
