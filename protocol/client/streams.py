"""Objects that programs iterate over: a streamed answer, and the durable events of a client."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import trio
from attrs import frozen

from protocol.client.errors import CommandFailed, Disconnected
from protocol.events import Done, ResumeResult
from protocol.reading import read_message_data
from protocol.server_messages import TERMINAL_TYPES
from protocol.streams import EventIds, StreamPosition

__all__ = ["Answer", "ClientEvent", "ClientEvents", "Snapshot"]

LOST = "the server has lost this answer"
WAITING = 4096
"""Most waiting items of a stream."""
Item = TypeVar("Item")


class Queue(Generic[Item]):
    """Items that wait for one reader. The connection's reader never blocks on it: the answer to a command that the program
    sends within its loop must be able to pass items that are still unread.
    """

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self._changed = trio.Event()
        self._cause_of_end: Disconnected | None = None
        self._is_over = False

    def put(self, item: Item) -> None:
        """Appends an item, unless the queue has ended."""
        if not self._is_over:
            self.items.append(item)
            self._changed.set()

    def end(self, cause: Disconnected | None) -> None:
        """Ends the queue; waiting items can still be read."""
        self._cause_of_end, self._is_over = self._cause_of_end or cause, True
        self._changed.set()

    async def take(self) -> Item:
        """Takes the oldest item. Raises `Disconnected` once the queue is empty and ended; cancel-safe."""
        await trio.lowlevel.checkpoint()
        while not self.items:
            if self._is_over:
                raise self._cause_of_end or Disconnected(None, "the stream was cut")
            self._changed = trio.Event()
            await self._changed.wait()
        return self.items.popleft()


class Answer:
    """A streamed answer: iterate over it for pieces of text; `done` then holds the last event's data."""

    def __init__(self, command_id: str, accepted: Mapping[str, Any]) -> None:
        self.command_id = command_id
        self.stream: str = accepted["stream"]
        self.done: dict[str, Any] | None = None
        """Data of `done`, once received."""
        self.was_cancelled = False
        self._queue: Queue[str | dict[str, Any]] = Queue()
        self._told: list[str] = []
        self._behind = ""
        """Text delivered before that a restarted server has not generated again yet."""
        self._is_over = False

    @property
    def result(self) -> Done | None:
        """The data of `done` as an object. Raises `protocol.errors.BadMessage`."""
        return None if self.done is None else read_message_data("done", self.done)

    @property
    def is_over(self) -> bool:
        """True once its last event was read."""
        return self._is_over

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> str:
        """The next piece of text. Raises `CommandFailed` or `Disconnected`; cancel-safe."""
        while not self._is_over:
            item = await self._queue.take()
            if isinstance(item, str):
                return item
            self._is_over = True
            match item["type"]:
                case "done":
                    self.done = item["data"]
                case "cancelled":
                    self.was_cancelled = True
                case _:
                    raise CommandFailed(item["data"])
        raise StopAsyncIteration

    async def text(self) -> str:
        """The whole answer, or its unread rest."""
        return "".join([piece async for piece in self])

    # --- for the client's reader ----------------------------------------------------------------------

    async def take(self, message: dict[str, Any]) -> None:
        """Takes the next event of the stream."""
        if message["type"] == "token":
            text = message["data"]["text"]
            if not isinstance(text, str):
                raise ValueError("its text is not a string")
            await self._put_what_is_new(text)
        elif message["type"] == "done" and self._behind:
            self.end(Disconnected(None, LOST))
        elif message["type"] in TERMINAL_TYPES:
            await self._put(message)

    async def take_snapshot(self, result: ResumeResult) -> None:
        """Continues from the whole text so far: emitted text never changes, so only the rest is new.

        A restarted server generates the answer again from its first token, so its text may be shorter.
        """
        snapshot = result.snapshot
        text = None if snapshot is None else snapshot.get("text")
        if snapshot is None or not isinstance(text, str) or snapshot.get("state") == "unavailable":
            self.end(Disconnected(None, LOST))
            return
        self._behind = "".join(self._told)
        await self._put_what_is_new(text)
        if snapshot.get("state") in TERMINAL_TYPES:
            await self.take({"type": snapshot["state"], "data": snapshot.get("data", {})})

    async def _put_what_is_new(self, text: str) -> None:
        """Delivers the part of the text not delivered before; a text that differs is not this answer any more."""
        again, new = text[: len(self._behind)], text[len(self._behind) :]
        if not self._behind.startswith(again):
            self.end(Disconnected(None, LOST))
            return
        self._behind = self._behind[len(again) :]
        if new:
            await self._put(new)

    def end(self, cause: Disconnected) -> None:
        """Ends the stream; waiting items can still be read."""
        self._queue.end(cause)

    def leave(self) -> None:
        """Stops reading."""
        self._queue.end(None)

    async def _put(self, item: str | dict[str, Any]) -> None:
        waiting = self._queue.items
        if isinstance(item, str):
            self._told.append(item)
            if len(waiting) >= WAITING and isinstance(waiting[-1], str):
                # A slow program gets longer pieces; in total they take no more memory than the answer's text.
                waiting[-1] += item
                return
        self._queue.put(item)


@frozen(kw_only=True)
class ClientEvent:
    """A durable event of this client id."""

    type: str
    seq: int
    time: str
    data: dict[str, Any]

    @property
    def event_id(self) -> str | None:
        """Identifies the event, even if it is delivered twice."""
        value = self.data.get("event_id")
        return value if isinstance(value, str) else None

    @property
    def typed(self) -> Any:
        """The data as an object of its class, or unchanged if the type is unknown. Raises `protocol.errors.BadMessage`."""
        return read_message_data(self.type, self.data)


@frozen(kw_only=True)
class Snapshot:
    """Events were lost, or the stream begins: reload the needed state, then continue with events after ``seq``."""

    seq: int
    data: dict[str, Any]
    """Data from the server: `seq`, `unread`, `task_count`."""


class ClientEvents:
    """Iterates over `ClientEvent`s, with a `Snapshot` wherever some were lost."""

    def __init__(self, position: StreamPosition) -> None:
        self._position = position
        self._queue: Queue[ClientEvent | Snapshot] = Queue()
        self._ids = EventIds()
        self._ask_again: Callable[[], Awaitable[None]] | None = None
        self.handed_out_seq = position.seq
        """Number of the last event that the program has finished with."""
        self._current_seq = position.seq
        self.acknowledged_seq = position.seq
        """Number last sent to the server by `ack`."""

    def __aiter__(self) -> ClientEvents:
        return self

    async def __anext__(self) -> ClientEvent | Snapshot:
        """The next event; requesting it marks the previous one as processed. Raises `Disconnected`; cancel-safe."""
        self.handed_out_seq = self._current_seq
        if self._ask_again is not None and len(self._queue.items) <= WAITING // 2:
            await self._ask_again()
            self._ask_again = None
        item = await self._queue.take()
        self._current_seq = item.seq
        return item

    # --- for the client's reader ----------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """True if the program reads too slowly: further events are left to the server's log."""
        return len(self._queue.items) >= WAITING

    def leave_to_log(self, ask_again: Callable[[], Awaitable[None]]) -> None:
        """Requests the skipped events once the program has read half of the waiting ones."""
        self._ask_again = ask_again

    async def take(self, message: dict[str, Any]) -> None:
        """Takes the next frame of the stream, unpacking batches and skipping duplicates."""
        if message["type"] == "events":
            for one in message["data"]["events"]:
                await self.take(one)
            return
        event = ClientEvent(
            type=message["type"], seq=message["seq"], time=message.get("time", ""), data=dict(message["data"])
        )
        if event.event_id is None or self._ids.is_new(event.event_id):
            await self._put(event)

    async def take_snapshot(self, result: ResumeResult) -> None:
        """Delivers a snapshot, after which the program has to reload."""
        await self._put(Snapshot(seq=self._position.seq, data=result.snapshot or {}))

    def end(self, cause: Disconnected) -> None:
        """Ends the stream; waiting items can still be read."""
        self._queue.end(cause)

    async def _put(self, item: ClientEvent | Snapshot) -> None:
        self._queue.put(item)
