"""Items of a response's input: parsing, the stored form, and the chat that the model reads. Pure functions.

An item has a `type`, which a message may omit. Reasoning of earlier answers, and the work of other servers' tools, is
ignored. Content that the model would have to read and cannot is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from attrs import define, field

from protocol.errors import InvalidField

__all__ = ["Chat", "chat_of", "readable_items", "referenced_ids"]

_KINDS = {
    "message": ("id", "role", "content", "status", "phase"),
    "function_call": ("id", "call_id", "name", "arguments", "status"),
    "function_call_output": ("id", "call_id", "output", "status"),
    "custom_tool_call": ("id", "call_id", "name", "input", "status"),
    "custom_tool_call_output": ("id", "call_id", "output", "status"),
    "item_reference": ("id",),
}
_PASSED_OVER = ("reasoning", "compaction", "compaction_summary")
"""Reasoning of earlier answers: silently ignored."""
_REFUSED = ("input_image", "input_file", "input_audio")
_TEXT_PARTS = ("input_text", "output_text", "text", "refusal")
_ROLES = ("user", "system", "developer", "assistant")
MAXIMUM_ITEMS = 1024
EMPTY = " "
"""Replaces an empty question, as probes send it, because templates require some text."""


def readable_items(
    given: Any, make_id: Any, *, name: str = "input", most: int = MAXIMUM_ITEMS
) -> tuple[list[dict[str, Any]], list[str]]:
    """Normalize items, each with an id, and return the types of ignored ones; ``name`` is the field's.

    Raises `InvalidField`.
    """
    if isinstance(given, str):
        given = [{"type": "message", "role": "user", "content": given}] if given else []
    if not isinstance(given, list):
        raise _wrong(name, "must be a string or an array of items")
    if len(given) > most:
        raise _wrong(name, f"must have at most {most} items, not {len(given)}")
    items: list[dict[str, Any]] = []
    ignored: dict[str, None] = {}
    for index, one in enumerate(given):
        path = f"{name}[{index}]"
        if not isinstance(one, dict):
            raise _wrong(path, "must be an object")
        kind = one.get("type", "message" if "role" in one else None)
        if not isinstance(kind, str):
            raise _wrong(f"{path}.type", "must be a string")
        if kind in _PASSED_OVER:
            continue
        if kind in _REFUSED:
            raise _wrong(f"{path}.type", "must be an item of text: this server reads no other kind of content")
        if kind not in _KINDS:
            ignored[f"{name}[].{kind[:64]}"] = None
            continue
        item = {"type": kind, **{name: one[name] for name in _KINDS[kind] if one.get(name) is not None}}
        items.append(_checked(item, path, make_id, index))
    return items, list(ignored)


def referenced_ids(items: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
    """Return position and id of each item that refers to one of an earlier response."""
    return [(index, one["id"]) for index, one in enumerate(items) if one["type"] == "item_reference"]


def _checked(item: dict[str, Any], path: str, make_id: Any, index: int) -> dict[str, Any]:
    kind = item["type"]
    if not isinstance(item.get("id", ""), str) or len(item.get("id", "")) > 256:
        raise _wrong(f"{path}.id", "must be a string of at most 256 characters")
    if kind == "item_reference":
        if "id" not in item:
            raise _wrong(f"{path}.id", "is required")
        return item
    item.setdefault("id", make_id(kind, index))
    if kind == "message":
        if item.get("role") not in _ROLES:
            raise _wrong(f"{path}.role", f"must be one of {', '.join(_ROLES)}")
        item["content"] = _parts(item.get("content"), f"{path}.content", item["role"])
        item["status"] = "completed"
        return item
    call_id = item.get("call_id")
    if not isinstance(call_id, str) or not 1 <= len(call_id) <= 256:
        raise _wrong(f"{path}.call_id", "must be a string of 1 to 256 characters")
    if kind.endswith("_output"):
        output = item.get("output")
        if not isinstance(output, str):
            item["output"] = _joined(_parts(output, f"{path}.output", "user"))
        return item
    for name in ("name", "arguments" if kind == "function_call" else "input"):
        if not isinstance(item.get(name), str):
            raise _wrong(f"{path}.{name}", "must be a string")
    return item


def _parts(content: Any, path: str, role: str) -> list[dict[str, Any]]:
    kind = "output_text" if role == "assistant" else "input_text"
    if isinstance(content, str):
        return [_part(kind, content)]
    if not isinstance(content, list):
        raise _wrong(path, "must be a string or an array of text parts")
    parts = []
    for index, one in enumerate(content):
        if not isinstance(one, dict):
            raise _wrong(f"{path}[{index}]", "must be an object")
        if one.get("type") not in _TEXT_PARTS:
            raise _wrong(f"{path}[{index}].type", "must be input_text: this server reads no other kind of content")
        name = "refusal" if one["type"] == "refusal" else "text"
        if not isinstance(one.get(name), str):
            raise _wrong(f"{path}[{index}].{name}", "must be a string")
        parts.append(_part(kind, one[name]))
    return parts


def _part(kind: str, text: str) -> dict[str, Any]:
    return {"type": kind, "text": text, "annotations": []} if kind == "output_text" else {"type": kind, "text": text}


def _joined(parts: Sequence[dict[str, Any]]) -> str:
    return "".join(one["text"] for one in parts)


@define
class Chat:
    """The chat made from items, as messages of `/v1/chat/completions`, with the origin of each."""

    messages: list[dict[str, Any]] = field(factory=list)
    places: list[str] = field(factory=list)
    """The client's name for each message."""

    def add(self, message: dict[str, Any], place: str) -> None:
        """Append a message."""
        self.messages.append(message)
        self.places.append(place)

    @property
    def characters(self) -> int:
        """Total length of all texts."""
        return sum(len(one["content"]) for one in self.messages)

    def without_oldest(self, first: int) -> int:
        """Drop the oldest turn after the first ``first`` messages. Returns the number of dropped messages, possibly
        0.

        A turn is a message of the user and all that follow up to the next, so that a call goes with its result.
        """
        begins = [at for at, one in enumerate(self.messages) if at >= first and one["role"] == "user"]
        if len(begins) < 2:
            return 0
        count = begins[1] - first
        del self.messages[first : begins[1]]
        del self.places[first : begins[1]]
        return count


def chat_of(
    instructions: str | None,
    before: Sequence[dict[str, Any]],
    items: Sequence[dict[str, Any]],
    *,
    source: str = "previous_response_id",
) -> Chat:
    """Build the chat from earlier items, which come from the field ``source``, and this request's own."""
    chat = Chat()
    if instructions:
        chat.add({"role": "system", "content": instructions}, "instructions")
    for one in before:
        _add(chat, one, source)
    for index, one in enumerate(items):
        _add(chat, one, f"input[{index}]")
    if not any(one["role"] != "system" for one in chat.messages):
        chat.add({"role": "user", "content": EMPTY}, "input")
    return chat


def _add(chat: Chat, item: dict[str, Any], place: str) -> None:
    kind = item["type"]
    if kind == "reasoning":
        return
    last = chat.messages[-1] if chat.messages else None
    if kind == "message":
        role = "system" if item["role"] == "developer" else item["role"]
        text = _joined(item["content"])
        if role == "assistant" and not text:
            return
        chat.add({"role": role, "content": text or (EMPTY if role == "user" else "")}, place)
    elif kind.endswith("_output"):
        chat.add({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]}, place)
    else:
        arguments = item["arguments"] if kind == "function_call" else json.dumps({"input": item["input"]})
        call = {
            "id": item["call_id"],
            "type": "function",
            "function": {"name": item["name"], "arguments": arguments},
        }
        # Calls made together belong to one turn, after the text before them.
        if last is not None and last["role"] == "assistant":
            last.setdefault("tool_calls", []).append(call)
        else:
            chat.add({"role": "assistant", "content": "", "tool_calls": [call]}, place)


def _wrong(path: str, problem: str) -> InvalidField:
    return InvalidField(f"body.{path} {problem}", field=f"body.{path}")
