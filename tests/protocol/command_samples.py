"""The least data that each command takes, and every way to get one type of it wrong, made from the classes."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal

import attrs

from protocol.commands import COMMANDS, Ping, Pong

__all__ = ["FREE", "SAMPLES", "VALID", "json_kinds", "least_data", "wrong_values"]

SAMPLES: dict[str, Any] = {
    "null": None,
    "boolean": True,
    "integer": 7,
    "float": 7.5,
    "string": "seven",
    "array": [],
    "object": {},
}
"""One value of each JSON type."""

FREE = (Ping, Pong)
"""Commands whose data may be anything."""

TASK = {"task_id": "0b0f1c8e-6f0c-4c7e-9d6b-0c6f3f1f2a11"}
NEEDS_MORE: dict[str, dict[str, Any]] = {
    "generate": {"prompt": "once"},
    "task_update": {**TASK, "version": 1},
    "task_move": {**TASK, "version": 1, "status": "done"},
    "task_delete": {**TASK, "version": 1},
    "task_decide": {**TASK, "version": 1, "decision": "approved"},
    "task_get": TASK,
    "task_history": TASK,
    "notification_read": {"notification_ids": ["n"]},
    "device_register": {"platform": "ios", "token": "ab" * 32},
    "device_remove": {"device_id": "phone"},
    "task_bulk": {"items": [{"create": {"title": "one"}}]},
}
"""What a command needs that its fields do not show one by one."""

Wrap = Callable[[Any], Any]
"""Puts a value at its place into valid data of a command."""


def json_kinds(wanted: Any) -> set[str]:
    """The samples that a field of this type accepts."""
    origin = typing.get_origin(wanted)
    if origin in (types.UnionType, typing.Union):
        return set().union(*(json_kinds(one) for one in typing.get_args(wanted)))
    if origin is Literal or (isinstance(wanted, type) and issubclass(wanted, enum.Enum)):
        return {"string"}
    if wanted is Any:
        return set(SAMPLES)
    if origin is list:
        return {"array"}
    if origin is dict or attrs.has(wanted):
        return {"object"}
    return {
        type(None): {"null"},
        bool: {"boolean"},
        int: {"integer"},
        float: {"integer", "float"},
        str: {"string"},
    }[wanted]


def least_data(cls: type) -> dict[str, Any]:
    """Values for the fields that have no default."""
    hints = typing.get_type_hints(cls)
    return {one.name: least_value(hints[one.name]) for one in attrs.fields(cls) if one.default is attrs.NOTHING}


def least_value(wanted: Any) -> Any:
    """A small value of this type."""
    origin = typing.get_origin(wanted)
    if origin in (types.UnionType, typing.Union):
        return least_value(next(one for one in typing.get_args(wanted) if one is not type(None)))
    if origin is Literal:
        return typing.get_args(wanted)[0]
    if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
        return next(iter(wanted)).value
    if origin is list:
        return [least_value(typing.get_args(wanted)[0])]
    if origin is dict:
        return {}
    if attrs.has(wanted):
        return least_data(wanted)
    return {bool: True, int: 1, float: 1.0, str: "one", Any: {}}[wanted]


VALID: dict[str, dict[str, Any]] = {
    kind: NEEDS_MORE.get(kind) or least_data(command.data)
    for kind, command in COMMANDS.items()
    if command.data not in FREE
}
"""The least data of each command whose data has fields."""


def wrong_values() -> Iterator[tuple[str, str, Any, str]]:
    """(command, path of the field, data with one value of a wrong type, that type) for every field, nested ones too."""
    for kind, valid in VALID.items():
        yield from _wrong_fields(kind, COMMANDS[kind].data, "data", valid, lambda data: data)


def _wrong_fields(
    kind: str, cls: type, path: str, valid: dict[str, Any], wrap: Wrap
) -> Iterator[tuple[str, str, Any, str]]:
    for name, wanted in typing.get_type_hints(cls).items():

        def put(value: Any, name: str = name) -> Any:
            return wrap({**valid, name: value})

        yield from _wrong_value(kind, wanted, f"{path}.{name}", put)


def _wrong_value(kind: str, wanted: Any, path: str, wrap: Wrap) -> Iterator[tuple[str, str, Any, str]]:
    allowed = json_kinds(wanted)
    for sample, value in SAMPLES.items():
        if sample not in allowed:
            yield kind, path, wrap(value), sample
    for part in typing.get_args(wanted) if _is_union(wanted) else (wanted,):
        if typing.get_origin(part) is list:
            yield from _wrong_value(kind, typing.get_args(part)[0], f"{path}[0]", lambda value: wrap([value]))
        elif typing.get_origin(part) is dict:
            yield from _wrong_value(kind, typing.get_args(part)[1], f"{path}.7", lambda value: wrap({"7": value}))
        elif attrs.has(part):
            yield from _wrong_fields(kind, part, path, least_data(part), wrap)


def _is_union(wanted: Any) -> bool:
    return typing.get_origin(wanted) in (types.UnionType, typing.Union)
