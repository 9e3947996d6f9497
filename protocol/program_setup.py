"""Instructions for setting up other programs to use the server."""

from __future__ import annotations

import re
from typing import Any

from attrs import Attribute, field, frozen

from protocol.validation import FieldFault, described

__all__ = ["ProgramList", "ProgramSetup", "ProgramSetups", "SetupStep"]

_ADDRESS = re.compile(r"https?://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")


def _address(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """Validator: scheme, host and port, as an origin; None passes."""
    if value is not None and _ADDRESS.fullmatch(value) is None:
        raise FieldFault(attribute.name, "must have the form http://127.0.0.1:8000")


@frozen(kw_only=True)
class ProgramList:
    """Lists the ways to set up programs for this server. Answered by `ProgramSetups`."""

    address: str | None = field(default=None, validator=described(_address, pattern=f"^{_ADDRESS.pattern}$"))
    """Address by which the client reaches this server through a proxy; by default that of the request."""


@frozen(kw_only=True)
class SetupStep:
    """An additional step for a person."""

    text: str
    """A shell command or a sentence."""
    is_command: bool
    """True for a shell command."""


@frozen(kw_only=True)
class ProgramSetup:
    """The way to set up one program for this server."""

    program: str
    """Name in `leanvibe connect`, if it supports the program."""
    name: str
    """Display name."""
    command: str | None = None
    """Shell command that sets it up on the server's machine; absent if there is none."""
    command_elsewhere: str | None = None
    """Shell command that sets it up on another machine with LeanVibe installed."""
    file: str | None = None
    """Path of its settings file, with `~` for the home folder; absent if the content is not a file."""
    language: str
    """Language of the content: `json`, `toml`, `yaml`, `shell`, `python` or `vim`."""
    content: str
    """Content of the file, or code to run. It contains no token."""
    steps: list[SetupStep]
    """Additional steps for a person."""


@frozen(kw_only=True)
class ProgramSetups:
    """The ways to set up programs for this server."""

    address: str
    """Address used in the instructions, such as `http://127.0.0.1:8000`."""
    model: str
    """The active model."""
    context_tokens: int
    """Limit on prompt and answer of one request together; 0 if the engine has not reported it yet."""
    needs_token: bool
    """True if this server requires tokens."""
    programs: list[ProgramSetup]
    """In display order."""
