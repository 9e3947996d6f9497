"""Sources of a response's text: the responses service for a stored response, the engine itself for any other."""

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
"""Longest wait of a single request for more text."""
ASK_SECONDS = 15.0
LOST_SECONDS = 30.0
"""How long the service may be unreachable while it restarts."""


class ResponseSource(Protocol):
    """Returns the text of one response page by page."""

    stream: str
    """Name of its generation."""

    async def next(self) -> ResponsePage:
        """Return the next page; an empty one if nothing arrives for some seconds. The last page has an `end`."""


class PagesOfStored:
    """Reads a stored response from its beginning, without changing it."""

    def __init__(self, responses: ActorRef[ResponsesRequest], client_id: str, response_id: str) -> None:
        self.stream = response_id
        self._responses = responses
        self._client_id = client_id
        self._characters = 0
        self._tokens = 0
        self._lost_at: float | None = None

    async def next(self, wait_seconds: float = FOLLOW_SECONDS) -> ResponsePage:
        """Return the next page. Raises `CommandError` if the response was deleted."""
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
    """Reads a response that is not stored and ends with its request."""

    def __init__(self, subscriber: StreamSubscriber, reader: AnswerReader) -> None:
        """``reader`` counts reasoning tokens."""
        self.stream = subscriber.stream
        self._subscriber = subscriber
        self._reader = reader

    async def next(self) -> ResponsePage:
        """Return the next page."""
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
