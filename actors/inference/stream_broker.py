"""The inference actor's part of streams: subscribers, streams without subscribers, and their storage."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable

import attrs
import structlog
import trio
from attrs import field, frozen

from actors.access.messages import AwaitTokenChange, FindEnded
from actors.errors import CommandError
from actors.inference.generation import Generation
from actors.inference.messages import (
    GenerationEvent,
    GenerationFailed,
    GenerationRefused,
    GenerationStarted,
    GenerationTokens,
    StartGeneration,
    StreamSnapshot,
    Subscribed,
    SubscribeStream,
    UnsubscribeStream,
)
from actors.inference.store import (
    END_GENERATION,
    RECORD_GENERATION,
    STORED_GENERATIONS,
    EndGeneration,
    RecordedGeneration,
    RecordGeneration,
    StoredGeneration,
)
from actors.inference.streams import PAGE_CHARACTERS, Stream, Streams
from actors.storage.messages import Storage
from actors.tracing.trace_context import within
from protocol.commands import OnDisconnect
from protocol.errors import ErrorCode
from runtime import ActorDead, ActorRef, AskDeadline, Context, Down, DownReason, RuntimeFault, SendFault, Timer

__all__ = ["DetachExpired", "StreamBroker", "StreamRules"]

_log = structlog.get_logger("inference")

LOAD_ATTEMPTS = 10
LOAD_PAUSE_SECONDS = 0.5
ABANDONED = "the last subscriber left"
EXPIRED = "its last subscriber did not come back"
FAULTS_OF_OURS = frozenset({DownReason.CRASHED, DownReason.CANCELLED})
"""Reasons for a subscriber's end that its client did not cause."""


@frozen
class DetachExpired:
    """Timer: a detached stream has had no subscriber for its permitted time."""

    stream: str


@frozen(kw_only=True)
class _Recording:
    """A command being stored."""

    prompt_tokens: int
    over: trio.Event = field(factory=trio.Event)


@frozen(kw_only=True)
class StreamRules:
    """Configuration of streams."""

    storage: Storage | None = None
    """Stores commands and detached generations; None means that nothing survives a restart."""
    detach_seconds: float = 60.0
    access: ActorRef[FindEnded | AwaitTokenChange] | None = None
    """Asked for ended tokens; None lets every generation continue."""


class StreamBroker:
    """All streams of the service. Synchronous except for storage; called by the inference actor alone."""

    def __init__(self, context: Context, rules: StreamRules, end: Callable[[str, str], object]) -> None:
        """``end`` cancels a generation, given its stream and the reason."""
        self._context = context
        self._rules = rules
        self._end = end
        self._streams = Streams()
        self._detached: dict[str, Timer] = {}
        self._overrun: set[str] = set()
        self._recording: dict[str, _Recording] = {}
        self._pending: dict[str, StoredGeneration] = {}
        self._settled: dict[str, trio.Event] = {}
        self._is_loaded = trio.Event()
        self._hurry = trio.Event()

    def __len__(self) -> int:
        return len(self._streams)

    # --- beginning --------------------------------------------------------------------------------

    def open(self, request: StartGeneration, generation: Generation, told: list[GenerationTokens]) -> Stream:
        """Opens the stream of a new generation for its first subscriber; ``told`` holds events sent before the actor
        was lost."""
        model = "" if generation.scheduler is None else generation.scheduler.model.name
        return self._open(request, generation.seed, told, model)

    def _open(self, request: StartGeneration, seed: int, told: list[GenerationTokens], model: str = "") -> Stream:
        epoch = request.epoch or secrets.token_hex(8)
        generate = attrs.evolve(request.generate, seed=seed)
        stream = Stream(
            name=request.stream,
            client_id=request.client_id,
            epoch=epoch,
            recovery=attrs.evolve(request, generate=generate, subscriber=None, resume=None, epoch=epoch),
            publish=self._publish,
            model=model,
            key=request.key,
            is_stored=self._rules.storage is not None and self._must_store(request),
            is_recovered=request.resume is not None,
        )
        for event in told:
            stream.keep(event)
        self._pending.pop(request.stream, None)
        self._streams.add(stream)
        if isinstance(request.subscriber, ActorRef):
            stream.subscribers[request.subscriber.path] = request.subscriber
            self._context.monitor(request.subscriber)
        elif request.subscriber is not None:
            stream.listener = request.subscriber
        return stream

    def is_running(self, name: str) -> bool:
        """True if a stream of that name exists and has not ended."""
        stream = self._streams.get(name)
        return stream is not None and stream.last is None

    def ends_with_server(self, name: str) -> bool:
        """True if a stream may have subscribers and no later server continues it."""
        stream = self._streams.get(name)
        return stream is not None and not stream.is_detachable

    def rejoin(self, request: StartGeneration) -> GenerationStarted | None:
        """Returns the stream if another subscriber has already restarted it after the inference actor was lost."""
        stream = self._streams.find(request.stream, request.client_id)
        if stream is None or request.resume is None:
            return None
        if request.epoch not in (None, stream.epoch):
            raise GenerationRefused(ErrorCode.UNAVAILABLE, "the stream was restarted in the meantime; resume it")
        return self._as_started(stream, prompt_tokens=0, is_repeat=True)

    @property
    def reserved(self) -> tuple[int, int]:
        """Requests and prompt tokens of commands being stored."""
        return len(self._recording), sum(one.prompt_tokens for one in self._recording.values())

    def is_reserved(self, name: str) -> bool:
        """True if a command being stored will start a stream of that name."""
        return name in self._recording

    async def record_and_begin(
        self, request: StartGeneration, seed: int, prompt_tokens: int, begin: Callable[[], None]
    ) -> GenerationStarted:
        """Stores the command, then calls ``begin``. For a repeated command, returns the outcome of the first.

        Not cancelled with its caller: a stored command is started, and if the caller has left, it runs without a
        subscriber. Raises `GenerationRefused`.
        """
        recording = self._recording[request.stream] = _Recording(prompt_tokens=prompt_tokens)
        try:
            with trio.CancelScope(shield=True):
                again = await self._record(request, seed, prompt_tokens)
                if again is None:
                    begin()
        except CommandError:
            raise
        except RuntimeFault as error:
            if isinstance(error, AskDeadline) or (isinstance(error, ActorDead) and error.has_begun):
                raise GenerationRefused(
                    ErrorCode.DEADLINE_EXCEEDED,
                    "it is unknown whether this was accepted; send it again with the same id",
                ) from error
            raise GenerationRefused(
                ErrorCode.UNAVAILABLE, "the command could not be stored", retry_after_ms=1000
            ) from error
        finally:
            del self._recording[request.stream]
            recording.over.set()
        return again or self.started(request.stream, prompt_tokens)

    async def _record(self, request: StartGeneration, seed: int, prompt_tokens: int) -> GenerationStarted | None:
        generate = attrs.evolve(request.generate, seed=seed)
        must_store = self._must_store(request)
        if self._rules.storage is None or not (request.key is not None or must_store):
            return None
        recorded = RecordedGeneration(stream=request.stream, seed=seed, prompt_tokens=prompt_tokens)
        committed = await self._rules.storage.transact(
            RECORD_GENERATION,
            RecordGeneration(
                recorded=recorded,
                client_id=request.client_id,
                domain=request.domain,
                key=request.key,
                generate=generate if must_store else None,
            ),
            client_id=request.client_id,
            key=request.key,
        )
        first = committed.value
        if not committed.is_repeat or (first.stream == request.stream and self._streams.get(first.stream) is None):
            return None  # new, or repeated because the inference actor was lost before it answered
        if first.stream in self._recording:
            await self._recording[first.stream].over.wait()
        await self.settle(first.stream)
        return self._repeated(request, first)

    @staticmethod
    def _must_store(request: StartGeneration) -> bool:
        """True if this service restarts the generation after a restart of the server; observers restart their own."""
        return request.generate.on_disconnect is OnDisconnect.DETACH and request.observer is None

    def _repeated(self, request: StartGeneration, first: RecordedGeneration) -> GenerationStarted:
        stream = self._streams.find(first.stream, request.client_id)
        if stream is None:
            # It was accepted once, so it is accepted again, but its result is gone.
            again = attrs.evolve(request, stream=first.stream, subscriber=None, epoch=None)
            stream = self._open(again, first.seed, [])
            stream.deliver(
                GenerationFailed(
                    stream=stream.name, seq=1, code=ErrorCode.UNAVAILABLE, message="this answer is no longer available"
                )
            )
            self._streams.ended(stream, trio.current_time())
        return self._as_started(stream, first.prompt_tokens, is_repeat=True)

    def started(self, name: str, prompt_tokens: int) -> GenerationStarted:
        """Reply to the request that started a stream."""
        stream = self._streams.get(name)
        assert stream is not None
        return self._as_started(stream, prompt_tokens, is_repeat=False)

    def _as_started(self, stream: Stream, prompt_tokens: int, *, is_repeat: bool) -> GenerationStarted:
        assert stream.recovery.generate.seed is not None
        return GenerationStarted(
            stream=stream.name,
            seed=stream.recovery.generate.seed,
            prompt_tokens=prompt_tokens,
            model=stream.model,
            epoch=stream.epoch,
            is_repeat=is_repeat,
            recovery=stream.recovery,
        )

    # --- followers --------------------------------------------------------------------------------

    def subscribe(self, message: SubscribeStream) -> Subscribed:
        """Returns the next page for a subscriber and subscribes it."""
        self._streams.expire(trio.current_time())
        stream = self._streams.find(message.stream, message.client_id)
        if stream is None:
            nothing = StreamSnapshot(seq=0, text="", state="unavailable")
            return Subscribed(stream=message.stream, epoch="", resumed=False, head=0, snapshot=nothing, is_live=True)
        followed = stream.subscribe(message.subscriber, message.epoch, message.after_seq)
        if stream.last is None:
            self._context.monitor(message.subscriber)
            timer = self._detached.pop(stream.name, None)
            if timer is not None:
                timer.cancel()
        return followed

    def unsubscribe(self, message: UnsubscribeStream) -> bool:
        """Removes a subscriber at its own request."""
        stream = self._streams.get(message.stream)
        if stream is None or not stream.is_subscribed(message.subscriber.path):
            return False
        if stream.leave(message.subscriber.path):
            self._on_last_unsubscribed(stream)
        return True

    def subscriber_down(self, down: Down) -> None:
        """Removes a subscriber that has ended."""
        self.left(down.path, by_our_doing=down.reason in FAULTS_OF_OURS)

    def left(self, path: str, *, by_our_doing: bool = False) -> int:
        """Removes a subscriber that left, or that the server cut off (``by_our_doing``). Returns the number of streams
        left without subscribers."""
        self._overrun.discard(path)
        alone = self._streams.left(path)
        for stream in alone:
            self._on_last_unsubscribed(stream, detaches=by_our_doing)
        return len(alone)

    def detach_expired(self, name: str) -> None:
        """Ends a detached stream to which no subscriber returned."""
        self._detached.pop(name, None)
        stream = self._streams.get(name)
        if stream is not None and not stream.has_subscribers:
            self._end(name, EXPIRED)

    def _on_last_unsubscribed(self, stream: Stream, *, detaches: bool = False) -> None:
        """``detaches`` if the server lost the subscriber, whose client then may return."""
        if stream.is_detachable or detaches:
            self._detached[stream.name] = self._context.after(self._rules.detach_seconds, DetachExpired(stream.name))
        else:
            self._end(stream.name, ABANDONED)

    def _publish(self, subscriber: ActorRef[GenerationEvent], event: GenerationEvent) -> None:
        try:
            subscriber.tell_nowait(event)
        except SendFault:
            # Its mailbox is full; it will notice the gap and ask for the missing events.
            if subscriber.path not in self._overrun:
                # Logged once per subscriber, which may miss thousands of events a few at a time.
                self._overrun.add(subscriber.path)
                _log.warning("subscriber overrun", subscriber=subscriber.path, stream=event.stream)

    # --- ending -----------------------------------------------------------------------------------

    def ended(self, name: str) -> None:
        """Handles the end of a stream: notifies its observer and stores the end."""
        stream = self._streams.get(name)
        if stream is None or stream.last is None:
            return
        timer = self._detached.pop(name, None)
        if timer is not None:
            timer.cancel()
        self._streams.ended(stream, trio.current_time())
        observer = stream.recovery.observer
        if observer is not None:
            try:
                observer.tell_nowait(stream.ended())
            except SendFault as error:
                _log.error("observer not notified", observer=observer.path, stream=name, error=str(error))
        if stream.is_stored:
            with within(stream.recovery.trace):
                self._context.spawn(self._store_end, stream)

    async def _store_end(self, stream: Stream) -> None:
        assert self._rules.storage is not None
        assert stream.last is not None
        try:
            await self._rules.storage.transact(
                END_GENERATION,
                EndGeneration(stream=stream.name, text=stream.text, last=stream.last),
                client_id=stream.client_id,
            )
        except (CommandError, RuntimeFault) as error:
            # After a restart of the server it would be generated again with the same text, so nothing is lost.
            _log.warning("end of a generation not stored", stream=stream.name, error=str(error))

    # --- after a restart --------------------------------------------------------------------------

    async def start_stored(self, start: Callable[[StartGeneration], Awaitable[None]], *, grace_seconds: float) -> None:
        """Restores recently ended streams, and restarts the others with ``start`` after a grace period in which
        subscribers may do so."""
        for one in await self._load():
            name = one.recorded.stream
            if self._streams.get(name) is not None:
                continue
            if one.last is None:
                self._pending[name] = one
                self._settled[name] = trio.Event()
            else:
                self._keep_ended(one, one.last)
        self._is_loaded.set()
        if self._pending:
            with trio.move_on_after(grace_seconds):
                await self._hurry.wait()
        for name in list(self._settled):
            stored = self._pending.pop(name, None)
            if stored is not None:
                await self._start_again(stored, start)
            self._settled.pop(name).set()

    async def _load(self) -> tuple[StoredGeneration, ...]:
        if self._rules.storage is None:
            return ()
        for _ in range(LOAD_ATTEMPTS):
            try:
                return await self._rules.storage.read(STORED_GENERATIONS, None)
            except (CommandError, RuntimeFault) as error:
                _log.warning("stored generations cannot be read", error=str(error))
                await trio.sleep(LOAD_PAUSE_SECONDS)
        return ()

    async def _start_again(self, stored: StoredGeneration, start: Callable[[StartGeneration], Awaitable[None]]) -> None:
        request = request_of(stored)
        try:
            await start(request)
        except GenerationRefused as refusal:
            stream = self._open(request, stored.recorded.seed, [])
            stream.keep(GenerationFailed(stream=stream.name, seq=1, code=refusal.code, message=refusal.message))
            self.ended(stream.name)
            return
        stream_now = self._streams.get(request.stream)
        if stream_now is not None and stream_now.last is None and not stream_now.has_subscribers:
            self._on_last_unsubscribed(stream_now)

    def must_settle(self, name: str) -> bool:
        """True while it is not yet known whether a stream of that name exists."""
        return self._streams.get(name) is None and (not self._is_loaded.is_set() or name in self._settled)

    async def settle(self, name: str) -> None:
        """Waits until that is known."""
        while self.must_settle(name):
            if not self._is_loaded.is_set():
                await self._is_loaded.wait()
            else:
                self._hurry.set()
                await self._settled[name].wait()

    def _keep_ended(self, stored: StoredGeneration, last: GenerationEvent) -> None:
        request = request_of(stored)
        text = stored.text or ""
        pieces = [text[at : at + PAGE_CHARACTERS] for at in range(0, len(text), PAGE_CHARACTERS)]
        told = [
            GenerationTokens(stream=request.stream, seq=seq, text=piece, index=0, token_ids=(), log_probability=0.0)
            for seq, piece in enumerate(pieces, start=1)
        ]
        stream = self._open(request, stored.recorded.seed, told)
        stream.keep(attrs.evolve(last, seq=stream.seq + 1))
        self._streams.ended(stream, trio.current_time())


def request_of(stored: StoredGeneration) -> StartGeneration:
    """Request that restarts a stored generation under a new epoch."""
    # Two servers share only the wall clock; if it was set back in between, the deadline is not extended beyond its full
    # length.
    age_seconds = max(0.0, time.time() - stored.started_ms / 1000)
    return StartGeneration(
        client_id=stored.client_id,
        stream=stored.recorded.stream,
        generate=stored.generate,
        domain=stored.domain,
        key=stored.key,
        asked_at=trio.current_time() - age_seconds,
    )
