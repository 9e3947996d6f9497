"""Converts messages and tools of Ollama's clients to turns and functions of chat templates. Pure functions."""

from __future__ import annotations

import re
from typing import Any

from attrs import define, field

from actors.rest.openai.tools import Tool, readable_tools
from protocol.codec import structure
from protocol.json_text import json_type
from protocol.validation import FieldFault

__all__ = ["Chat", "read_chat", "read_tools"]

_ROLES = ("system", "user", "assistant", "tool")
_READ = frozenset({"role", "content", "tool_calls", "tool_name", "name", "tool_call_id", "images", "thinking"})
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


@define
class Chat:
    """A chat in the form of chat templates."""

    turns: list[dict[str, Any]] = field(factory=list)
    """`role`, `content`, `tool_calls` with arguments as objects, `tool_call_id`."""
    ignored: dict[str, None] = field(factory=dict)
    """Paths of unknown fields."""
    _calls: int = 0
    _unanswered: list[tuple[str, str]] = field(factory=list)
    """Id and function of each call without a result."""

    @property
    def has_calls(self) -> bool:
        """True if a turn calls a tool or is the result of a call."""
        return any(turn["role"] == "tool" or "tool_calls" in turn for turn in self.turns)

    def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Add a call. Ollama's calls have no ids, so they are numbered."""
        self._calls += 1
        call_id = f"call_{self._calls}"
        self._unanswered.append((call_id, name))
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}

    def answered(self, name: str | None) -> tuple[str, str]:
        """Return id and function of the call that a result belongs to: the first one without a result, of the named
        function if any.
        """
        found = next((one for one in self._unanswered if name in (None, one[1])), None)
        if found is None:
            # The call itself may have been cut off the history.
            self._calls += 1
            return f"call_{self._calls}", name or "tool"
        self._unanswered.remove(found)
        return found


def read_chat(messages: Any) -> Chat:
    """Convert `messages` to turns; none if it is empty. Raises `FieldFault`."""
    if messages is None:
        messages = []
    if not isinstance(messages, list):
        raise FieldFault("messages", f"must be an array, not {json_type(messages)}")
    chat = Chat()
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if not isinstance(message, dict):
            raise FieldFault(path, f"must be an object, not {json_type(message)}")
        chat.turns.append(_turn(chat, message, path))
        chat.ignored |= {f"messages[].{name}": None for name in message if name not in _READ}
    return chat


def _turn(chat: Chat, message: dict[str, Any], path: str) -> dict[str, Any]:
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise FieldFault(f"{path}.role", f"must be one of {', '.join(_ROLES)}")
    if content is not None and not isinstance(content, str):
        raise FieldFault(f"{path}.content", f"must be a string, not {json_type(content)}")
    if message.get("images"):
        raise FieldFault(f"{path}.images", "must be left out: this server reads text")
    turn: dict[str, Any] = {"role": role, "content": content or ""}
    if role == "tool":
        name = message.get("tool_name", message.get("name"))
        if name is not None and not isinstance(name, str):
            raise FieldFault(f"{path}.tool_name", "must be a string")
        call_id, called = chat.answered(name)
        return {**turn, "tool_call_id": call_id, "name": called}
    if role == "user" and not content:
        raise FieldFault(f"{path}.content", "must not be empty")
    if calls := message.get("tool_calls"):
        if role != "assistant":
            raise FieldFault(f"{path}.tool_calls", "may only be given with the role assistant")
        turn["tool_calls"] = _calls(chat, calls, f"{path}.tool_calls")
    return turn


def _calls(chat: Chat, calls: Any, path: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise FieldFault(path, f"must be an array, not {json_type(calls)}")
    read = []
    for index, one in enumerate(calls):
        function = one.get("function") if isinstance(one, dict) else None
        if not isinstance(function, dict):
            raise FieldFault(f"{path}[{index}].function", "must be an object")
        name, arguments = function.get("name"), function.get("arguments") or {}
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise FieldFault(f"{path}[{index}].function.name", "must be the name of a function")
        if not isinstance(arguments, dict):
            raise FieldFault(f"{path}[{index}].function.arguments", "must be an object")
        read.append(chat.call(name, arguments))
    return read


def read_tools(tools: Any) -> tuple[list[Tool], list[str]]:
    """Parse tools, and return the paths of unknown fields. Raises `FieldFault` or `InvalidField`."""
    if not tools:
        return [], []
    readable, ignored = readable_tools(tools)
    if not isinstance(readable, list):
        raise FieldFault("tools", f"must be an array, not {json_type(tools)}")
    read: list[Tool] = [structure(one, Tool, prefix=f"body.tools[{index}]") for index, one in enumerate(readable)]
    for index, one in enumerate(read):
        if one.function.parameters is None:
            raise FieldFault(f"tools[{index}].function.parameters", "must be a JSON Schema of an object")
        if one.function.name in [other.function.name for other in read[:index]]:
            raise FieldFault(f"tools[{index}].function.name", "is a duplicate")
    return read, ignored
