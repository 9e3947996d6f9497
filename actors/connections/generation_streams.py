"""The generation streams that one connection consumes: started, joined, resumed, and recovered after a restart."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import attrs
import trio

from actors.connections.replay import Replayer
from actors.connections.stream_consumer import StreamConsumer
from actors.connections.transport import WebSocketTransport
from actors.inference.messages import (
    UNFINISHED,
    GenerationCancelled,
    GenerationDone,
    GenerationEvent,
    GenerationFailed,
    GenerationRefused,
    GenerationStarted,
    GenerationTokens,
    InferenceRequest,
    StreamSnapshot,
    Subscribed,
    SubscribeStream,
)
from protocol.codec import encode, unstructure, wire_time
from protocol.errors import ErrorCode
from protocol.events import CancelledData, ErrorData, ResumeResult
from runtime import ActorDead, ActorRef, Context, Request, RuntimeFault

__all__ = ["GenerationStreams", "new_stream_name"]

START_SECONDS = 35.0
"""Longer than the inference room's own deadline for encoding a prompt, so that its answer is the one told."""
FOLLOW_SECONDS = 10.0
SNAPSHOT_BYTES = 512 * 1024
"""Of the texts of all snapshots in one answer: it stays well within a frame."""
EVENT_BYTES = 512
LOGPROB_BYTES = 4096
"""Of one token with twenty alternatives."""
RECOVERY_PAUSE_SECONDS = 0.05
RECOVERY_SECONDS = 30.0

Ask = Callable[[str], Request[GenerationStarted]]


def new_stream_name() -> str:
    """Of no stream there ever was."""
    return f"s-{secrets.token_hex(8)}"


class GenerationStreams:
    """By name of the stream. All but the asks is synchronous."""

    def __init__(
        self,
        transport: WebSocketTransport,
        replayer: Replayer,
        inference: ActorRef[InferenceRequest],
        context: Context,
    ) -> None:
        """``context`` is the connection's, which is told when the inference actor is lost."""
        self._transport = transport
        self._replayer = replayer
        self._inference = inference
        self._context = context
        self._streams: dict[str, StreamConsumer] = {}
        self.client_id = ""
        """Whose streams they are, from the hello on."""

    def __len__(self) -> int:
        return len(self._streams)

    def of_command(self, command_id: str) -> StreamConsumer | None:
        """The stream that answers a command of this device."""
        return next((one for one in self._streams.values() if one.command_id == command_id), None)

    # --- beginning --------------------------------------------------------------------------------

    async def start(self, service: ActorRef[Any], command_id: str, ask: Ask) -> tuple[StreamConsumer, bool]:
        """Have a room start a stream whose events come here, and whether the command had been accepted before.

        Raises what the room refuses with, `RuntimeFault`. `accept` passes its events on.
        """
        name = new_stream_name()
        consumer = self._streams[name] = StreamConsumer(stream=name, command_id=command_id)
        self._context.monitor(self._inference)
        try:
            started = await self._ask_until_there(service, ask(name))
            if started.is_repeat:
                del self._streams[name]
                consumer = await self._join(started, command_id)
        except BaseException:
            self._streams.pop(name, None)
            raise
        consumer.epoch, consumer.recovery = started.epoch, started.recovery
        consumer.model, consumer.left_out = started.model or None, list(started.left_out) or None
        return consumer, started.is_repeat

    async def _ask_until_there(self, service: ActorRef[Any], request: Request[GenerationStarted]) -> GenerationStarted:
        """A room lost while it was accepting is asked again: same id, same seed, same answer."""
        deadline = trio.current_time() + RECOVERY_SECONDS
        begun: ActorDead | None = None
        while True:
            try:
                return await service.ask(request, timeout=START_SECONDS)
            except ActorDead as dead:
                begun = dead if dead.has_begun else begun
                if trio.current_time() > deadline:
                    # An earlier try may have been carried out, whatever became of the last one.
                    raise begun or dead from None
                # It is being started again; there is nothing to wait on but its being there.
                await trio.sleep(RECOVERY_PAUSE_SECONDS)
                self._context.monitor(self._inference)

    async def _join(self, started: GenerationStarted, command_id: str) -> StreamConsumer:
        """The same command had been accepted before: its stream, from the first event."""
        consumer = self._streams.get(started.stream)
        if consumer is None:
            consumer = self._streams[started.stream] = StreamConsumer(stream=started.stream)
        consumer.command_id = command_id
        consumer.is_ready = False
        consumer.begin_at(0, None)
        consumer.token_ids, consumer.log_probability = [], 0.0
        self._context.monitor(self._inference)
        return consumer

    def accept(self, consumer: StreamConsumer, *, is_repeat: bool) -> None:
        """`accepted` was sent: pass on what came meanwhile and all that comes."""
        if is_repeat:
            self._replayer.want(consumer.stream, lambda: self._pull(consumer))
            return
        self._make_ready(consumer)

    # --- following what is there already ----------------------------------------------------------

    async def resume(
        self, device_id: str, stream: str, epoch: str, seq: int, *, snapshot_bytes: int = SNAPSHOT_BYTES
    ) -> tuple[ResumeResult, Callable[[], None]]:
        """Go on with a stream after ``seq``. The second value is to be called when the answer was sent.

        The text of a snapshot that takes more than ``snapshot_bytes`` as JSON comes as events instead.
        """
        # Known before the ask, because live events may come before its answer does.
        was_followed = stream in self._streams
        consumer = self._streams.setdefault(stream, StreamConsumer(stream=stream))
        consumer.is_ready = False
        self._context.monitor(self._inference)
        try:
            followed: Subscribed = await self._inference.ask(
                SubscribeStream(
                    client_id=self.client_id,
                    stream=stream,
                    epoch=epoch,
                    after_seq=seq,
                    subscriber=self._context.self_ref,
                ),
                timeout=FOLLOW_SECONDS,
            )
        except BaseException:
            if was_followed:
                # It goes on as if nobody had asked; what came meanwhile was kept.
                self._make_ready(consumer)
            else:
                self._streams.pop(stream, None)
            raise
        snapshot: dict[str, Any] | None = None
        if followed.snapshot is not None:
            if len(encode([followed.snapshot.text])) > snapshot_bytes:
                # All of it comes as events then, from the first on.
                nothing = StreamSnapshot(seq=0, text="", state=followed.snapshot.state)
                followed = attrs.evolve(followed, snapshot=nothing, events=(), is_live=False)
            snapshot = {"epoch": followed.epoch, **unstructure(followed.snapshot)}
        result = ResumeResult(stream=stream, resumed=followed.resumed, head=followed.head, snapshot=snapshot)
        if followed.is_live and not followed.events and followed.recovery is None:
            self._streams.pop(stream, None)
            return result, lambda: None  # over, and the client has all of it; or never heard of
        consumer.epoch, consumer.recovery = followed.epoch, followed.recovery
        if followed.key is not None and followed.key.device_id == device_id:
            consumer.command_id = followed.key.command_id
        begun = seq if followed.snapshot is None else followed.snapshot.seq
        consumer.begin_at(begun, followed.behind if begun else None)
        return result, lambda: self._after_answer(consumer, followed)

    def _after_answer(self, consumer: StreamConsumer, followed: Subscribed) -> None:
        # Of many streams that are resumed at once, one page at a time.
        if self._transport.send_queue.replayed or self._take_page(consumer, followed):
            self._want(consumer)

    async def _pull(self, consumer: StreamConsumer) -> bool:
        """One more page; whether there may be another."""
        if self._streams.get(consumer.stream) is not consumer or consumer.has_lost_owner:
            return False
        consumer.take_early()
        try:
            followed: Subscribed = await self._inference.ask(
                SubscribeStream(
                    client_id=self.client_id,
                    stream=consumer.stream,
                    epoch=consumer.epoch,
                    after_seq=consumer.seq,
                    subscriber=self._context.self_ref,
                ),
                timeout=FOLLOW_SECONDS,
            )
        except ActorDead:
            return False  # `recover` goes on with it
        except (GenerationRefused, RuntimeFault) as error:
            self._pass_on(consumer, consumer.failure(error))
            return False
        if self._streams.get(consumer.stream) is not consumer:
            return False
        if not followed.resumed:
            self._pass_on(consumer, consumer.failure(RuntimeError("the stream cannot be gone on with; resume it")))
            return False
        return self._take_page(consumer, followed)

    def _take_page(self, consumer: StreamConsumer, followed: Subscribed) -> bool:
        """Pass a page on; whether more is to be fetched."""
        if self._streams.get(consumer.stream) is not consumer:
            return False
        for event in followed.events:
            if consumer.take(event):
                self._put(consumer, event, is_replayed=True)
        if consumer.stream not in self._streams:
            return False
        if followed.is_live:
            self._make_ready(consumer)
        return not followed.is_live

    def _want(self, consumer: StreamConsumer) -> None:
        consumer.is_ready = False
        self._replayer.want(consumer.stream, lambda: self._pull(consumer))

    def _make_ready(self, consumer: StreamConsumer) -> None:
        consumer.is_ready = True
        for event in consumer.take_early():
            self.take(event)

    # --- events -----------------------------------------------------------------------------------

    def take(self, event: GenerationEvent) -> None:
        """A live event: pass it on if it is the next one of a stream that is followed."""
        consumer = self._streams.get(event.stream)
        if consumer is None:
            return
        if not consumer.is_ready:
            # What is told before the page is asked for will be in it.
            if not self._replayer.is_wanted(consumer.stream):
                consumer.keep_early(event)
            return
        if consumer.seq >= event.seq:
            return  # told again by the successor of an owner that was lost
        if self._transport.send_queue.has_room(_size(event)):
            self._pass_on(consumer, event)
        else:
            self._want(consumer)  # the inference actor keeps it and everything after it

    def _pass_on(self, consumer: StreamConsumer, event: GenerationEvent) -> None:
        if consumer.take(event):
            self._put(consumer, event, is_replayed=False)
        elif event.seq > consumer.seq:
            self._want(consumer)  # the mailbox had no room for one before it

    def _put(self, consumer: StreamConsumer, event: GenerationEvent, *, is_replayed: bool) -> None:
        envelope: dict[str, Any] = {"type": "token", "stream": event.stream, "seq": event.seq, "time": wire_time()}
        if consumer.command_id is not None:
            envelope["re"] = consumer.command_id
        match event:
            case GenerationTokens():
                if event.first_seq != event.seq:
                    envelope["first_seq"] = event.first_seq
                envelope["data"] = {"text": event.text, "index": event.index}
                if event.logprobs is not None:
                    envelope["data"]["logprobs"] = event.logprobs
            case GenerationDone():
                envelope |= {"type": "done", "data": {**unstructure(event.done), **event.fields}}
            case GenerationCancelled():
                envelope |= {"type": "cancelled", "data": unstructure(CancelledData(event.reason))}
            case GenerationFailed():
                error = ErrorData(code=event.code, message=event.message)
                envelope |= {"type": "failed", "data": unstructure(error)}
        send_queue = self._transport.send_queue
        if is_replayed:
            self._transport.put(send_queue.put_replayed, encode(envelope), event.stream)
        elif isinstance(event, GenerationTokens) and event.first_seq == event.seq:
            self._transport.put(send_queue.put_token, envelope)
        else:
            self._transport.send(envelope)
        if not isinstance(event, GenerationTokens):
            self._streams.pop(event.stream, None)
            self._replayer.forget(event.stream)

    def end_all(self) -> None:
        """The server stops: say so of each answer that no server after this one goes on with. It is the last event here."""
        stopped = GenerationRefused(ErrorCode.SHUTTING_DOWN, UNFINISHED)
        for consumer in list(self._streams.values()):
            if consumer.ends_with_server:
                self._put(consumer, consumer.failure(stopped), is_replayed=False)

    # --- a lost owner -----------------------------------------------------------------------------

    async def recover(self) -> None:
        """Ask the new inference actor to go on with each stream, from the last text that came here."""
        for consumer in list(self._streams.values()):
            request = consumer.restart(self._context.self_ref)
            if request is None or consumer.has_lost_owner:
                continue  # still being accepted: who asked for it asks again
            consumer.has_lost_owner = True
            consumer.is_ready = False
            try:
                started = await self._ask_until_there(self._inference, request)
            except (GenerationRefused, RuntimeFault) as error:
                consumer.has_lost_owner = False
                self._make_ready(consumer)
                self._pass_on(consumer, consumer.failure(error))
                continue
            consumer.has_lost_owner = False
            consumer.recovery = started.recovery
            self._context.monitor(self._inference)
            if started.is_repeat:
                self._want(consumer)
            else:
                self._make_ready(consumer)


def _size(event: GenerationEvent) -> int:
    """What it takes in the send queue, at most."""
    if isinstance(event, GenerationTokens):
        return EVENT_BYTES + 4 * len(event.text) + LOGPROB_BYTES * len(event.logprobs or ())
    return EVENT_BYTES
