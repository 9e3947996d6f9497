"""The operator topics that one connection watches: for each, the last state sent and the newest.

However slowly the peer reads, at most one frame of a topic is queued. It is built when the writer takes it, as the
difference between the peer's state and the newest.
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
        """Return the change from the sent state to the newest, or None if the newest was sent."""
        newest = self.newest
        if newest is None or newest is self.sent:
            return None
        frame = newest.frame_since(self.sent)
        self.sent = newest
        return frame


class TopicViews:
    """Part of a connection actor; only that actor's tasks call it."""

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
        """True if a topic or an actor is watched."""
        return bool(self._watch.topics) or self._watch.trace is not None

    async def watch(self, wanted: Watch) -> Watching:
        """Watch these topics instead, each from its whole state. Raises `CommandError`, `RuntimeFault`."""
        viewer = self._context.self_ref
        # Set before the ask: the first states may overtake its answer.
        self._views = {topic: _View() for topic in wanted.topics}
        self._watch, self._skipped = wanted, 0
        watching: Watching = await self._monitoring.ask(WatchTopics(viewer=viewer, data=wanted), timeout=WATCH_SECONDS)
        if self.is_watching:
            self._context.monitor(self._monitoring)
        return watching

    async def watch_again(self) -> None:
        """Watch again after a restart of the monitoring actor. Raises as `watch` does."""
        # A trace ended with the old actor.
        await self.watch(Watch(topics=self._watch.topics))

    def take(self, collected: Collected) -> None:
        """Take the newest state of a topic."""
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
        """Send trace records. Those that a slow peer has no space for count as skipped."""
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
