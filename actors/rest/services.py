"""What every group of routes asks of a request: who asks, and what its body says."""

from __future__ import annotations

import re
import types
import typing
from typing import Any

from quart import g, request

from actors.access.messages import AuthenticationError, CheckIdentity, Identity
from actors.refusals import CommandRefused
from actors.rest.exchanges import IN_FLIGHT, InFlight
from actors.rest.references import Services
from actors.storage.messages import IdempotencyKey
from protocol.codec import command_digest, structure
from protocol.errors import ErrorCode, InvalidField
from protocol.json_text import parse_object
from protocol.validation import is_client_name, printable_ascii

__all__ = [
    "REST_DEVICE",
    "Services",
    "bearer_token",
    "body_as",
    "caller",
    "idempotency_key",
    "identity",
    "json_body",
    "query_as",
]

ACCESS_SECONDS = 5.0
REST_DEVICE = ":rest"
"""Device of idempotency keys that come over REST; no device can be called so."""
_INTEGER = re.compile(r"-?[0-9]{1,16}")
_NUMBER = re.compile(r"-?[0-9]{1,16}(\.[0-9]{1,16})?")
_BOOLEANS = {"true": True, "false": False}


async def identity(services: Services, client_id: str | None = None) -> Identity:
    """Who asks. ``client_id`` is the one of the path; else `X-Client-Id`, the token's first, or `local`.

    Raises `CommandRefused`: `unauthorized` without a good token, `not_found` for what belongs to another client.
    """
    wanted = client_id if client_id is not None else request.headers.get("X-Client-Id")
    known: tuple[str | None, Identity] | None = g.get("identity")
    if known is not None and known[0] == wanted:
        return known[1]
    try:
        found: Identity = await services.access.ask(
            CheckIdentity(client_id=wanted, token=bearer_token(), may_be_needless=True),
            timeout=g.get("access_seconds", ACCESS_SECONDS),
        )
    except AuthenticationError as refusal:
        if not refusal.is_forbidden:
            raise CommandRefused(ErrorCode.UNAUTHORIZED, str(refusal)) from None
        if client_id is not None:
            # What another client owns is not even there.
            raise CommandRefused(ErrorCode.NOT_FOUND, "there is no such thing here") from None
        raise CommandRefused(ErrorCode.FORBIDDEN, str(refusal), field="X-Client-Id") from None
    if not is_client_name(found.client_id):
        raise CommandRefused(
            ErrorCode.INVALID_FIELD,
            "a client id has 1 to 64 letters, digits, dots, dashes and underscores",
            field="X-Client-Id" if client_id is None else "client_id",
        )
    g.identity = (wanted, found)
    in_flight: InFlight = request.scope[IN_FLIGHT]  # type: ignore[literal-required]
    in_flight.domain = found.domain
    return found


def caller() -> str:
    """Which program asks, where it says no name and so shares `local`, or its token's client, with others: its connection.

    Only turns are taken by it (`sandbox/turns.py`); what it asks for belongs to the client id.
    """
    address = request.scope.get("client")
    if address is None or "X-Client-Id" in request.headers:
        return ""
    return f"{address[0]}:{address[1]}"


def bearer_token() -> str | None:
    """The token of the `Authorization` header (RFC 6750), or of `x-api-key`, as Anthropic's clients send it; None without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.headers.get("X-Api-Key")


async def body_as(wanted: type, *, prefix: str = "body") -> Any:
    """The request's JSON body, checked by the codec that the WebSocket uses. Raises `ProtocolFault`."""
    return structure(await json_body(prefix=prefix), wanted, prefix=prefix)


async def json_body(*, any_integers: bool = False, prefix: str = "body") -> dict[str, Any]:
    """The request's JSON body, an object as `object_in_steps` reads it. Raises `ProtocolFault`, and `CommandRefused` for
    a long one whose sender has been found to send nonsense since it was taken.
    """
    text = await request.get_data()
    read = g.get("read_object")
    if read is None:
        return parse_object(text, any_integers=any_integers, prefix=prefix)
    body: dict[str, Any] = await read(text, any_integers=any_integers, prefix=prefix)
    return body


async def idempotency_key(who: Identity, kind: str) -> IdempotencyKey | None:
    """The request's `Idempotency-Key`, bound to its method, path and body; None without one."""
    command_id = request.headers.get("Idempotency-Key")
    if command_id is None:
        return None
    if not printable_ascii(command_id):
        raise CommandRefused(
            ErrorCode.INVALID_FIELD,
            "Idempotency-Key must have 1 to 64 printable ASCII characters",
            field="Idempotency-Key",
        )
    # Whatever the bytes are: what is no UTF-8 is refused when the body is read.
    raw = await request.get_data()
    body = raw if isinstance(raw, str) else raw.decode("latin-1")
    digest = command_digest(f"{kind} {request.method} {request.full_path}", body)
    return IdempotencyKey(client_id=who.client_id, device_id=REST_DEVICE, command_id=command_id, digest=digest)


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
