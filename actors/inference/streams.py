"""Streams of generations: their events, their subscribers, and their retention after the end. No I/O.

A stream belongs to a client id, not to a connection: any number of subscribers come and go, and each receives the
events it misses. The text is stored once; an event's end is an offset into it, so that any run of events can be
replayed as one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from attrs import define, field

from actors.inference.messages import (
    FirstTimes,
    GenerationCancelled,
    GenerationDone,
    GenerationEnded,
    GenerationEvent,
    GenerationFailed,
    GenerationTokens,
    ResumeFrom,
    StartGeneration,
    StreamSnapshot,
    Subscribed,
)
from actors.storage.messages import IdempotencyKey
from protocol.codec import encode
from protocol.commands import OnDisconnect
from runtime import ActorRef

__all__ = ["KEPT_BYTES", "KEPT_SECONDS", "PAGE_CHARACTERS", "Stream", "Streams"]

KEPT_SECONDS = 300.0
"""Ended streams are kept for this time..."""
KEPT_BYTES = 64 * 1024 * 1024
"""...and up to this total size, dropping the oldest first."""
PAGE_CHARACTERS = 64 * 1024
"""Text of one replayed event; six bytes per character when escaped, still far below a frame."""
PAGE_LOGPROBS = 256
"""Tokens with log-probabilities in one replayed event: with twenty alternatives each they are about as long."""
PAGE_LOGPROB_BYTES = 512 * 1024
"""Their size as JSON."""
_EVENT_BYTES = 32
"""Memory of the numbers stored with an event's text."""
_LOGPROB_BYTES = 4096

Deliver = Callable[[GenerationEvent], None]


@define(kw_only=True, eq=False)
class Stream:
    """One stream and the events it has had so far."""

    name: str
    client_id: str
    epoch: str
    recovery: StartGeneration = field(repr=False)
    """Request that restarts it, with seed and epoch filled in."""
    publish: Callable[[ActorRef[GenerationEvent], GenerationEvent], None] = field(repr=False)
    """Sends an event to an actor; never blocks."""
    model: str = ""
    """Name of the answering model."""
    key: IdempotencyKey | None = None
    """Key of the command that it answers."""
    is_stored: bool = False
    """True if it is restarted after a restart of the server."""
    is_recovered: bool = False
    """True if it continues where a lost inference actor left it; a subscriber may have received more than it knows of.
    """
    last: GenerationEvent | None = None
    """`done`, `cancelled` or `failed`, once ended."""
    ended_at: float = 0.0
    subscribers: dict[str, ActorRef[GenerationEvent]] = field(factory=dict)
    """Subscribers that receive every new event, by path."""
    catching_up: dict[str, ActorRef[GenerationEvent]] = field(factory=dict)
    """Subscribers that still fetch pages."""
    listener: Deliver | None = field(default=None, repr=False)
    """Function that receives every new event."""
    _text: list[str] = field(factory=list, repr=False)
    # Entry i belongs to event i + 1: end offsets of its text and token ids, and its log-probability.
    _text_ends: array[int] = field(factory=lambda: array("Q"), repr=False)
    _token_ends: array[int] = field(factory=lambda: array("Q"), repr=False)
    _token_ids: array[int] = field(factory=lambda: array("Q"), repr=False)
    _log_probabilities: array[float] = field(factory=lambda: array("d"), repr=False)
    _logprobs: list[list[dict[str, Any]] | None] = field(factory=list, repr=False)
    _first_times: FirstTimes | None = field(default=None, repr=False)

    @property
    def seq(self) -> int:
        """Sequence number of the last event."""
        return len(self._text_ends) + (self.last is not None)

    @property
    def text(self) -> str:
        """The whole text so far."""
        if len(self._text) > 1:
            self._text = ["".join(self._text)]
        return self._text[0] if self._text else ""

    @property
    def state(self) -> str:
        """State as reported in snapshots."""
        match self.last:
            case None:
                return "running"
            case GenerationDone():
                return "done"
            case GenerationCancelled():
                return "cancelled"
            case _:
                return "failed"

    @property
    def bytes(self) -> int:
        """Approximate memory use."""
        characters = self._text_ends[-1] if self._text_ends else 0
        logprobs = sum(len(one) for one in self._logprobs if one)
        return (
            4 * characters + _EVENT_BYTES * len(self._text_ends) + 8 * len(self._token_ids) + _LOGPROB_BYTES * logprobs
        )

    @property
    def is_detachable(self) -> bool:
        """True if it continues for a while without subscribers."""
        return self.recovery.generate.on_disconnect is OnDisconnect.DETACH

    # --- events -----------------------------------------------------------------------------------

    def deliver(self, event: GenerationEvent) -> None:
        """Stores the next event and sends it to all subscribers."""
        self.keep(event)
        if self.listener is not None:
            self.listener(event)
        for subscriber in self.subscribers.values():
            self.publish(subscriber, event)

    def keep(self, event: GenerationEvent) -> None:
        """Stores the next event."""
        assert event.seq == self.seq + 1, f"event {event.seq} of {self.name} after {self.seq}"
        if not isinstance(event, GenerationTokens):
            self.last = event
            return
        self._text.append(event.text)
        self._text_ends.append((self._text_ends[-1] if self._text_ends else 0) + len(event.text))
        self._token_ids.extend(event.token_ids)
        self._token_ends.append(len(self._token_ids))
        self._log_probabilities.append(event.log_probability)
        self._logprobs.append(event.logprobs)
        self._first_times = self._first_times or event.first_times

    def after(self, seq: int) -> GenerationEvent | None:
        """Next event after ``seq``: text, merged from as many events as fit into a page, or the last event; None at the
        head."""
        texts = len(self._text_ends)
        if seq >= texts:
            return self.last if seq == texts else None
        began = self._text_ends[seq - 1] if seq else 0
        end = max(seq + 1, bisect_right(self._text_ends, began + PAGE_CHARACTERS))
        if self.recovery.generate.logprobs is not None:
            end = self._logprobs_end(seq, min(end, seq + PAGE_LOGPROBS))
        token_began = self._token_ends[seq - 1] if seq else 0
        token_end = self._token_ends[end - 1]
        logprobs: list[dict[str, Any]] = [one for part in self._logprobs[seq:end] for one in part or ()]
        return GenerationTokens(
            stream=self.name,
            first_seq=seq + 1,
            seq=end,
            text=self.text[began : self._text_ends[end - 1]],
            index=token_end - 1,
            token_ids=tuple(self._token_ids[token_began:token_end]),
            log_probability=sum(self._log_probabilities[seq:end]),
            logprobs=logprobs if self.recovery.generate.logprobs is not None else None,
            first_times=self._first_times,
        )

    def _logprobs_end(self, seq: int, end: int) -> int:
        """Last event that fits into a page together with its alternatives, whose tokens may be long and need escapes."""
        left_bytes = PAGE_LOGPROB_BYTES
        for at in range(seq, end):
            left_bytes -= len(encode(self._logprobs[at] or []))
            if left_bytes < 0 and at > seq:
                return at
        return end

    def point(self, seq: int) -> ResumeFrom:
        """Resume point of a subscriber that has received everything up to ``seq``."""
        events = min(seq, len(self._token_ends))
        seed = self.recovery.generate.seed
        assert seed is not None
        return ResumeFrom(
            seq=seq,
            token_ids=tuple(self._token_ids[: self._token_ends[events - 1]]) if events else (),
            log_probability=sum(self._log_probabilities[:events]),
            seed=seed,
            model=self.model or None,
            first_times=self._first_times if events else None,
        )

    def ended(self) -> GenerationEnded:
        """Final event for the observer."""
        done = self.last.done if isinstance(self.last, GenerationDone) else None
        code = message = None
        if isinstance(self.last, GenerationFailed):
            code, message = self.last.code, self.last.message
        elif isinstance(self.last, GenerationCancelled):
            message = self.last.reason
        return GenerationEnded(
            stream=self.name,
            client_id=self.client_id,
            text=self.text,
            done=done,
            code=code,
            message=message,
            trace=self.recovery.trace,
        )

    # --- followers --------------------------------------------------------------------------------

    def subscribe(self, subscriber: ActorRef[GenerationEvent], epoch: str | None, after_seq: int) -> Subscribed:
        """Returns the next page for a subscriber, which receives all later events once a page reaches the head."""
        snapshot = None
        # A subscriber that received more of a recovered stream gets events again and takes only the new ones.
        is_known = after_seq <= self.seq or (self.is_recovered and self.last is None)
        resumed = epoch in (None, self.epoch) and is_known
        if not resumed:
            first = self.after(0)
            text, after_seq = (first.text, first.seq) if isinstance(first, GenerationTokens) else ("", 0)
            snapshot = StreamSnapshot(seq=after_seq, text=text, state=self.state)
        event = self.after(after_seq)
        reached = after_seq if event is None else event.seq
        is_live = reached >= self.seq
        self.catching_up.pop(subscriber.path, None)
        if self.last is None:
            (self.subscribers if is_live else self.catching_up)[subscriber.path] = subscriber
        return Subscribed(
            stream=self.name,
            epoch=self.epoch,
            resumed=resumed,
            head=self.seq,
            snapshot=snapshot,
            events=() if event is None else (event,),
            is_live=is_live,
            recovery=self.recovery if self.last is None else None,
            behind=self.point(after_seq) if self.last is None else None,
            key=self.key,
        )

    def leave(self, path: str) -> bool:
        """Removes a subscriber. Returns True if it was the last one."""
        was_there = [self.subscribers.pop(path, None), self.catching_up.pop(path, None)] != [None, None]
        return was_there and not self.has_subscribers

    def is_subscribed(self, path: str) -> bool:
        """True if it receives new events or is catching up."""
        return path in self.subscribers or path in self.catching_up

    @property
    def has_subscribers(self) -> bool:
        """True if there is any subscriber or listener."""
        return bool(self.subscribers or self.catching_up or self.listener)


class Streams:
    """All streams by name: running ones and recently ended ones."""

    def __init__(self, *, kept_seconds: float = KEPT_SECONDS, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_seconds = kept_seconds
        self._kept_bytes = kept_bytes
        self._running: dict[str, Stream] = {}
        self._ended: OrderedDict[str, tuple[Stream, int]] = OrderedDict()
        self.ended_bytes = 0
        """Total size of ended streams."""

    def __len__(self) -> int:
        return len(self._running) + len(self._ended)

    def __iter__(self) -> Iterator[Stream]:
        yield from self._running.values()
        for stream, _ in self._ended.values():
            yield stream

    def add(self, stream: Stream) -> None:
        """Adds a running stream."""
        assert stream.name not in self._running
        self.forget(stream.name)
        self._running[stream.name] = stream

    def find(self, name: str, client_id: str) -> Stream | None:
        """The stream of that name, if it belongs to this client."""
        stream = self.get(name)
        return stream if stream is not None and stream.client_id == client_id else None

    def get(self, name: str) -> Stream | None:
        """The stream of that name; None if there is no such stream."""
        ended = self._ended.get(name)
        return self._running.get(name) if ended is None else ended[0]

    def ended(self, stream: Stream, now: float) -> None:
        """Moves a stream to the ended ones, which are kept for a while."""
        self._running.pop(stream.name, None)
        stream.ended_at = now
        stream.subscribers.clear()
        stream.catching_up.clear()
        size = stream.bytes
        self._ended[stream.name] = (stream, size)
        self.ended_bytes += size
        self.expire(now)

    def forget(self, name: str) -> None:
        """Drops a stream."""
        self._running.pop(name, None)
        ended = self._ended.pop(name, None)
        if ended is not None:
            self.ended_bytes -= ended[1]

    def expire(self, now: float) -> None:
        """Drops streams that ended too long ago, and the oldest while the total is too large."""
        while self._ended:
            oldest, _ = next(iter(self._ended.values()))
            if self.ended_bytes <= self._kept_bytes and now - oldest.ended_at < self._kept_seconds:
                return
            self.forget(oldest.name)

    def left(self, path: str) -> list[Stream]:
        """Removes a subscriber from all streams. Returns the running streams left without one."""
        return [stream for stream in list(self._running.values()) if stream.leave(path)]
