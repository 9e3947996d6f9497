"""`leanvibe connect`: tells another program to use this server, by its own settings file."""

from __future__ import annotations

import difflib
import os
import stat
import tempfile
from pathlib import Path

import click

from actors.command_line.options import data_dir_option, fail, settings_from
from actors.command_line.place import place_of
from actors.command_line.printing import print_json, print_line
from actors.command_line.rest_call import RestFailed, rest_call
from actors.program_setup.config_edit import Unreadable, edited
from actors.program_setup.programs import PROGRAMS, Program, Served
from actors.terminal_text import many_lines, one_line

__all__ = ["connect"]

MAXIMUM_BYTES = 4 << 20


@click.command()
@click.argument("program", type=click.Choice(list(PROGRAMS)))
@data_dir_option
@click.option("--print", "only_print", is_flag=True, help="Show the file as it would be, and write nothing.")
@click.option("--yes", is_flag=True, help="Write without asking.")
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Its settings, where they are elsewhere.")
@click.option("--json", "as_json", is_flag=True, help="What was done, as JSON; needs --yes or --print.")
def connect(program: str, data_dir: Path | None, only_print: bool, yes: bool, file: Path | None, as_json: bool) -> None:
    """Tell another program to use this server: shows the change to its settings, asks, and keeps a backup.

    No token is written: the program reads it from an environment variable, which is named at the end.
    """
    if as_json and not (yes or only_print):
        fail("--json asks nothing; give --yes to write or --print to look", status=2)
    known = PROGRAMS[program]
    served = _served(data_dir)
    path = (file or known.file(Path.home(), os.environ)).expanduser()
    before = _read(path)
    try:
        after = edited(before or "", known.form, known.changes(served))
    except Unreadable as error:
        fail(f"{path} cannot be read as {known.form.upper()}: {error}. Nothing was changed.")
    backup = None
    if not only_print and after != before:
        if not as_json:
            _show_change(path, before or "", after)
        if not yes:
            click.confirm(one_line(f"Write {path}?"), abort=True, err=True)
        backup = _write(path, before, after)
    _report(known, served, path, before, after, backup, only_print=only_print, as_json=as_json)


def _report(
    program: Program,
    served: Served,
    path: Path,
    before: str | None,
    after: str,
    backup: Path | None,
    *,
    only_print: bool,
    as_json: bool,
) -> None:
    steps = [one.text for one in program.next_steps(served)]
    if as_json:
        print_json(
            {
                "file": str(path),
                "is_changed": after != before,
                "is_written": after != before and not only_print,
                "backup": None if backup is None else str(backup),
                "content": after,
                "next_steps": steps,
            }
        )
        return
    if only_print:
        print_line(f"# {path}", err=True)
        print_line(many_lines(after), newline=not after.endswith("\n"))
    elif after == before:
        print_line(f"{program.name} is connected already, by {path}")
    else:
        print_line(f"{program.name} now uses {served.model} at {served.address}, by {path}")
        if backup is not None:
            print_line(f"as it was before: {backup}")
    for step in steps:
        print_line(f"then: {step}", err=only_print)


def _served(data_dir: Path | None) -> Served:
    place = place_of(settings_from(data_dir=data_dir), "", "v1")
    if place.rest_url is None:
        fail("this asks over REST, and --url names a WebSocket; give --url http://HOST:PORT", status=2)
    try:
        listed = rest_call("GET", f"{place.rest_url}/v1/models", None, credentials=place.credentials)
    except RestFailed as failed:
        fail(str(failed))
    model = next(one for one in listed["data"] if one["capabilities"]["chat"])
    return Served(
        address=place.rest_url,
        model=model["id"],
        context_tokens=model["context_length"],
        has_tokens=place.credentials.token is not None,
    )


def _read(path: Path) -> str | None:
    """Return the contents of a file, or None if it does not exist. Ends the command if it cannot be read."""
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            fail(f"{path} has more than {MAXIMUM_BYTES:,} bytes; that is no settings file")
        # The newlines are kept as they are.
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path} cannot be read: {error}")


def _show_change(path: Path, before: str, after: str) -> None:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), str(path), str(path), lineterm="")
    for line in lines:
        style = "green" if line.startswith("+") else "red" if line.startswith("-") else None
        print_line(line, style=style)


def _write(path: Path, before: str | None, after: str) -> Path | None:
    """Replace the file atomically, following links, and keep a copy of the old one. New files are private."""
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(target.stat().st_mode) if before is not None else 0o600
        backup = None
        if before is not None:
            backup = _free_name(target)
            _write_new(backup, before, mode)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(after.encode())
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(mode)
            if _read(target) != before:
                fail(f"{target} was changed by somebody else meanwhile; run the command again")
            Path(name).replace(target)
        except BaseException:  # also Ctrl-C and the end that `fail` is: no half of a file stays
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        fail(f"{target} cannot be written: {error}")
    return backup


def _free_name(target: Path) -> Path:
    number = 1
    while (name := target.with_name(f"{target.name}.before-leanvibe-{number}")).exists():
        number += 1
    return name


def _write_new(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(text.encode())
