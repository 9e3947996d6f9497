"""The requests being answered, and their cancellation when the token that authorized them expires."""

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
"""Time allowed for writing the final error; then the connection of a client that does not read is cut."""
ASK_SECONDS = 2.0


@define(eq=False)
class InFlight:
    """A request being answered."""

    stream: trio.SocketStream
    domain: str | None = None
    """Security domain of the client (`Identity.domain`), once it is known and matters."""
    ended_because: str | None = None
    """Reason for a premature end."""
    received_bytes: Callable[[], int] = lambda: 0
    """Returns the number of body bytes received."""
    has_begun: bool = False
    """True once part of the answer was handed to the socket."""
    is_whole: bool = False
    """True once the whole answer was."""
    status: int | None = None
    """Status code of the answer, once it has begun."""
    route: str | None = None
    """The rule that its path matched, such as `/tasks/<task_id>`."""
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    """Cancels the application's task."""
    _ended_at: float = 0.0

    def end(self, reason: str) -> None:
        """Cancel the request because its token expired. Further calls cut the connection if the final error is not
        read in time.
        """
        if self.ended_because is not None:
            if trio.current_time() - self._ended_at >= LAST_WORD_SECONDS:
                self.stream.socket.close()
            return
        self._ended_at = trio.current_time()
        self.ended_because = reason
        self.scope.cancel(reason=reason)


class Exchanges:
    """The requests being answered."""

    def __init__(self) -> None:
        self._in_flight: set[InFlight] = set()
        self._none = trio.Event()
        self._none.set()

    def __len__(self) -> int:
        return len(self._in_flight)

    @contextmanager
    def enter(self, stream: trio.SocketStream) -> Iterator[InFlight]:
        """Register a request for the duration of the block."""
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
        """Wait until no request is being answered."""
        await self._none.wait()

    def domains(self) -> frozenset[str]:
        """Security domains of the running requests."""
        return frozenset(one.domain for one in self._in_flight if one.domain is not None)

    def end(self, ended: Mapping[str, str]) -> None:
        """Cancel the requests of these domains."""
        for one in list(self._in_flight):
            reason = None if one.domain is None else ended.get(one.domain)
            if reason is not None:
                one.end(reason)


async def end_with_tokens(exchanges: Exchanges, access: ActorRef[FindEnded | AwaitTokenChange]) -> None:
    """Cancel requests whose tokens have expired, checking at each change of tokens and periodically. Runs until
    cancelled.

    Like the inference actor's check of generations: polling covers restarts of either side.
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
            # The access actor is restarting and is asked again shortly.
            _log.debug("tokens not looked at", error=str(error))
