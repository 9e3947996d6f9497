"""Pages of what a client missed, one after the other as the writer takes them, whatever streams they belong to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import trio

from actors.connections.link import Link

__all__ = ["Replayer"]

Pull = Callable[[], Awaitable[bool]]


class Replayer:
    """Fetches a page only when the last one is with the writer: the client's pace, and never two pages in memory."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._wanted: OrderedDict[str, Pull] = OrderedDict()
        self._has_work = trio.Event()

    def want(self, stream: str, pull: Pull) -> None:
        """Have pages of a stream fetched: ``pull`` fetches one and says whether there is more."""
        self._wanted[stream] = pull
        self._has_work.set()

    def forget(self, stream: str) -> None:
        """Fetch no more of it."""
        self._wanted.pop(stream, None)

    def is_wanted(self, stream: str) -> bool:
        """Whether pages of it are still to be fetched."""
        return stream in self._wanted

    async def run(self) -> None:
        """For as long as the connection lives. Streams take turns."""
        while True:
            await self._has_work.wait()
            while self._wanted:
                await self._link.replay_taken()
                if self._link.is_closing:
                    return
                stream, pull = self._wanted.popitem(last=False)
                if await pull():
                    self._wanted.setdefault(stream, pull)
            self._has_work = trio.Event()
