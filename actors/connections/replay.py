"""Pages of what a client missed, one after the other as the writer takes them, whatever streams they belong to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from actors.connections.transport import Spawn, WebSocketTransport

__all__ = ["Replayer"]

Pull = Callable[[], Awaitable[bool]]


class Replayer:
    """Fetches a page only when the last one is with the writer: the client's pace, and never two pages in memory."""

    def __init__(self, transport: WebSocketTransport, spawn: Spawn) -> None:
        self._transport = transport
        self._spawn = spawn
        self._wanted: dict[str, Pull] = {}
        self._is_running = False

    def want(self, stream: str, pull: Pull) -> None:
        """Have pages of a stream fetched: ``pull`` fetches one and says whether there is more."""
        self._wanted[stream] = pull
        if not self._is_running:
            self._is_running = True
            self._spawn(self._run)

    def forget(self, stream: str) -> None:
        """Fetch no more of it."""
        self._wanted.pop(stream, None)

    def is_wanted(self, stream: str) -> bool:
        """Whether pages of it are still to be fetched."""
        return stream in self._wanted

    async def _run(self) -> None:
        """Until nothing is wanted any more. Streams take turns."""
        try:
            while self._wanted:
                await self._transport.replay_drained()
                if self._transport.is_closing:
                    return
                stream = next(iter(self._wanted))
                pull = self._wanted.pop(stream)
                if await pull():
                    self._wanted.setdefault(stream, pull)
        finally:
            self._is_running = False
