"""The strict codec: bytes to commands and events to bytes, with errors that name the field.

cattrs coerces by default ("FALSE" is True, 5 is "5", a string is a list of letters), so every primitive has
its own hook that accepts only its JSON type. A hook is built on first use; a server builds all of
them at its start, so that the first message of each type is as fast as later ones.
"""

from __future__ import annotations

import datetime
import enum
import functools
import hashlib
import math
import re
import types
import typing
from collections.abc import Generator
from functools import partial
from typing import Any

import attrs
import cattrs
import msgspec
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)

from protocol.command_type import ONLY_IF_KNOWN, TRACEPARENT, TRACEPARENT_CHARACTERS, TRACEPARENT_PATTERN
from protocol.commands import COMMANDS, MAXIMUM_FRAME_BYTES, Ping, Pong
from protocol.errors import InvalidField, ProtocolFault, TooLarge, UnknownType
from protocol.json_text import MAXIMUM_INTEGER, all_steps, json_type, nul_refused_in_steps, object_in_steps
from protocol.server_messages import SERVER_MESSAGES
from protocol.validation import FieldFault, printable_ascii

__all__ = [
    "UNKNOWN_FIELD",
    "ReceivedCommand",
    "command_digest",
    "command_in_steps",
    "decode_command",
    "encode",
    "make_converter",
    "prepare_hooks",
    "structure",
    "unstructure",
    "wire_time",
]

NAME_CHARACTERS = 64
"""Most characters of a client-chosen name that error messages repeat."""
EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
FLOAT_MILLISECONDS = 0.0625
"""Largest distance of a millisecond from the float of its seconds, up to the year 9999."""
UNKNOWN_FIELD = "is not a field of this command"


@attrs.frozen
class ReceivedCommand:
    """A command as received, with its data checked."""

    type: str
    id: str | None
    """None only for commands without an id."""
    data: Any
    digest: str = ""
    """SHA-256 of type and data, hexadecimal, for commands that write or start work; the order of keys does not matter."""
    only_if_known: bool = False
    """True for a command repeated long after: it is answered from memory or not at all."""
    traceparent: str | None = None
    """The client's span that it belongs to, in the form of the header; the validity of its ids is not checked here."""


class _WrongType(ValueError):
    def __init__(self, expected: str, got: object) -> None:
        super().__init__(f"must be {expected}, not {json_type(got)}")


def _strict_integer(value: Any, _: type) -> int:
    if type(value) is int:
        return value
    # JSON Schema, which the documents use for `integer`, counts 3.0 as one (draft 2020-12, validation 6.1.1).
    if type(value) is float and value.is_integer() and abs(value) <= MAXIMUM_INTEGER:
        return int(value)
    raise _WrongType("an integer", value)


def _strict_number(value: Any, _: type) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ValueError("must be a number within the range of a double") from None
    raise _WrongType("a number", value)


def _strict_string(value: Any, _: type) -> str:
    if type(value) is str:
        return value
    raise _WrongType("a string", value)


def _strict_boolean(value: Any, _: type) -> bool:
    if type(value) is bool:
        return value
    raise _WrongType("a boolean", value)


def _strict_enum(kind: type[enum.Enum]) -> Any:
    members = {one.value: one for one in kind}
    names = ", ".join(str(one) for one in members)

    def structure_enum(value: Any, _: type) -> enum.Enum:
        if type(value) is not str:
            raise _WrongType(f"one of {names}", value)
        try:
            return members[value]
        except KeyError:
            raise ValueError(f"must be one of {names}, not {value[:NAME_CHARACTERS]!r}") from None

    return structure_enum


def _optional(kind: Any, converter: cattrs.Converter) -> Any:
    """Builds the hook of `X | None`, without cattrs' dispatch at every value."""
    (wanted,) = (one for one in typing.get_args(kind) if one is not type(None))
    inner = converter.get_structure_hook(wanted)

    def structure_optional(value: Any, _: Any) -> Any:
        return None if value is None else inner(value, wanted)

    return structure_optional


def _is_optional(kind: Any) -> bool:
    parts = typing.get_args(kind)
    return typing.get_origin(kind) in (types.UnionType, typing.Union) and len(parts) == 2 and type(None) in parts


def _list_without_paths(kind: Any, converter: cattrs.Converter) -> Any:
    (wanted,) = typing.get_args(kind)
    inner = converter.get_structure_hook(wanted)
    return lambda value, _: [inner(one, wanted) for one in value]


def _list_naming_the_first(kind: Any, converter: cattrs.Converter) -> Any:
    """Builds a list hook that stops at the first error: cattrs' own would visit the whole list and keep an error per item."""
    (wanted,) = typing.get_args(kind)
    inner = converter.get_structure_hook(wanted)

    def structure_list(value: Any, _: type) -> list[Any]:
        items = []
        for index, one in enumerate(value):
            try:
                items.append(inner(one, wanted))
            except Exception as error:  # noqa: BLE001  boundary: validators may raise anything
                error.add_note(IterableValidationNote("in a list", index, wanted))
                raise IterableValidationError("in a list", [error], kind) from None
        return items

    return structure_list


def make_converter(*, names_paths: bool, is_client: bool = False) -> cattrs.Converter:
    """Builds a converter. With ``names_paths`` its errors carry the path of the field, which halves its speed.

    A client's converter ignores unknown fields, and uses None for missing ones.
    """
    converter = cattrs.Converter(
        forbid_extra_keys=not is_client, detailed_validation=names_paths, omit_if_default=False
    )
    converter.register_structure_hook(int, _strict_integer)
    converter.register_structure_hook(float, _strict_number)
    converter.register_structure_hook(str, _strict_string)
    converter.register_structure_hook(bool, _strict_boolean)
    converter.register_structure_hook_factory(
        lambda kind: isinstance(kind, type) and issubclass(kind, enum.Enum), _strict_enum
    )
    converter.register_structure_hook_factory(_is_optional, lambda kind: _optional(kind, converter))

    def strict_collection(kind: Any, wanted: type, expected: str) -> Any:
        make_list = _list_naming_the_first if names_paths else _list_without_paths
        inner: Any = (
            make_list(kind, converter)
            if wanted is list
            else cattrs.gen.make_mapping_structure_fn(kind, converter, detailed_validation=names_paths)
        )

        def structure_collection(value: Any, to: Any) -> Any:
            if type(value) is not wanted:
                raise _WrongType(expected, value)
            return inner(value, to)

        return structure_collection

    converter.register_structure_hook_factory(
        lambda kind: getattr(kind, "__origin__", None) is list,
        lambda kind: strict_collection(kind, list, "an array"),
    )
    converter.register_structure_hook_factory(
        lambda kind: getattr(kind, "__origin__", None) is dict,
        lambda kind: strict_collection(kind, dict, "an object"),
    )

    def strict_class(kind: Any) -> Any:
        inner = cattrs.gen.make_dict_structure_fn(
            kind, converter, _cattrs_forbid_extra_keys=not is_client, _cattrs_detailed_validation=names_paths
        )
        absent = _nullable_fields(kind) if is_client else {}

        def structure_class(value: Any, to: Any) -> Any:
            if type(value) is not dict:
                raise _WrongType("an object", value)
            return inner({**absent, **value} if absent else value, to)

        return structure_class

    # cattrs drops hooks whenever another one is registered, and then calls the factories again.
    converter.register_structure_hook_factory(attrs.has, functools.cache(strict_class))
    converter.register_unstructure_hook_factory(attrs.has, functools.cache(partial(_present_fields, converter)))
    return converter


def prepare_hooks() -> None:
    """Builds every hook now, which takes a third of a second; called by a server so that no client's first message waits for it."""
    for converter in (_converter, _naming_converter):
        _prepare_hooks(converter)


def _prepare_hooks(converter: cattrs.Converter) -> None:
    for command in COMMANDS.values():
        converter.get_structure_hook(command.data)
        converter.get_unstructure_hook(command.data)
        if command.result is not None:
            converter.get_structure_hook(command.result)
            converter.get_unstructure_hook(command.result)
    for message in SERVER_MESSAGES.values():
        if message.data is not None:
            converter.get_structure_hook(message.data)
            converter.get_unstructure_hook(message.data)


def _nullable_fields(kind: Any) -> dict[str, None]:
    """Fields without a default that may be None, which a server omits."""
    hints = typing.get_type_hints(kind)
    return {
        one.name: None
        for one in attrs.fields(kind)
        if one.default is attrs.NOTHING and type(None) in typing.get_args(hints[one.name])
    }


def _present_fields(converter: cattrs.Converter, kind: Any) -> Any:
    """Builds a hook that unstructures a class without fields that are None."""
    inner = cattrs.gen.make_dict_unstructure_fn(kind, converter)

    def unstructure_class(value: Any) -> dict[str, Any]:
        fields = inner(value)
        if None in fields.values():
            return {name: one for name, one in fields.items() if one is not None}
        return fields

    return unstructure_class


_ENVELOPE = frozenset({"type", "id", "data", ONLY_IF_KNOWN, TRACEPARENT})
_traceparent = re.compile(TRACEPARENT_PATTERN.removesuffix("$") + r"\Z")
_converter = make_converter(names_paths=False)
_naming_converter = make_converter(names_paths=True)
_encoder = msgspec.json.Encoder()
_canonical_encoder = msgspec.json.Encoder(order="deterministic")


def structure(data: Any, wanted: type, *, prefix: str = "data") -> Any:
    """Checks parsed JSON against an attrs class. Raises `InvalidField` with the path of the first problem."""
    try:
        return _converter.structure(data, wanted)
    except Exception:  # noqa: BLE001  boundary: the second converter finds the path of any error
        return _structure_naming_paths(data, wanted, prefix)


def _structure_naming_paths(data: Any, wanted: type, prefix: str) -> Any:
    try:
        return _naming_converter.structure(data, wanted)
    except Exception as error:  # noqa: BLE001  boundary: cattrs raises groups, the validators ValueErrors
        path, problem = _first_problem(error, prefix)
        raise InvalidField(f"{path} {problem}", field=path) from None


def _first_problem(error: BaseException, path: str) -> tuple[str, str]:
    """Path and text of the first problem in cattrs' tree of exceptions."""
    if isinstance(error, (ClassValidationError, IterableValidationError)):
        first = error.exceptions[0]
        for note in getattr(first, "__notes__", ()):
            if isinstance(note, AttributeValidationNote):
                return _first_problem(first, f"{path}.{note.name}")
            if isinstance(note, IterableValidationNote):
                index = f"[{note.index}]" if isinstance(note.index, int) else f".{str(note.index)[:NAME_CHARACTERS]}"
                return _first_problem(first, f"{path}{index}")
        return _first_problem(first, path)
    if isinstance(error, ForbiddenExtraKeysError):
        return f"{path}.{min(error.extra_fields)[:NAME_CHARACTERS]}", UNKNOWN_FIELD
    if isinstance(error, FieldFault):
        return f"{path}.{error.path}", error.problem
    if isinstance(error, KeyError):
        return path if path.endswith(f".{error.args[0]}") else f"{path}.{error.args[0]}", "is missing"
    return path, str(error)


def decode_command(text: str | bytes) -> ReceivedCommand:
    """Decodes one frame into one command. Raises `ProtocolFault`, with the command's id if it could be read."""
    return all_steps(command_in_steps(text))


def command_in_steps(text: str | bytes) -> Generator[None, None, ReceivedCommand]:
    """Like `decode_command`, as a generator that yields at points where other tasks may run."""
    size = len(text) if isinstance(text, bytes) or text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if size > MAXIMUM_FRAME_BYTES:
        raise TooLarge(f"a frame may have {MAXIMUM_FRAME_BYTES} bytes, this one has {size}")
    # NUL is checked only below, once the command id is known.
    try:
        envelope = yield from object_in_steps(text, takes_nul=True)
    except ProtocolFault as fault:
        fault.command_id = None if fault.parsed is None else _readable_id(fault.parsed)
        raise
    command_id = _readable_id(envelope)
    try:
        yield from nul_refused_in_steps(envelope, text)
        return _read_envelope(envelope, command_id, size)
    except ProtocolFault as fault:
        fault.command_id = command_id
        raise


def _read_envelope(envelope: dict[str, Any], command_id: str | None, size: int) -> ReceivedCommand:
    kind = envelope.get("type")
    if not isinstance(kind, str):
        raise InvalidField(f"type must be a string, not {json_type(kind)}", field="type")
    command = COMMANDS.get(kind)
    if command is None:
        raise UnknownType(f"unknown type {kind[:NAME_CHARACTERS]!r}", field="type")
    for name in envelope:
        if name not in _ENVELOPE:
            raise InvalidField(f"{name[:NAME_CHARACTERS]} is not a field of the envelope", field=name[:NAME_CHARACTERS])
    if command_id is None and (command.needs_id or "id" in envelope):
        raise InvalidField("id must have 1 to 64 printable ASCII characters", field="id")
    only_if_known = envelope.get(ONLY_IF_KNOWN, False)
    if type(only_if_known) is not bool:
        raise InvalidField(
            f"{ONLY_IF_KNOWN} must be true or false, not {json_type(only_if_known)}", field=ONLY_IF_KNOWN
        )
    if only_if_known and not command.writes:
        raise InvalidField(f"{ONLY_IF_KNOWN} is allowed only for commands that change something", field=ONLY_IF_KNOWN)
    traceparent = envelope.get(TRACEPARENT)
    if TRACEPARENT in envelope and not _is_traceparent(traceparent):
        raise InvalidField(
            f"{TRACEPARENT} must have the form 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 (W3C Trace Context)",
            field=TRACEPARENT,
        )
    if size > command.maximum_bytes:
        raise TooLarge(f"{kind} may have {command.maximum_bytes} bytes, this one has {size}")
    data = envelope.get("data", {})
    if command.data is Ping or command.data is Pong:
        return ReceivedCommand(kind, command_id, command.data(data), traceparent=traceparent)
    digest = command_digest(kind, data) if command.writes else ""
    return ReceivedCommand(kind, command_id, structure(data, command.data), digest, only_if_known, traceparent)


def _is_traceparent(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TRACEPARENT_CHARACTERS and _traceparent.match(value) is not None


def command_digest(kind: str, data: Any) -> str:
    """Distinguishes commands with the same id: SHA-256 of type and data, with sorted keys."""
    return hashlib.sha256(kind.encode() + b"\n" + _canonical_encoder.encode(data)).hexdigest()


def _readable_id(envelope: dict[str, Any]) -> str | None:
    value = envelope.get("id")
    return value if isinstance(value, str) and printable_ascii(value) else None


def unstructure(value: Any) -> Any:
    """Converts an attrs object to plain JSON values, without fields that are None."""
    return _converter.unstructure(value)


def encode(message: dict[str, Any] | list[Any]) -> bytes:
    """Encodes one envelope of plain values as JSON bytes."""
    return _encoder.encode(message)


def wire_time(seconds: float | None = None) -> str:
    """Formats a POSIX time, or the current time, as RFC 3339 in UTC with milliseconds."""
    if seconds is None:
        moment = datetime.datetime.now(datetime.UTC)
    else:
        # The float of most milliseconds lies slightly below or above them, so a value a hair below a millisecond counts as that one;
        # finer digits are truncated, as clocks do.
        moment = EPOCH + datetime.timedelta(milliseconds=math.floor(seconds * 1000 + FLOAT_MILLISECONDS))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
