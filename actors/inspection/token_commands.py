"""Token commands of the inspection socket. A caller that can open it owns the data folder and may manage tokens."""

from __future__ import annotations

from typing import Any

from attrs import asdict

from actors.access.messages import CreateToken, EnsureLocalToken, ForgetTokens, ListTokens, OfferToken, RevokeToken
from runtime import ActorSystem

__all__ = ["TOKEN_COMMANDS"]

ASK_SECONDS = 8.0


def _wanted(request: dict[str, Any]) -> CreateToken:
    expires_ms = request.get("expires_ms")
    return CreateToken(
        client_ids=_texts(request["client_ids"]),
        roles=_texts(request["roles"]),
        name=str(request.get("name", "")),
        expires_ms=None if expires_ms is None else int(expires_ms),
    )


async def _create(system: ActorSystem, request: dict[str, Any]) -> dict[str, Any]:
    made = await system.reference("access").ask(_wanted(request), timeout=ASK_SECONDS)
    return {"token": made.token, **asdict(made.description)}


async def _offer(system: ActorSystem, request: dict[str, Any]) -> dict[str, Any]:
    offer = await system.reference("access").ask(OfferToken(_wanted(request)), timeout=ASK_SECONDS)
    return {"code": offer.code, "seconds": offer.seconds}


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("a list of strings is needed")
    return tuple(value)


async def _list(system: ActorSystem, _: dict[str, Any]) -> dict[str, Any]:
    tokens = await system.reference("access").ask(ListTokens(), timeout=ASK_SECONDS)
    return {"tokens": [asdict(one) for one in tokens]}


async def _revoke(system: ActorSystem, request: dict[str, Any]) -> dict[str, Any]:
    return asdict(await system.reference("access").ask(RevokeToken(str(request["token_id"])), timeout=ASK_SECONDS))


async def _forget(system: ActorSystem, _: dict[str, Any]) -> dict[str, Any]:
    return {"forgotten": await system.reference("access").ask(ForgetTokens(), timeout=ASK_SECONDS)}


async def _local(system: ActorSystem, _: dict[str, Any]) -> dict[str, Any]:
    """Write the command line's token to the data folder if it is missing. It is never returned."""
    return {"has_tokens": await system.reference("access").ask(EnsureLocalToken(), timeout=ASK_SECONDS)}


TOKEN_COMMANDS = {
    "token_create": _create,
    "token_offer": _offer,
    "token_list": _list,
    "token_revoke": _revoke,
    "token_forget": _forget,
    "token_local": _local,
}
