"""Parses the input of `leanvibe chat`: continued lines and slash commands. Pure functions."""

from __future__ import annotations

from attrs import frozen

__all__ = ["BLOCK", "COMMANDS", "BadCommand", "LineCollector", "Slash", "SlashCommand", "parse_slash"]

BLOCK = '"""'


@frozen(kw_only=True)
class SlashCommand:
    """A command as `/help` shows it."""

    usage: str
    help: str
    needs_argument: bool = False
    takes_file: bool = False
    """Whether the argument is a file of the person's."""


COMMANDS: dict[str, SlashCommand] = {
    "help": SlashCommand(usage="/help", help="what can be typed here"),
    "status": SlashCommand(usage="/status", help="how the server and its engine are"),
    "model": SlashCommand(usage="/model [NAME]", help="the model that answers; with a name, load another one"),
    "explain": SlashCommand(
        usage="/explain FILE", help="explain a file of yours", needs_argument=True, takes_file=True
    ),
    "refactor": SlashCommand(
        usage="/refactor FILE", help="rewrite a file of yours", needs_argument=True, takes_file=True
    ),
    "debug": SlashCommand(
        usage="/debug FILE", help="find what is wrong in a file of yours", needs_argument=True, takes_file=True
    ),
    "tasks": SlashCommand(usage="/tasks", help="the task board"),
    "task": SlashCommand(
        usage="/task TITLE | /task move NUMBER COLUMN | /task show NUMBER",
        help="make a task, or act on one by its number on the board",
        needs_argument=True,
    ),
    "history": SlashCommand(usage="/history", help="what was said in this conversation"),
    "reset": SlashCommand(
        usage="/reset [NAME]", help="begin another conversation, of that name if one is given; this one stays stored"
    ),
    "save": SlashCommand(
        usage="/save FILE",
        help="write this conversation to a new file of yours",
        needs_argument=True,
        takes_file=True,
    ),
    "conversations": SlashCommand(
        usage="/conversations [NAME]",
        help="the stored conversations; with a name or the beginning of it, go on with that one",
    ),
    "retry": SlashCommand(usage="/retry", help="answer the last question again, in place of the answer before"),
    "copy": SlashCommand(usage="/copy [N]", help="the last answer as the model wrote it, or the one N answers ago"),
    "set": SlashCommand(
        usage="/set [NAME VALUE]",
        help="how answers are made: temperature, top-p, repetition-penalty, max-tokens, seed; `default` takes it back",
    ),
    "clear": SlashCommand(usage="/clear", help="clear the screen and begin another conversation"),
    "bye": SlashCommand(usage="/bye", help="leave, as Ctrl-D does"),
    "exit": SlashCommand(usage="/exit", help="leave"),
}
"""Every slash command by its name."""


class BadCommand(ValueError):
    """No such command, or it lacks something; the text says what would be right."""


@frozen
class Slash:
    """A slash command as it was typed."""

    name: str
    argument: str


def parse_slash(text: str) -> Slash | None:
    """The slash command in what was typed; None where it is something to be said. Raises `BadCommand`."""
    if not text.startswith("/") or "\n" in text:
        return None
    name, _, argument = text[1:].partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        raise BadCommand(f"there is no /{name[:40]}; /help shows what there is")
    argument = argument.strip()
    if command.needs_argument and not argument:
        raise BadCommand(f"usage: {command.usage}")
    return Slash(name, argument)


class LineCollector:
    """Makes one text of lines: a `\\` at a line's end goes on, and so does everything between two lines of `\"\"\"`."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._is_block = False

    @property
    def is_open(self) -> bool:
        """True while more lines belong to the text."""
        return self._is_block or bool(self._lines)

    def add(self, line: str) -> str | None:
        """Take a line; the whole text once it is complete."""
        if self._is_block:
            if line.strip() == BLOCK:
                return self._take()
            self._lines.append(line)
            return None
        if line.strip() == BLOCK and not self._lines:
            self._is_block = True
            return None
        if line.endswith("\\"):
            self._lines.append(line[:-1])
            return None
        self._lines.append(line)
        return self._take()

    def clear(self) -> None:
        """Forget the lines of a text that is not wanted any more."""
        self._take()

    def _take(self) -> str:
        text, self._lines, self._is_block = "\n".join(self._lines), [], False
        return text
