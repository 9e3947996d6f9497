"""The actor of one WebSocket connection: owns its socket, reads its commands, and forwards events to its client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
import trio
from attrs import field, frozen

import protocol
from actors.access.messages import AccessRequest, AuthenticationError, CheckOrigin, IdentityWithdrawn
from actors.connections.command_reader import CommandReader, ConnectionLoad, SharedReading
from actors.connections.commands import CommandDispatcher, CommandRoute, StreamRoute
from actors.connections.event_log_reader import CLIENT_STREAM, EventLog, EventLogReader
from actors.connections.generation_streams import GenerationStreams
from actors.connections.handshake import Offer, Refusal
from actors.connections.keepalive import Keepalive
from actors.connections.messages import (
    CheckKeepalive,
    ClientEvents,
    ConnectionNews,
    Displaced,
    GoAway,
    ReadLog,
    RegistryRequest,
    ScheduleKeepalive,
    StateChanged,
    SubscriptionChanged,
)
from actors.connections.replay import Replayer
from actors.connections.replies import Replies
from actors.connections.session import ConnectionSettings, Session
from actors.connections.topic_views import TopicViews
from actors.connections.transport import WebSocketTransport, peer_network
from actors.errors import CommandError
from actors.inference.messages import DetachStreams, GenerationEvent, InferenceRequest
from actors.monitoring.messages import MonitoringRequest, TopicCollected, Traced
from actors.nonsense import Sender
from actors.tracing.tracer import Tracer
from protocol.codec import ReceivedCommand, unstructure, wire_time
from protocol.commands import Ack, Hello
from protocol.errors import CLOSE_CODES, CloseCode
from protocol.events import GoingAway
from runtime import Actor, ActorRef, Down, RuntimeFault, reject

__all__ = ["Connection", "ConnectionServices"]

_log = structlog.get_logger("connection")

ORIGIN_SECONDS = 5.0
HELLO_SECONDS = 10.0
DETACH_SECONDS = 2.0
WATCH_PAUSE_SECONDS = 0.1


@frozen(kw_only=True)
class ConnectionServices:
    """Services that connections call, and state that connections share."""

    access: ActorRef[AccessRequest]
    inference: ActorRef[InferenceRequest]
    registry: ActorRef[RegistryRequest]
    monitoring: ActorRef[MonitoringRequest]
    log: EventLog
    routes: Mapping[type, CommandRoute | StreamRoute]
    """Keyed by the wire class of the command."""
    reading: SharedReading = field(factory=SharedReading)
    tracer: Tracer = field(factory=Tracer)


ConnectionMessage = ConnectionNews | GenerationEvent | IdentityWithdrawn | TopicCollected | Traced


class Connection(Actor[ConnectionMessage]):
    """Owns one socket, which is closed when the actor ends; the owners of its streams monitor the actor."""

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
        """``passed`` is called once the client has joined or the connection has ended: it leaves the handshake backlog.

        ``received`` holds bytes already read from the stream, such as the request head of a socket from another port.
        """
        self._passed = passed
        self._name = name
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
        self._session = Session(
            name,
            settings,
            self._transport,
            self._replies,
            self._streams,
            self._event_log,
            self.context,
            access=services.access,
            inference=services.inference,
            registry=services.registry,
            joined=passed,
        )
        self._commands = CommandDispatcher(
            self._session,
            self._replies,
            self._streams,
            self._views,
            self._event_log,
            self.context,
            inference=services.inference,
            registry=services.registry,
            routes=services.routes,
            tracer=services.tracer,
        )
        self._greeting: trio.CancelScope | None = None
        self._welcomed: trio.Event | None = None
        """Set when the pending `hello` has been answered."""
        self._in_flight = 0

    def _spawn(self, function: Callable[..., Awaitable[object]], *arguments: Any) -> trio.CancelScope:
        return self.context.spawn(function, *arguments)

    async def started(self) -> None:
        """Serve the socket in a child task, so that the handshake does not block the listener."""
        self.context.spawn(self._serve)

    async def handle(self, message: ConnectionMessage) -> None:
        match message:
            case ClientEvents(events):
                self._event_log.take(events)
            case StateChanged():
                if self._session.hello is not None:
                    self._transport.put(self._transport.send_queue.put_state, message.kind, message.time, message.data)
            case CheckKeepalive():
                self._check_keepalive()
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
                self.context.spawn(self._give_way)
            case IdentityWithdrawn(reason):
                # Queued frames are for a client that may no longer read them.
                self._transport.drop_all()
                self._transport.close_soon(CloseCode.UNAUTHORIZED, reason)
            case _:
                self._streams.take(message)

    async def down(self, down: Down) -> None:
        """Recover from the restart of a service: continue streams and topics, and register with its successor."""
        if down.path == self._services.inference.path:
            if len(self._streams):
                self.context.spawn(self._streams.recover)
        elif self._session.hello is None:
            return
        elif down.path == self._services.monitoring.path:
            if self._views.is_watching:
                self.context.spawn(self._watch_again)
        elif down.path == self._services.access.path:
            self.context.spawn(self._session.reauthenticate)
        elif down.path == self._services.registry.path:
            self.context.spawn(self._session.rejoin)

    async def stopping(self) -> None:
        """Send the queued frames, then the close frame."""
        await self._event_log.store_acknowledged()
        self._streams.end_all()
        self._transport.close_soon(CloseCode.RESTARTING, "the server restarts")
        await self._transport.close_in_order()

    def snapshot(self) -> dict[str, object]:
        """The client id and current counts."""
        hello = self._session.hello
        return {
            "client_id": None if hello is None else hello.client_id,
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
        """Return a refusal of this handshake, or the agreed subprotocol, None if the client offered none."""
        check = CheckOrigin(host=offer.host, origin=offer.origin, query=offer.query)
        try:
            await self._services.access.ask(check, timeout=ORIGIN_SECONDS)
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

    async def _give_way(self) -> None:
        self._transport.drop_all()
        await self._detach_streams()
        self._transport.close_soon(CloseCode.DISPLACED, CLOSE_CODES[CloseCode.DISPLACED].meaning)

    async def _detach_streams(self) -> None:
        """Detach the streams before the server cuts this connection, so that the client can resume them later."""
        if len(self._streams):
            try:
                await self._services.inference.ask(
                    DetachStreams(subscriber=self.context.self_ref), timeout=DETACH_SECONDS
                )
            except RuntimeFault as error:
                _log.warning("streams not detached", connection=self._name, error=str(error))

    async def _expect_hello(self) -> None:
        await trio.sleep(HELLO_SECONDS)
        if self._session.hello is None:
            self._transport.close_soon(CloseCode.TIMED_OUT, "no hello in time")

    def _check_keepalive(self) -> None:
        wait_seconds = self._keepalive.check(trio.current_time())
        if wait_seconds is None:
            self._transport.close_soon(CloseCode.TIMED_OUT, "no pong")
        else:
            self._services.registry.tell_nowait(ScheduleKeepalive(self.context.path, wait_seconds))

    # --- commands ---------------------------------------------------------------------------------

    def _sender(self) -> Sender:
        hello = self._session.hello
        return Sender(self._address, self._session.domain, "" if hello is None else hello.client_id)

    def _load(self) -> ConnectionLoad:
        return ConnectionLoad(
            is_greeted=self._session.hello is not None, in_flight=self._in_flight, streams=len(self._streams)
        )

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
        # Frames that follow a hello belong to the session it opens, so read no further until it is answered.
        if self._welcomed is not None:
            await self._welcomed.wait()
            self._welcomed = None

    async def _carry_out(self, command: ReceivedCommand) -> None:
        """Carry out one command in a child task, with exactly one reply whatever happens."""
        assert command.id is not None
        try:
            if isinstance(command.data, Hello):
                await self._open_session(command.id, command.data)
            else:
                await self._commands.carry_out(command)
        except (CommandError, RuntimeFault) as error:
            self._replies.failure(command.id, command.type, error)
        finally:
            self._in_flight -= 1
            if isinstance(command.data, Hello) and self._welcomed is not None:
                self._welcomed.set()

    async def _open_session(self, command_id: str, hello: Hello) -> None:
        if await self._session.open(command_id, hello) and self._greeting is not None:
            # Two thousand sleeping tasks would each keep their stack for ten seconds.
            self._greeting.cancel(reason="the hello has come")

    async def _watch_again(self) -> None:
        """Watch the same topics at the restarted monitoring actor from their whole states; retry until it answers."""
        while self._views.is_watching:
            try:
                await self._views.watch_again()
            except (CommandError, RuntimeFault):
                # Nothing signals that the monitoring actor is up again, so poll.
                await trio.sleep(WATCH_PAUSE_SECONDS)
                continue
            return
