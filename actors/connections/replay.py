"""Replays pages of missed events, one at a time as the writer drains them, across all streams of a connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from actors.connections.transport import Spawn, WebSocketTransport

__all__ = ["Replayer"]

Pull = Callable[[], Awaitable[bool]]


class Replayer:
    """Fetches a page only once the last one is written: the client sets the pace, and memory never holds two pages."""

    def __init__(self, transport: WebSocketTransport, spawn: Spawn) -> None:
        self._transport = transport
        self._spawn = spawn
        self._wanted: dict[str, Pull] = {}
        self._is_running = False

    def want(self, stream: str, pull: Pull) -> None:
        """Start fetching pages of a stream. ``pull`` fetches one and returns True if there is more."""
        self._wanted[stream] = pull
        if not self._is_running:
            self._is_running = True
            self._spawn(self._run)

    def forget(self, stream: str) -> None:
        """Stop fetching pages of a stream."""
        self._wanted.pop(stream, None)

    def is_wanted(self, stream: str) -> bool:
        """True if pages of the stream are still to be fetched."""
        return stream in self._wanted

    async def _run(self) -> None:
        """Run until nothing is wanted any more. Streams take turns."""
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
