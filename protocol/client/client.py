"""A client session with a server: commands and their answers, streams, and reconnection.

A command keeps its id and data until it is answered: after a cut it is sent again, and the server carries it out
once. Streams resume at their position; if the server no longer has the events, it sends a snapshot.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from ssl import SSLContext
from typing import Any

import attrs
import trio

from protocol.client import sleeping
from protocol.client.connection import Connection, open_connection
from protocol.client.errors import CommandFailed, Disconnected, HandshakeRefused, alone, refusal
from protocol.client.pending import Pending, PendingCommands, can_be_asked, memory_seconds
from protocol.client.reconnecting import Change, Retries, comes_back, hint_of
from protocol.client.sleeping import SleepWatch
from protocol.client.streams import Answer, ClientEvents
from protocol.client.watching import WATCHED_MESSAGES, OperatorView
from protocol.codec import encode, unstructure
from protocol.commands import MAXIMUM_FRAME_BYTES, Assist, Generate, Hello, OnDisconnect
from protocol.errors import ErrorCode
from protocol.events import ResumeResult
from protocol.operator_topics import TraceWish, Watch
from protocol.operators import OPERATOR_COMMANDS
from protocol.reading import kind_of_command, read_result
from protocol.server_messages import SERVER_MESSAGES
from protocol.streams import Positions, Reception, StreamPosition, coverage_of

__all__ = ["Client"]

ANSWER_SECONDS = 40.0
CANCEL_SECONDS = 2.0
ACKNOWLEDGE_SECONDS = 1.0
ASKING_BYTES = 64
"""Growth of a frame that asks for an outcome."""
FORGOTTEN = "the server no longer remembers commands that old"
CLIENT_STREAM = "client"
DATA_IS_AN_OBJECT = {kind for kind, message in SERVER_MESSAGES.items() if message.data is not None}
UNKNOWN_EPOCH = "none"
"""A resume with this epoch is answered with a snapshot of the stream's current position."""


class Client:
    """Created by `connect`. Its methods may be called from any task of the same nursery tree."""

    def __init__(
        self,
        url: Callable[[], str],
        hello: Hello,
        *,
        reconnect: bool,
        detach: bool,
        events: bool,
        retries: Retries,
        on_change: Callable[[Change], None] | None,
        ssl_context: SSLContext | None,
    ) -> None:
        self._url = url
        self._ssl_context = ssl_context
        self._hello = hello
        self._reconnect = reconnect
        self._detach = detach
        self._wants_events = events
        self._retries = retries
        self._on_change = on_change or (lambda _: None)
        # Ids must differ between runs of a program: the server remembers them for minutes.
        self._ids = (f"{secrets.token_hex(4)}-{number}" for number in itertools.count(1))
        self._connection: Connection | None = None
        self._pending = PendingCommands()
        self._positions = Positions()
        self._streams: dict[str, Answer | ClientEvents] = {}
        self._view: OperatorView | None = None
        self.welcome: dict[str, Any] = {}
        """Data of the server's latest `welcome`."""
        self.going_away: dict[str, Any] | None = None
        """Data of `going_away`, from its arrival until the next connection is established."""
        self._hint_ms: float | None = None
        self._ended: Disconnected | None = None
        self._is_connected = trio.Event()
        self._sleep_watch = SleepWatch(lambda: self._connection, lambda: next(self._ids))

    @property
    def has_ended(self) -> bool:
        """True if no other connection will follow."""
        return self._ended is not None

    # --- for programs ---------------------------------------------------------------------------------

    async def command(self, kind: str, data: Any) -> dict[str, Any]:
        """Sends a command and returns its answer's envelope. Raises `CommandFailed` or `Disconnected`.

        `OutcomeUnknown`, a `Disconnected`, means that it may have been carried out. After cancellation a late answer is
        ignored; the server may have carried out the command.
        """
        return await self._ask(kind, data)

    async def ask(self, command: object) -> Any:
        """Sends a command given as an object of its class; returns its result as an object, or as plain JSON.

        Raises like `command`, and `protocol.errors.BadMessage` if this client does not understand the result.
        """
        kind = kind_of_command(command)
        return read_result(kind, (await self._ask(kind, unstructure(command)))["data"])

    async def ping(self, payload: Any = None) -> Any:
        """Makes a round trip; returns the payload as the server sent it back."""
        return (await self.command("ping", payload)).get("data")

    async def until_connected(self) -> None:
        """Waits while there is no connection. Raises `Disconnected` once none will follow; cancel-safe."""
        while self._connection is None and self._ended is None:
            await self._is_connected.wait()
        if self._ended is not None:
            raise self._ended

    async def cancel(self, command_id: str) -> bool:
        """Ends a running command. True if it was still running."""
        data = (await self.command("cancel", {"target": command_id})).get("data")
        return isinstance(data, dict) and data.get("cancelled") is True

    @asynccontextmanager
    async def generate(self, command: Generate | Assist) -> AsyncIterator[Answer]:
        """Starts a generation or an assistance; leaving the block early cancels it. Raises `CommandFailed`."""
        kind = "generate" if isinstance(command, Generate) else "assist"
        if self._detach:
            command = attrs.evolve(command, on_disconnect=OnDisconnect.DETACH)
        opened: list[Answer] = []

        async def open_stream(envelope: dict[str, Any]) -> None:
            # Runs in the reader, so that no event of the stream can arrive too early.
            if envelope["type"] == "accepted":
                answer = Answer(envelope["re"], envelope["data"])
                self._positions.follow(answer.stream, envelope["data"].get("epoch", ""))
                self._streams[answer.stream] = answer
                opened.append(answer)

        command_id = next(self._ids)
        try:
            await self._ask(kind, unstructure(command), command_id=command_id, on_answer=open_stream)
            yield opened[0]
        except trio.Cancelled:
            if not opened:
                await self._cancel_unanswered(command_id)
            raise
        finally:
            for one in opened:
                await self._leave(one)

    async def _cancel_unanswered(self, target: str) -> None:
        """Cancels a command that was not accepted yet: its stream would have no reader."""
        if self._connection is not None:
            message = {"type": "cancel", "id": next(self._ids), "data": {"target": target}}
            with trio.move_on_after(CANCEL_SECONDS, shield=True), suppress(Disconnected):
                await self._connection.send(message)

    async def _leave(self, answer: Answer) -> None:
        self._positions.leave(answer.stream)
        self._streams.pop(answer.stream, None)
        answer.leave()
        if not answer.is_over and self._ended is None:
            # Frees its place in the batch at once, instead of generating for nobody.
            with trio.move_on_after(CANCEL_SECONDS, shield=True), suppress(CommandFailed, Disconnected):
                await self.cancel(answer.command_id)

    @asynccontextmanager
    async def events(self) -> AsyncIterator[ClientEvents]:
        """Iterates over the durable events of this client id from now on, or from the last `Snapshot`. One block at a time.

        Requires `connect(…, events=True)`. Events that the program has processed are acknowledged at most once per second.
        """
        found = self._streams.get(CLIENT_STREAM)
        if not isinstance(found, ClientEvents):
            raise RuntimeError("connect(…, events=True) is required to follow the events of this client")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._acknowledge, found)
                try:
                    yield found
                finally:
                    nursery.cancel_scope.cancel(reason="the program reads no more events")
        except BaseExceptionGroup as group:
            raise alone(group) from None

    async def _acknowledge(self, events: ClientEvents) -> None:
        while True:
            await trio.sleep(ACKNOWLEDGE_SECONDS)
            seq, connection = events.handed_out_seq, self._connection
            if seq > events.acknowledged_seq and connection is not None:
                with suppress(Disconnected):
                    await connection.send({"type": "ack", "data": {"stream": CLIENT_STREAM, "seq": seq}})
                    events.acknowledged_seq = seq

    @asynccontextmanager
    async def watch(self, *topics: str, trace: TraceWish | None = None) -> AsyncIterator[OperatorView]:
        """Watches the server as an operator. One block at a time. Raises `CommandFailed`, or `Disconnected` without a connection.

        After a cut the watch is restored, but not a trace. Leaving the block ends it.
        """
        if self._view is not None:
            raise RuntimeError("only one block at a time may watch the server")
        self._view = view = OperatorView(topics)
        try:
            await self.ask(Watch(topics=list(topics), trace=trace))
            yield view
        finally:
            self._view = None
            view.end(None)
            if self._ended is None:
                with trio.move_on_after(CANCEL_SECONDS, shield=True), suppress(CommandFailed, Disconnected):
                    await self.ask(Watch())

    async def _watch_again(self, connection: Connection) -> None:
        """Restores the watch on a new connection; the command's answer carries nothing beyond its frames."""
        if self._view is not None and self._view.topics:
            data = unstructure(Watch(topics=list(self._view.topics)))
            await connection.send({"type": "watch", "id": next(self._ids), "data": data})

    # --- commands -------------------------------------------------------------------------------------

    async def _ask(
        self,
        kind: str,
        data: Any,
        *,
        command_id: str | None = None,
        on_answer: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
    ) -> dict[str, Any]:
        if self._ended is not None:
            raise self._ended
        command_id = command_id or next(self._ids)
        # The server does not remember operators' commands, so each is sent once, and never later than intended.
        is_resent = kind not in OPERATOR_COMMANDS
        if not is_resent and self._connection is None:
            raise Disconnected(None, f"there is no connection at the moment; {kind} was not sent")
        pending = Pending({"type": kind, "id": command_id, "data": data}, is_resent=is_resent, on_answer=on_answer)
        if (size := len(encode(pending.message))) > MAXIMUM_FRAME_BYTES:
            # If sent, it would close the connection for good, along with everything else in progress.
            raise CommandFailed(
                {
                    "code": ErrorCode.TOO_LARGE.value,
                    "message": f"a frame may have {MAXIMUM_FRAME_BYTES} bytes, this one has {size}; nothing was sent",
                    "temporary": False,
                }
            )
        self._pending.add(pending)
        try:
            with trio.fail_after(ANSWER_SECONDS):
                if self._connection is not None:
                    await self._send(self._connection, pending)
                await pending.answered.wait()
        except trio.TooSlowError:
            cause = Disconnected(None, f"no answer to {kind} within {ANSWER_SECONDS:g} seconds")
            raise pending.failure_for(cause) from None
        finally:
            self._pending.remove(pending)
        return self._answer_of(pending)

    def _answer_of(self, pending: Pending) -> dict[str, Any]:
        if pending.answer is None:
            raise pending.failure or Disconnected(None, None)
        if pending.is_not_known or pending.was_put_off:
            raise pending.failure_for(Disconnected(None, str(pending.answer["data"].get("message"))))
        if pending.answer["type"] == "error":
            raise CommandFailed(pending.answer["data"])
        return pending.answer

    async def _send(self, connection: Connection, pending: Pending) -> None:
        # Recorded first: from here on it may reach the server, whatever the result.
        pending.note_sent(trio.current_time(), sleeping.read_marks())
        try:
            await connection.send(pending.message)
        except Disconnected as error:
            if not self._reconnect:
                raise pending.failure_for(error) from None

    async def _send_again(self, connection: Connection) -> None:
        """Resends unanswered commands of the last connection; asks for the outcome of those that might be carried out twice."""
        for pending in self._pending:
            if not pending.is_resent:
                continue
            if pending.may_be_repeated(trio.current_time(), sleeping.read_marks(), memory_seconds(self.welcome)):
                await self._send(connection, pending)
            elif can_be_asked(self.welcome) and len(encode(pending.message)) <= MAXIMUM_FRAME_BYTES - ASKING_BYTES:
                pending.ask_what_became_of_it()
                await self._send(connection, pending)
            else:
                pending.fail(Disconnected(None, FORGOTTEN))

    # --- what comes in: all of it runs in the reader of the connection --------------------------------

    async def _received(self, connection: Connection, message: dict[str, Any]) -> None:
        if message["type"] in DATA_IS_AN_OBJECT and not isinstance(message.get("data"), dict):
            raise ValueError("its data is not an object")
        match message["type"]:
            case "ping":
                with suppress(Disconnected):
                    await connection.send({"type": "pong", "data": message.get("data")})
            case "going_away":
                self.going_away = message["data"]
                self._hint_ms = hint_of(message["data"])
                self._on_change(Change(state="going_away", delay_seconds=(self._hint_ms or 0) / 1000))
            case _ if "stream" in message:
                await self._received_on_stream(connection, message)
            case _ if (pending := self._pending.get(message.get("re"))) is not None:
                if pending.on_answer is not None:
                    await pending.on_answer(message)
                pending.answer = message
                pending.answered.set()
                self._pending.remove(pending)
                if pending.kind != "hello" and not any(one.first_sent is not None for one in self._pending):
                    self._retries.was_of_use()
            case kind if kind in WATCHED_MESSAGES:
                if self._view is not None:
                    self._view.take(message)
            case "error":
                self._hint_ms = hint_of(message["data"])

    async def _received_on_stream(self, connection: Connection, message: dict[str, Any]) -> None:
        stream, position = self._streams.get(message["stream"]), self._positions.get(message["stream"])
        if stream is None or position is None:
            return
        if isinstance(stream, ClientEvents) and stream.is_full and not position.is_recovering:
            position.is_recovering = True
            stream.leave_to_log(partial(self._ask_for_rest, position))
            return
        was_recovering, stood_at = position.is_recovering, position.seq
        try:
            reception = position.take(coverage_of(message))
        except ValueError as error:
            stream.end(Disconnected(None, str(error)))
            return
        if reception is Reception.NEXT:
            await stream.take(message)
        elif reception is Reception.LOSS and not self._reconnect:
            first_seq = message.get("first_seq", message["seq"])
            stream.end(Disconnected(None, f"events {stood_at + 1} to {first_seq - 1} are missing"))
        elif reception is Reception.LOSS and not was_recovering:
            await self._resume(connection, position)

    async def _ask_for_rest(self, position: StreamPosition) -> None:
        # Without a connection the next hello asks.
        if self._connection is not None:
            await self._resume(self._connection, position)

    async def _resume(self, connection: Connection, position: StreamPosition) -> None:
        """Requests the missing events; frames before the answer are ignored."""

        async def go_on(envelope: dict[str, Any]) -> None:
            if envelope["type"] == "result":
                await self._resumed({**envelope["data"], "stream": position.stream})
            elif (stream := self._streams.get(position.stream)) is not None:
                stream.end(Disconnected(None, f"events are lost: {CommandFailed(envelope['data'])}"))

        command_id = next(self._ids)
        point = attrs.asdict(position.resume_point())
        pending = Pending({"type": "resume", "id": command_id, "data": point}, is_resent=False, on_answer=go_on)
        with suppress(Disconnected, CommandFailed):
            self._pending.add(pending)
            await connection.send(pending.message)

    async def _resumed(self, told: dict[str, Any], epoch: str | None = None) -> None:
        stream, position = self._streams.get(told["stream"]), self._positions.get(told["stream"])
        if stream is None or position is None:
            return
        result = ResumeResult(
            stream=told["stream"],
            resumed=bool(told.get("resumed")),
            head=told.get("head", 0),
            snapshot=told.get("snapshot"),
        )
        if not position.resumed(result, epoch):
            await stream.take_snapshot(result)

    # --- connections, one after the other -------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps a connection until none may follow. Raises only before the first `welcome`."""
        is_first = True
        while True:
            cause: Exception
            may_come_back = True
            try:
                async with open_connection(self._url(), self._received, self._ssl_context) as connection:
                    await self._say_hello(connection)
                    self._connection, self._hint_ms, self.going_away = connection, None, None
                    self._retries.welcomed(trio.current_time())
                    self._is_connected.set()
                    self._on_change(Change(state="connected"))
                    if is_first:
                        is_first = False
                        task_status.started()
                    await self._send_again(connection)
                    await self._watch_again(connection)
                    await connection.has_ended.wait()
                cause = connection.cause or Disconnected(None, None)
                may_come_back = comes_back(connection.cause.code if connection.cause else None)
            except CommandFailed as error:
                if is_first:
                    raise
                cause, may_come_back = error, bool(error.data.get("temporary"))
                self._hint_ms = hint_of(error.data)
            except (OSError, Disconnected) as error:
                if is_first:
                    raise
                cause = error
                if isinstance(error, HandshakeRefused):
                    may_come_back = not error.is_for_good
                elif isinstance(error, Disconnected):
                    may_come_back = comes_back(error.code)
            finally:
                self._connection, self._is_connected = None, trio.Event()
                self._pending.forget_those_of_one_connection()
            delay_seconds = self._retries.delay_seconds(trio.current_time(), self._hint_ms)
            if not self._reconnect or not may_come_back or delay_seconds is None:
                self._end(cause if may_come_back else refusal(cause))
                return
            # A hint applies once.
            self._hint_ms = None
            self._on_change(Change(state="disconnected", delay_seconds=delay_seconds, cause=cause))
            with trio.move_on_after(delay_seconds):
                await self._sleep_watch.wait_woken()
                self._retries.begin_again()

    async def watch_for_sleep(self) -> None:
        """Try again, or check that the server is still there, as soon as the machine wakes."""
        await self._sleep_watch.run()

    async def _say_hello(self, connection: Connection) -> None:
        """Opens the session, and sends the position of each stream."""
        if self._wants_events and CLIENT_STREAM not in self._streams:
            self._streams[CLIENT_STREAM] = ClientEvents(self._positions.follow(CLIENT_STREAM, UNKNOWN_EPOCH))
        points = [attrs.asdict(one) for one in self._positions.resume_points()]

        async def go_on(envelope: dict[str, Any]) -> None:
            if envelope["type"] != "welcome":
                return
            self.welcome = envelope["data"]
            told = {one["stream"]: one for one in self.welcome.get("resumed", ())}
            for point in points:
                name = point["stream"]
                epoch = self.welcome.get("epoch") if name == CLIENT_STREAM else None
                await self._resumed(told.get(name, {"stream": name}), epoch)

        command_id = next(self._ids)
        data = {**unstructure(self._hello), "resume": points}
        pending = Pending({"type": "hello", "id": command_id, "data": data}, is_resent=False, on_answer=go_on)
        self._pending.add(pending)
        try:
            await connection.send(pending.message)
            with trio.move_on_after(ANSWER_SECONDS):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_cancel_after, connection.has_ended, nursery.cancel_scope)
                    await pending.answered.wait()
                    nursery.cancel_scope.cancel(reason="answered")
        finally:
            self._pending.remove(pending)
        if pending.answer is None:
            raise connection.cause or Disconnected(None, f"no answer to hello within {ANSWER_SECONDS:g} seconds")
        self._answer_of(pending)

    async def leave(self) -> None:
        """Closes the connection; tasks that still wait get `Disconnected`."""
        self._reconnect = False
        if self._connection is not None:
            await self._connection.close()
        self._end(Disconnected(None, "the client left"))

    def _end(self, cause: Exception) -> None:
        """Notifies every waiting task, once."""
        if self._ended is not None:
            return
        self._ended = cause if isinstance(cause, Disconnected) else Disconnected(None, str(cause))
        self._is_connected.set()
        for stream in self._streams.values():
            stream.end(self._ended)
        if self._view is not None:
            self._view.end(self._ended)
        for pending in self._pending:
            pending.fail(self._ended)
        self._on_change(Change(state="ended", cause=cause))


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel(reason="the connection ended")
