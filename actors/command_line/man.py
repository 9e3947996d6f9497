"""`leanvibe man`: the manual pages, for `man` of this machine."""

from __future__ import annotations

from pathlib import Path

import click

from actors.command_line.man_pages import man_page, write_man_pages
from actors.command_line.options import fail
from actors.command_line.printing import print_line

__all__ = ["man"]


@click.command()
@click.argument("command", nargs=-1)
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the pages of all commands into this folder instead.",
)
@click.pass_context
def man(context: click.Context, command: tuple[str, ...], into: Path | None) -> None:
    """Print the manual page of COMMAND, or of the program, in the form that `man` reads.

    A package that was installed with pipx brings its pages along; after pip or uv, --into puts them where man looks.

    \b
    Examples:
      leanvibe man task add | man -l -
      leanvibe man --into ~/.local/share/man/man1
    """
    root = context.find_root().command
    if into is not None:
        if command:
            fail("--into writes all pages; name either a command or --into")
        try:
            written = write_man_pages(root, into.expanduser())
        except OSError as error:
            fail(f"the pages could not be written into {into}: {error.strerror or error}")
        print_line(f"{len(written)} pages written; man leanvibe shows the first where {into} is one of man's folders")
        return
    found = root
    for number, name in enumerate(command):
        below = found.get_command(context, name) if isinstance(found, click.Group) else None
        if below is None:
            fail(f"there is no command {' '.join(command[: number + 1])}; leanvibe --help lists them")
        found = below
    print_line(man_page(("leanvibe", *command), found), newline=False)
