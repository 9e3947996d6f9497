"""The prompt of each intent, built from the client's command. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from actors.assistant.code_window import CodeWindow
from protocol.commands import Assist, ChatMessage, Intent, Role
from protocol.programming_languages import language_of_file

__all__ = ["CHANGING_INTENTS", "CURSOR_MARK", "SYSTEM", "language_of", "user_text", "with_history"]

SYSTEM = (
    "You are a careful programming assistant. Be brief and correct. "
    "Put every piece of code into a fenced block that names its language."
)
CURSOR_MARK = "<cursor>"

_TASKS: dict[Intent, str] = {
    Intent.SUGGEST: "Suggest code for the place where the cursor is. Answer with one code block that can be put there.",
    Intent.EXPLAIN: "Explain what this code does, in a few sentences for another programmer.",
    Intent.REFACTOR: "Rewrite this code so that it is easier to read and does the same. "
    "Answer with the whole rewritten code in one code block.",
    Intent.DEBUG: "Find the errors in this code. Name each one, then give the corrected code in one code block.",
    Intent.OPTIMIZE: "Rewrite this code so that it is faster and does the same. "
    "Answer with the whole rewritten code in one code block.",
}

CHANGING_INTENTS = frozenset({Intent.SUGGEST, Intent.REFACTOR, Intent.DEBUG, Intent.OPTIMIZE})
"""Intents whose answers are meant to become code."""


def language_of(assist: Assist) -> str | None:
    """The command's language, or the one of its file name; None if both are unknown."""
    if assist.language is not None:
        return assist.language
    return None if assist.file_path is None else language_of_file(assist.file_path)


def user_text(assist: Assist, code: CodeWindow) -> str:
    """Build the user's message for this command, with the part of the code in ``code``."""
    if assist.intent is Intent.ASK:
        return assist.content
    shown = code.text
    if code.cursor is not None and assist.intent is Intent.SUGGEST:
        shown = shown[: code.cursor] + CURSOR_MARK + shown[code.cursor :]
    about = [_TASKS[assist.intent]]
    if assist.intent is Intent.SUGGEST and code.cursor is not None:
        about.append(f"The cursor is at {CURSOR_MARK}.")
    if assist.file_path is not None:
        about.append(f"The file is {assist.file_path!r}.")
    if not code.is_whole:
        about.append(
            f"Of the file, {code.lines_before} lines above and {code.lines_after} lines below this part are left out."
        )
    end = "" if shown.endswith("\n") else "\n"
    return f"{' '.join(about)}\n\n{_fence(shown)}{language_of(assist) or ''}\n{shown}{end}{_fence(shown)}"


def with_history(system: str | None, history: Sequence[ChatMessage], message: str) -> list[ChatMessage]:
    """Build the complete chat for the model."""
    first = [] if system is None else [ChatMessage(Role.SYSTEM, system)]
    return [*first, *history, ChatMessage(Role.USER, message)]


def _fence(code: str) -> str:
    """A fence longer than any in the code itself."""
    longest = run = 0
    for character in code:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return "`" * max(3, longest + 1)
