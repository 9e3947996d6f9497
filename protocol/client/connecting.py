"""`connect`: opens a client session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext

import trio

from protocol.client.client import Client
from protocol.client.errors import alone
from protocol.client.reconnecting import Backoff, Change, Retries
from protocol.commands import Hello

__all__ = ["connect"]


@asynccontextmanager
async def connect(
    url: str | Callable[[], str],
    *,
    client_id: str,
    device_id: str = "default",
    agent: str | None = None,
    token: str | None = None,
    reconnect: bool = False,
    detach: bool = False,
    events: bool = False,
    backoff: Backoff | None = None,
    give_up_seconds: float | None = None,
    on_change: Callable[[Change], None] | None = None,
    ssl_context: SSLContext | None = None,
) -> AsyncIterator[Client]:
    """Connects and says hello; leaving the block closes the connection.

    With ``reconnect`` a lost connection is re-established and streams resume. Attempts continue indefinitely, with pauses of up to ten
    seconds, and ``on_change`` is called for each; ``give_up_seconds`` limits the time without a useful connection,
    not counting the time that the machine sleeps. A permanent rejection by the server ends the session at once (`Refused`).
    ``url`` may be a function that is called before each attempt, for a server that changes ports.

    ``detach`` lets answers continue meanwhile; ``events`` follows the durable events of this client id; ``ssl_context``
    determines the certificates trusted at a `wss://` address. Raises `OSError` if nothing listens or no LeanVibe server answers,
    `CommandFailed` if the hello is rejected, `Disconnected`.
    """
    client = Client(
        url if callable(url) else lambda: url,
        Hello(client_id=client_id, device_id=device_id, agent=agent, token=token),
        reconnect=reconnect,
        detach=detach,
        events=events,
        retries=Retries(
            backoff=backoff or Backoff(), give_up_seconds=give_up_seconds, failing_since=trio.current_time()
        ),
        on_change=on_change,
        ssl_context=ssl_context,
    )
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            if reconnect:
                nursery.start_soon(client.watch_for_sleep)
            try:
                yield client
            finally:
                await client.leave()
                nursery.cancel_scope.cancel(reason="the client leaves")
    except BaseExceptionGroup as group:
        raise alone(group) from None
