"""What one connection watches as an operator: the last of each topic that its peer was sent, and the newest there is.

However slowly the peer reads, no more than one frame of a topic waits, and it is made when the writer takes it: from what
the peer has to what there is by then.
"""

from __future__ import annotations

from functools import partial

from attrs import define

from actors.connections.transport import WebSocketTransport
from actors.monitoring.messages import Collected, MonitoringRequest, Traced, WatchTopics
from protocol.codec import encode, unstructure, wire_time
from protocol.operator_topics import TraceRecordData, TraceRecords, Watch, Watching
from runtime import ActorRef, Context

__all__ = ["TopicViews"]

WATCH_SECONDS = 5.0


@define
class _View:
    newest: Collected | None = None
    sent: Collected | None = None

    def frame(self) -> bytes | None:
        """From what was sent to the newest; None where that was sent."""
        newest = self.newest
        if newest is None or newest is self.sent:
            return None
        frame = newest.frame_since(self.sent)
        self.sent = newest
        return frame


class TopicViews:
    """Part of a connection actor, whose task and child tasks are the only ones that call it."""

    def __init__(
        self, transport: WebSocketTransport, monitoring: ActorRef[MonitoringRequest], context: Context
    ) -> None:
        self._transport = transport
        self._monitoring = monitoring
        self._context = context
        self._views: dict[str, _View] = {}
        self._watch = Watch()
        self._skipped = 0

    @property
    def is_watching(self) -> bool:
        """Whether it watches or traces anything."""
        return bool(self._watch.topics) or self._watch.trace is not None

    async def watch(self, wanted: Watch) -> Watching:
        """Watch these topics in place of those before, each from its whole state on. Raises `CommandRefused`, `RuntimeFault`."""
        viewer = self._context.self_ref
        # Before the ask: the first states may come before its answer.
        self._views = {topic: _View() for topic in wanted.topics}
        self._watch, self._skipped = wanted, 0
        watching: Watching = await self._monitoring.ask(WatchTopics(viewer=viewer, data=wanted), timeout=WATCH_SECONDS)
        if self.is_watching:
            self._context.monitor(self._monitoring)
        return watching

    async def watch_again(self) -> None:
        """The monitoring actor was lost, and with it who watches. Raises as `watch`."""
        # A trace was of the lost one's time.
        await self.watch(Watch(topics=self._watch.topics))

    def take(self, collected: Collected) -> None:
        """The newest state of a topic."""
        view = self._views.get(collected.topic)
        if view is not None:
            view.newest = collected
            self._transport.put(
                self._transport.send_queue.put_made, collected.topic, partial(self._frame, collected.topic)
            )

    def _frame(self, topic: str) -> bytes | None:
        view = self._views.get(topic)
        return None if view is None else view.frame()

    def take_trace(self, traced: Traced) -> None:
        """Records of the trace; what a slow peer has no room for counts as skipped."""
        if self._watch.trace is None or self._watch.trace.path != traced.path:
            return
        records = list(traced.records)
        frame = self._trace_frame(traced, records)
        if not self._transport.send_queue.has_room(len(frame)):
            self._skipped += len(records)
            if not traced.is_over:
                return
            frame = self._trace_frame(traced, [])
        self._transport.put(self._transport.send_queue.put_frame, frame)

    def _trace_frame(self, traced: Traced, records: list[TraceRecordData]) -> bytes:
        data = TraceRecords(
            path=traced.path, records=records, skipped=traced.skipped + self._skipped, is_over=traced.is_over
        )
        return encode({"type": "trace_records", "time": wire_time(), "data": unstructure(data)})
