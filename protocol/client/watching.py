"""An operator program's view of the server: the latest state of each topic, and the topics that changed.

Only names of topics wait here, however slowly the program reads: changes are applied to the state at once.
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
"""Maps messages to the watched topics that they carry."""


class OperatorView:
    """Iterates over the names of changed topics, `trace` included, each once however often it changed."""

    def __init__(self, topics: tuple[str, ...]) -> None:
        self.topics = topics
        self._items: dict[str, dict[str, Any]] = {topic: {} for topic in topics}
        self._latest: dict[str, Any] = {}
        self._changed: dict[str, None] = {}
        self._wakes = trio.Event()
        self._is_over = False
        self._cause: Disconnected | None = None
        self.trace: deque[TraceRecordData] = deque(maxlen=TRACE_RECORDS)
        """The last records of the trace; the program removes those it has processed."""

    def items(self, topic: str) -> Mapping[str, Any]:
        """The items of a topic by their key field, as objects of `protocol.operator_topics`."""
        return self._items[topic]

    def latest(self, topic: str) -> Any:
        """The last message of a topic as an object, for its other fields; None before the first."""
        return self._latest.get(topic)

    def __aiter__(self) -> OperatorView:
        return self

    async def __anext__(self) -> str:
        """The next changed topic. Raises `Disconnected` once no connection will follow; cancel-safe."""
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
        """Applies a message of a topic. Raises `ValueError` if it is invalid."""
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
            return  # a topic watched before
        self._changed[topic] = None
        self._wakes.set()

    def end(self, cause: Disconnected | None) -> None:
        """Ends the view."""
        self._cause, self._is_over = self._cause or cause, True
        self._wakes.set()
