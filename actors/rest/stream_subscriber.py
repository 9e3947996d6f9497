"""Following one generation from a request: what has come is kept until it is taken, and the end gives the row back."""

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
"""How often, while nothing comes, it is made sure that the answer is still being made."""


class News:
    """Says that something has come, to one reader of several answers."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def tell(self) -> None:
        """Something is there to be taken."""
        self._event.set()

    def forget(self) -> None:
        """What was told is about to be looked at."""
        self._event = trio.Event()

    async def wait(self, seconds: float) -> None:
        """Until something has come since it was forgotten, or for so long."""
        with trio.move_on_after(seconds):
            await self._event.wait()


class StreamSubscriber:
    """One answer as it is made. What waits here is at most the answer itself, which the model's context bounds."""

    def __init__(self, inference: ActorRef[InferenceRequest], news: News | None = None) -> None:
        """``news`` is shared by the answers that one reader takes in turn."""
        self.stream = f"rest-{secrets.token_hex(12)}"
        self.done: Done | None = None
        """What the end said, once everything was taken."""
        self.stop_text: str | None = None
        """The stop text that ended it, where one did."""
        self.prompt: list[PromptToken] = []
        """The prompt's tokens, where they were wanted: all of them once any of the answer is there."""
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
        """Begin; ``to_context_end`` and ``ignores_end`` as of `StartGeneration`. However this request ends, so does the generation.

        With ``scores_prompt`` the prompt's tokens come too.

        Raises `GenerationRefused`, `RuntimeFault`.
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
        """All text that has come since the last call, at least one event; empty at the end, when `done` is set.

        Raises `GenerationRefused` where the answer cannot be finished. Cancelled, it loses nothing.
        """
        while (taken := self.take_nowait()) is None:
            self._news.forget()
            await self._news.wait(LOOK_SECONDS)
        return taken

    async def take_within(self, seconds: float) -> list[GenerationTokens] | None:
        """The same; None where nothing has come for so long."""
        deadline = trio.current_time() + seconds
        while (taken := self.take_nowait()) is None and (left := deadline - trio.current_time()) > 0:
            self._news.forget()
            await self._news.wait(min(LOOK_SECONDS, left))
        return taken

    async def all_of_it(self) -> tuple[str, Done]:
        """The whole text, and what the end said. Raises `GenerationRefused` where it cannot be finished."""
        text: list[str] = []
        while taken := await self.take():
            text += [one.text for one in taken]
        assert self.done is not None
        return "".join(text), self.done

    def take_nowait(self) -> list[GenerationTokens] | None:
        """The same of what has come; None where nothing has."""
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
        """Nobody reads on: the row is freed within a step, also while it still waits for one."""
        if not self._is_over:
            with contextlib.suppress(MailboxFull):
                self._inference.tell_nowait(CancelGeneration(self.stream, "the client has left"))
