"""Converts the server's messages to objects of their classes, for clients."""

from __future__ import annotations

from typing import Any

from protocol.codec import make_converter
from protocol.commands import COMMANDS
from protocol.errors import BadMessage
from protocol.server_messages import SERVER_MESSAGES

__all__ = ["kind_of_command", "read_message_data", "read_result"]

_converter = make_converter(names_paths=False, is_client=True)
_KINDS = {command.data: kind for kind, command in COMMANDS.items()}


def read_message_data(kind: str, data: Any) -> Any:
    """The data of a message as an object of its class, or unchanged if its type is unknown or may carry anything.

    Unknown fields are ignored. Raises `BadMessage` for an invalid field.
    """
    message = SERVER_MESSAGES.get(kind)
    return data if message is None else _read(kind, data, message.data)


def read_result(kind: str, data: Any) -> Any:
    """The data of the `result` to a command of this type, like `read_message_data`."""
    command = COMMANDS.get(kind)
    return data if command is None else _read(kind, data, command.result)


def kind_of_command(command: object) -> str:
    """The wire name of a command's class. Raises `KeyError` for other classes."""
    return _KINDS[type(command)]


def _read(kind: str, data: Any, wanted: Any) -> Any:
    if wanted is None:
        return data
    try:
        return _converter.structure(data, wanted)
    except Exception as error:
        raise BadMessage(f"{kind} is not in a form that this client understands: {error}") from error
