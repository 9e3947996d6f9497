"""One WebSocket connection: handshake, reader, one writer, and the commands of one client."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import structlog
import trio
import trio_websocket
from attrs import frozen
from trio_websocket import ConnectionClosed, HandshakeError
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection

import protocol
from actors.access.messages import CheckDoor, EntryRefused, Identity, IdentityWithdrawn
from actors.connections.entry import enter, enter_again
from actors.connections.following import Following
from actors.connections.outbox import Outbox, OutboxFull
from actors.connections.rates import SlidingCount, TokenBucket
from actors.connections.routes import CommandRoute
from actors.connections.websocket_library import HandshakeTasks, KeptStream
from actors.inference.messages import (
    CancelGeneration,
    DescribeEngine,
    EngineHealth,
    GenerationCancelled,
    GenerationDone,
    GenerationEvent,
    GenerationFailed,
    GenerationRefused,
    GenerationStarted,
    GenerationTokens,
    StartGeneration,
)
from actors.refusals import CommandRefused
from actors.storage.messages import IdempotencyKey
from protocol.codec import ReceivedCommand, decode_command, unstructure, wire_time
from protocol.commands import COMMANDS, MAXIMUM_FRAME_BYTES, Cancel, Generate, Hello, Ping, Pong
from protocol.errors import CloseCode, ErrorCode, ProtocolFault
from protocol.events import Accepted, CancelledData, ErrorData, GoingAway, Limits, ResumeResult, Welcome
from runtime import Actor, ActorDead, ActorRef, AskDeadline, Down, MailboxFull, RuntimeFault, reject

__all__ = ["Connection", "ConnectionSettings"]

_log = structlog.get_logger("connection")

HANDSHAKE_SECONDS = 10.0
HELLO_SECONDS = 10.0
WRITE_SECONDS = 10.0
CLOSE_SECONDS = 3.0
LINGER_SECONDS = 1.0
SILENCE_SECONDS = 25.0
PONG_SECONDS = 8.0
ASK_SECONDS = 35.0
"""Longer than the inference room's own deadline for encoding a prompt, so that its answer is the one told."""
MODEL_SECONDS = 1.0
RECOVERY_PAUSE_SECONDS = 0.05
RECOVERY_SECONDS = 30.0
SEED_BITS = 53
PROTOCOL_ERRORS = 10
REFUSALS = 60
WINDOW_SECONDS = 60.0


@frozen(kw_only=True)
class ConnectionSettings:
    """What every connection of this server is told and held to."""

    server: str
    """Name and version."""
    epoch: str
    """Of the stream `client`."""
    model: str
    """The model of the start; `welcome` names the one in use."""
    limits: Limits


@frozen
class CheckSilence:
    """Timer: has anything come since the last look?"""


class Connection(Actor[GenerationEvent | CheckSilence | IdentityWithdrawn]):
    """Owns one socket: its reader, its writer and its abort. When it ends, its socket does."""

    mailbox = reject(4096)

    def __init__(
        self,
        name: str,
        stream: trio.SocketStream,
        settings: ConnectionSettings,
        access: ActorRef[Any],
        inference: ActorRef[Any],
        routes: Mapping[type, CommandRoute] | None = None,
    ) -> None:
        self._name = name
        self._stream = stream
        self._settings = settings
        self._access = access
        self._inference = inference
        self._routes = routes or {}
        self._outbox = Outbox()
        self._has_output = trio.Event()
        self._is_open = False
        self._written = trio.Event()

        self._closed = trio.Event()
        self._close: tuple[CloseCode, str] | None = None
        self._hello: Hello | None = None
        self._identity: Identity | None = None
        # Not set while a hello is being answered.
        self._welcomed = trio.Event()
        self._welcomed.set()
        self._following: dict[str, Following] = {}
        self._in_flight: set[str] = set()
        self._last_heard = trio.current_time()
        self._pinged_at: float | None = None
        now = trio.current_time()
        self._bucket = TokenBucket(settings.limits.commands_per_second, settings.limits.command_burst, now)
        self._errors = SlidingCount(PROTOCOL_ERRORS, WINDOW_SECONDS)
        self._refusals = SlidingCount(REFUSALS, WINDOW_SECONDS)

    async def started(self) -> None:
        """The handshake must not hold up the listener, so it belongs to a child task."""
        self.context.spawn(self._serve)

    async def handle(self, message: GenerationEvent | CheckSilence | IdentityWithdrawn) -> None:
        match message:
            case CheckSilence():
                self._check_silence()
            case IdentityWithdrawn(reason):
                # What waits was for somebody who may not read it any more.
                self._outbox.clear()
                self._close_soon(CloseCode.UNAUTHORIZED, reason)
            case _:
                self._pass_on(message)

    async def down(self, down: Down) -> None:
        """The inference actor was lost: go on with every stream where it stood."""
        if down.path == self._inference.path and self._following:
            self.context.spawn(self._recover_streams)
        elif down.path == self._access.path and self._hello is not None:
            self.context.spawn(self._enter_again, self._hello)

    async def draining(self) -> None:
        """Tell the client when to come back; spread out, so that not all come at once."""
        if self._hello is not None:
            self._put({"type": "going_away", "time": wire_time(), "data": unstructure(GoingAway(1000))})

    async def stopping(self) -> None:
        """Close in order: what is queued first, then the close frame; `_write` does both."""
        self._close_soon(CloseCode.RESTARTING, "the server restarts")
        if not self._is_open:
            return  # a peer that has not even shaken hands is owed no good-bye
        with trio.move_on_after(CLOSE_SECONDS + LINGER_SECONDS):
            await self._closed.wait()

    def snapshot(self) -> dict[str, object]:
        """Counts and the client's name."""
        return {
            "client_id": None if self._hello is None else self._hello.client_id,
            "streams": len(self._following),
            "commands_in_flight": len(self._in_flight),
            "outbox_events": len(self._outbox),
            "outbox_bytes": self._outbox.bytes,
        }

    # --- the socket -------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """The whole life of the socket. Whatever the peer does ends here, not in a crash."""
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(HANDSHAKE_SECONDS):
                    websocket = await self._handshake(nursery)
                if websocket is not None:
                    self._is_open = True
                    nursery.start_soon(self._write, websocket)
                    nursery.start_soon(self._expect_hello)
                    self.context.every(1.0, CheckSilence())
                    await self._read(websocket)
                    if self._close is not None:
                        await self._written.wait()
                    else:
                        await self._tell_parse_failure(websocket)
                nursery.cancel_scope.cancel(reason="the connection is over")
            await self._linger()
        except* (
            HandshakeError,
            ConnectionClosed,
            trio.TooSlowError,
            OSError,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
        ) as group:
            _log.debug("connection ended", connection=self._name, errors=[repr(one) for one in group.exceptions])
        finally:
            self._closed.set()
            await trio.aclose_forcefully(self._stream)
            self.context.stop()

    async def _handshake(self, nursery: trio.Nursery) -> Any:
        """HTTP upgrade under our rules; None when it was refused, or was none."""
        request: Any = None
        with trio.CancelScope() as waiting:
            tasks: Any = HandshakeTasks(nursery, waiting)
            request = await trio_websocket.wrap_server_stream(
                tasks, KeptStream(self._stream), max_message_size=MAXIMUM_FRAME_BYTES, receive_buffer_size=65_536
            )
        if request is None:
            return None
        headers = {name.lower(): value for name, value in request.headers}
        origin = headers.get(b"origin")
        # trio-websocket keeps the Host header on the event alone.
        host = request._event.host
        try:
            await self._access.ask(
                CheckDoor(
                    host=host,
                    origin=None if origin is None else origin.decode("latin-1"),
                    query=request.path.partition("?")[2],
                ),
                timeout=5,
            )
        except EntryRefused as refusal:
            await request.reject(403, body=str(refusal).encode())
            return None
        except RuntimeFault:
            await request.reject(503, body=b"not ready", extra_headers=[(b"Retry-After", b"1")])
            return None
        if request.path.split("?")[0] != protocol.PATH:
            await request.reject(404, body=f"the path is {protocol.PATH}".encode())
            return None
        proposed = request.proposed_subprotocols
        if proposed and protocol.SUBPROTOCOL not in proposed:
            await request.reject(400, body=f"this server speaks {protocol.SUBPROTOCOL}".encode())
            return None
        return await request.accept(subprotocol=protocol.SUBPROTOCOL if proposed else None)

    async def _expect_hello(self) -> None:
        await trio.sleep(HELLO_SECONDS)
        if self._hello is None:
            self._close_soon(CloseCode.TIMED_OUT, "no hello in time")

    async def _read(self, websocket: Any) -> None:
        """Read until the peer is gone or we have closed. Waits for nothing but the socket, and once for `welcome`."""
        while True:
            try:
                frame = await websocket.get_message()
            except ConnectionClosed:
                return
            self._last_heard = trio.current_time()
            self._pinged_at = None
            if self._close is None:
                self._take_frame(frame)
                # Whatever a client sends on after its hello belongs to the session that the hello opens.
                await self._welcomed.wait()

    async def _write(self, websocket: Any) -> None:
        """The one writer. A write is never cancelled while the connection lives on: too slow means gone."""
        try:
            while True:
                frame = self._outbox.take()
                if frame is not None:
                    with trio.fail_after(WRITE_SECONDS):
                        await websocket.send_message(frame.decode())
                    continue
                if self._close is not None:
                    code, reason = self._close
                    with trio.move_on_after(CLOSE_SECONDS):
                        await websocket.aclose(int(code), reason)
                    return
                self._has_output = trio.Event()
                await self._has_output.wait()
        except trio.TooSlowError:
            _log.info("reader too slow", connection=self._name, close=int(CloseCode.TOO_SLOW))
            # A half-written frame must not be followed by another, not even by a close frame.
            await trio.aclose_forcefully(self._stream)
        except ConnectionClosed:
            pass
        finally:
            self._written.set()

    async def _tell_parse_failure(self, websocket: Any) -> None:
        """Say why, where the peer's bytes were no WebSocket frames or no UTF-8: trio-websocket says nothing."""
        if websocket._wsproto.state is ConnectionState.OPEN and websocket.closed is not None:
            with trio.move_on_after(CLOSE_SECONDS):
                await websocket._send(CloseConnection(code=websocket.closed.code, reason=websocket.closed.reason))

    async def _linger(self) -> None:
        """Let the peer read our last words: closing over its unread bytes would reset the connection (RFC 6455, 7.1.1)."""
        with trio.move_on_after(LINGER_SECONDS):
            await self._stream.send_eof()
            while await self._stream.receive_some(65_536):
                pass

    def _put(self, message: dict[str, Any], *, put: Callable[[dict[str, Any]], None] | None = None) -> None:
        if self._close is not None:
            return
        try:
            (put or self._outbox.put)(message)
        except OutboxFull as error:
            _log.info("outbox full", connection=self._name, detail=str(error))
            # The stream has a gap from here on, so what waits is of no use; a slow reader is told at once.
            self._outbox.clear()
            self._close_soon(CloseCode.TOO_SLOW, "too slow")
        self._has_output.set()

    def _close_soon(self, code: CloseCode, reason: str) -> None:
        """Close after what is queued."""
        if self._close is None:
            self._close = (code, reason)
            self._has_output.set()

    def _check_silence(self) -> None:
        now = trio.current_time()
        if self._pinged_at is not None:
            if now - self._pinged_at >= PONG_SECONDS:
                self._close_soon(CloseCode.TIMED_OUT, "no pong")
        elif now - self._last_heard >= SILENCE_SECONDS:
            self._pinged_at = now
            self._put({"type": "ping", "time": wire_time(), "data": {}})

    # --- commands ---------------------------------------------------------------------------------

    def _take_frame(self, frame: str | bytes) -> None:
        now = trio.current_time()
        if isinstance(frame, bytes):
            self._close_soon(CloseCode.NOT_THIS_PROTOCOL, "binary frames are not part of this protocol")
            return
        # trio-websocket's own limit counts characters.
        if len(frame) * 4 > MAXIMUM_FRAME_BYTES and len(frame.encode()) > MAXIMUM_FRAME_BYTES:
            self._close_soon(CloseCode.FRAME_TOO_LARGE, f"more than {MAXIMUM_FRAME_BYTES} bytes")
            return
        try:
            command = decode_command(frame)
        except ProtocolFault as fault:
            self._error(fault.command_id, fault.code, fault.message, field=fault.field)
            if self._errors.add(now):
                self._close_soon(CloseCode.NOT_THIS_PROTOCOL, "too many messages that are not of this protocol")
            return
        if isinstance(command.data, Pong):
            return
        if self._hello is None and not isinstance(command.data, Hello):
            self._error(command.id, ErrorCode.UNAUTHORIZED, "the first command must be hello")
            self._close_soon(CloseCode.UNAUTHORIZED, "a command before hello")
            return
        self._take_command(command, now)

    def _take_command(self, command: ReceivedCommand, now: float) -> None:
        assert command.id is not None
        limits = self._settings.limits
        wait_seconds = self._bucket.take(now)
        if wait_seconds is not None:
            self._refuse(command.id, f"more than {limits.commands_per_second} commands a second", wait_seconds, now)
            return
        match command.data:
            case Ping(payload):
                self._answer(command.id, "pong", payload)
                return
            case Hello() if self._hello is not None:
                self._error(command.id, ErrorCode.CONFLICT, "hello was already said")
                self._close_soon(CloseCode.TOO_MANY, "a second hello")
                return
        if command.id in self._in_flight or command.id in self._following:
            self._error(command.id, ErrorCode.CONFLICT, f"command {command.id} is still running", field="id")
            return
        if len(self._in_flight) >= limits.commands_in_flight:
            self._refuse(command.id, f"more than {limits.commands_in_flight} commands in flight", 0.1, now)
            return
        if isinstance(command.data, Generate) and len(self._following) >= limits.streams:
            self._refuse(command.id, f"more than {limits.streams} streams", 1.0, now)
            return
        self._in_flight.add(command.id)
        if isinstance(command.data, Hello):
            self._welcomed = trio.Event()
        self.context.spawn(self._carry_out, command, name=command.type)

    async def _carry_out(self, command: ReceivedCommand) -> None:
        """One command, as a child task: exactly one answer, whatever happens."""
        assert command.id is not None
        try:
            match command.data:
                case Hello():
                    await self._say_welcome(command.id, command.data)
                case Generate():
                    await self._generate(command.id, command.data)
                case Cancel(target):
                    await self._cancel(command.id, target)
                case _:
                    await self._pass_to_room(command)
        except CommandRefused as refusal:
            self._error(
                command.id,
                refusal.code,
                refusal.message,
                field=refusal.field,
                retry_after_ms=refusal.retry_after_ms,
                current=refusal.current,
            )
        except AskDeadline:
            self._error(command.id, ErrorCode.DEADLINE_EXCEEDED, "no answer in time")
        except MailboxFull:
            self._error(command.id, ErrorCode.OVERLOADED, "too much is waiting", retry_after_ms=1000)
        except ActorDead as error:
            self._error(command.id, ErrorCode.UNAVAILABLE, f"{error.path} is restarting", retry_after_ms=500)
        except RuntimeFault as error:
            _log.error("command failed", connection=self._name, type=command.type, exc_info=error)
            self._error(command.id, ErrorCode.INTERNAL, "the server failed to carry this out")
        finally:
            self._in_flight.discard(command.id)
            self._welcomed.set()

    async def _pass_to_room(self, command: ReceivedCommand) -> None:
        assert command.id is not None
        assert self._hello is not None
        route = self._routes.get(type(command.data))
        if route is None:
            self._error(command.id, ErrorCode.UNKNOWN_TYPE, f"{command.type} is not served here", field="type")
            return
        key = None
        if COMMANDS[command.type].writes:
            key = IdempotencyKey(
                client_id=self._hello.client_id,
                device_id=self._hello.device_id,
                command_id=command.id,
                digest=command.digest,
            )
        value = await route.room.ask(
            route.message(client_id=self._hello.client_id, device_id=self._hello.device_id, data=command.data, key=key),
            timeout=route.timeout_seconds,
        )
        self._answer(command.id, "result", unstructure(value))

    async def _say_welcome(self, command_id: str, hello: Hello) -> None:
        try:
            self._identity = await enter(self._access, hello, self.context.me)
        except EntryRefused as refusal:
            code = ErrorCode.FORBIDDEN if refusal.is_forbidden else ErrorCode.UNAUTHORIZED
            self._error(command_id, code, str(refusal))
            self._close_soon(CloseCode.FORBIDDEN if refusal.is_forbidden else CloseCode.UNAUTHORIZED, str(refusal))
            return
        self._hello = hello
        self.context.monitor(self._access)
        welcome = Welcome(
            connection_id=self._name,
            client_id=hello.client_id,
            device_id=hello.device_id,
            epoch=self._settings.epoch,
            server=self._settings.server,
            limits=self._settings.limits,
            model=await self._model_in_use(),
            state={},
            # No stream outlives its connection yet, so none can be resumed; saying so is the contract.
            resumed=[ResumeResult(stream=one.stream, resumed=False, head=0) for one in hello.resume],
        )
        self._answer(command_id, "welcome", unstructure(welcome))

    @property
    def _domain(self) -> str:
        return "" if self._identity is None else self._identity.domain

    async def _enter_again(self, hello: Hello) -> None:
        """The access room was lost: it must know of this connection to close it when its token ends."""
        try:
            self._identity = await enter_again(self._access, hello, self.context.me)
            self.context.monitor(self._access)
        except EntryRefused as refusal:
            self._close_soon(CloseCode.FORBIDDEN if refusal.is_forbidden else CloseCode.UNAUTHORIZED, str(refusal))

    async def _model_in_use(self) -> str:
        """Its name now; that of the start where the inference actor cannot be asked."""
        try:
            health: EngineHealth = await self._inference.ask(DescribeEngine(), timeout=MODEL_SECONDS)
        except RuntimeFault:
            return self._settings.model
        return health.model

    async def _generate(self, command_id: str, generate: Generate) -> None:
        assert self._hello is not None
        stream = f"{self._name}.{command_id}"
        if generate.seed is None:
            # Drawn here, so that whoever has to make the answer again draws the same tokens.
            generate = attrs.evolve(generate, seed=secrets.randbits(SEED_BITS))
        following = Following(command_id=command_id, stream=stream, generate=generate)
        # Known before the ask, because events may come before its answer does.
        self._following[command_id] = following
        self.context.monitor(self._inference)
        try:
            try:
                started: GenerationStarted = await self._inference.ask(
                    StartGeneration(
                        client_id=self._hello.client_id,
                        domain=self._domain,
                        stream=stream,
                        generate=generate,
                        follower=self.context.me,
                    ),
                    timeout=ASK_SECONDS,
                )
                following.model = started.model
            except ActorDead:
                # Lost while it was accepting, so the request is made again; same seed, same answer.
                following.has_lost_owner = True
                await self._follow_again(following)
        except BaseException:
            self._following.pop(command_id, None)
            raise
        self._answer(command_id, "accepted", unstructure(Accepted(stream, self._settings.epoch)))
        following.is_accepted = True
        for event in following.take_early():
            self._pass_on(event)

    async def _cancel(self, command_id: str, target: str) -> None:
        following = self._following.get(target)
        was_running = False
        if following is not None:
            was_running = await self._inference.ask(CancelGeneration(following.stream), timeout=10)
        self._answer(command_id, "result", {"cancelled": was_running})

    # --- streams ----------------------------------------------------------------------------------

    def _pass_on(self, event: GenerationEvent) -> None:
        command_id = event.stream.removeprefix(f"{self._name}.")
        following = self._following.get(command_id)
        if following is None:
            return
        if not following.is_accepted:
            following.keep_early(event)
            return
        if not following.take(event):
            return  # of an owner that was lost meanwhile; its successor tells it again
        envelope: dict[str, Any] = {
            "type": "token",
            "stream": event.stream,
            "re": command_id,
            "seq": event.seq,
            "time": wire_time(),
        }
        match event:
            case GenerationTokens():
                envelope["data"] = {"text": event.text, "index": event.index}
                if event.logprobs is not None:
                    envelope["data"]["logprobs"] = event.logprobs
                self._put(envelope, put=self._outbox.put_token)
                return
            case GenerationDone():
                envelope |= {"type": "done", "data": unstructure(event.done)}
            case GenerationCancelled():
                envelope |= {"type": "cancelled", "data": unstructure(CancelledData(event.reason))}
            case GenerationFailed():
                error = ErrorData(code=event.code, message=event.message)
                envelope |= {"type": "failed", "data": unstructure(error)}
        self._put(envelope)
        del self._following[command_id]

    async def _recover_streams(self) -> None:
        """Ask the new inference actor to go on with each stream, from the last text that came here."""
        for following in list(self._following.values()):
            if following.is_accepted and not following.has_lost_owner:
                following.has_lost_owner = True
                try:
                    await self._follow_again(following)
                except (GenerationRefused, RuntimeFault) as error:
                    self._pass_on(following.failure(error))

    async def _follow_again(self, following: Following) -> None:
        assert self._hello is not None
        with trio.move_on_after(RECOVERY_SECONDS):
            while following.has_lost_owner:
                try:
                    started: GenerationStarted = await self._inference.ask(
                        StartGeneration(
                            client_id=self._hello.client_id,
                            domain=self._domain,
                            stream=following.stream,
                            generate=following.generate,
                            follower=self.context.me,
                            resume=following.resume_point(),
                        ),
                        timeout=ASK_SECONDS,
                    )
                    following.model = started.model
                except ActorDead:
                    # It is being started again; there is nothing to wait on but its being there.
                    await trio.sleep(RECOVERY_PAUSE_SECONDS)
                    continue
                following.has_lost_owner = False
                self.context.monitor(self._inference)
                return
        raise GenerationRefused(ErrorCode.UNAVAILABLE, "the inference actor did not come back in time")

    # --- answers ----------------------------------------------------------------------------------

    def _answer(self, command_id: str, kind: str, data: Any) -> None:
        self._put({"type": kind, "re": command_id, "time": wire_time(), "data": data})

    def _refuse(self, command_id: str, message: str, wait_seconds: float, now: float) -> None:
        self._error(command_id, ErrorCode.RATE_LIMITED, message, retry_after_ms=max(1, round(1000 * wait_seconds)))
        if self._refusals.add(now):
            self._close_soon(CloseCode.TOO_MANY, "too many refusals")

    def _error(
        self,
        command_id: str | None,
        code: ErrorCode,
        message: str,
        *,
        field: str | None = None,
        retry_after_ms: int | None = None,
        current: dict[str, Any] | None = None,
    ) -> None:
        data = ErrorData(code=code, message=message, field=field, retry_after_ms=retry_after_ms, current=current)
        envelope = {"type": "error", "time": wire_time(), "data": unstructure(data)}
        if command_id is not None:
            envelope["re"] = command_id
        self._put(envelope)
