"""Passes bytes between a client and a server, and cuts each connection after so many from the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from urllib.parse import urlsplit

import trio

__all__ = ["cutting_proxy"]

BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


@asynccontextmanager
async def cutting_proxy(url: str, *bytes_before_cut: int) -> AsyncIterator[str]:
    """An address that leads to ``url``; connection n is cut after the n-th number of bytes, later ones never."""
    budgets = list(bytes_before_cut)
    target = urlsplit(url)
    assert target.hostname is not None
    assert target.port is not None

    async def pump(source: trio.SocketStream, sink: trio.SocketStream, budget: float, scope: trio.CancelScope) -> None:
        with suppress(*BROKEN):
            async for chunk in source:
                await sink.send_all(chunk[: int(min(budget, len(chunk)))])
                budget -= len(chunk)
                if budget <= 0:
                    break
        scope.cancel()

    async def serve(client: trio.SocketStream) -> None:
        budget = budgets.pop(0) if budgets else float("inf")
        async with await trio.open_tcp_stream(target.hostname, target.port) as server, trio.open_nursery() as nursery:
            nursery.start_soon(pump, client, server, float("inf"), nursery.cancel_scope)
            nursery.start_soon(pump, server, client, budget, nursery.cancel_scope)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}{target.path}"
        nursery.cancel_scope.cancel()
