"""What the server answers about setting up other programs to use it."""

from __future__ import annotations

import re
from typing import Any

from attrs import Attribute, field, frozen

from protocol.validation import FieldFault, described

__all__ = ["ProgramList", "ProgramSetup", "ProgramSetups", "SetupStep"]

_ADDRESS = re.compile(r"https?://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")


def _address(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """Scheme, host and port, as an origin; None passes."""
    if value is not None and _ADDRESS.fullmatch(value) is None:
        raise FieldFault(attribute.name, "must be as http://127.0.0.1:8000")


@frozen(kw_only=True)
class ProgramList:
    """How programs are told to use this server. Answered by `ProgramSetups`."""

    address: str | None = field(default=None, validator=described(_address, pattern=f"^{_ADDRESS.pattern}$"))
    """By which the asker reaches this server, where a proxy stands before it; else that of the request."""


@frozen(kw_only=True)
class SetupStep:
    """Something that a person does besides."""

    text: str
    """A line for a shell, or a sentence."""
    is_command: bool
    """Whether it is a line for a shell."""


@frozen(kw_only=True)
class ProgramSetup:
    """How one program is told to use this server."""

    program: str
    """As `leanvibe connect` calls it, where that knows it."""
    name: str
    """As people call it."""
    command: str | None = None
    """What sets it up on the server's machine, as a line for a shell; absent where nothing does."""
    command_elsewhere: str | None = None
    """What sets it up on another machine where LeanVibe is installed."""
    file: str | None = None
    """Its settings, `~` being the person's folder; absent where the content is no file."""
    language: str
    """Of the content: `json`, `toml`, `yaml`, `shell`, `python` or `vim`."""
    content: str
    """What stands in the file, or is run. It holds no token."""
    steps: list[SetupStep]
    """What a person does besides."""


@frozen(kw_only=True)
class ProgramSetups:
    """How programs are told to use this server."""

    address: str
    """That they are told, as `http://127.0.0.1:8000`."""
    model: str
    """The model in use."""
    context_tokens: int
    """What prompt and answer of one request may have together; 0 where the engine has not said so yet."""
    needs_token: bool
    """Whether this server has tokens."""
    programs: list[ProgramSetup]
    """In the order in which a page shows them."""
