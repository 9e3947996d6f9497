"""What waits to be written to one socket: bounded, in order, tokens merged. Pure.

Tokens of one stream that wait side by side become one larger token; everything else waits as it is. Bytes and
events are bounded, and a connection that does not fit is too slow to keep.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from attrs import define

from protocol.codec import encode

__all__ = ["MAXIMUM_LAG_BYTES", "MAXIMUM_LAG_EVENTS", "Outbox", "OutboxFull"]

MAXIMUM_LAG_BYTES = 1024 * 1024
MAXIMUM_LAG_EVENTS = 1024
_ENVELOPE_BYTES = 160
"""What a token's envelope is reckoned at before it is encoded."""
MERGED_TEXT_BYTES = 128 * 1024
"""A merged token stays below the frame limit of 1 MiB also when each byte is escaped and takes six."""


class OutboxFull(Exception):
    """The reader lags too far behind."""


@define
class _Tokens:
    """Tokens of one stream that wait."""

    envelope: dict[str, Any]
    first_seq: int
    texts: list[str]
    logprobs: list[dict[str, Any]]
    size: int


class Outbox:
    """Frames in order, ready to be taken by the one writer."""

    def __init__(self, *, maximum_bytes: int = MAXIMUM_LAG_BYTES, maximum_events: int = MAXIMUM_LAG_EVENTS) -> None:
        self._waiting: deque[bytes | _Tokens] = deque()
        self._last_of: dict[str, _Tokens] = {}
        self._maximum_bytes = maximum_bytes
        self._maximum_events = maximum_events
        self.bytes = 0
        """Bytes that wait (tokens at their reckoned size)."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: dict[str, Any]) -> None:
        """Queue one message as it is. Raises `OutboxFull`."""
        frame = encode(message)
        self._reserve(len(frame))
        self._waiting.append(frame)
        stream = message.get("stream")
        if stream is not None:
            # What comes after another event of its stream must not be merged to before it.
            self._last_of.pop(stream, None)

    def put_token(self, message: dict[str, Any]) -> None:
        """Queue a `token` event, merged into the one of its stream that still waits. Raises `OutboxFull`."""
        stream: str = message["stream"]
        text: str = message["data"]["text"]
        logprobs: list[dict[str, Any]] = message["data"].get("logprobs", [])
        size = len(text.encode()) + (len(encode(logprobs)) if logprobs else 0)
        waiting = self._last_of.get(stream)
        if waiting is not None and waiting.size + size <= MERGED_TEXT_BYTES:
            self._reserve(size, is_new=False)
            waiting.texts.append(text)
            waiting.logprobs.extend(logprobs)
            waiting.size += size
            waiting.envelope = message
            return
        self._reserve(size + _ENVELOPE_BYTES)
        tokens = _Tokens(message, message["seq"], [text], list(logprobs), size)
        self._waiting.append(tokens)
        self._last_of[stream] = tokens

    def take(self) -> bytes | None:
        """The next frame, or None. What was taken is the writer's and can no longer be merged."""
        if not self._waiting:
            return None
        first = self._waiting.popleft()
        if isinstance(first, bytes):
            self.bytes -= len(first)
            return first
        self.bytes -= first.size + _ENVELOPE_BYTES
        stream = first.envelope["stream"]
        if self._last_of.get(stream) is first:
            del self._last_of[stream]
        return encode(_merged(first))

    def clear(self) -> None:
        """Forget all that waits."""
        self._waiting.clear()
        self._last_of.clear()
        self.bytes = 0

    def _reserve(self, size: int, *, is_new: bool = True) -> None:
        if self.bytes + size > self._maximum_bytes or (is_new and len(self._waiting) >= self._maximum_events):
            raise OutboxFull(f"{len(self._waiting)} events and {self.bytes} bytes are waiting")
        self.bytes += size


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
