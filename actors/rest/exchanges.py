"""The requests that are being answered now, and their end with the token that began them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog
import trio
from attrs import define, field

from actors.access.messages import FindEnded
from runtime import ActorRef, RuntimeFault

__all__ = ["IN_FLIGHT", "LOOK_SECONDS", "Exchanges", "InFlight", "end_with_tokens"]

_log = structlog.get_logger("rest")

IN_FLIGHT = "leanvibe.in_flight"
"""Key in a request's ASGI scope: its `InFlight`."""
LOOK_SECONDS = 0.5
"""A request outlives its token by this long; a write that nobody takes, by twice as long."""
ASK_SECONDS = 2.0


@define(eq=False)
class InFlight:
    """One request that is being answered."""

    stream: trio.SocketStream
    domain: str | None = None
    """Security domain of whoever asked (`Identity.domain`), once that is known and where it matters."""
    ended_because: str | None = None
    """Why it was ended before its time."""
    received_bytes: Callable[[], int] = lambda: 0
    """How much of its body has come."""
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    """Around the application."""

    def end(self, reason: str) -> None:
        """Its token has ended. Called again, it does not wait for a word that nobody takes."""
        if self.ended_because is not None:
            self.stream.socket.close()
        self.ended_because = reason
        self.scope.cancel(reason=reason)


class Exchanges:
    """All requests that are being answered now."""

    def __init__(self) -> None:
        self._in_flight: set[InFlight] = set()
        self._none = trio.Event()
        self._none.set()

    def __len__(self) -> int:
        return len(self._in_flight)

    @contextmanager
    def enter(self, stream: trio.SocketStream) -> Iterator[InFlight]:
        """A block that answers one more."""
        if not self._in_flight:
            self._none = trio.Event()
        one = InFlight(stream)
        self._in_flight.add(one)
        try:
            yield one
        finally:
            self._in_flight.discard(one)
            if not self._in_flight:
                self._none.set()

    async def until_none(self) -> None:
        """Wait for a moment in which no request is being answered."""
        await self._none.wait()

    def domains(self) -> frozenset[str]:
        """Whose requests there are."""
        return frozenset(one.domain for one in self._in_flight if one.domain is not None)

    def end(self, ended: Mapping[str, str]) -> None:
        """End the requests of these domains."""
        for one in list(self._in_flight):
            reason = None if one.domain is None else ended.get(one.domain)
            if reason is not None:
                one.end(reason)


async def end_with_tokens(exchanges: Exchanges, access: ActorRef[FindEnded]) -> None:
    """Look, until cancelled, which tokens have ended whose requests are being answered.

    As the inference actor does for generations: asked again and again, so nothing is missed when either is started anew.
    """
    while True:
        await trio.sleep(LOOK_SECONDS)
        domains = exchanges.domains()
        if not domains:
            continue
        try:
            exchanges.end(await access.ask(FindEnded(domains), timeout=ASK_SECONDS))
        except RuntimeFault as error:
            # It is being started again, and is asked anew in a moment.
            _log.debug("tokens not looked at", error=str(error))
