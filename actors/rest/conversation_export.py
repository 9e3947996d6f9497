"""Renders a conversation as Markdown. Pure functions.

Messages are quoted: each line begins with `> `, so that no line can become a heading of the export and no message can
forge another turn. Content that would escape the quotation or render as a heading inside it (HTML, headings, link
references) is put in a fence and shown verbatim. Removing the `> ` after each line break, and the fence if there is
one, restores the exact message.
"""

from __future__ import annotations

import re

from protocol.conversations import ConversationTurns, Speaker, Turn

__all__ = ["as_markdown", "turn_as_markdown"]

_SPEAKERS = {Speaker.USER: "You", Speaker.ASSISTANT: "LeanVibe"}
# Every character that some program treats as a line ending.
_LINE_END = re.compile("(\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029])")
_NOT_PLAIN = re.compile(
    r"""
    <                               # HTML, comments, and links in angle brackets
    | \]:                           # a reference that other turns' brackets would take
    | ^[\s>*+\-\d.)]*\#             # a heading, also in a list or a quotation
    | ^[\s>]*(?:=+|-[\s-]*)\s*$     # the line below a heading, or a rule
    | \A[ ]*`{4}                    # what could be taken for our own
    | &                             # entities
    """,
    re.MULTILINE | re.VERBOSE,
)


def as_markdown(whole: ConversationTurns) -> str:
    """Render Markdown with a heading for each turn: the active branch first, then the others."""
    about = whole.conversation
    parts = [f"# {about.conversation}\n\n{about.turns} turns, {about.created} to {about.updated}\n"]
    if about.forgotten_turns:
        parts.append(f"{about.forgotten_turns} older turns were deleted.\n")
    parts += [_turn(one) for one in whole.turns if not one.is_beside]
    if others := [one for one in whole.turns if one.is_beside]:
        parts.append("# Other branches\n\nAlternative turns, each with the turn that it follows.\n")
        parts += [_turn(one, f"after {one.parent}" if one.parent else "at the beginning") for one in others]
    return "\n".join(parts)


def _turn(turn: Turn, place: str | None = None) -> str:
    notes = [turn.time, *([turn.intent] if turn.intent else []), *(["not finished"] if turn.is_partial else [])]
    notes += [] if place is None else [place]
    return turn_as_markdown(f"{turn.number}. {_SPEAKERS[turn.role]} ({', '.join(notes)})", turn.content)


def turn_as_markdown(heading: str, content: str) -> str:
    """Render a turn: a trusted heading, then the message."""
    return f"## {heading}\n\n{_quoted(content)}\n"


def _quoted(content: str) -> str:
    if _NOT_PLAIN.search(_LINE_END.sub("\n", content)):
        runs = re.findall("`+", content)
        fence = "`" * max(4, *(len(one) + 1 for one in runs)) if runs else "````"
        content = f"{fence}text\n{content}\n{fence}"
    return "> " + _LINE_END.sub(r"\1> ", content)
