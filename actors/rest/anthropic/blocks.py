"""Converts messages and content blocks of Anthropic's clients to turns of chat templates. Pure functions.

Content that the model would have to read and cannot is refused: images, documents, results of tools that ran
elsewhere. Reasoning comes back with every turn of an agent; it is accepted and not shown to the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import define, field

from protocol.json_text import json_type
from protocol.validation import FieldFault

__all__ = ["Chat", "read_chat"]

_ROLES = ("user", "assistant", "system")
_MESSAGE_FIELDS = frozenset({"role", "content", "id", "type", "model", "stop_reason", "stop_sequence", "stop_details", "usage", "container"})  # fmt: skip
"""`role` and `content`, and fields of an answer that clients send back."""
_BLOCK_FIELDS = {
    "text": frozenset({"text", "citations"}),
    "tool_use": frozenset({"id", "name", "input", "caller"}),
    "tool_result": frozenset({"tool_use_id", "content", "is_error", "toolset_name"}),
    "thinking": frozenset({"thinking", "signature"}),
    "redacted_thinking": frozenset({"data"}),
}
_EVERYWHERE = frozenset({"type", "cache_control"})
_READABLE = {
    "user": ("text", "tool_result"),
    "assistant": ("text", "tool_use", "thinking", "redacted_thinking"),
    "system": ("text",),
}
_BILLING = re.compile(r"\Ax-anthropic-billing-header:[^\n]*\n*")
"""A line that Claude Code puts first and changes with each request, which would defeat the prefix cache."""
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
MAXIMUM_ID = 256


@define
class Chat:
    """A chat in the form of chat templates."""

    turns: list[dict[str, Any]] = field(factory=list)
    """`role`, `content`, `tool_calls` with arguments as objects, `tool_call_id`."""
    ignored: dict[str, None] = field(factory=dict)
    """Paths of unknown fields, in order of appearance."""
    _names: dict[str, str] = field(factory=dict)
    """Names of the called tools by the call's id."""

    @property
    def has_calls(self) -> bool:
        """True if a turn calls a tool or is the result of a call."""
        return any(turn["role"] == "tool" or "tool_calls" in turn for turn in self.turns)

    def add_text(self, role: str, texts: Sequence[str]) -> None:
        """Add paragraphs of a speaker. Consecutive turns of one speaker are joined, as at Anthropic."""
        text = "\n\n".join(one for one in texts if one)
        last = self.turns[-1] if self.turns else None
        if last is None or last["role"] != role or "tool_calls" in last:
            self.turns.append({"role": role, "content": text})
        elif text:
            last["content"] = f"{last['content']}\n\n{text}" if last["content"] else text


def read_chat(system: Any, messages: Any) -> Chat:
    """Convert a request's `system` and `messages` to turns. Raises `FieldFault`."""
    chat = Chat()
    texts = [_BILLING.sub("", one) if index == 0 else one for index, one in enumerate(_system(chat, system))]
    if any(texts):
        chat.add_text("system", texts)
    if not isinstance(messages, list) or not messages:
        raise FieldFault("messages", "must be an array with at least one message")
    for index, message in enumerate(messages):
        _read_message(chat, message, f"messages[{index}]")
    if chat.turns[-1]["role"] == "assistant":
        raise FieldFault("messages", "must end with a message of the user: clients cannot begin the answer")
    return chat


def _system(chat: Chat, system: Any) -> list[str]:
    if system is None:
        return []
    return [str(block["text"]) for _, block in _blocks(chat, system, "system", ("text",))]


def _read_message(chat: Chat, message: Any, path: str) -> None:
    if not isinstance(message, dict):
        raise FieldFault(path, f"must be an object, not {json_type(message)}")
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise FieldFault(f"{path}.role", "must be user or assistant")
    chat.ignored |= {f"messages[].{name}": None for name in message if name not in _MESSAGE_FIELDS}
    blocks = list(_blocks(chat, message.get("content"), f"{path}.content", _READABLE[role]))
    if role == "assistant":
        _add_answer(chat, blocks)
        return
    if role == "system" and any(turn["role"] != "system" for turn in chat.turns):
        # Claude Code puts reminders there, but most templates accept a system turn only at the beginning.
        role = "user"
    texts: list[str] = []
    for place, block in blocks:
        if block["type"] == "text":
            texts.append(block["text"])
            continue
        if any(texts):
            chat.add_text(role, texts)
            texts = []
        _add_result(chat, place, block)
    if any(texts):
        chat.add_text(role, texts)
    elif not any(block["type"] == "tool_result" for _, block in blocks):
        raise FieldFault(f"{path}.content", "must not be empty")


def _add_answer(chat: Chat, blocks: Sequence[tuple[str, dict[str, Any]]]) -> None:
    chat.add_text("assistant", [block["text"] for _, block in blocks if block["type"] == "text"])
    calls = []
    for path, block in blocks:
        if block["type"] != "tool_use":
            continue
        call_id = _text_of(block, "id", path)
        name = _text_of(block, "name", path)
        if not _TOOL_NAME.fullmatch(name):
            raise FieldFault(f"{path}.name", "must have 1 to 128 letters, digits, dashes and underscores")
        if not isinstance(block.get("input"), dict):
            raise FieldFault(f"{path}.input", "must be an object")
        calls.append({"id": call_id, "type": "function", "function": {"name": name, "arguments": block["input"]}})
        chat._names[call_id] = name
    if calls:
        chat.turns[-1]["tool_calls"] = calls


def _add_result(chat: Chat, path: str, block: dict[str, Any]) -> None:
    call_id = _text_of(block, "tool_use_id", path)
    if call_id not in chat._names:
        raise FieldFault(f"{path}.tool_use_id", "must be the id of a tool_use block before it")
    content = block.get("content")
    texts = [] if content is None else [one["text"] for _, one in _blocks(chat, content, f"{path}.content", ("text",))]
    text = "\n\n".join(one for one in texts if one)
    if block.get("is_error") is True:
        text = f"Error: {text}"
    chat.turns.append({"role": "tool", "content": text, "tool_call_id": call_id, "name": chat._names[call_id]})


def _blocks(chat: Chat, content: Any, path: str, readable: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each block with its path; a string counts as one text block. Raises `FieldFault` for types other than
    ``readable``.
    """
    if isinstance(content, str):
        yield path, {"type": "text", "text": content}
        return
    if not isinstance(content, list):
        raise FieldFault(path, "must be a string or an array of content blocks")
    for index, block in enumerate(content):
        place = f"{path}[{index}]"
        if not isinstance(block, dict):
            raise FieldFault(place, f"must be an object, not {json_type(block)}")
        kind = block.get("type")
        if not isinstance(kind, str) or kind not in readable:
            raise FieldFault(
                f"{place}.type",
                f"must be {' or '.join(readable)} here: other content, such as images, is not supported",
            )
        if kind == "text":
            _text_of(block, "text", place, is_bounded=False)
        known = _BLOCK_FIELDS[kind] | _EVERYWHERE
        where = re.sub(r"\[\d+\]", "[]", path)
        chat.ignored |= {f"{where}[].{name}": None for name in block if name not in known}
        yield place, block


def _text_of(block: dict[str, Any], name: str, path: str, *, is_bounded: bool = True) -> str:
    value = block.get(name)
    if not isinstance(value, str) or (is_bounded and not 1 <= len(value) <= MAXIMUM_ID):
        raise FieldFault(f"{path}.{name}", f"must be a string{' of 1 to 256 characters' if is_bounded else ''}")
    return value
