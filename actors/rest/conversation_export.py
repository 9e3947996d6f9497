"""A conversation as a text that people keep. Pure."""

from __future__ import annotations

from protocol.conversations import ConversationTurns, Speaker

__all__ = ["as_markdown"]

_SPEAKERS = {Speaker.USER: "You", Speaker.ASSISTANT: "LeanVibe"}


def as_markdown(whole: ConversationTurns) -> str:
    """Markdown with a heading for each turn."""
    about = whole.conversation
    parts = [f"# {about.conversation}\n\n{about.turns} turns, {about.created} to {about.updated}\n"]
    if about.forgotten_turns:
        parts.append(f"{about.forgotten_turns} older turns are not kept any more.\n")
    for turn in whole.turns:
        notes = [turn.time, *([turn.intent] if turn.intent else []), *(["not finished"] if turn.is_partial else [])]
        parts.append(f"## {turn.number}. {_SPEAKERS[turn.role]} ({', '.join(notes)})\n\n{turn.content.rstrip()}\n")
    return "\n".join(parts)
