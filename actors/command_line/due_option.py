"""`--due`, for every command that takes it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from actors.command_line.due_times import EXAMPLES, BadTime, due_time

__all__ = ["due_option"]

Function = TypeVar("Function", bound=Callable[..., Any])


def due_option(function: Function) -> Function:
    """The parameter `due`: RFC 3339, or None where it was not given."""
    return click.option("--due", callback=_read, help=f"When it is due, as {EXAMPLES}; local time.")(function)


def _read(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    # An empty one takes the time away where a command can do that.
    if not value:
        return value
    try:
        return due_time(value, datetime.now().astimezone())
    except BadTime as error:
        raise click.BadParameter(str(error)) from None
