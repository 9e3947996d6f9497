"""Options that stand before every command or behind it. Nothing is imported here that looks at the current folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["ReachingGroup", "Remembered", "ca_option", "client_option", "data_dir_option", "url_option"]

Function = TypeVar("Function", bound=Callable[..., Any])


def data_dir_option(function: Function) -> Function:
    """`--data-dir`, which says which server is meant."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the server's data (also LEANVIBE_DATA_DIR).",
    )(function)


class Remembered:
    """Options given before the command's name: `leanvibe --data-dir D status`. Kept in click's own context."""

    DATA_DIR = "leanvibe.data_dir"
    URL = "leanvibe.url"
    CLIENT = "leanvibe.client"
    CA = "leanvibe.ca"

    @staticmethod
    def value(name: str) -> Any:
        """Return the value given, or None."""
        context = click.get_current_context(silent=True)
        return None if context is None else context.meta.get(name)


class ReachingGroup(click.Group):
    """A group whose own options may also stand behind its commands: `leanvibe notify list --data-dir D`."""

    def reaching(self, args: list[str]) -> set[str]:
        """Options of its own that are taken from behind a command, too."""
        return {name for one in self.params if isinstance(one, click.Option) and not one.is_flag for name in one.opts}

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Take its options to the front, from anywhere before `--`."""
        valued = self.reaching(args)
        front: list[str] = []
        kept: list[str] = []
        rest = iter(args)
        for word in rest:
            if word == "--":
                kept += [word, *rest]
            elif word in valued:
                front += [word, *[one for one in [next(rest, None)] if one is not None]]
            elif word.partition("=")[0] in valued and word.startswith("--"):
                front.append(word)
            else:
                kept.append(word)
        return super().parse_args(context, front + kept)


def url_option(function: Function) -> Function:
    """`--url`, which names a server elsewhere."""
    words = "Address of a server elsewhere, http://… or ws://…/ws; its token is taken from LEANVIBE_TOKEN."
    return click.option("--url", help=words)(function)


def ca_option(function: Function) -> Function:
    """Add `--ca`, the certificate authorities to trust."""
    return click.option(
        "--ca",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Certificates to trust at an https:// or wss:// address, PEM (also LEANVIBE_CA).",
    )(function)


def client_option(function: Function) -> Function:
    """`--client`, which says whose things are meant."""
    return click.option(
        "--client", "client_id", metavar="NAME", help="Whose; by default yours (also LEANVIBE_CLIENT_ID)."
    )(function)
