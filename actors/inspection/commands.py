"""Commands of the inspection socket, answered from the runtime's records: one JSON object in, lines out.

Token commands need no token: a caller that can open the socket owns the data folder.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import trio
from attrs import asdict

from actors.access.messages import CreateToken, EnsureLocalToken, ForgetTokens, ListTokens, OfferToken, RevokeToken
from runtime import ActorSystem, AskDeadline, Refused, RuntimeFault
from runtime.inspection import TreeNode, actor_snapshot, readiness, restart, suspend, tree, tree_node

__all__ = ["answers"]

RATE_SECONDS = 0.25
"""Window over which messages per second are counted."""
SNAPSHOT_SECONDS = 1.0
PAYLOAD_CHARACTERS = 200
OWN_PATH = "inspection"
ACCESS_SECONDS = 8.0


async def answers(system: ActorSystem, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Yield one object per line. Invalid commands and unknown paths are answered with `error`."""
    command = request.get("command")
    if command == "trace":
        async with aclosing(_trace(system, request)) as lines:
            async for line in lines:
                yield line
        return
    simple = _SIMPLE.get(str(command))
    if simple is None:
        yield {"error": f"unknown command {command!r}; known are {', '.join(sorted([*_SIMPLE, 'trace']))}"}
        return
    try:
        yield await simple(system, request)
    except Refused as refusal:
        yield {"error": str(refusal)}
    except (RuntimeFault, KeyError, TypeError, ValueError) as error:
        yield {"error": _sentence(error)}


def _sentence(error: Exception) -> str:
    """Return an error as a sentence for people; one without text is named by its kind."""
    if isinstance(error, KeyError):
        return f"the command needs {error}"
    return str(error) or type(error).__name__


async def _tree(system: ActorSystem, request: dict[str, Any]) -> dict[str, Any]:
    before = _handled(tree(system))
    await trio.sleep(RATE_SECONDS)
    root = tree(system, stacks=bool(request.get("stacks")))
    state = readiness(system)
    watch = system.loop_watchdog
    return {
        "tree": _with_rates(asdict(root), before),
        "is_ready": state.is_ready,
        "reasons": list(state.reasons),
        "degraded": list(state.degraded),
        "dead_letters": system.dead_letters.total,
        "slow_steps": 0 if watch is None else watch.slow_count,
    }


def _handled(node: TreeNode) -> dict[tuple[str, int], int]:
    counts = {(node.path, node.incarnation): node.handled or 0}
    for one in node.children:
        counts |= _handled(one)
    return counts


def _with_rates(node: dict[str, Any], before: dict[tuple[str, int], int]) -> dict[str, Any]:
    if node["handled"] is not None:
        earlier = before.get((node["path"], node["incarnation"]), 0)
        node["messages_per_second"] = max(0, node["handled"] - earlier) / RATE_SECONDS
    node["children"] = [_with_rates(one, before) for one in node["children"]]
    return node


async def _state(system: ActorSystem, request: dict[str, Any]) -> dict[str, Any]:
    path = str(request["path"])
    try:
        return {"path": path, "snapshot": dict(await actor_snapshot(system, path, timeout=SNAPSHOT_SECONDS))}
    except AskDeadline:
        node = tree_node(system, path)
        return {
            "path": path,
            "busy_with": node.current_message,
            "age_seconds": node.current_age_seconds,
            "stack": list(node.stack),
        }


async def _suspend(system: ActorSystem, request: dict[str, Any]) -> dict[str, Any]:
    suspend(system, str(request["path"]), suspended=True)
    await trio.lowlevel.checkpoint()
    return {"suspended": request["path"]}


async def _resume(system: ActorSystem, request: dict[str, Any]) -> dict[str, Any]:
    suspend(system, str(request["path"]), suspended=False)
    await trio.lowlevel.checkpoint()
    return {"resumed": request["path"]}


async def _restart(system: ActorSystem, request: dict[str, Any]) -> dict[str, Any]:
    path = str(request["path"])
    if path == OWN_PATH:
        raise ValueError("the inspection actor cannot restart itself and answer; its supervisor does when it crashes")
    await restart(system, path)
    return {"restarted": path, "incarnation": system.record(path).incarnation}


async def _dead_letters(system: ActorSystem, request: dict[str, Any]) -> dict[str, Any]:
    now = trio.current_time()
    await trio.lowlevel.checkpoint()
    return {
        "total": system.dead_letters.total,
        "counts": dict(system.dead_letters.counts),
        "last": [
            {
                "path": one.path,
                "message_type": type(one.message).__name__,
                "reason": one.reason,
                "age_seconds": now - one.time,
                **({"message": repr(one.message)[:PAYLOAD_CHARACTERS]} if request.get("payload") else {}),
            }
            for one in system.dead_letters.last
        ],
    }


async def _trace(system: ActorSystem, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Yield trace records up to the limit. The session also ends when the reader disconnects."""
    try:
        rate, maximum = float(request.get("rate", 50)), int(request.get("maximum", 1000))
        if not 0 < rate <= 10_000 or not 1 <= maximum <= 1_000_000:
            raise ValueError("rate must be in (0, 10000] and maximum in [1, 1000000]")
        trace_session = system.open_trace(str(request["path"]), rate_per_second=rate, maximum=maximum)
    except Refused as refusal:
        yield {"error": str(refusal)}
        return
    except (RuntimeFault, KeyError, TypeError, ValueError, OverflowError) as error:
        yield {"error": _sentence(error)}
        return
    began = trio.current_time()
    yield {"tracing": request["path"], "rate": rate, "maximum": maximum}
    try:
        async for record in trace_session.records:
            line = {
                "direction": record.direction,
                "other": record.other,
                "message_type": record.message_type,
                "seconds": record.time - began,
            }
            if request.get("payload"):
                line["message"] = repr(record.message)[:PAYLOAD_CHARACTERS]
            yield line
    finally:
        trace_session.close()
    yield {"ended": True, "skipped": trace_session.skipped}


def _wanted(request: dict[str, Any]) -> CreateToken:
    expires_ms = request.get("expires_ms")
    return CreateToken(
        client_ids=_texts(request["client_ids"]),
        roles=_texts(request["roles"]),
        name=str(request.get("name", "")),
        expires_ms=None if expires_ms is None else int(expires_ms),
    )


async def _token_create(system: ActorSystem, request: dict[str, Any]) -> dict[str, Any]:
    made = await system.reference("access").ask(_wanted(request), timeout=ACCESS_SECONDS)
    return {"token": made.token, **asdict(made.description)}


async def _token_offer(system: ActorSystem, request: dict[str, Any]) -> dict[str, Any]:
    offer = await system.reference("access").ask(OfferToken(_wanted(request)), timeout=ACCESS_SECONDS)
    return {"code": offer.code, "seconds": offer.seconds}


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("a list of strings is required")
    return tuple(value)


async def _token_list(system: ActorSystem, _: dict[str, Any]) -> dict[str, Any]:
    tokens = await system.reference("access").ask(ListTokens(), timeout=ACCESS_SECONDS)
    return {"tokens": [asdict(one) for one in tokens]}


async def _token_revoke(system: ActorSystem, request: dict[str, Any]) -> dict[str, Any]:
    return asdict(await system.reference("access").ask(RevokeToken(str(request["token_id"])), timeout=ACCESS_SECONDS))


async def _token_forget(system: ActorSystem, _: dict[str, Any]) -> dict[str, Any]:
    return {"forgotten": await system.reference("access").ask(ForgetTokens(), timeout=ACCESS_SECONDS)}


async def _token_local(system: ActorSystem, _: dict[str, Any]) -> dict[str, Any]:
    """Write the command line's token to the data folder if it is missing. It is never returned."""
    return {"has_tokens": await system.reference("access").ask(EnsureLocalToken(), timeout=ACCESS_SECONDS)}


_Simple = Callable[[ActorSystem, dict[str, Any]], Awaitable[dict[str, Any]]]

_SIMPLE: dict[str, _Simple] = {
    "tree": _tree,
    "state": _state,
    "suspend": _suspend,
    "resume": _resume,
    "restart": _restart,
    "dead_letters": _dead_letters,
    "token_create": _token_create,
    "token_offer": _token_offer,
    "token_list": _token_list,
    "token_revoke": _token_revoke,
    "token_forget": _token_forget,
    "token_local": _token_local,
}
