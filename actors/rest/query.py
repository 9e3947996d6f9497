"""A request's query as a class of the protocol, checked by the codec that bodies and the WebSocket go through."""

from __future__ import annotations

import re
import types
import typing
from typing import Any

from quart import request

from actors.refusals import CommandRefused
from protocol.codec import structure
from protocol.errors import ErrorCode, InvalidField

__all__ = ["query_as"]

_INTEGER = re.compile(r"-?[0-9]{1,16}")
_NUMBER = re.compile(r"-?[0-9]{1,16}(\.[0-9]{1,16})?")
_BOOLEANS = {"true": True, "false": False}


def query_as(wanted: type, *, passes_over: bool = False, **known: Any) -> Any:
    """The query's parameters; one of a list may be given several times. Raises `ProtocolFault`, `CommandRefused`.

    ``known`` fields come from elsewhere, so the query may not have them. With ``passes_over`` parameters that nobody knows
    are no error: other people's clients send theirs.
    """
    hints = typing.get_type_hints(wanted)
    values: dict[str, Any] = dict(known)
    for name, texts in request.args.lists():
        if passes_over and name not in hints:
            continue
        if name in known:
            raise InvalidField(f"query.{name} is not a parameter of this request", field=f"query.{name}")
        types_of_field = _parts(hints.get(name, str))
        is_list = any(typing.get_origin(one) is list for one in types_of_field)
        if is_list:
            values[name] = texts
        elif len(texts) == 1:
            values[name] = _value(texts[0], types_of_field)
        else:
            path = f"query.{name}"
            raise CommandRefused(ErrorCode.INVALID_FIELD, f"{path} is given {len(texts)} times", field=path)
    return structure(values, wanted, prefix="query")


def _parts(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def _value(text: str, wanted: tuple[Any, ...]) -> Any:
    """What the text says in the field's type; as it stands where it says none, which the codec then refuses."""
    if bool in wanted:
        return _BOOLEANS.get(text, text)
    if int in wanted and _INTEGER.fullmatch(text):
        return int(text)
    if float in wanted and _NUMBER.fullmatch(text):
        return float(text)
    return text
