"""Manual pages out of what `--help` is made of, in the `man` macros of roff (man(7))."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from actors.version import VERSION

__all__ = ["man_page", "man_pages", "write_man_pages"]

PROGRAM = "leanvibe"
SECTION = 1
LONG_AS_IS = "\b"
"""What stands before a paragraph in a help text whose lines click keeps as they are."""


def man_pages(root: click.Command) -> dict[str, str]:
    """The page of the program and of each command, by file name: `leanvibe.1`, `leanvibe-task-add.1`."""
    return {f"{'-'.join(path)}.{SECTION}": man_page(path, command) for path, command in _walk((PROGRAM,), root, None)}


def write_man_pages(root: click.Command, folder: Path) -> list[Path]:
    """Write all pages into ``folder``, which is made. Returns their paths; raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in man_pages(root).items():
        place = folder / name
        place.write_text(text, encoding="utf-8")
        written.append(place)
    return written


def man_page(path: tuple[str, ...], command: click.Command) -> str:
    """Return a page in roff; ``path`` is the command with its groups, beginning with the program."""
    context = _context(path, command)
    name = "-".join(path)
    summary, described = _description(command)
    lines = [
        f'.TH "{_text(name.upper())}" "{SECTION}" "" "LeanVibe {_text(VERSION)}" "LeanVibe"',
        # Page for page the same bytes, whatever hyphenation and adjustment the reader's settings have.
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{_text(name)} \\- {_text(summary)}",
        ".SH SYNOPSIS",
        f".B {_text(' '.join(path))}",
        _line(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *described,
        *_options(context, command),
        *_commands(path, context, command),
        ".SH ENVIRONMENT",
        _line(
            "LEANVIBE_DATA_DIR, LEANVIBE_CLIENT_ID and LEANVIBE_TOKEN say where the server's data are, whose commands these are, and what"
            " they are proved with. NO_COLOR switches colour off."
        ),
        ".SH SEE ALSO",
        _see_also(path),
    ]
    return "\n".join(lines) + "\n"


def _walk(
    path: tuple[str, ...], command: click.Command, above: click.Context | None
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1], parent=above)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _walk((*path, name), found, context)


def _context(path: tuple[str, ...], command: click.Command) -> click.Context:
    above: click.Context | None = None
    for name in path[:-1]:
        above = click.Context(click.Group(name), info_name=name, parent=above)
    return click.Context(command, info_name=path[-1], parent=above, help_option_names=["-h", "--help"])


def _description(command: click.Command) -> tuple[str, list[str]]:
    """The first sentence, and the whole text as roff."""
    written = inspect.cleandoc(command.help or "").partition("\f")[0].strip()
    paragraphs = re.split(r"\n\s*\n", written)
    first = " ".join(paragraphs[0].split())
    summary = re.split(r"(?<=[.?!])\s", first)[0].rstrip(".")
    lines: list[str] = []
    for number, paragraph in enumerate(paragraphs):
        if number:
            lines.append(".PP")
        rows = paragraph.splitlines()
        if rows and rows[0].strip() == LONG_AS_IS:
            lines += [".nf", *[_line(row) for row in rows[1:]], ".fi"]
        else:
            lines.append(_line(" ".join(paragraph.split())))
    return summary, lines


def _options(context: click.Context, command: click.Command) -> list[str]:
    records = [one.get_help_record(context) for one in command.get_params(context)]
    lines: list[str] = []
    for record in records:
        # An argument has no words of its own: the description says what it is.
        if record is not None and record[1]:
            names, words = record
            lines += [".TP", f"\\fB{_text(names)}\\fP", _line(" ".join(words.split()))]
    return [".SH OPTIONS", *lines] if lines else []


def _commands(path: tuple[str, ...], context: click.Context, command: click.Command) -> list[str]:
    if not isinstance(command, click.Group):
        return []
    lines = [".SH COMMANDS"]
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None and not found.hidden:
            lines += [
                ".TP",
                f"\\fB{_text('-'.join((*path, name)))}\\fP({SECTION})",
                _line(_description(found)[0] + "."),
            ]
    return lines


def _see_also(path: tuple[str, ...]) -> str:
    if len(path) == 1:
        return _line("The documents of LeanVibe, and --help of each command.")
    return f".BR {_text('-'.join(path[:-1]))} ({SECTION})"


def _text(words: str) -> str:
    """Escaped for use inside a line."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return escaped.replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")


def _line(words: str) -> str:
    """Escaped as a whole line, which must not look like a request of roff."""
    escaped = _text(words)
    return f"\\&{escaped}" if escaped[:1] in (".", "'", " ", "") else escaped
