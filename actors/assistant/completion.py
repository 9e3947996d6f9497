"""What is said of an answer once it is whole: code blocks in it, and whether a person should look. Pure."""

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
"""Below this confidence a person should look."""
ANALYSIS_BYTES = 16 * 1024
"""Most of an answer, as JSON, that is told to every device."""

_OPENING = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^`\n]*$")


@frozen(kw_only=True)
class Dropped:
    """What the model was not shown of what it might have been."""

    lines_before: int = 0
    """Lines of code above the part that it saw."""
    lines_after: int = 0
    """Lines below it."""
    turns: int = 0
    """Older turns of the conversation."""

    def as_data(self) -> dict[str, int] | None:
        """For `done`; None where nothing was dropped."""
        data = {"lines_before": self.lines_before, "lines_after": self.lines_after, "turns": self.turns}
        return data if any(data.values()) else None


@frozen(kw_only=True)
class CompletionRule:
    """Makes the fields that `done` of one command has besides a generation's; called by the inference room."""

    intent: Intent | None = None
    """None for a turn of plain `generate`, which has nothing but `dropped`."""
    content: str = ""
    """What the client sent, to tell code that differs from it."""
    language: str | None = None
    dropped: Dropped = field(factory=Dropped)

    def __call__(self, text: str, done: Done) -> dict[str, Any]:
        """The fields, JSON values."""
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
        """A person should look where the model was unsure or cut short, or where code would change."""
        if done.confidence is None or done.confidence < SURE or done.finish_reason is FinishReason.LENGTH:
            return True
        changes = any(block["code"].strip() != self.content.strip() for block in blocks)
        return self.intent in CHANGING_INTENTS and changes


def code_blocks(text: str, language: str | None = None) -> list[dict[str, Any]]:
    """The fenced code blocks of a Markdown text: `{language, code, is_complete}`, in order.

    A fence without a language has ``language``. As CommonMark says, a block that is never closed runs to the
    end; then `is_complete` is false.
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
    """As much of the text as fits as JSON, and whether it was cut."""
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
