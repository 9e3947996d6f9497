"""Fields computed from a complete answer: its code blocks, and if it needs review. Pure functions."""

from __future__ import annotations

import re
from typing import Any

import attrs
from attrs import field, frozen

from actors.assistant.prompts import CHANGING_INTENTS
from protocol.codec import encode, unstructure
from protocol.commands import Intent
from protocol.events import Done, FinishReason

__all__ = ["ANALYSIS_BYTES", "CompletionRule", "Dropped", "code_blocks", "cut_analysis"]

SURE = 0.8
"""Answers below this confidence need review."""
ANALYSIS_BYTES = 16 * 1024
"""Maximum size, as JSON, of the part of an answer that is sent to every device."""

_OPENING = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^`\n]*$")


@frozen(kw_only=True)
class Dropped:
    """Parts of the context that the model was not shown."""

    lines_before: int = 0
    """Lines of code above the visible part."""
    lines_after: int = 0
    """Lines below it."""
    turns: int = 0
    """Older turns of the conversation."""

    def as_data(self) -> dict[str, int] | None:
        """The field of `done`; None if nothing was dropped."""
        data = {"lines_before": self.lines_before, "lines_after": self.lines_after, "turns": self.turns}
        return data if any(data.values()) else None


@frozen(kw_only=True)
class CompletionRule:
    """Computes the additional fields of a command's `done`; called by the inference service."""

    intent: Intent | None = None
    """None for a plain `generate`, which has only `dropped`."""
    content: str = ""
    """The client's code, for comparison with the answer's."""
    language: str | None = None
    dropped: Dropped = field(factory=Dropped)

    def __call__(self, text: str, done: Done) -> dict[str, Any]:
        """Return the fields as JSON values."""
        fields: dict[str, Any] = {}
        if self.intent is not None:
            blocks = code_blocks(text, self.language)
            fields = {
                "intent": self.intent.value,
                "suggestions": blocks,
                "requires_review": self._requires_review(blocks, done),
            }
        if self.dropped.turns:
            fields["usage"] = unstructure(attrs.evolve(done.usage, dropped_turns=self.dropped.turns))
        dropped = self.dropped.as_data()
        return fields if dropped is None else {**fields, "dropped": dropped}

    def _requires_review(self, blocks: list[dict[str, Any]], done: Done) -> bool:
        """True if the model was uncertain or cut off, or if code would change."""
        if done.confidence is None or done.confidence < SURE or done.finish_reason is FinishReason.LENGTH:
            return True
        changes = any(block["code"].strip() != self.content.strip() for block in blocks)
        return self.intent in CHANGING_INTENTS and changes


def code_blocks(text: str, language: str | None = None) -> list[dict[str, Any]]:
    """Return the fenced code blocks of a Markdown text in order: `{language, code, is_complete}`.

    Fences without a language get ``language``. As in CommonMark, a block that is never closed extends to the end; its
    `is_complete` is false.
    """
    blocks: list[dict[str, Any]] = []
    fence: str | None = None
    lines: list[str] = []
    named: str | None = None

    def close(is_complete: bool) -> None:
        block: dict[str, Any] = {"code": "".join(f"{line}\n" for line in lines), "is_complete": is_complete}
        if named is not None:
            block["language"] = named
        blocks.append(block)

    for line in text.split("\n"):
        if fence is None:
            opening = _OPENING.match(line)
            if opening is not None:
                fence, lines, named = opening[1], [], opening[2].lower() or language
        elif line.strip() == fence[0] * len(line.strip()) and len(line.strip()) >= len(fence):
            close(is_complete=True)
            fence = None
        else:
            lines.append(line)
    if fence is not None:
        if lines and lines[-1] == "":
            lines.pop()
        close(is_complete=False)
    return blocks


def cut_analysis(text: str, maximum_bytes: int = ANALYSIS_BYTES) -> tuple[str, bool]:
    """Return as much of the text as fits as JSON, and True if it was truncated."""
    if len(encode([text])) <= maximum_bytes:
        return text, False
    low, high = 0, min(len(text), maximum_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        if len(encode([text[:middle]])) <= maximum_bytes:
            low = middle
        else:
            high = middle - 1
    return text[:low], True
