"""A response in the making: what has come of it, and enough to go on with it should the inference actor be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import attrs
import trio
from attrs import define, field, frozen

from actors.inference.messages import (
    FirstTimes,
    GenerationEvent,
    GenerationStarted,
    GenerationTokens,
    ResumeFrom,
    StartGeneration,
)
from actors.responses.messages import NewResponse, ResponseEnd, ResponsePage, ResponseSnapshot

__all__ = ["PAGE_CHARACTERS", "PAGE_TOKENS", "AnswerForms", "AnswerReading", "RunningResponse", "page_of"]

PAGE_CHARACTERS = 64 * 1024
"""Of one page; six bytes each when escaped."""
PAGE_TOKENS = 256
"""Log-probabilities in one page: with twenty alternatives each they are as long."""


class AnswerReading(Protocol):
    """Reads one answer as its tokens come."""

    reasoning_tokens: int
    """Tokens that were thought, so far."""

    def take(self, tokens: Iterable[GenerationTokens]) -> object:
        """Read these too."""


@frozen(kw_only=True)
class AnswerForms:
    """What the transport alone knows of answers: given by the composition root, since services do not import one another."""

    reading: Callable[[NewResponse], AnswerReading]
    output: Callable[[ResponseSnapshot], list[dict[str, Any]]]
    """The items of a response that has ended."""


@define(eq=False, kw_only=True)
class RunningResponse:
    """What waits here is at most the answer itself, which the model's context bounds."""

    response: NewResponse
    client_id: str
    request: StartGeneration = field(repr=False)
    """Starts it again."""
    reading: AnswerReading = field(repr=False)
    incarnation: int = 0
    """Of the inference actor that makes it."""
    is_cancelled: bool = False
    """Whether its client wants no more of it."""
    last: GenerationEvent | None = None
    """Of its generation, once it came."""
    end: ResponseEnd | None = None
    """Once it is on disk."""
    _text: list[str] = field(factory=list, repr=False)
    _logprobs: list[dict[str, Any]] = field(factory=list, repr=False)
    _seq: int = 0
    _token_ids: list[int] = field(factory=list, repr=False)
    _log_probability: float = 0.0
    _first_times: FirstTimes | None = field(default=None, repr=False)
    _unread: list[GenerationTokens] = field(factory=list, repr=False)
    _news: trio.Event = field(factory=trio.Event, repr=False)

    def began(self, started: GenerationStarted) -> None:
        """It was accepted under this seed and epoch."""
        generate = attrs.evolve(self.request.generate, seed=started.seed)
        self.request = attrs.evolve(self.request, generate=generate, epoch=started.epoch)

    def deliver(self, event: GenerationEvent) -> None:
        """Take an event of the generation. Never waits; what came before is passed over."""
        if isinstance(event, GenerationTokens):
            if event.seq <= self._seq:
                return
            self._seq = event.seq
            self._text.append(event.text)
            self._logprobs.extend(event.logprobs or ())
            self._token_ids.extend(event.token_ids)
            self._log_probability += event.log_probability
            self._first_times = self._first_times or event.first_times
            self._unread.append(event)
        else:
            self.last = event
        self.tell()

    def read(self) -> None:
        """Read what came since; apart from `deliver`, whose caller has others to deliver to."""
        unread, self._unread = self._unread, []
        self.reading.take(unread)

    def is_wanted(self) -> bool:
        """Whether its client has not cancelled it."""
        return not self.is_cancelled

    def tell(self) -> None:
        """Wake all who wait for more of it."""
        self._news.set()
        self._news = trio.Event()

    def restart(self) -> StartGeneration:
        """What to ask of a new inference actor so that it goes on behind the text that came here."""
        seed = self.request.generate.seed
        assert seed is not None
        point = ResumeFrom(
            seq=self._seq,
            token_ids=tuple(self._token_ids),
            log_probability=self._log_probability,
            seed=seed,
            model=self.response.model,
            first_times=self._first_times,
        )
        return attrs.evolve(self.request, resume=point)

    @property
    def text(self) -> str:
        """All that has come."""
        if len(self._text) > 1:
            self._text = ["".join(self._text)]
        return self._text[0] if self._text else ""

    @property
    def logprobs(self) -> tuple[dict[str, Any], ...]:
        """Of all that has come."""
        return tuple(self._logprobs)

    def snapshot(self) -> ResponseSnapshot:
        """As it stands."""
        return ResponseSnapshot(response=self.response, text=self.text, logprobs=self.logprobs, end=self.end)

    async def wait(self, seconds: float) -> None:
        """Until something comes, or for so long."""
        news = self._news
        with trio.move_on_after(seconds):
            await news.wait()

    async def page(self, after: int, after_tokens: int, seconds: float) -> ResponsePage:
        """What lies behind that place, as soon as there is anything; empty after so many seconds without."""
        deadline = trio.current_time() + seconds
        while True:
            page = page_of(self.snapshot(), after, after_tokens)
            left = deadline - trio.current_time()
            if page.text or page.logprobs or page.end is not None or left <= 0:
                return page
            await self.wait(left)


def page_of(snapshot: ResponseSnapshot, after: int, after_tokens: int) -> ResponsePage:
    """As much as fits into one page; its end with the last."""
    text = snapshot.text[after : after + PAGE_CHARACTERS]
    logprobs = snapshot.logprobs[after_tokens:]
    if len(logprobs) > PAGE_TOKENS or len(text) == PAGE_CHARACTERS:
        # Tokens come with the text that they made, so that a reader has both up to the same place.
        count = min(len(logprobs), PAGE_TOKENS)
        if count < len(logprobs):
            text = text[: max(0, logprobs[count]["offset"] - after)]
        logprobs = logprobs[:count]
    is_all = after + len(text) >= len(snapshot.text) and after_tokens + len(logprobs) >= len(snapshot.logprobs)
    return ResponsePage(text=text, logprobs=logprobs, end=snapshot.end if is_all else None)
