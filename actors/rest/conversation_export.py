"""A conversation as a text that people keep. Pure.

What was said is quoted: each of its lines begins with `> `, so that none of them is a heading of the export, and no
turn can be forged by what another one says. What would get out of a quotation, or look like a heading inside it
(HTML, headings, references of links), stands in a fence there and is shown as it was written. Without the `> ` after
each line break, and without the fence where there is one, it is what was said, to the letter.
"""

from __future__ import annotations

import re

from protocol.conversations import ConversationTurns, Speaker, Turn

__all__ = ["as_markdown", "turn_as_markdown"]

_SPEAKERS = {Speaker.USER: "You", Speaker.ASSISTANT: "LeanVibe"}
# Whatever anybody takes for the end of a line.
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
    """Markdown with a heading for each turn: the chosen way, then what stands beside it."""
    about = whole.conversation
    parts = [f"# {about.conversation}\n\n{about.turns} turns, {about.created} to {about.updated}\n"]
    if about.forgotten_turns:
        parts.append(f"{about.forgotten_turns} older turns are not kept any more.\n")
    parts += [_turn(one) for one in whole.turns if not one.is_beside]
    if others := [one for one in whole.turns if one.is_beside]:
        parts.append(
            "# Other ways\n\nTurns that were said or answered otherwise, each with the turn that it follows.\n"
        )
        parts += [_turn(one, f"behind {one.parent}" if one.parent else "at the beginning") for one in others]
    return "\n".join(parts)


def _turn(turn: Turn, place: str | None = None) -> str:
    notes = [turn.time, *([turn.intent] if turn.intent else []), *(["not finished"] if turn.is_partial else [])]
    notes += [] if place is None else [place]
    return turn_as_markdown(f"{turn.number}. {_SPEAKERS[turn.role]} ({', '.join(notes)})", turn.content)


def turn_as_markdown(heading: str, content: str) -> str:
    """One turn: its heading, which is ours, and what was said."""
    return f"## {heading}\n\n{_quoted(content)}\n"


def _quoted(content: str) -> str:
    if _NOT_PLAIN.search(_LINE_END.sub("\n", content)):
        runs = re.findall("`+", content)
        fence = "`" * max(4, *(len(one) + 1 for one in runs)) if runs else "````"
        content = f"{fence}text\n{content}\n{fence}"
    return "> " + _LINE_END.sub(r"\1> ", content)
