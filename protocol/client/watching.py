"""What an operator's program sees of the server: the newest state of each topic, and which have changed.

Nothing waits here but the names of topics, however slowly the program reads: a change is put into the state at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import trio

from protocol.client.errors import Disconnected
from protocol.errors import BadMessage
from protocol.operator_topics import TOPIC_KEYS, TraceRecordData
from protocol.reading import read_message_data

__all__ = ["WATCHED_MESSAGES", "OperatorView"]

TRACE = "trace"
TRACE_RECORDS = 1000
WATCHED_MESSAGES = {**{f"{topic}_changed": topic for topic in TOPIC_KEYS}, "trace_records": TRACE}
"""Messages that bring a watched topic, and its name."""


class OperatorView:
    """Iterate over it for the names of topics that changed, `trace` among them, each once however often it did."""

    def __init__(self, topics: tuple[str, ...]) -> None:
        self.topics = topics
        self._items: dict[str, dict[str, Any]] = {topic: {} for topic in topics}
        self._latest: dict[str, Any] = {}
        self._changed: dict[str, None] = {}
        self._wakes = trio.Event()
        self._is_over = False
        self._cause: Disconnected | None = None
        self.trace: deque[TraceRecordData] = deque(maxlen=TRACE_RECORDS)
        """The last records of the trace; the program takes what it has dealt with out of it."""

    def items(self, topic: str) -> Mapping[str, Any]:
        """The things of a topic by the field that they are known by, as objects of `protocol.operator_topics`."""
        return self._items[topic]

    def latest(self, topic: str) -> Any:
        """The last message of a topic as its class, for what it says besides; None before the first."""
        return self._latest.get(topic)

    def __aiter__(self) -> OperatorView:
        return self

    async def __anext__(self) -> str:
        """A topic that has changed since it was told last. Raises `Disconnected` once no connection will follow; cancel-safe."""
        await trio.lowlevel.checkpoint()
        while not self._changed:
            if self._cause is not None:
                raise self._cause
            if self._is_over:
                raise StopAsyncIteration
            self._wakes = trio.Event()
            await self._wakes.wait()
        topic = next(iter(self._changed))
        del self._changed[topic]
        return topic

    # --- for the client's reader ----------------------------------------------------------------------

    def take(self, message: dict[str, Any]) -> None:
        """One message of a topic. Raises `ValueError` where it is none."""
        topic = WATCHED_MESSAGES[message["type"]]
        try:
            data = read_message_data(message["type"], message.get("data"))
        except BadMessage as error:
            raise ValueError(str(error)) from error
        self._latest[topic] = data
        if topic == TRACE:
            self.trace.extend(data.records)
        elif topic in self._items:
            if data.is_whole:
                self._items[topic] = {}
            for key in data.removed:
                self._items[topic].pop(key, None)
            self._items[topic].update((str(getattr(one, TOPIC_KEYS[topic])), one) for one in data.changed)
        else:
            return  # of what was watched before
        self._changed[topic] = None
        self._wakes.set()

    def end(self, cause: Disconnected | None) -> None:
        """No more will come."""
        self._cause, self._is_over = self._cause or cause, True
        self._wakes.set()
