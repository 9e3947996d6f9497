"""Checks that the broker is fit for a cluster, before anything is started."""

from __future__ import annotations

from typing import Any

import trio

from actors.cluster.configuration import BrokerAddress
from actors.settings import SettingsFault

__all__ = ["check_broker", "require_broker"]

OLDEST = 7
CHECK_SECONDS = 5.0


def require_broker(address: BrokerAddress) -> None:
    """Raise `SettingsFault`, which says what to do, unless the broker answers, is new enough and evicts nothing. Blocking."""
    trio.run(check_broker, address)


async def check_broker(address: BrokerAddress) -> None:
    """The same in a running loop."""
    from coredis.exceptions import AuthenticationError, AuthorizationError, RedisError

    from actors.cluster.redis_client import leaves, open_client

    try:
        with trio.fail_after(CHECK_SECONDS):
            async with open_client(address, connections=1) as client:
                server: dict[str, Any] = await client.info("server", "memory")
    except (Exception, BaseExceptionGroup) as error:
        # The client raises groups of whatever went wrong in its tasks; what is not about the broker is raised on.
        causes = leaves(error)
        if any(isinstance(one, AuthenticationError | AuthorizationError) for one in causes):
            raise SettingsFault(
                f"the broker at {address} refused this node: `broker` needs a user and password with "
                "access to every command on keys that begin with `lv:`, and to INFO"
            ) from None
        expected = (RedisError, OSError, trio.TooSlowError, TimeoutError)
        if not all(isinstance(one, expected) for one in causes):
            raise
        said = " ".join(str(causes[0].__cause__ or causes[0]).split()) or "no answer"
        raise SettingsFault(
            f"the broker at {address} cannot be reached: {said}; check that it runs there, and that `broker` is correct"
        ) from None
    problem = _problem(server)
    if problem is not None:
        raise SettingsFault(f"the broker at {address} {problem}")


def _problem(server: dict[str, Any]) -> str | None:
    """Return why this broker is unfit for a cluster, or None. Valkey also reports the version of Redis it is compatible with."""
    version = str(server.get("redis_version", "0"))
    if int(version.partition(".")[0] or 0) < OLDEST:
        return f"has version {version}; a cluster needs Redis {OLDEST}, or Valkey"
    policy = server.get("maxmemory_policy")
    if policy != "noeviction":
        return (
            f"evicts data when its memory is full (maxmemory-policy {policy}); "
            "set maxmemory-policy noeviction in its configuration"
        )
    return None
