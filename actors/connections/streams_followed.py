"""The streams of generations that one connection follows: begun here, joined, resumed, and gone on with after a loss."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import attrs
import trio

from actors.connections.following import Following
from actors.connections.link import Link
from actors.connections.replay import Replayer
from actors.inference.messages import (
    UNFINISHED,
    Followed,
    FollowStream,
    GenerationCancelled,
    GenerationDone,
    GenerationEvent,
    GenerationFailed,
    GenerationRefused,
    GenerationStarted,
    GenerationTokens,
    StreamSnapshot,
)
from protocol.codec import encode, unstructure, wire_time
from protocol.errors import ErrorCode
from protocol.events import CancelledData, ErrorData, ResumeResult
from runtime import ActorDead, ActorRef, Request, RuntimeFault

__all__ = ["StreamsFollowed", "new_stream_name"]

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


class StreamsFollowed:
    """By name of the stream. All but the asks is synchronous."""

    def __init__(
        self,
        link: Link,
        replayer: Replayer,
        inference: ActorRef[Any],
        self_ref: Callable[[], ActorRef[Any]],
        monitor: Callable[[], None],
    ) -> None:
        """``monitor`` has the connection told when the inference actor is lost."""
        self._link = link
        self._replayer = replayer
        self._inference = inference
        self._self_ref = self_ref
        self._monitor = monitor
        self._streams: dict[str, Following] = {}
        self.client_id = ""
        """Whose streams they are, from the hello on."""

    def __len__(self) -> int:
        return len(self._streams)

    def of_command(self, command_id: str) -> Following | None:
        """The stream that answers a command of this device."""
        return next((one for one in self._streams.values() if one.command_id == command_id), None)

    # --- beginning --------------------------------------------------------------------------------

    async def start(self, room: ActorRef[Any], command_id: str, ask: Ask) -> tuple[Following, bool]:
        """Have a room start a stream whose events come here, and whether the command had been accepted before.

        Raises what the room refuses with, `RuntimeFault`. `accept` passes its events on.
        """
        name = new_stream_name()
        following = self._streams[name] = Following(stream=name, command_id=command_id)
        self._monitor()
        try:
            started = await self._ask_until_there(room, ask(name))
            if started.is_repeat:
                del self._streams[name]
                following = await self._join(started, command_id)
        except BaseException:
            self._streams.pop(name, None)
            raise
        following.epoch, following.recovery = started.epoch, started.recovery
        following.model = started.model or None
        return following, started.is_repeat

    async def _ask_until_there(self, room: ActorRef[Any], request: Request[GenerationStarted]) -> GenerationStarted:
        """A room lost while it was accepting is asked again: same id, same seed, same answer."""
        deadline = trio.current_time() + RECOVERY_SECONDS
        begun: ActorDead | None = None
        while True:
            try:
                return await room.ask(request, timeout=START_SECONDS)
            except ActorDead as dead:
                begun = dead if dead.has_begun else begun
                if trio.current_time() > deadline:
                    # An earlier try may have been carried out, whatever became of the last one.
                    raise begun or dead from None
                # It is being started again; there is nothing to wait on but its being there.
                await trio.sleep(RECOVERY_PAUSE_SECONDS)
                self._monitor()

    async def _join(self, started: GenerationStarted, command_id: str) -> Following:
        """The same command had been accepted before: its stream, from the first event."""
        following = self._streams.get(started.stream)
        if following is None:
            following = self._streams[started.stream] = Following(stream=started.stream)
        following.command_id = command_id
        following.is_ready = False
        following.begin_at(0, None)
        following.token_ids, following.log_probability = [], 0.0
        self._monitor()
        return following

    def accept(self, following: Following, *, is_repeat: bool) -> None:
        """`accepted` was sent: pass on what came meanwhile and all that comes."""
        if is_repeat:
            self._replayer.want(following.stream, lambda: self._pull(following))
            return
        self._make_ready(following)

    # --- following what is there already ----------------------------------------------------------

    async def resume(
        self, device_id: str, stream: str, epoch: str, seq: int, *, snapshot_bytes: int = SNAPSHOT_BYTES
    ) -> tuple[ResumeResult, Callable[[], None]]:
        """Go on with a stream after ``seq``. The second value is to be called when the answer was sent.

        The text of a snapshot that takes more than ``snapshot_bytes`` as JSON comes as events instead.
        """
        # Known before the ask, because live events may come before its answer does.
        was_followed = stream in self._streams
        following = self._streams.setdefault(stream, Following(stream=stream))
        following.is_ready = False
        self._monitor()
        try:
            followed: Followed = await self._inference.ask(
                FollowStream(
                    client_id=self.client_id, stream=stream, epoch=epoch, after_seq=seq, follower=self._self_ref()
                ),
                timeout=FOLLOW_SECONDS,
            )
        except BaseException:
            if was_followed:
                # It goes on as if nobody had asked; what came meanwhile was kept.
                self._make_ready(following)
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
        following.epoch, following.recovery = followed.epoch, followed.recovery
        if followed.key is not None and followed.key.device_id == device_id:
            following.command_id = followed.key.command_id
        begun = seq if followed.snapshot is None else followed.snapshot.seq
        following.begin_at(begun, followed.behind if begun else None)
        return result, lambda: self._after_answer(following, followed)

    def _after_answer(self, following: Following, followed: Followed) -> None:
        # Of many streams that are resumed at once, one page at a time.
        if self._link.outbox.replayed or self._take_page(following, followed):
            self._want(following)

    async def _pull(self, following: Following) -> bool:
        """One more page; whether there may be another."""
        if self._streams.get(following.stream) is not following or following.has_lost_owner:
            return False
        following.take_early()
        try:
            followed: Followed = await self._inference.ask(
                FollowStream(
                    client_id=self.client_id,
                    stream=following.stream,
                    epoch=following.epoch,
                    after_seq=following.seq,
                    follower=self._self_ref(),
                ),
                timeout=FOLLOW_SECONDS,
            )
        except ActorDead:
            return False  # `recover` goes on with it
        except (GenerationRefused, RuntimeFault) as error:
            self._pass_on(following, following.failure(error))
            return False
        if self._streams.get(following.stream) is not following:
            return False
        if not followed.resumed:
            self._pass_on(following, following.failure(RuntimeError("the stream cannot be gone on with; resume it")))
            return False
        return self._take_page(following, followed)

    def _take_page(self, following: Following, followed: Followed) -> bool:
        """Pass a page on; whether more is to be fetched."""
        if self._streams.get(following.stream) is not following:
            return False
        for event in followed.events:
            if following.take(event):
                self._put(following, event, is_replayed=True)
        if following.stream not in self._streams:
            return False
        if followed.is_live:
            self._make_ready(following)
        return not followed.is_live

    def _want(self, following: Following) -> None:
        following.is_ready = False
        self._replayer.want(following.stream, lambda: self._pull(following))

    def _make_ready(self, following: Following) -> None:
        following.is_ready = True
        for event in following.take_early():
            self.take(event)

    # --- events -----------------------------------------------------------------------------------

    def take(self, event: GenerationEvent) -> None:
        """A live event: pass it on if it is the next one of a stream that is followed."""
        following = self._streams.get(event.stream)
        if following is None:
            return
        if not following.is_ready:
            # What is told before the page is asked for will be in it.
            if not self._replayer.is_wanted(following.stream):
                following.keep_early(event)
            return
        if following.seq >= event.seq:
            return  # told again by the successor of an owner that was lost
        if self._link.outbox.has_room(_size(event)):
            self._pass_on(following, event)
        else:
            self._want(following)  # the inference actor keeps it and everything after it

    def _pass_on(self, following: Following, event: GenerationEvent) -> None:
        if following.take(event):
            self._put(following, event, is_replayed=False)
        elif event.seq > following.seq:
            self._want(following)  # the mailbox had no room for one before it

    def _put(self, following: Following, event: GenerationEvent, *, is_replayed: bool) -> None:
        envelope: dict[str, Any] = {"type": "token", "stream": event.stream, "seq": event.seq, "time": wire_time()}
        if following.command_id is not None:
            envelope["re"] = following.command_id
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
        outbox = self._link.outbox
        if is_replayed:
            self._link.put(outbox.put_replayed, encode(envelope), event.stream)
        elif isinstance(event, GenerationTokens) and event.first_seq == event.seq:
            self._link.put(outbox.put_token, envelope)
        else:
            self._link.send(envelope)
        if not isinstance(event, GenerationTokens):
            self._streams.pop(event.stream, None)
            self._replayer.forget(event.stream)

    def end_all(self) -> None:
        """The server stops: say so of each answer that no server after this one goes on with. It is the last event here."""
        stopped = GenerationRefused(ErrorCode.SHUTTING_DOWN, UNFINISHED)
        for following in list(self._streams.values()):
            if following.ends_with_server:
                self._put(following, following.failure(stopped), is_replayed=False)

    # --- a lost owner -----------------------------------------------------------------------------

    async def recover(self) -> None:
        """Ask the new inference actor to go on with each stream, from the last text that came here."""
        for following in list(self._streams.values()):
            request = following.restart(self._self_ref())
            if request is None or following.has_lost_owner:
                continue  # still being accepted: who asked for it asks again
            following.has_lost_owner = True
            following.is_ready = False
            try:
                started = await self._ask_until_there(self._inference, request)
            except (GenerationRefused, RuntimeFault) as error:
                following.has_lost_owner = False
                self._make_ready(following)
                self._pass_on(following, following.failure(error))
                continue
            following.has_lost_owner = False
            following.recovery = started.recovery
            self._monitor()
            if started.is_repeat:
                self._want(following)
            else:
                self._make_ready(following)


def _size(event: GenerationEvent) -> int:
    """What it takes in the outbox, at most."""
    if isinstance(event, GenerationTokens):
        return EVENT_BYTES + 4 * len(event.text) + LOGPROB_BYTES * len(event.logprobs or ())
    return EVENT_BYTES
