"""Messages of a chat as OpenAI's clients send them, including fields added by other servers. Pure functions.

Clients send earlier answers back, whichever server gave them: fields that only describe such an answer are ignored.
Content that the model would have to read and cannot is refused.
"""

from __future__ import annotations

import re
from typing import Any

from attrs import Attribute, field, frozen

from actors.rest.openai.tools import CalledFunction, CalledTool, readable_calls
from protocol.errors import InvalidField
from protocol.validation import FieldFault, length, one_of

__all__ = ["Message", "readable_messages"]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_READ = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal"})
_PASSED_OVER = frozenset(
    {
        "annotations", "audio", "cache_control", "citations", "created", "created_at", "finish_reason", "id",
        "images", "index", "logprobs", "metadata", "model", "parsed", "partial", "prefix", "provider_specific_fields", "reasoning",
        "reasoning_content", "reasoning_details", "reasoning_signature", "reasoning_text", "signature", "status", "thinking",
        "thinking_blocks", "timestamp", "token_ids", "type", "usage", "weight",
    }
)  # fmt: skip
"""Known from other servers and clients, and silently ignored; those in `_MEANS_MORE` only with these values."""
_MEANS_MORE: dict[str, tuple[tuple[Any, ...], str]] = {
    "images": ((None, []), "must be left out: this server reads text"),
    "prefix": ((None, False), "must be false: clients cannot begin the answer; use /v1/completions"),
    "partial": ((None, False), "must be false: clients cannot begin the answer; use /v1/completions"),
}
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Types of text parts, and the field with their text."""
_UNREAD_PARTS = frozenset({"reasoning", "thinking", "redacted_thinking", "reasoning_text", "summary_text"})
"""Reasoning of earlier answers: ignored in turns of the assistant."""
_NAME = re.compile(r"[^\s<|\\/>]{1,64}")


def readable_messages(messages: Any) -> tuple[Any, list[str]]:
    """Keep the known fields of messages, and return the paths of unknown ones. Raises `InvalidField`.

    Anything that is not shaped like messages is left for the codec to reject.
    """
    if not isinstance(messages, list):
        return messages, []
    ignored: dict[str, None] = {}
    readable: list[Any] = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            readable.append(message)
            continue
        for name, value in message.items():
            quiet, because = _MEANS_MORE.get(name, (None, ""))
            if quiet is not None and not any(value == one and type(value) is type(one) for one in quiet):
                path = f"body.messages[{index}].{name}"
                raise InvalidField(f"{path} {because}", field=path)
            if name not in _READ and name not in _PASSED_OVER:
                ignored[f"messages[].{name}"] = None
        kept = {name: value for name, value in message.items() if name in _READ}
        if isinstance(calls := kept.get("tool_calls"), list):
            kept["tool_calls"] = readable_calls(calls) or None
        if isinstance(call := kept.get("function_call"), dict):
            kept["function_call"] = {name: value for name, value in call.items() if name in ("name", "arguments")}
        readable.append(kept)
    return readable, list(ignored)


def _content(_: object, attribute: Attribute[Any], value: Any) -> None:
    """Accept a string or an array of text parts. None is checked together with the other fields."""
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, list):
        raise FieldFault(attribute.name, "must be a string or an array of text parts")
    for index, part in enumerate(value):
        path = f"{attribute.name}[{index}]"
        if not isinstance(part, dict):
            raise FieldFault(path, "must be an object")
        kind = part.get("type")
        if isinstance(kind, str) and kind in _UNREAD_PARTS:
            continue
        if not isinstance(kind, str) or kind not in _TEXT_PARTS:
            raise FieldFault(f"{path}.type", "must be text: this server reads no other kind of content")
        name = _TEXT_PARTS[kind]
        if not isinstance(part.get(name), str):
            raise FieldFault(f"{path}.{name}", "must be a string")


def _speaker(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """OpenAI's own rule for names."""
    if value is not None and not _NAME.fullmatch(value):
        raise FieldFault(attribute.name, r"must have 1 to 64 characters without white space and <|\/>")


@frozen(kw_only=True)
class Message:
    """A turn as OpenAI's clients write it."""

    role: str = field(validator=one_of(*ROLES))
    content: Any = field(default=None, validator=_content, repr=False)
    """Optional if there are tool calls."""
    name: str | None = field(default=None, validator=_speaker)
    """Name of the speaker; the model sees it if its template prints it."""
    refusal: str | None = field(default=None, repr=False)
    """Replaces the content if an earlier answer was refused."""
    tool_calls: list[CalledTool] | None = field(default=None, validator=length(1, 128, "entries"))
    """Calls that the assistant made."""
    function_call: CalledFunction | None = None
    """The older form of a call in `tool_calls`. Its result is a turn with the role `function` and the function's
    name.
    """
    tool_call_id: str | None = field(default=None, validator=length(1, 256, "characters"))
    """The call that a turn with the role `tool` answers."""

    def __attrs_post_init__(self) -> None:
        if self.content in (None, []) and not self.calls and self.refusal is None:
            raise FieldFault("content", "must be a string or an array of text parts")
        if self.tool_calls and self.role != "assistant":
            raise FieldFault("tool_calls", "may only be given with the role assistant")
        if self.function_call is not None and (self.role != "assistant" or self.tool_calls):
            raise FieldFault("function_call", "may only be given with the role assistant, and without tool_calls")
        if self.role == "function" and self.name is None:
            raise FieldFault("name", "must be given with the role function")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise FieldFault("tool_call_id", "must be given with the role tool, and only with it")
        # Clients send empty system turns, and answers and call results may have no text; a question must have some.
        if self.role == "user" and not self.text:
            raise FieldFault("content", "must not be empty")

    @property
    def calls(self) -> list[CalledTool]:
        """The calls, in either form."""
        if self.function_call is not None:
            return [CalledTool(id=f"call_{self.function_call.name}", function=self.function_call)]
        return self.tool_calls or []

    @property
    def text(self) -> str:
        """The content as one string."""
        if self.content in (None, []):
            return self.refusal or ""
        if isinstance(self.content, str):
            return self.content
        return "".join(part[_TEXT_PARTS[part["type"]]] for part in self.content if part["type"] in _TEXT_PARTS)
