"""Converts turns of a conversation to items of OpenAI's API, and items to turns. Pure functions.

A message is stored as a turn together with its item; calls, results and instructions are turns that are not messages.
So each item is returned as it was given, and each turn of `chat` can be read as an item.
"""

from __future__ import annotations

import json
import re
from typing import Any

from attrs import field, frozen

__all__ = ["ItemTurn", "as_item", "as_turn", "number_in", "step_line"]

MAXIMUM_STEP_CHARACTERS = 200
_OF_TURN = re.compile(r"msg_turn_([0-9]{1,16})")


@frozen(kw_only=True)
class ItemTurn:
    """An item as it is stored."""

    role: str
    """`user` or `assistant` for messages; else `system`, `call`, `result` or `reasoning`."""
    content: str = field(repr=False)
    """The text shown to people."""
    item: str = field(repr=False)
    """The item itself, as ASCII JSON."""
    is_partial: bool = False


def as_turn(item: dict[str, Any]) -> ItemTurn:
    """Convert an item, which the transport has checked, to a turn."""
    text = json.dumps(item)
    kind = item["type"]
    if kind == "message":
        said = "".join(one.get("text", "") for one in item["content"])
        role = item["role"] if item["role"] in ("user", "assistant") else "system"
        return ItemTurn(role=role, content=_plain(said), item=text, is_partial=item.get("status") == "incomplete")
    if kind.endswith("_output"):
        return ItemTurn(role="result", content=_plain(item["output"]), item=text)
    if kind == "reasoning":
        thought = "".join(one.get("text", "") for one in item.get("content") or ())
        return ItemTurn(role="reasoning", content=_plain(thought), item=text)
    given = item["arguments"] if kind == "function_call" else item["input"]
    return ItemTurn(role="call", content=_plain(f"{item['name']}({given})"), item=text)


def as_item(row: Any, *, text: str | None = None) -> dict[str, Any]:
    """Convert a stored turn to an item; ``text`` replaces the message if the model was sent a different one."""
    if row.item is not None:
        item: dict[str, Any] = json.loads(row.item)
        return item
    said = row.content if text is None else text
    is_answer = row.role == "assistant"
    part: dict[str, Any] = {"type": "output_text", "text": said, "annotations": [], "logprobs": []}
    return {
        "id": f"msg_turn_{row.number}",
        "type": "message",
        "status": "incomplete" if row.is_partial else "completed",
        "role": row.role,
        "content": [part if is_answer else {"type": "input_text", "text": said}],
    }


def number_in(item_id: str) -> int | None:
    """Return the number of the turn of `chat` that `as_item` gave this id; None for other ids."""
    found = _OF_TURN.fullmatch(item_id)
    return None if found is None else int(found[1])


def step_line(role: str, content: str) -> str:
    """Format a step as one line for people."""
    words = {"system": "instructions: ", "call": "called ", "result": "result: ", "reasoning": "thought: "}
    line = words.get(role, "") + " ".join(content.split())
    return line if len(line) <= MAXIMUM_STEP_CHARACTERS else line[: MAXIMUM_STEP_CHARACTERS - 1] + "…"


def _plain(text: str) -> str:
    """Replace what a database cannot store: U+0000 and lone surrogates."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
