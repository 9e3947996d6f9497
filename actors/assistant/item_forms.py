"""Turns of a conversation as items of OpenAI's API, and items as turns. Pure.

What somebody said is a turn that has the item beside it; calls, results and instructions are turns that nobody said. So each
item comes back as it was given, and each turn of `chat` can be read as an item.
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
    """An item as it is kept."""

    role: str
    """`user` or `assistant` of what was said; else `system`, `call`, `result` or `reasoning`."""
    content: str = field(repr=False)
    """What people see of it."""
    item: str = field(repr=False)
    """The item itself, JSON in ASCII."""
    is_partial: bool = False


def as_turn(item: dict[str, Any]) -> ItemTurn:
    """An item that has passed its transport's checks, as a turn."""
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
    """A stored turn as an item; ``text`` in place of what was said, where the model was sent something else."""
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
    """Number of the turn of `chat` that `as_item` has called so; None for other ids."""
    found = _OF_TURN.fullmatch(item_id)
    return None if found is None else int(found[1])


def step_line(role: str, content: str) -> str:
    """One line for people about what nobody said."""
    words = {"system": "instructions: ", "call": "called ", "result": "result: ", "reasoning": "thought: "}
    line = words.get(role, "") + " ".join(content.split())
    return line if len(line) <= MAXIMUM_STEP_CHARACTERS else line[: MAXIMUM_STEP_CHARACTERS - 1] + "…"


def _plain(text: str) -> str:
    """As a database keeps it: no U+0000, no half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
