"""Messages of a chat as OpenAI's clients send them, with what other servers put into them. Pure.

Clients send back what they were answered, by whichever server: fields that only tell something about an earlier answer are
passed over. Refused is what the model would have to read and cannot.
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
"""Known from other servers and clients, and silently passed over; those of `_MEANS_MORE` only with these values."""
_MEANS_MORE: dict[str, tuple[tuple[Any, ...], str]] = {
    "images": ((None, []), "must be left out: this server reads text"),
    "prefix": ((None, False), "must be false: answers are not begun by clients; ask /v1/completions"),
    "partial": ((None, False), "must be false: answers are not begun by clients; ask /v1/completions"),
}
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Kinds of parts that are text, and where it stands in them."""
_UNREAD_PARTS = frozenset({"reasoning", "thinking", "redacted_thinking", "reasoning_text", "summary_text"})
"""What an earlier answer was thought to be: passed over in turns of the assistant."""
_NAME = re.compile(r"[^\s<|\\/>]{1,64}")


def readable_messages(messages: Any) -> tuple[Any, list[str]]:
    """Messages with the fields that are read, and paths of those that nobody knows. Raises `InvalidField`.

    What has not the shape of messages is left for the codec to refuse.
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
    """A string, or an array of parts that are text; None is judged with the other fields."""
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
    """One turn as OpenAI's clients write it."""

    role: str = field(validator=one_of(*ROLES))
    content: Any = field(default=None, validator=_content, repr=False)
    """May be left out beside calls of tools."""
    name: str | None = field(default=None, validator=_speaker)
    """Who speaks; the model sees it where its template prints it."""
    refusal: str | None = field(default=None, repr=False)
    """In place of the content, where an earlier answer was refused."""
    tool_calls: list[CalledTool] | None = field(default=None, validator=length(1, 128, "entries"))
    """What the assistant wanted called."""
    function_call: CalledFunction | None = None
    """The older form of a call in `tool_calls`; its result is a turn of the role function with the function's name."""
    tool_call_id: str | None = field(default=None, validator=length(1, 256, "characters"))
    """Whose result a turn of the role tool is."""

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
        # Clients send system turns that were left empty, and answers and results of calls may have no text; a question has.
        if self.role == "user" and not self.text:
            raise FieldFault("content", "must not be empty")

    @property
    def calls(self) -> list[CalledTool]:
        """What was called, in either form."""
        if self.function_call is not None:
            return [CalledTool(id=f"call_{self.function_call.name}", function=self.function_call)]
        return self.tool_calls or []

    @property
    def text(self) -> str:
        """The content as one text."""
        if self.content in (None, []):
            return self.refusal or ""
        if isinstance(self.content, str):
            return self.content
        return "".join(part[_TEXT_PARTS[part["type"]]] for part in self.content if part["type"] in _TEXT_PARTS)
