"""Opening coredis's client so that no command waits longer than we say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from coredis import Redis
from coredis.retry import NoRetryPolicy

from actors.cluster.configuration import BrokerAddress

__all__ = ["COMMAND_SECONDS", "leaves", "open_client"]

COMMAND_SECONDS = 2.0
"""After which a command has failed; whether it was carried out is then unknown, so each is repeatable."""


@asynccontextmanager
async def open_client(
    address: BrokerAddress, *, connections: int, command_seconds: float = COMMAND_SECONDS
) -> AsyncIterator[Redis[bytes]]:
    """A client whose tasks end with the block. It connects at the first command, and again after each cut."""
    client = Redis(
        address.host,
        address.port,
        address.database,
        username=address.username,
        password=address.password,
        ssl=address.tls is not None,
        ssl_context=address.tls,
        stream_timeout=command_seconds,
        connect_timeout=command_seconds,
        pool_timeout=command_seconds,
        max_connections=connections,
        client_name="leanvibe",
        # Who asked knows better whether to ask again.
        retry_policy=NoRetryPolicy(),
    )
    async with client:
        yield client


def leaves(error: BaseException) -> list[BaseException]:
    """The errors within a group, however deep; the client raises groups of what went wrong in its tasks."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in leaves(one)]
    return [error]
