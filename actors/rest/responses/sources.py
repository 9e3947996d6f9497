"""Where the text of a response comes from: storage's service for one that is stored, the engine itself for one that is not."""

from __future__ import annotations

import time
from typing import Protocol

import attrs

from actors.clock import now_milliseconds
from actors.inference.messages import GenerationDone, GenerationRefused
from actors.responses.messages import FollowResponse, ResponsePage, ResponsesRequest, end_of, failed_end
from actors.rest.answer_reading.reader import AnswerReader
from actors.rest.stream_subscriber import StreamSubscriber
from runtime import ActorDead, ActorRef, AskDeadline

__all__ = ["PagesOfStored", "PagesOfSubscriber", "ResponseSource"]

FOLLOW_SECONDS = 5.0
"""One ask waits so long for more."""
ASK_SECONDS = 15.0
LOST_SECONDS = 30.0
"""How long the service may be away, which is being started again."""


class ResponseSource(Protocol):
    """Gives the text of one response, page by page."""

    stream: str
    """Name of its generation."""

    async def next(self) -> ResponsePage:
        """What comes next; an empty page where nothing has come for some seconds. The last has an end."""


class PagesOfStored:
    """A stored response, from its beginning. Reading it changes nothing."""

    def __init__(self, responses: ActorRef[ResponsesRequest], client_id: str, response_id: str) -> None:
        self.stream = response_id
        self._responses = responses
        self._client_id = client_id
        self._characters = 0
        self._tokens = 0
        self._lost_at: float | None = None

    async def next(self, wait_seconds: float = FOLLOW_SECONDS) -> ResponsePage:
        """As of `ResponseSource`. Raises `CommandRefused` where it was deleted."""
        try:
            page: ResponsePage = await self._responses.ask(
                FollowResponse(
                    client_id=self._client_id,
                    id=self.stream,
                    after=self._characters,
                    after_tokens=self._tokens,
                    wait_seconds=wait_seconds,
                ),
                timeout=ASK_SECONDS,
            )
        except (ActorDead, AskDeadline):
            now = time.monotonic()
            self._lost_at = self._lost_at or now
            if now - self._lost_at > LOST_SECONDS:
                raise
            return ResponsePage(text="")
        self._lost_at = None
        self._characters += len(page.text)
        self._tokens += len(page.logprobs)
        return page


class PagesOfSubscriber:
    """A response that is not stored: it ends with the request that began it."""

    def __init__(self, subscriber: StreamSubscriber, reader: AnswerReader) -> None:
        """``reader`` counts what is thought."""
        self.stream = subscriber.stream
        self._subscriber = subscriber
        self._reader = reader

    async def next(self) -> ResponsePage:
        """As of `ResponseSource`."""
        ended_ms = now_milliseconds()
        try:
            tokens = await self._subscriber.take_within(FOLLOW_SECONDS)
        except GenerationRefused as refusal:
            return ResponsePage(text="", end=failed_end(refusal.code, refusal.message, ended_ms))
        if tokens:
            self._reader.take(tokens)
            return ResponsePage(
                text="".join(one.text for one in tokens),
                logprobs=tuple(entry for one in tokens for entry in one.logprobs or ()),
            )
        if tokens is None:
            return ResponsePage(text="")
        done = self._subscriber.done
        assert done is not None
        end = end_of(GenerationDone(stream=self.stream, seq=0, done=done), ended_ms)
        return ResponsePage(text="", end=attrs.evolve(end, reasoning_tokens=self._reader.reasoning_tokens))
