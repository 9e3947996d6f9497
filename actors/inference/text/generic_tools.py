"""Tools for models whose chat template has none, described in a system message in the most widely used format.

Calls and results of earlier turns become text in that format too. Words and marks are those of Hermes and Qwen. Pure
functions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from actors.inference.tools import ToolCallFormat

__all__ = ["GENERIC_FORMAT", "plain_turns"]

GENERIC_FORMAT = ToolCallFormat.TAGGED
"""Format of calls that the model is asked for."""
_DESCRIPTION = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{signatures}
</tools>

For each function call, return a json object with function name and arguments within {opening}{closing} XML tags:
{opening}
{{"name": <function-name>, "arguments": <args-json-object>}}
{closing}"""


def plain_turns(
    turns: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None, *, has_system: bool = True
) -> list[dict[str, str]]:
    """The same chat as plain text turns of system, user and assistant.

    Without ``has_system`` the functions are described at the beginning of the first question, for templates that have
    no place for a system message. Consecutive results, and a question after them, become one user turn, because many
    templates require the two sides to alternate.
    """
    plain: list[dict[str, str]] = []
    after_result = False
    for turn in turns:
        role, text = turn["role"], _text_of(turn)
        is_result = role == "tool"
        if is_result:
            role = "user"
        if after_result and role == "user":
            plain[-1]["content"] += f"\n{text}"
        else:
            plain.append({"role": role, "content": text})
            if "name" in turn and not is_result:
                plain[-1]["name"] = turn["name"]
        after_result = role == "user" and (is_result or after_result)
    if tools:
        _describe(plain, tools, "system" if has_system else "user")
    return plain


def _text_of(turn: dict[str, Any]) -> str:
    text = str(turn["content"])
    if turn["role"] == "tool":
        return f"<tool_response>\n{text}\n</tool_response>"
    calls = [_call(one["function"]) for one in turn.get("tool_calls", ())]
    return "\n".join([*([text] if text else []), *calls])


def _call(function: dict[str, Any]) -> str:
    name, arguments = json.dumps(function["name"]), function["arguments"]
    # Arguments that were cut short are not JSON and are shown as written.
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f'{GENERIC_FORMAT.opening}\n{{"name": {name}, "arguments": {written}}}\n{GENERIC_FORMAT.closing}'


def _describe(plain: list[dict[str, str]], tools: Sequence[dict[str, Any]], role: str) -> None:
    description = _DESCRIPTION.format(
        signatures="\n".join(json.dumps(one, ensure_ascii=False) for one in tools),
        opening=GENERIC_FORMAT.opening,
        closing=GENERIC_FORMAT.closing,
    )
    first = next((one for one in plain if one["role"] == role), None)
    if first is None or (role == "system" and first is not plain[0]):
        plain.insert(0, {"role": role, "content": description})
    elif role == "system":
        first["content"] = f"{first['content']}\n\n{description}" if first["content"] else description
    else:
        first["content"] = f"{description}\n\n{first['content']}"
