"""One WebSocket connection: its session, what it asks of rooms, and what they tell it."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import msgspec
import structlog
import trio
from attrs import field, frozen

import protocol
from actors.access.messages import (
    OPERATOR,
    AccessRequest,
    AuthenticationError,
    CheckOrigin,
    Identity,
    IdentityWithdrawn,
)
from actors.connections import keepalive
from actors.connections.authentication import authenticate, reauthenticate
from actors.connections.command_reader import CommandReader, ConnectionLoad, SharedReading
from actors.connections.event_log_reader import CLIENT_STREAM, EventLog, EventLogReader
from actors.connections.generation_streams import SNAPSHOT_BYTES, GenerationStreams
from actors.connections.handshake import Offer, Refusal
from actors.connections.keepalive import Keepalive
from actors.connections.messages import (
    ChangeSubscription,
    CheckKeepalive,
    ClientEvents,
    ConnectionNews,
    Displaced,
    GoAway,
    Join,
    Joined,
    ReadLog,
    RegistryRequest,
    ScheduleKeepalive,
    StateChanged,
    SubscriptionChanged,
)
from actors.connections.replay import Replayer
from actors.connections.replies import Replies
from actors.connections.routes import CommandRoute, StreamRoute
from actors.connections.topic_views import TopicViews
from actors.connections.transport import WebSocketTransport, peer_network
from actors.inference.messages import (
    CancelGeneration,
    DescribeEngine,
    DetachStreams,
    EngineHealth,
    GenerationEvent,
    InferenceRequest,
)
from actors.monitoring.messages import MonitoringRequest, TopicCollected, Traced
from actors.nonsense import Sender
from actors.refusals import CommandRefused
from actors.storage.messages import IdempotencyKey
from actors.tracing.trace_context import parse_traceparent
from actors.tracing.tracer import SpanKind, Tracer
from protocol.codec import ReceivedCommand, encode, unstructure, wire_time
from protocol.command_type import ONLY_IF_KNOWN
from protocol.commands import COMMANDS, Ack, Assist, Cancel, Generate, Hello, Resume, ResumePoint, Subscribe
from protocol.errors import CLOSE_CODES, CloseCode, ErrorCode
from protocol.events import Accepted, AnswerDefaults, GoingAway, Limits, ResumeResult, Welcome
from protocol.operator_topics import Watch
from runtime import Actor, ActorRef, Down, RuntimeFault, reject

__all__ = ["Connection", "ConnectionServices", "ConnectionSettings"]

_log = structlog.get_logger("connection")

DOOR_SECONDS = 5.0
HELLO_SECONDS = 10.0
MODEL_SECONDS = 1.0
ENTER_SECONDS = 5.0
DETACH_SECONDS = 2.0
ENTER_PAUSE_SECONDS = 0.1
SEED_BITS = 53


@frozen(kw_only=True)
class ConnectionSettings:
    """What every connection of this server is told and held to."""

    server: str
    """Name and version."""
    model: str
    """The model of the start; `welcome` names the one in use."""
    limits: Limits
    answer_defaults: AnswerDefaults | None = None
    """How people are answered who set nothing."""


@frozen(kw_only=True)
class ConnectionServices:
    """Whom a connection asks."""

    access: ActorRef[AccessRequest]
    inference: ActorRef[InferenceRequest]
    registry: ActorRef[RegistryRequest]
    monitoring: ActorRef[MonitoringRequest]
    log: EventLog
    routes: Mapping[type, CommandRoute | StreamRoute]
    """By wire class of the command."""
    reading: SharedReading = field(factory=SharedReading)
    tracer: Tracer = field(factory=Tracer)


ConnectionMessage = ConnectionNews | GenerationEvent | IdentityWithdrawn | TopicCollected | Traced


class Connection(Actor[ConnectionMessage]):
    """Owns one socket. When it ends, its socket does, and the streams that it followed know it."""

    mailbox = reject(4096)

    def __init__(
        self,
        name: str,
        stream: Any,
        settings: ConnectionSettings,
        services: ConnectionServices,
        passed: Callable[[], None] = lambda: None,
        received: bytes = b"",
    ) -> None:
        """``passed`` is called once this one has entered or ended, and so does not wait at the door any more.

        ``received`` is what was read of the stream before: with the socket of another port, the head of its request.
        """
        self._passed = passed
        self._name = name
        self._settings = settings
        self._services = services
        self._transport = WebSocketTransport(name, stream, self._spawn, self._detach_streams, received)
        self._keepalive = Keepalive(self._transport)
        self._replies = Replies(self._transport)
        self._address = peer_network(stream)
        self._command_reader = CommandReader(
            self._transport, self._replies, settings.limits, services.reading, self._sender
        )
        self._replayer = Replayer(self._transport, self._spawn)
        self._streams = GenerationStreams(
            self._transport,
            self._replayer,
            services.inference,
            self.context,
        )
        self._views = TopicViews(self._transport, services.monitoring, self.context)
        self._event_log = EventLogReader(self._transport, self._replayer, services.log, self._spawn)
        self._hello: Hello | None = None
        self._greeting: trio.CancelScope | None = None
        self._identity: Identity | None = None
        self._welcomed: trio.Event | None = None
        """Set when the hello that came is answered."""
        self._in_flight = 0

    def _spawn(self, function: Callable[..., Awaitable[object]], *arguments: Any) -> trio.CancelScope:
        return self.context.spawn(function, *arguments)

    async def started(self) -> None:
        """The handshake must not hold up the listener, so it belongs to a child task."""
        self.context.spawn(self._serve)

    async def handle(self, message: ConnectionMessage) -> None:
        match message:
            case ClientEvents(events):
                self._event_log.take(events)
            case StateChanged():
                if self._hello is not None:
                    self._transport.put(self._transport.send_queue.put_state, message.kind, message.time, message.data)
            case CheckKeepalive():
                self._check_silence()
            case ReadLog():
                self._event_log.poll()
            case SubscriptionChanged(subscription):
                self._event_log.subscribe(subscription)
            case TopicCollected(collected):
                self._views.take(collected)
            case Traced():
                self._views.take_trace(message)
            case GoAway(retry_after_ms):
                data = unstructure(GoingAway(retry_after_ms))
                self._transport.send({"type": "going_away", "time": wire_time(), "data": data})
            case Displaced():
                self.context.spawn(self._make_way)
            case IdentityWithdrawn(reason):
                # What waits was for somebody who may not read it any more.
                self._transport.drop_all()
                self._transport.close_soon(CloseCode.UNAUTHORIZED, reason)
            case _:
                self._streams.take(message)

    async def down(self, down: Down) -> None:
        """A room was lost: go on with every stream where it stood, and be known to its successor."""
        if down.path == self._services.inference.path:
            if len(self._streams):
                self.context.spawn(self._streams.recover)
        elif self._hello is None:
            return
        elif down.path == self._services.monitoring.path:
            if self._views.is_watching:
                self.context.spawn(self._watch_again)
        elif down.path == self._services.access.path:
            self.context.spawn(self._reauthenticate, self._hello)
        elif down.path == self._services.registry.path:
            self.context.spawn(self._rejoin_registry, self._hello)

    async def stopping(self) -> None:
        """Close in order: what is queued first, then the close frame."""
        await self._event_log.store_acknowledged()
        self._streams.end_all()
        self._transport.close_soon(CloseCode.RESTARTING, "the server restarts")
        await self._transport.close_in_order()

    def snapshot(self) -> dict[str, object]:
        """Counts and the client's name."""
        return {
            "client_id": None if self._hello is None else self._hello.client_id,
            "streams": len(self._streams),
            "commands_in_flight": self._in_flight,
            "send_queue_events": len(self._transport.send_queue),
            "send_queue_bytes": self._transport.send_queue.bytes,
            "send_queue_reply_bytes": self._transport.send_queue.reply_bytes,
        }

    # --- the socket -------------------------------------------------------------------------------

    async def _serve(self) -> None:
        try:
            await self._transport.serve(self._accept, self._opened, self._take_frame)
        finally:
            self._passed()
            self.context.stop()

    def _opened(self) -> None:
        self._greeting = self.context.spawn(self._expect_hello)

    async def _accept(self, offer: Offer) -> Refusal | str | None:
        """Why this handshake is refused, or the subprotocol to answer it with."""
        door = CheckOrigin(host=offer.host, origin=offer.origin, query=offer.query)
        try:
            await self._services.access.ask(door, timeout=DOOR_SECONDS)
        except AuthenticationError as refusal:
            return Refusal(403, str(refusal))
        except RuntimeFault:
            return Refusal(503, "not ready", (("Retry-After", "1"),))
        if offer.path != protocol.PATH:
            return Refusal(404, f"the path is {protocol.PATH}")
        if not offer.subprotocols:
            return None
        if protocol.SUBPROTOCOL not in offer.subprotocols:
            return Refusal(400, f"this server speaks {protocol.SUBPROTOCOL}")
        return protocol.SUBPROTOCOL

    async def _make_way(self) -> None:
        self._transport.drop_all()
        await self._detach_streams()
        self._transport.close_soon(CloseCode.DISPLACED, CLOSE_CODES[CloseCode.DISPLACED].meaning)

    async def _detach_streams(self) -> None:
        """The server is about to cut this connection: what it follows goes on for whoever comes back for it."""
        if len(self._streams):
            try:
                await self._services.inference.ask(
                    DetachStreams(subscriber=self.context.self_ref), timeout=DETACH_SECONDS
                )
            except RuntimeFault as error:
                _log.warning("streams not detached", connection=self._name, error=str(error))

    async def _expect_hello(self) -> None:
        await trio.sleep(HELLO_SECONDS)
        if self._hello is None:
            self._transport.close_soon(CloseCode.TIMED_OUT, "no hello in time")

    def _check_silence(self) -> None:
        wait_seconds = self._keepalive.check(trio.current_time())
        if wait_seconds is None:
            self._transport.close_soon(CloseCode.TIMED_OUT, "no pong")
        else:
            self._services.registry.tell_nowait(ScheduleKeepalive(self.context.path, wait_seconds))

    # --- commands ---------------------------------------------------------------------------------

    def _sender(self) -> Sender:
        domain = "" if self._identity is None else self._identity.domain
        return Sender(self._address, domain, "" if self._hello is None else self._hello.client_id)

    def _load(self) -> ConnectionLoad:
        return ConnectionLoad(is_greeted=self._hello is not None, in_flight=self._in_flight, streams=len(self._streams))

    async def _take_frame(self, frame: str | bytes) -> None:
        command = await self._command_reader.read(frame, self._load)
        if command is None:
            return
        match command.data:
            case Ack(stream=stream, seq=seq):
                if stream == CLIENT_STREAM:
                    self._event_log.acknowledge(seq)
                return
            case Hello():
                self._welcomed = trio.Event()
        self._in_flight += 1
        self.context.spawn(self._carry_out, command, name=command.type)
        # Whatever a client sends on after its hello belongs to the session that the hello opens.
        if self._welcomed is not None:
            await self._welcomed.wait()
            self._welcomed = None

    async def _carry_out(self, command: ReceivedCommand) -> None:
        """One command, as a child task: exactly one answer, whatever happens."""
        assert command.id is not None
        try:
            match command.data:
                case Hello():
                    await self._send_welcome(command.id, command.data)
                case Cancel(target):
                    await self._cancel(command.id, target)
                case Resume():
                    await self._resume(command.id, command.data)
                case Subscribe():
                    await self._subscribe(command.id, command.data)
                case _ if COMMANDS[command.type].needs_operator and not self._is_operator:
                    message = f"{command.type} needs a token with the role {OPERATOR}"
                    self._replies.error(command.id, ErrorCode.FORBIDDEN, message)
                case Watch():
                    await self._replies.result(command.id, unstructure(await self._views.watch(command.data)))
                case _:
                    parent = None if command.traceparent is None else parse_traceparent(command.traceparent)
                    with self._services.tracer.span(f"WebSocket {command.type}", SpanKind.SERVER, parent=parent):
                        await self._pass_to_room(command)
        except (CommandRefused, RuntimeFault) as error:
            self._replies.failure(command.id, command.type, error)
        finally:
            self._in_flight -= 1
            if isinstance(command.data, Hello) and self._welcomed is not None:
                self._welcomed.set()

    @property
    def _is_operator(self) -> bool:
        return self._identity is not None and self._identity.is_operator

    async def _watch_again(self) -> None:
        """The monitoring actor was lost: go on with the whole state of each topic once it is there again."""
        while self._views.is_watching:
            try:
                await self._views.watch_again()
            except (CommandRefused, RuntimeFault):
                # Its supervisor starts it again and tells nobody when it is there.
                await trio.sleep(ENTER_PAUSE_SECONDS)
                continue
            return

    async def _pass_to_room(self, command: ReceivedCommand) -> None:
        assert command.id is not None
        assert self._hello is not None
        hello, route = self._hello, self._services.routes.get(type(command.data))
        key = None
        if COMMANDS[command.type].writes:
            key = IdempotencyKey(
                client_id=hello.client_id,
                device_id=hello.device_id,
                command_id=command.id,
                digest=command.digest,
                must_be_known=command.only_if_known,
            )
        match route:
            case StreamRoute() if command.only_if_known:
                # Its answer is a stream, which is kept for less long.
                message = (
                    f"what became of a {command.type} is told by a resume of its stream; nothing was carried out now"
                )
                self._replies.error(command.id, ErrorCode.CONFLICT, message, field=ONLY_IF_KNOWN)
            case StreamRoute():
                await self._start_stream(command, route, hello, key)
            case CommandRoute():
                value = await route.service.ask(
                    route.message(client_id=hello.client_id, device_id=hello.device_id, data=command.data, key=key),
                    timeout=route.timeout_seconds,
                )
                await self._replies.result(command.id, unstructure(value))
            case None:
                message = f"{command.type} is not served here"
                self._replies.error(command.id, ErrorCode.UNKNOWN_TYPE, message, field="type")

    async def _start_stream(
        self, command: ReceivedCommand, route: StreamRoute, hello: Hello, key: IdempotencyKey | None
    ) -> None:
        assert command.id is not None
        data: Generate | Assist = command.data
        if data.conversation is not None and route.of_conversation is not None:
            route = route.of_conversation
        if isinstance(data, Generate) and data.seed is None:
            # Drawn here, so that whoever has to make the answer again draws the same tokens.
            data = attrs.evolve(data, seed=secrets.randbits(SEED_BITS))
        self_ref = self.context.self_ref
        domain = "" if self._identity is None else self._identity.domain
        consumer, is_repeat = await self._streams.start(
            route.service,
            command.id,
            lambda stream: route.message(
                client_id=hello.client_id,
                device_id=hello.device_id,
                domain=domain,
                data=data,
                key=key,
                stream=stream,
                subscriber=self_ref,
            ),
        )
        accepted = Accepted(consumer.stream, consumer.epoch, consumer.left_out)
        self._replies.reply(command.id, "accepted", unstructure(accepted))
        self._streams.accept(consumer, is_repeat=is_repeat)

    async def _cancel(self, command_id: str, target: str) -> None:
        consumer = self._streams.of_command(target)
        was_running = False
        if consumer is not None:
            was_running = await self._services.inference.ask(CancelGeneration(consumer.stream), timeout=10)
        self._replies.reply(command_id, "result", {"cancelled": was_running})

    async def _resume(self, command_id: str, point: Resume) -> None:
        assert self._hello is not None
        if point.stream == CLIENT_STREAM:
            result = await self._event_log.resume(point.epoch, point.seq)
            await self._replies.result(command_id, unstructure(result))
            self._event_log.open()
            return
        result, go_on = await self._streams.resume(self._hello.device_id, point.stream, point.epoch, point.seq)
        await self._replies.result(command_id, unstructure(result))
        go_on()

    async def _subscribe(self, command_id: str, wanted: Subscribe) -> None:
        assert self._hello is not None
        stored = await self._services.registry.ask(
            ChangeSubscription(client_id=self._hello.client_id, device_id=self._hello.device_id, data=wanted), timeout=5
        )
        self._replies.reply(command_id, "result", unstructure(stored))

    # --- the session ------------------------------------------------------------------------------

    async def _send_welcome(self, command_id: str, hello: Hello) -> None:
        try:
            self._identity = await authenticate(self._services.access, hello, self.context.self_ref)
        except AuthenticationError as refusal:
            code = ErrorCode.FORBIDDEN if refusal.is_forbidden else ErrorCode.UNAUTHORIZED
            self._replies.error(command_id, code, str(refusal))
            self._close_refused(refusal)
            return
        try:
            entered = await self._join_registry(hello)
        except CommandRefused as refusal:
            self._replies.failure(command_id, "hello", refusal)
            if refusal.code is ErrorCode.RATE_LIMITED:
                self._transport.close_soon(CloseCode.TOO_MANY, refusal.message)
            return
        self._passed()
        self._streams.client_id = hello.client_id
        points = {one.stream: one for one in hello.resume}
        client_point = points.pop(CLIENT_STREAM, None)
        client_result = await self._event_log.begin(
            hello.client_id,
            hello.device_id,
            None if client_point is None else (client_point.epoch, client_point.seq),
            is_alone=entered.is_alone,
        )
        resumed, going_on = await self._resume_all(hello, points)
        if client_result is not None:
            resumed.insert(0, client_result)
        self.context.monitor(self._services.access)
        welcome = Welcome(
            connection_id=self._name,
            client_id=hello.client_id,
            device_id=hello.device_id,
            epoch=self._event_log.cursor.epoch,
            server=self._settings.server,
            limits=self._settings.limits,
            model=await self._model_in_use(),
            state={kind: msgspec.json.decode(data) for kind, data in entered.state.items()},
            resumed=resumed,
            answer_defaults=self._settings.answer_defaults,
        )
        self._hello = hello
        self._transport.take_large_messages()
        if self._greeting is not None:
            # Two thousand sleepers would each keep their stack for ten seconds.
            self._greeting.cancel(reason="the hello has come")
        self._replies.reply(command_id, "welcome", unstructure(welcome))
        self._event_log.subscribe(entered.subscription)
        self._event_log.open()
        for go_on in going_on:
            go_on()

    async def _resume_all(
        self, hello: Hello, points: Mapping[str, ResumePoint]
    ) -> tuple[list[ResumeResult], list[Callable[[], None]]]:
        """All streams of generations that the client names, and what passes their events on after `welcome`."""
        results: list[ResumeResult] = []
        going_on: list[Callable[[], None]] = []
        left_bytes = SNAPSHOT_BYTES
        for point in points.values():
            result, go_on = await self._streams.resume(
                hello.device_id, point.stream, point.epoch, point.seq, snapshot_bytes=left_bytes
            )
            left_bytes -= len(encode([(result.snapshot or {}).get("text", "")]))
            results.append(result)
            going_on.append(go_on)
        return results, going_on

    async def _join_registry(self, hello: Hello) -> Joined:
        registry = self._services.registry
        entered: Joined = await registry.ask(
            Join(client_id=hello.client_id, device_id=hello.device_id, connection=self.context.self_ref),
            timeout=ENTER_SECONDS,
        )
        self.context.monitor(registry)
        registry.tell_nowait(ScheduleKeepalive(self.context.path, keepalive.PING_INTERVAL_SECONDS))
        return entered

    async def _rejoin_registry(self, hello: Hello) -> None:
        """The registry was lost: it must know of this connection again; the log has what was told meanwhile."""
        while True:
            try:
                entered = await self._join_registry(hello)
            except (CommandRefused, RuntimeFault):
                # It is being started again; there is nothing to wait on but its being there.
                await trio.sleep(ENTER_PAUSE_SECONDS)
                continue
            for kind, data in entered.state.items():
                self._transport.put(self._transport.send_queue.put_state, kind, wire_time(), data)
            self._event_log.poll()
            return

    async def _reauthenticate(self, hello: Hello) -> None:
        """The access room was lost: it must know of this connection to close it when its token ends."""
        try:
            self._identity = await reauthenticate(self._services.access, hello, self.context.self_ref)
            self.context.monitor(self._services.access)
        except AuthenticationError as refusal:
            self._close_refused(refusal)

    def _close_refused(self, refusal: AuthenticationError) -> None:
        code = CloseCode.FORBIDDEN if refusal.is_forbidden else CloseCode.UNAUTHORIZED
        self._transport.close_soon(code, str(refusal))

    async def _model_in_use(self) -> str:
        """Its name now; that of the start where the inference actor cannot be asked."""
        try:
            health: EngineHealth = await self._services.inference.ask(DescribeEngine(), timeout=MODEL_SECONDS)
        except RuntimeFault:
            return self._settings.model
        return health.model
