"""Reading a request: the client's identity, the JSON body, the query and the idempotency key."""

from __future__ import annotations

import re
import types
import typing
from typing import Any

from quart import g, request

from actors.access.messages import AuthenticationError, CheckIdentity, Identity
from actors.errors import CommandError
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
"""Device of idempotency keys that arrive over REST; no device can have this name."""
_INTEGER = re.compile(r"-?[0-9]{1,16}")
_NUMBER = re.compile(r"-?[0-9]{1,16}(\.[0-9]{1,16})?")
_BOOLEANS = {"true": True, "false": False}


async def identity(services: Services, client_id: str | None = None) -> Identity:
    """Identify the client. ``client_id`` is the one in the path; else `X-Client-Id`, the token's first client, or
    `local`.

    Raises `CommandError`: `unauthorized` without a valid token, `not_found` for another client's resources.
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
            raise CommandError(ErrorCode.UNAUTHORIZED, str(refusal)) from None
        if client_id is not None:
            # Resources of other clients are reported as missing.
            raise CommandError(ErrorCode.NOT_FOUND, "not found") from None
        raise CommandError(ErrorCode.FORBIDDEN, str(refusal), field="X-Client-Id") from None
    if not is_client_name(found.client_id):
        raise CommandError(
            ErrorCode.INVALID_FIELD,
            "a client id has 1 to 64 letters, digits, dots, dashes and underscores",
            field="X-Client-Id" if client_id is None else "client_id",
        )
    g.identity = (wanted, found)
    in_flight: InFlight = request.scope[IN_FLIGHT]  # type: ignore[literal-required]
    in_flight.domain = found.domain
    return found


def caller() -> str:
    """Identify the program by its connection, for clients without a name, which share `local` or their token's
    client.

    Used only for fair turns (`sandbox/turns.py`); what the program creates belongs to the client id.
    """
    address = request.scope.get("client")
    if address is None or "X-Client-Id" in request.headers:
        return ""
    return f"{address[0]}:{address[1]}"


def bearer_token() -> str | None:
    """Return the token of `Authorization` (RFC 6750), or of `x-api-key`, which Anthropic's clients send; None without
    one.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.headers.get("X-Api-Key")


async def body_as(wanted: type, *, prefix: str = "body") -> Any:
    """Read the request's JSON body, checked by the codec that the WebSocket uses. Raises `ProtocolFault`."""
    return structure(await json_body(prefix=prefix), wanted, prefix=prefix)


async def json_body(*, any_integers: bool = False, prefix: str = "body") -> dict[str, Any]:
    """Read the request's JSON body, an object parsed by `object_in_steps`.

    Raises `ProtocolFault`, and `CommandError` for a long body whose sender has meanwhile exceeded the limit of
    unreadable ones.
    """
    text = await request.get_data()
    read = g.get("read_object")
    if read is None:
        return parse_object(text, any_integers=any_integers, prefix=prefix)
    body: dict[str, Any] = await read(text, any_integers=any_integers, prefix=prefix)
    return body


async def idempotency_key(who: Identity, kind: str) -> IdempotencyKey | None:
    """Build a key from `Idempotency-Key`, bound to method, path and body; None without the header."""
    command_id = request.headers.get("Idempotency-Key")
    if command_id is None:
        return None
    if not printable_ascii(command_id):
        raise CommandError(
            ErrorCode.INVALID_FIELD,
            "Idempotency-Key must have 1 to 64 printable ASCII characters",
            field="Idempotency-Key",
        )
    # Any bytes will do: invalid UTF-8 is rejected when the body is read.
    raw = await request.get_data()
    body = raw if isinstance(raw, str) else raw.decode("latin-1")
    digest = command_digest(f"{kind} {request.method} {request.full_path}", body)
    return IdempotencyKey(client_id=who.client_id, device_id=REST_DEVICE, command_id=command_id, digest=digest)


def query_as(wanted: type, *, passes_over: bool = False, **known: Any) -> Any:
    """Read the query as a class of the protocol, through the codec that bodies use. Lists may repeat a parameter.

    ``known`` fields come from elsewhere, so the query must not contain them. With ``passes_over`` unknown parameters are ignored, because third-party clients send their own. Raises `ProtocolFault`, `CommandError`.
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
            raise CommandError(ErrorCode.INVALID_FIELD, f"{path} is given {len(texts)} times", field=path)
    return structure(values, wanted, prefix="query")


def _parts(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def _value(text: str, wanted: tuple[Any, ...]) -> Any:
    """Convert the text to the field's type; text that does not convert is returned for the codec to reject."""
    if bool in wanted:
        return _BOOLEANS.get(text, text)
    if int in wanted and _INTEGER.fullmatch(text):
        return int(text)
    if float in wanted and _NUMBER.fullmatch(text):
        return float(text)
    return text
