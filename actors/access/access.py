"""The access actor: asks the rules on behalf of whoever stands at the door."""

from __future__ import annotations

from actors.access.messages import CheckDoor, CheckIdentity, EntryRefused, Identity
from actors.access.rules import host_problem, origin_problem
from runtime import Actor, reject

__all__ = ["Access"]

LOCAL_CLIENT = "local"
"""Whose things they are when nobody says otherwise."""


class Access(Actor[CheckDoor | CheckIdentity]):
    """Stateless but for its settings. Without tokens the server listens on loopback alone."""

    mailbox = reject(1024)

    def __init__(self, *, allowed_hosts: frozenset[str], allowed_origins: frozenset[str]) -> None:
        self._allowed_hosts = allowed_hosts
        self._allowed_origins = allowed_origins

    async def handle(self, message: CheckDoor | CheckIdentity) -> Identity | None:
        match message:
            case CheckDoor(host=host, origin=origin):
                problem = host_problem(host, self._allowed_hosts) or origin_problem(origin, self._allowed_origins)
                if problem is not None:
                    raise EntryRefused(problem, is_forbidden=True)
                return None
            case CheckIdentity(client_id=client_id, token=token):
                if token is not None:
                    # Silently taking a token that nothing checks would look like protection.
                    raise EntryRefused("this server has no tokens configured; send none", is_forbidden=False)
                return Identity(client_id=client_id or LOCAL_CLIENT)
