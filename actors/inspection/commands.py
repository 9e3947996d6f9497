"""Commands of the inspection socket, answered from the runtime's records: one JSON object in, lines out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import trio
from attrs import asdict

from actors.inspection.token_commands import TOKEN_COMMANDS
from runtime import ActorSystem, AskDeadline, Refused, RuntimeFault
from runtime.inspection import TreeNode, actor_snapshot, readiness, restart, suspend, tree, tree_node

__all__ = ["answers"]

RATE_SECONDS = 0.25
"""Window over which messages per second are counted."""
SNAPSHOT_SECONDS = 1.0
PAYLOAD_CHARACTERS = 200
OWN_PATH = "inspection"


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


_Simple = Callable[[ActorSystem, dict[str, Any]], Awaitable[dict[str, Any]]]

_SIMPLE: dict[str, _Simple] = {
    **TOKEN_COMMANDS,
    "tree": _tree,
    "state": _state,
    "suspend": _suspend,
    "resume": _resume,
    "restart": _restart,
    "dead_letters": _dead_letters,
}
