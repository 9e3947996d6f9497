"""The monitoring actor: one demand-driven collection for all viewers, and the commands of operators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import structlog
import trio
from attrs import define, field, frozen
from prometheus_client import CollectorRegistry

from actors.access.messages import AccessRequest
from actors.clock import now_milliseconds
from actors.connections.messages import ListDevices
from actors.errors import CommandError
from actors.inference.messages import DescribeEngine, DescribeModels, InferenceRequest
from actors.monitoring.commands import OperatorCommands
from actors.monitoring.figures import (
    Clocks,
    MetricsReader,
    TreeReader,
    dead_letters,
    device_data,
    engine_data,
    model_data,
    requests,
    tree_state,
)
from actors.monitoring.messages import (
    Collected,
    MonitoringRequest,
    OperatorCommand,
    TopicCollected,
    Traced,
    WatchTopics,
)
from actors.request_log import RequestLog
from protocol.errors import ErrorCode
from protocol.operator_topics import TraceRecordData, TraceWish, Watching
from runtime import Actor, ActorRef, ActorSystem, Down, Refused, RuntimeFault, SendFault, Timer, reject
from runtime.tracing import TraceRecord, TraceSession

__all__ = ["Monitor"]

_log = structlog.get_logger("monitoring")

COLLECT_SECONDS = 0.5
ASK_SECONDS = 2.0
"""Interval of requests to other services, and deadline of each."""
MODELS_ASK_SECONDS = 10.0
POINTS = 300
TRACES = 8
"""Concurrent traces of all viewers."""
TRACE_BATCH_SECONDS = 0.2


@frozen
class Collect:
    """Timer: read the records of watched topics."""


@define
class _Viewer:
    reference: ActorRef[TopicCollected | Traced]
    topics: frozenset[str]
    told: dict[str, int] = field(factory=dict)
    """Last version of each topic sent to the viewer."""
    trace: trio.CancelScope | None = None


class Monitor(Actor[MonitoringRequest | Collect]):
    """Reads the runtime's records, so it answers while every other actor is busy. It holds nothing that cannot be read again, so
    its restart costs only one full state per viewer.
    """

    mailbox = reject(1024)

    def __init__(
        self,
        system: ActorSystem,
        registry: CollectorRegistry,
        log: RequestLog,
        inference: ActorRef[InferenceRequest],
        devices: ActorRef[ListDevices],
        access: ActorRef[AccessRequest],
    ) -> None:
        self._system = system
        self._log = log
        self._inference = inference
        self._devices = devices
        self._registry = registry
        self._commands = OperatorCommands(system, inference, access, self.context)
        self._viewers: dict[str, _Viewer] = {}
        self._collected: dict[str, Collected] = {}
        # Rises over all topics, and is never 0, which stands for having seen nothing.
        self._version = 0
        self._timer: Timer | None = None
        self._due_at = 0.0
        self._asking: dict[str, trio.CancelScope] = {}
        self._traces = 0
        self._tree = TreeReader()
        self._metrics = MetricsReader(registry, log)
        self._collections = 0

    async def handle(self, message: MonitoringRequest | Collect) -> Watching | None:
        match message:
            case WatchTopics():
                return self._watch(message)
            case OperatorCommand(data=data):
                self.context.answer_later(self._commands.carry_out, data)
            case Collect():
                late_seconds = max(0.0, trio.current_time() - self._due_at)
                self._due_at = trio.current_time() + COLLECT_SECONDS
                self._collect(self._watched(), late_seconds)
        return None

    async def down(self, down: Down) -> None:
        """Forget a viewer that ended."""
        viewer = self._viewers.pop(down.path, None)
        if viewer is not None and viewer.trace is not None:
            viewer.trace.cancel(reason="its reader has gone")
        self._rest_if_unwatched()

    def snapshot(self) -> dict[str, object]:
        """Counts of viewers and collections."""
        watched = sorted(self._watched())
        return {
            "viewers": len(self._viewers),
            "topics": watched,
            "traces": self._traces,
            "collections": self._collections,
            "is_collecting": self._timer is not None,
        }

    # --- who watches ------------------------------------------------------------------------------

    def _watch(self, message: WatchTopics) -> Watching:
        reference, wanted = message.viewer, message.data
        path = reference.path
        session = None if wanted.trace is None else self._opened_trace(wanted.trace, self._viewers.get(path))
        before = self._viewers.pop(path, None)
        if before is not None and before.trace is not None:
            before.trace.cancel(reason="it watches something else")
        if wanted.topics or session is not None:
            viewer = self._viewers[path] = _Viewer(reference, frozenset(wanted.topics))
            if before is None:
                self.context.monitor(reference)
            if session is not None:
                assert wanted.trace is not None
                self._traces += 1
                viewer.trace = self.context.spawn(self._tell_trace, reference, wanted.trace.path, session)
        elif before is not None:
            self.context.demonitor(reference)
        self._rest_if_unwatched()
        self._begin()
        return Watching(topics=wanted.topics, trace=None if wanted.trace is None else wanted.trace.path)

    def _watched(self) -> set[str]:
        return {topic for viewer in self._viewers.values() for topic in viewer.topics}

    def _begin(self) -> None:
        """Collect newly watched topics at once, and keep collecting while there are viewers."""
        watched = self._watched()
        if not watched:
            return
        if self._timer is None:
            self._timer = self.context.every(COLLECT_SECONDS, Collect())
            self._due_at = trio.current_time() + COLLECT_SECONDS
        for topic, ask in (("models", self._ask_models), ("clients", self._ask_devices)):
            if topic in watched and topic not in self._asking:
                self._asking[topic] = self.context.spawn(ask)
        self._collect(watched - set(self._collected), 0.0)
        self._tell(watched)

    def _rest_if_unwatched(self) -> None:
        watched = self._watched()
        for topic in set(self._asking) - watched:
            self._asking.pop(topic).cancel(reason="it is watched no more")
        for topic in set(self._collected) - watched:
            del self._collected[topic]
        if not watched and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            # Rates are those of a time in which somebody looked.
            self._tree = TreeReader()
            self._metrics = MetricsReader(self._registry, self._log)

    # --- what is collected ------------------------------------------------------------------------

    def _collect(self, topics: Set[str], late_seconds: float) -> None:
        """Read these topics; ``late_seconds`` is the delay of this reading."""
        if not topics:
            return
        self._collections += 1
        clocks = Clocks(trio.current_time(), now_milliseconds())
        nodes = self._tree.read(self._system, clocks) if topics & {"tree", "metrics"} else {}
        if "tree" in topics:
            self._note("tree", nodes, tree_state(self._system))
        if "metrics" in topics:
            point = self._metrics.read(clocks, nodes, late_seconds)
            points = {**self._items("metrics"), str(point.time_ms): point}
            for key in list(points)[:-POINTS]:
                del points[key]
            self._note("metrics", points, {})
        if "requests" in topics:
            self._note("requests", requests(self._log, clocks, self._items("requests")), {})
        if "dead_letters" in topics:
            self._note("dead_letters", *dead_letters(self._system, clocks, self._items("dead_letters")))
        self._tell(topics)

    def _items(self, topic: str) -> Mapping[str, Any]:
        found = self._collected.get(topic)
        return {} if found is None else found.items

    def _note(self, topic: str, items: Mapping[str, Any], rest: Mapping[str, Any]) -> None:
        """Store the newest state of a topic, keeping the previous one if nothing changed."""
        before = self._collected.get(topic)
        if before is None or before.items != items or before.rest != rest:
            self._version += 1
            self._collected[topic] = Collected(topic, self._version, items, rest)

    def _tell(self, topics: Iterable[str]) -> None:
        for topic in topics:
            collected = self._collected.get(topic)
            if collected is None:
                continue
            for path, viewer in self._viewers.items():
                if topic not in viewer.topics or viewer.told.get(topic) == collected.version:
                    continue
                try:
                    viewer.reference.tell_nowait(TopicCollected(collected))
                except SendFault as error:
                    # It is told the newest state the next time, whatever it has missed.
                    _log.info("viewer not notified", viewer=path, error=str(error))
                else:
                    viewer.told[topic] = collected.version

    async def _ask_models(self) -> None:
        """Ask the inference service for its models. While it does not answer, the last answer stays, with the reason."""
        engine: dict[str, Any] | None = None
        while True:
            items, problem = self._items("models"), None
            try:
                engine = engine_data(await self._inference.ask(DescribeEngine(), timeout=ASK_SECONDS))
                items = model_data(await self._inference.ask(DescribeModels(), timeout=MODELS_ASK_SECONDS))
            except (RuntimeFault, Refused) as error:
                problem = str(error)
            self._note("models", items, {"engine": engine, "problem": problem})
            self._tell(("models",))
            # Asked again and again: the service tells of no change, as it would have to while nobody looks, too.
            await trio.sleep(ASK_SECONDS)

    async def _ask_devices(self) -> None:
        while True:
            items, problem = self._items("clients"), None
            try:
                items = device_data(await self._devices.ask(ListDevices(), timeout=ASK_SECONDS))
            except (RuntimeFault, Refused) as error:
                problem = str(error)
            self._note("clients", items, {"problem": problem})
            self._tell(("clients",))
            # As above.
            await trio.sleep(ASK_SECONDS)

    # --- traces -----------------------------------------------------------------------------------

    def _opened_trace(self, wish: TraceWish, viewer: _Viewer | None) -> TraceSession:
        if self._traces - (viewer is not None and viewer.trace is not None) >= TRACES:
            raise CommandError(ErrorCode.OVERLOADED, f"{TRACES} traces are running already", retry_after_ms=1000)
        try:
            return self._system.open_trace(wish.path, rate_per_second=wish.rate_per_second, maximum=wish.maximum)
        except (RuntimeFault, Refused) as error:
            raise CommandError(ErrorCode.NOT_FOUND, str(error), field="data.trace.path") from None

    async def _tell_trace(self, viewer: ActorRef[Traced], path: str, session: TraceSession) -> None:
        """Send trace records in batches up to the session's limit, then notify the viewer of the end."""
        began, is_over = trio.current_time(), False
        try:
            while not is_over:
                records: list[TraceRecordData] = []
                with trio.move_on_after(TRACE_BATCH_SECONDS):
                    async for one in session.records:
                        records += [_record(one, began)]
                    is_over = True
                if records or is_over:
                    told = Traced(path=path, records=tuple(records), skipped=session.skipped, is_over=is_over)
                    viewer.tell_nowait(told)
        except SendFault as error:
            _log.info("a trace ends with its reader", error=str(error))
        finally:
            session.close()
            self._traces -= 1


def _record(one: TraceRecord, began: float) -> TraceRecordData:
    return TraceRecordData(
        direction=one.direction,
        other=one.other,
        message_type=one.message_type,
        seconds=round(one.time - began, 3),
    )
