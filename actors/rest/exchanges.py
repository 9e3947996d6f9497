"""The requests that are being answered now, and their end with the token that began them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog
import trio
from attrs import define, field

from actors.access.messages import AwaitTokenChange, FindEnded
from actors.token_changes import until_tokens_may_have_changed
from runtime import ActorRef, RuntimeFault

__all__ = ["IN_FLIGHT", "Exchanges", "InFlight", "end_with_tokens"]

_log = structlog.get_logger("rest")

IN_FLIGHT = "leanvibe.in_flight"
"""Key in a request's ASGI scope: its `InFlight`."""
LAST_WORD_SECONDS = 0.5
"""To write why it was ended; then the connection of a client that takes nothing is cut."""
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
    has_begun: bool = False
    """Whether a part of its answer was handed to the socket."""
    is_whole: bool = False
    """Whether all of it was."""
    status: int | None = None
    """Of the answer, once it has begun."""
    route: str | None = None
    """The rule that its path matched, as `/tasks/<task_id>`."""
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    """Around the application."""
    _ended_at: float = 0.0

    def end(self, reason: str) -> None:
        """Its token has ended. Called again and again, it waits no longer for a word that nobody takes."""
        if self.ended_because is not None:
            if trio.current_time() - self._ended_at >= LAST_WORD_SECONDS:
                self.stream.socket.close()
            return
        self._ended_at = trio.current_time()
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


async def end_with_tokens(exchanges: Exchanges, access: ActorRef[FindEnded | AwaitTokenChange]) -> None:
    """Look at each change of tokens, and now and then, until cancelled, which have ended whose requests are being answered.

    As the inference actor does for generations: asked again and again, so nothing is missed when either is started anew.
    """
    seen: int | None = None
    while True:
        seen = await until_tokens_may_have_changed(access, seen)
        domains = exchanges.domains()
        if not domains:
            continue
        try:
            exchanges.end(await access.ask(FindEnded(domains), timeout=ASK_SECONDS))
        except RuntimeFault as error:
            # It is being started again, and is asked anew in a moment.
            _log.debug("tokens not looked at", error=str(error))
