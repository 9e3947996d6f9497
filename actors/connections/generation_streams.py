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
"""Longer than the inference service's own deadline for encoding a prompt, so that the client gets its answer."""
FOLLOW_SECONDS = 10.0
SNAPSHOT_BYTES = 512 * 1024
"""Limit on the snapshot texts of one reply together, so that it fits into a frame."""
EVENT_BYTES = 512
LOGPROB_BYTES = 4096
"""Size of one token with twenty alternatives."""
RECOVERY_PAUSE_SECONDS = 0.05
RECOVERY_SECONDS = 30.0

Ask = Callable[[str], Request[GenerationStarted]]


def new_stream_name() -> str:
    """Return a new random stream name."""
    return f"s-{secrets.token_hex(8)}"


class GenerationStreams:
    """The streams of one connection by name. Everything but asking other actors is synchronous."""

    def __init__(
        self,
        transport: WebSocketTransport,
        replayer: Replayer,
        inference: ActorRef[InferenceRequest],
        context: Context,
    ) -> None:
        """``context`` is the connection's; it is notified when the inference actor goes down."""
        self._transport = transport
        self._replayer = replayer
        self._inference = inference
        self._context = context
        self._streams: dict[str, StreamConsumer] = {}
        self.client_id = ""
        """The client that owns the streams; set by `hello`."""

    def __len__(self) -> int:
        return len(self._streams)

    def of_command(self, command_id: str) -> StreamConsumer | None:
        """Return the stream that answers a command of this device."""
        return next((one for one in self._streams.values() if one.command_id == command_id), None)

    # --- beginning --------------------------------------------------------------------------------

    async def start(self, service: ActorRef[Any], command_id: str, ask: Ask) -> tuple[StreamConsumer, bool]:
        """Start a stream whose events come here. Returns it, and True if the command had already been accepted.

        Raises the service's own rejection or `RuntimeFault`. `accept` starts passing the events on.
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
        """Ask, and ask again while the service restarts. Id and seed stay the same, and so does the answer."""
        deadline = trio.current_time() + RECOVERY_SECONDS
        begun: ActorDead | None = None
        while True:
            try:
                return await service.ask(request, timeout=START_SECONDS)
            except ActorDead as dead:
                begun = dead if dead.has_begun else begun
                if trio.current_time() > deadline:
                    # An earlier attempt may have been carried out, whatever happened to the last one.
                    raise begun or dead from None
                # Nothing signals that the service is up again, so poll.
                await trio.sleep(RECOVERY_PAUSE_SECONDS)
                self._context.monitor(self._inference)

    async def _join(self, started: GenerationStarted, command_id: str) -> StreamConsumer:
        """Join the stream of a command that had already been accepted, from its first event."""
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
        """Pass on the events that came meanwhile and those to come. Call once `accepted` has been sent."""
        if is_repeat:
            self._replayer.want(consumer.stream, lambda: self._pull(consumer))
            return
        self._make_ready(consumer)

    # --- following what is there already ----------------------------------------------------------

    async def resume(
        self, device_id: str, stream: str, epoch: str, seq: int, *, snapshot_bytes: int = SNAPSHOT_BYTES
    ) -> tuple[ResumeResult, Callable[[], None]]:
        """Resume a stream after ``seq``. Call the returned function once the reply has been sent.

        If the snapshot's text takes more than ``snapshot_bytes`` as JSON, it comes as events instead.
        """
        # Registered before the ask, because live events may overtake its answer.
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
                # The stream continues as before; events that came meanwhile were buffered.
                self._make_ready(consumer)
            else:
                self._streams.pop(stream, None)
            raise
        snapshot: dict[str, Any] | None = None
        if followed.snapshot is not None:
            if len(encode([followed.snapshot.text])) > snapshot_bytes:
                # Replay the whole stream as events instead.
                nothing = StreamSnapshot(seq=0, text="", state=followed.snapshot.state)
                followed = attrs.evolve(followed, snapshot=nothing, events=(), is_live=False)
            snapshot = {"epoch": followed.epoch, **unstructure(followed.snapshot)}
        result = ResumeResult(stream=stream, resumed=followed.resumed, head=followed.head, snapshot=snapshot)
        if followed.is_live and not followed.events and followed.recovery is None:
            self._streams.pop(stream, None)
            return result, lambda: None  # finished, and the client has all of it; or unknown
        consumer.epoch, consumer.recovery = followed.epoch, followed.recovery
        if followed.key is not None and followed.key.device_id == device_id:
            consumer.command_id = followed.key.command_id
        begun = seq if followed.snapshot is None else followed.snapshot.seq
        consumer.begin_at(begun, followed.behind if begun else None)
        return result, lambda: self._after_answer(consumer, followed)

    def _after_answer(self, consumer: StreamConsumer, followed: Subscribed) -> None:
        # When many streams are resumed at once, page them one at a time.
        if self._transport.send_queue.replayed or self._take_page(consumer, followed):
            self._want(consumer)

    async def _pull(self, consumer: StreamConsumer) -> bool:
        """Fetch one more page; True if there may be another."""
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
            return False  # `recover` continues the stream
        except (GenerationRefused, RuntimeFault) as error:
            self._pass_on(consumer, consumer.failure(error))
            return False
        if self._streams.get(consumer.stream) is not consumer:
            return False
        if not followed.resumed:
            self._pass_on(consumer, consumer.failure(RuntimeError("the stream cannot be continued; resume it")))
            return False
        return self._take_page(consumer, followed)

    def _take_page(self, consumer: StreamConsumer, followed: Subscribed) -> bool:
        """Pass on a page; True if there is more to fetch."""
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
        """Take a live event and pass it on if it is the next one of its stream."""
        consumer = self._streams.get(event.stream)
        if consumer is None:
            return
        if not consumer.is_ready:
            # An event published before the page is requested will be in the page.
            if not self._replayer.is_wanted(consumer.stream):
                consumer.keep_early(event)
            return
        if consumer.seq >= event.seq:
            return  # repeated by the successor of a lost inference actor
        if self._transport.send_queue.has_room(_size(event)):
            self._pass_on(consumer, event)
        else:
            self._want(consumer)  # the inference actor retains this event and all later ones

    def _pass_on(self, consumer: StreamConsumer, event: GenerationEvent) -> None:
        if consumer.take(event):
            self._put(consumer, event, is_replayed=False)
        elif event.seq > consumer.seq:
            self._want(consumer)  # an earlier event did not fit into the mailbox

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
        """End every stream that will not survive the restart of the server with a `failed` event. Call last."""
        stopped = GenerationRefused(ErrorCode.SHUTTING_DOWN, UNFINISHED)
        for consumer in list(self._streams.values()):
            if consumer.ends_with_server:
                self._put(consumer, consumer.failure(stopped), is_replayed=False)

    # --- a lost owner -----------------------------------------------------------------------------

    async def recover(self) -> None:
        """Ask the restarted inference actor to continue each stream after the last text that came here."""
        for consumer in list(self._streams.values()):
            request = consumer.restart(self._context.self_ref)
            if request is None or consumer.has_lost_owner:
                continue  # still being accepted: the pending ask is repeated
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
    """Upper bound on the event's size in the send queue."""
    if isinstance(event, GenerationTokens):
        return EVENT_BYTES + 4 * len(event.text) + LOGPROB_BYTES * len(event.logprobs or ())
    return EVENT_BYTES
