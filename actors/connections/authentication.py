"""Authenticates a connection, and again after every restart of the access service."""

from __future__ import annotations

import trio

from actors.access.messages import CheckIdentity, Identity, IdentityWithdrawn
from protocol.commands import Hello
from runtime import ActorRef, RuntimeFault

__all__ = ["authenticate", "reauthenticate"]

ASK_SECONDS = 5.0
PAUSE_SECONDS = 0.25


async def authenticate(access: ActorRef[CheckIdentity], hello: Hello, session: ActorRef[IdentityWithdrawn]) -> Identity:
    """Who said this hello. Raises `AuthenticationError`; ``holder`` is told later when its token ends."""
    identity: Identity = await access.ask(
        CheckIdentity(client_id=hello.client_id, token=hello.token, session=session), timeout=ASK_SECONDS
    )
    return identity


async def reauthenticate(
    access: ActorRef[CheckIdentity], hello: Hello, session: ActorRef[IdentityWithdrawn]
) -> Identity:
    """The same once the access room is back: it has forgotten who entered. Raises `AuthenticationError`; waits till then."""
    while True:
        try:
            return await authenticate(access, hello, session)
        except RuntimeFault:
            # It is being started again; there is nothing to wait on but its being there.
            await trio.sleep(PAUSE_SECONDS)
