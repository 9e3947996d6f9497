"""Subscribes a request to one generation: buffers its events until they are read, and cancels it with the request."""

from __future__ import annotations

import contextlib
import secrets
from collections import deque
from collections.abc import Sequence

import trio
from quart import request

from actors.access.messages import Identity
from actors.inference.messages import (
    CancelGeneration,
    GenerationCancelled,
    GenerationDone,
    GenerationEvent,
    GenerationFailed,
    GenerationRefused,
    GenerationStarted,
    GenerationTokens,
    InferenceRequest,
    PromptToken,
    StartGeneration,
)
from actors.rest.services import caller
from actors.rest.serving import AT_END
from protocol.commands import Generate
from protocol.errors import ErrorCode
from protocol.events import Done
from runtime import ActorRef, MailboxFull

__all__ = ["LOOK_SECONDS", "News", "StreamSubscriber"]

START_SECONDS = 40.0
LOOK_SECONDS = 1.0
"""How often a silent generation is checked to be still running."""


class News:
    """Wakes one reader of several streams."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def tell(self) -> None:
        """Signal that an event is available."""
        self._event.set()

    def forget(self) -> None:
        """Clear the signal before checking for events."""
        self._event = trio.Event()

    async def wait(self, seconds: float) -> None:
        """Wait for a signal since the last `forget`, at most this long."""
        with trio.move_on_after(seconds):
            await self._event.wait()


class StreamSubscriber:
    """An answer while it is generated. The buffer holds at most the answer itself, which the model's context bounds."""

    def __init__(self, inference: ActorRef[InferenceRequest], news: News | None = None) -> None:
        """``news`` is shared by streams that one reader takes from in turn."""
        self.stream = f"rest-{secrets.token_hex(12)}"
        self.done: Done | None = None
        """Result of the generation, once everything was read."""
        self.stop_text: str | None = None
        """The stop text that ended it, if one did."""
        self.prompt: list[PromptToken] = []
        """The prompt's tokens, if requested; complete once the first part of the answer is there."""
        self._inference = inference
        self._incarnation = inference.incarnation
        self._events: deque[GenerationEvent] = deque()
        self._news = News() if news is None else news
        self._is_over = False

    async def start(
        self,
        who: Identity,
        generate: Generate,
        *,
        to_context_end: bool = False,
        ignores_end: bool = False,
        scores_prompt: bool = False,
    ) -> GenerationStarted:
        """Start the generation; ``to_context_end`` and ``ignores_end`` as in `StartGeneration`. It ends with this
        request.

        With ``scores_prompt`` the prompt's tokens are delivered too. Raises `GenerationRefused`, `RuntimeFault`.
        """
        at_end: contextlib.ExitStack = request.scope[AT_END]  # type: ignore[literal-required]
        at_end.callback(self._leave)
        started: GenerationStarted = await self._inference.ask(
            StartGeneration(
                client_id=who.client_id,
                domain=who.domain,
                caller=caller(),
                stream=self.stream,
                generate=generate,
                subscriber=self._deliver,
                to_context_end=to_context_end,
                ignores_end=ignores_end,
                tell_prompt=self._take_prompt if scores_prompt else None,
            ),
            timeout=START_SECONDS,
        )
        return started

    async def take(self) -> list[GenerationTokens]:
        """Return all text since the last call, at least one event; empty at the end, when `done` is set.

        Raises `GenerationRefused` if the answer cannot be finished. Cancellation loses nothing.
        """
        while (taken := self.take_nowait()) is None:
            self._news.forget()
            await self._news.wait(LOOK_SECONDS)
        return taken

    async def take_within(self, seconds: float) -> list[GenerationTokens] | None:
        """Like `take`, but return None if nothing arrives in this time."""
        deadline = trio.current_time() + seconds
        while (taken := self.take_nowait()) is None and (left := deadline - trio.current_time()) > 0:
            self._news.forget()
            await self._news.wait(min(LOOK_SECONDS, left))
        return taken

    async def all_of_it(self) -> tuple[str, Done]:
        """Return the whole text and the result. Raises `GenerationRefused` if the answer cannot be finished."""
        text: list[str] = []
        while taken := await self.take():
            text += [one.text for one in taken]
        assert self.done is not None
        return "".join(text), self.done

    def take_nowait(self) -> list[GenerationTokens] | None:
        """Like `take`, but return None if nothing has arrived."""
        if not self._events:
            if not self._inference.is_running or self._inference.incarnation != self._incarnation:
                raise GenerationRefused(
                    ErrorCode.UNAVAILABLE, "the answer was lost with a restart", retry_after_ms=1000
                )
            return None
        taken: list[GenerationTokens] = []
        while self._events and isinstance(self._events[0], GenerationTokens):
            event = self._events.popleft()
            assert isinstance(event, GenerationTokens)
            taken.append(event)
        if taken:
            return taken
        match self._events.popleft():
            case GenerationDone(done=done, stop_text=stop_text):
                self.done, self.stop_text = done, stop_text
            case GenerationFailed(code=code, message=message):
                raise GenerationRefused(code, message)
            case GenerationCancelled(reason=reason):
                raise GenerationRefused(ErrorCode.UNAVAILABLE, f"the generation was cancelled: {reason}")
        return []

    def _deliver(self, event: GenerationEvent) -> None:
        self._events.append(event)
        self._is_over = not isinstance(event, GenerationTokens)
        self._news.tell()

    def _take_prompt(self, tokens: Sequence[PromptToken]) -> None:
        if tokens and tokens[0].index == 0:
            self.prompt.clear()
        self.prompt += tokens

    def _leave(self) -> None:
        """Cancel the generation when its reader has gone; a queued one is cancelled too."""
        if not self._is_over:
            with contextlib.suppress(MailboxFull):
                self._inference.tell_nowait(CancelGeneration(self.stream, "the client has left"))
