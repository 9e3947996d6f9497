"""A carrier within one process: for tests, and the plainest statement of what a carrier does."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio
from attrs import define, field

from actors.cluster.carrier import (
    ANNOUNCEMENTS_KEPT,
    LOG_SECONDS,
    MESSAGES_KEPT,
    PRESENT_SECONDS,
    Announced,
    Appended,
    Fenced,
    Gap,
    Run,
    Told,
)

__all__ = ["MemoryBroker", "MemoryCarrier"]

HEAR_SECONDS = 1.0
RUNS_OF_A_PAGE = 64


@define
class _Log:
    fence: int = 0
    head: int = 0
    runs: list[Run] = field(factory=list)
    ends: float = 0.0


@define
class _Feed:
    """An inbox or a topic: what it keeps, and how many came before that."""

    kept: deque[Told | Announced]
    forgotten: int = 0

    def add(self, item: Told | Announced) -> None:
        if len(self.kept) == self.kept.maxlen:
            self.forgotten += 1
        self.kept.append(item)

    @property
    def end(self) -> int:
        return self.forgotten + len(self.kept)


class MemoryBroker:
    """State shared by all nodes of one process."""

    def __init__(self) -> None:
        self.feeds: dict[str, _Feed] = {}
        self.forget()
        self.news = trio.Event()

    def forget(self) -> None:
        """Lose everything, as a broker does that was emptied."""
        self.logs: dict[str, _Log] = {}
        self.presented: dict[str, dict[str, tuple[float, bytes]]] = defaultdict(dict)
        for feed in self.feeds.values():
            # What comes later is behind where its listeners stand, as on a broker that numbers by its clock.
            feed.forgotten = feed.end
            feed.kept.clear()

    def feed(self, name: str, kept: int) -> _Feed:
        """An inbox or a topic by its name."""
        return self.feeds.setdefault(name, _Feed(deque(maxlen=kept)))

    def add(self, name: str, kept: int, item: Told | Announced) -> None:
        """Add to a feed and wake its listeners."""
        self.feed(name, kept).add(item)
        self.news.set()
        self.news = trio.Event()


class MemoryCarrier:
    """One node's end."""

    def __init__(self, broker: MemoryBroker, node: str) -> None:
        self._broker = broker
        self._node = node

    async def append(self, log: str, fence: int, first: int, last: int, data: bytes) -> Appended | Fenced | Gap:
        """See `Carrier`."""
        now = trio.current_time()
        held = self._broker.logs.get(log)
        if held is None or held.ends <= now:
            held = _Log()
        answer = _append(held, fence, first, last, data)
        if isinstance(answer, Appended):
            held.ends = now + LOG_SECONDS
            self._broker.logs[log] = held
        return answer

    async def read(self, positions: Mapping[str, int]) -> Mapping[str, tuple[Run, ...]]:
        """See `Carrier`."""
        found = {}
        for log, after in positions.items():
            held = self._broker.logs.get(log)
            if held is not None and held.ends > trio.current_time():
                runs = tuple(one for one in held.runs if one.last > after)[:RUNS_OF_A_PAGE]
                if runs:
                    found[log] = runs
        return found

    async def tell(self, node: str, message: bytes) -> None:
        """See `Carrier`."""
        self._broker.add(f"node {node}", MESSAGES_KEPT, Told(message))

    async def announce(self, topic: str, key: str) -> None:
        """See `Carrier`."""
        self._broker.add(f"topic {topic}", ANNOUNCEMENTS_KEPT, Announced(topic, key, self._node))

    async def present(self, key: str, value: bytes | None) -> Mapping[str, bytes]:
        """See `Carrier`."""
        now = trio.current_time()
        values = self._broker.presented[key]
        if value is None:
            values.pop(self._node, None)
        else:
            values[self._node] = (now + PRESENT_SECONDS, value)
        return {node: one for node, (ends, one) in values.items() if ends > now}

    @asynccontextmanager
    async def listen(self, topics: tuple[str, ...]) -> AsyncIterator[_MemoryEar]:
        """See `Carrier`."""
        feeds = {f"node {self._node}": MESSAGES_KEPT} | {f"topic {one}": ANNOUNCEMENTS_KEPT for one in topics}
        yield _MemoryEar(self._broker, feeds)


class _MemoryEar:
    def __init__(self, broker: MemoryBroker, feeds: Mapping[str, int]) -> None:
        self._broker = broker
        self._kept = feeds
        self._positions = {name: broker.feed(name, kept).end for name, kept in feeds.items()}

    async def hear(self) -> tuple[Told | Announced, ...]:
        with trio.move_on_after(HEAR_SECONDS):
            while True:
                heard = self._heard()
                if heard:
                    return heard
                await self._broker.news.wait()
        return ()

    def _heard(self) -> tuple[Told | Announced, ...]:
        heard: list[Told | Announced] = []
        for name, kept in self._kept.items():
            feed = self._broker.feed(name, kept)
            heard += list(feed.kept)[max(0, self._positions[name] - feed.forgotten) :]
            self._positions[name] = feed.end
        return tuple(heard)


def _append(held: _Log, fence: int, first: int, last: int, data: bytes) -> Appended | Fenced | Gap:
    if fence < held.fence:
        return Fenced(held.fence)
    if last < first:
        held.fence = fence
    elif fence > held.fence:
        if first != 1:
            return Gap(0)
        held.fence, held.head, held.runs = fence, last, [Run(first, last, data)]
    elif first == held.head + 1:
        held.head = last
        held.runs.append(Run(first, last, data))
    elif last > held.head:
        return Gap(held.head)
    return Appended(held.head)
