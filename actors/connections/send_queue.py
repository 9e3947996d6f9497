"""The send queue of one socket: bounded, ordered, with a policy for each class of frame. No I/O.

Adjacent tokens of one stream are merged into one, a state keeps only its newest value, and everything else is queued as
it is. Operator topics are encoded only when their turn comes. The caller checks that an event fits before
queueing it; the others are read later from where they are stored, page by page as the writer drains, and do not count as lag. Replies have a
budget of their own, and their producers wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define

from protocol.codec import encode

__all__ = ["MAXIMUM_LAG_BYTES", "MAXIMUM_LAG_EVENTS", "SendQueue"]

MAXIMUM_LAG_BYTES = 1024 * 1024
MAXIMUM_LAG_EVENTS = 1024
ANSWER_BYTES = 256 * 1024
"""Above this many reply bytes no more commands are read. One larger reply may exceed it."""
_ENVELOPE_BYTES = 160
"""Estimated size of a token's envelope before it is encoded."""
MERGED_TEXT_BYTES = 128 * 1024
"""Keeps a merged token below the frame limit of 1 MiB even if every byte is escaped and takes six."""


@define
class _Tokens:
    """Queued tokens of one stream."""

    envelope: dict[str, Any]
    first_seq: int
    texts: list[str]
    logprobs: list[dict[str, Any]]
    size: int


@define
class _State:
    """The newest value of a state, and the number of changes merged into it."""

    kind: str
    time: str
    data: bytes
    changes: int


@define
class _Replayed:
    """A frame that does not count as lag."""

    frame: bytes


@define
class _Reply:
    """The reply to a command."""

    frame: bytes


@define
class _Made:
    """A frame that is built from the newest data when its turn comes."""

    topic: str
    make: Callable[[], bytes | None]


_Waiting = bytes | _Tokens | _State | _Replayed | _Reply | _Made


class SendQueue:
    """Frames in order, for a single writer."""

    def __init__(self, *, maximum_bytes: int = MAXIMUM_LAG_BYTES, maximum_events: int = MAXIMUM_LAG_EVENTS) -> None:
        self._waiting: deque[_Waiting] | None = None
        """None while empty: an empty deque is 760 bytes, and most queues are empty."""
        self._states: dict[str, _State] = {}
        self._made: set[str] = set()
        """Topics with a queued frame."""
        self._state_seq = 0
        self._last_of: dict[str, _Tokens] = {}
        self._maximum_bytes = maximum_bytes
        self._maximum_events = maximum_events
        self.bytes = 0
        """Queued bytes that count as lag, tokens at their estimated size."""
        self.replayed = 0
        """Queued frames that do not count as lag."""
        self.reply_bytes = 0
        """Queued bytes of replies."""
        self._replies = 0

    def __len__(self) -> int:
        return len(self._waiting) if self._waiting else 0

    def put(self, message: dict[str, Any]) -> None:
        """Queue one message as it is."""
        self.put_frame(encode(message), message.get("stream"))

    def has_room(self, size: int) -> bool:
        """True if an event of about ``size`` bytes may be queued; otherwise read it later from where it is stored."""
        events = len(self) - self.replayed - self._replies - len(self._made)
        return self.bytes + size <= self._maximum_bytes and events < self._maximum_events

    def has_room_for_reply(self, size: int = 0) -> bool:
        """True if a reply of ``size`` bytes may be queued."""
        return self.reply_bytes + size <= ANSWER_BYTES or self.reply_bytes == 0

    def put_reply(self, frame: bytes) -> None:
        """Queue the reply to a command."""
        self.reply_bytes += len(frame)
        self._replies += 1
        self._append(_Reply(frame))

    def put_frame(self, frame: bytes, stream: str | None = None) -> None:
        """Queue a frame that was encoded once for all."""
        self.bytes += len(frame)
        self._append(frame)
        if stream is not None:
            # Later tokens must not be merged into tokens ahead of this event of their stream.
            self._last_of.pop(stream, None)

    def put_replayed(self, frame: bytes, stream: str) -> None:
        """Queue a frame of a page. The next page is fetched once no replayed frame is queued."""
        self._append(_Replayed(frame))
        self.replayed += 1
        self._last_of.pop(stream, None)

    def put_state(self, kind: str, time: str, data: bytes) -> None:
        """Queue a state's new value, replacing the queued one."""
        waiting = self._states.get(kind)
        if waiting is not None:
            self.bytes += len(data) - len(waiting.data)
            waiting.time, waiting.data = time, data
            waiting.changes += 1
            return
        self.bytes += len(data) + _ENVELOPE_BYTES
        self._states[kind] = state = _State(kind, time, data, 1)
        self._append(state)

    def put_made(self, topic: str, make: Callable[[], bytes | None]) -> None:
        """Queue a frame of a topic, at most one at a time, built by ``make`` when its turn comes. It is no lag.

        If ``make`` returns None, there is no frame.
        """
        if topic not in self._made:
            self._made.add(topic)
            self._append(_Made(topic, make))

    def put_token(self, message: dict[str, Any]) -> None:
        """Queue a `token` event, merged into the queued token of its stream."""
        stream: str = message["stream"]
        text: str = message["data"]["text"]
        logprobs: list[dict[str, Any]] = message["data"].get("logprobs", [])
        size = len(text.encode()) + (len(encode(logprobs)) if logprobs else 0)
        waiting = self._last_of.get(stream)
        if waiting is not None and waiting.size + size <= MERGED_TEXT_BYTES:
            self.bytes += size
            waiting.texts.append(text)
            waiting.logprobs.extend(logprobs)
            waiting.size += size
            waiting.envelope = message
            return
        self.bytes += size + _ENVELOPE_BYTES
        tokens = _Tokens(message, message["seq"], [text], list(logprobs), size)
        self._append(tokens)
        self._last_of[stream] = tokens

    def take(self) -> bytes | None:
        """Remove and return the next frame, or None. A frame that was taken can no longer be merged."""
        while self._waiting and isinstance(made := self._waiting[0], _Made):
            self._waiting.popleft()
            self._made.discard(made.topic)
            if (frame := made.make()) is not None:
                self._waiting = self._waiting or None
                return frame
        if not self._waiting:
            self._waiting = None
            return None
        first = self._waiting.popleft()
        if not self._waiting:
            self._waiting = None
        assert not isinstance(first, _Made), "taken above"
        if isinstance(first, bytes):
            self.bytes -= len(first)
            return first
        if isinstance(first, _Replayed):
            self.replayed -= 1
            return first.frame
        if isinstance(first, _Reply):
            self.reply_bytes -= len(first.frame)
            self._replies -= 1
            return first.frame
        if isinstance(first, _State):
            self.bytes -= len(first.data) + _ENVELOPE_BYTES
            del self._states[first.kind]
            return self._state_frame(first)
        self.bytes -= first.size + _ENVELOPE_BYTES
        stream = first.envelope["stream"]
        if self._last_of.get(stream) is first:
            del self._last_of[stream]
        return encode(_merged(first))

    def clear(self) -> None:
        """Drop everything."""
        self._waiting = None
        self._last_of.clear()
        self._states.clear()
        self._made.clear()
        self.bytes = self.replayed = self.reply_bytes = self._replies = 0

    def _append(self, item: _Waiting) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(item)

    def _state_frame(self, state: _State) -> bytes:
        """Encode a state. It is numbered here, on leaving, so that merged changes leave no gap in the stream."""
        first, self._state_seq = self._state_seq + 1, self._state_seq + state.changes
        covered = b'"first_seq":%d,' % first if state.changes > 1 else b""
        head = b'{"type":"%s","stream":"state",%s"seq":%d,"time":"%s","data":'
        return head % (state.kind.encode(), covered, self._state_seq, state.time.encode()) + state.data + b"}"


def _merged(tokens: _Tokens) -> dict[str, Any]:
    envelope = tokens.envelope
    if len(tokens.texts) == 1:
        return envelope
    # The newest envelope has the last seq and index; the text is that of all of them.
    data = {**envelope["data"], "text": "".join(tokens.texts)}
    if tokens.logprobs:
        data["logprobs"] = tokens.logprobs
    merged = {**envelope, "data": data}
    if tokens.first_seq != envelope["seq"]:
        merged["first_seq"] = tokens.first_seq
    return merged
