"""Calls of the application for hypercorn's connections: whoever leaves ends one, and one that is over is waited for by nobody.

hypercorn hands parts of a body on through a queue of ten, and waits without end for room in it; so a connection whose application
answers without reading, or has failed, would wait for ever with the socket of a client that is long gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

__all__ = ["ApplicationCalls"]

_DISCONNECT = "http.disconnect"


class ApplicationCalls:
    """hypercorn's task group of one connection, with such a queue for each request."""

    def __init__(self, task_group: Any) -> None:
        """``task_group`` is hypercorn's own."""
        self._task_group = task_group

    def spawn(self, function: Callable[..., Any], *arguments: Any) -> None:
        """As hypercorn's."""
        self._task_group.spawn(function, *arguments)

    async def spawn_app(self, app: Any, config: Any, scope: Any, send: Any) -> Callable[[Any], Awaitable[None]]:
        """Call the application in a task of its own; what is returned hands a message on, or forgets it once nobody reads."""
        put, take = trio.open_memory_channel[Any](config.max_app_queue_size)
        await self._task_group.spawn_app(partial(_call, app, take), config, scope, send)

        async def hand_on(message: Any) -> None:
            if message["type"] == _DISCONNECT:
                # Behind what waits, and without waiting for room; a part that still does is forgotten.
                put.close()
                return
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await put.send(message)

        return hand_on


async def _call(
    app: Any, take: trio.MemoryReceiveChannel[Any], scope: Any, _receive: Any, send: Any, *others: Any
) -> None:
    async def receive() -> Any:
        try:
            return await take.receive()
        except trio.EndOfChannel:
            return {"type": _DISCONNECT}

    with take:
        await app(scope, receive, send, *others)
