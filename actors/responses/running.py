"""State of a running response, sufficient to resume it after the inference actor restarts."""

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
"""Characters in one page; each takes up to six bytes when escaped."""
PAGE_TOKENS = 256
"""Log-probabilities in one page: with twenty alternatives each, they are as long as its text."""


class AnswerReading(Protocol):
    """Parses one answer as its tokens arrive."""

    reasoning_tokens: int
    """Number of reasoning tokens so far."""

    def take(self, tokens: Iterable[GenerationTokens]) -> object:
        """Parse these tokens too."""


@frozen(kw_only=True)
class AnswerForms:
    """The transport's parsers, supplied by the composition root because services do not import one another."""

    reading: Callable[[NewResponse], AnswerReading]
    output: Callable[[ResponseSnapshot], list[dict[str, Any]]]
    """Returns the items of a response that has ended."""


@define(eq=False, kw_only=True)
class RunningResponse:
    """A response in progress. Its buffer holds at most the answer itself, which the model's context bounds."""

    response: NewResponse
    client_id: str
    request: StartGeneration = field(repr=False)
    """The request that starts it again."""
    reading: AnswerReading = field(repr=False)
    incarnation: int = 0
    """Incarnation of the inference actor that generates it."""
    is_cancelled: bool = False
    """True once its client has cancelled it."""
    last: GenerationEvent | None = None
    """The generation's last event, once it has arrived."""
    end: ResponseEnd | None = None
    """Set once it is stored."""
    _text: list[str] = field(factory=list, repr=False)
    _logprobs: list[dict[str, Any]] = field(factory=list, repr=False)
    _seq: int = 0
    _token_ids: list[int] = field(factory=list, repr=False)
    _log_probability: float = 0.0
    _first_times: FirstTimes | None = field(default=None, repr=False)
    _unread: list[GenerationTokens] = field(factory=list, repr=False)
    _news: trio.Event = field(factory=trio.Event, repr=False)

    def began(self, started: GenerationStarted) -> None:
        """Record the seed and epoch under which it was accepted."""
        generate = attrs.evolve(self.request.generate, seed=started.seed)
        self.request = attrs.evolve(self.request, generate=generate, epoch=started.epoch)

    def deliver(self, event: GenerationEvent) -> None:
        """Receive an event of the generation. Never waits; events seen before are ignored."""
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
        """Parse new events. Separate from `deliver`, whose caller has other subscribers to serve."""
        unread, self._unread = self._unread, []
        self.reading.take(unread)

    def is_wanted(self) -> bool:
        """True unless its client has cancelled it."""
        return not self.is_cancelled

    def tell(self) -> None:
        """Wake all readers that wait for more."""
        self._news.set()
        self._news = trio.Event()

    def restart(self) -> StartGeneration:
        """Build the request for a new inference actor to continue after the text received so far."""
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
        """The text so far."""
        if len(self._text) > 1:
            self._text = ["".join(self._text)]
        return self._text[0] if self._text else ""

    @property
    def logprobs(self) -> tuple[dict[str, Any], ...]:
        """The log-probabilities so far."""
        return tuple(self._logprobs)

    def snapshot(self) -> ResponseSnapshot:
        """The current state."""
        return ResponseSnapshot(response=self.response, text=self.text, logprobs=self.logprobs, end=self.end)

    async def wait(self, seconds: float) -> None:
        """Wait for news, at most this long."""
        news = self._news
        with trio.move_on_after(seconds):
            await news.wait()

    async def page(self, after: int, after_tokens: int, seconds: float) -> ResponsePage:
        """Wait for text after this position; an empty page if nothing arrives in time."""
        deadline = trio.current_time() + seconds
        while True:
            page = page_of(self.snapshot(), after, after_tokens)
            left = deadline - trio.current_time()
            if page.text or page.logprobs or page.end is not None or left <= 0:
                return page
            await self.wait(left)


def page_of(snapshot: ResponseSnapshot, after: int, after_tokens: int) -> ResponsePage:
    """Return as much as fits into one page. The last page includes the end."""
    text = snapshot.text[after : after + PAGE_CHARACTERS]
    logprobs = snapshot.logprobs[after_tokens:]
    if len(logprobs) > PAGE_TOKENS or len(text) == PAGE_CHARACTERS:
        # Tokens are sent with the text they produced, so that both reach the same position.
        count = min(len(logprobs), PAGE_TOKENS)
        if count < len(logprobs):
            text = text[: max(0, logprobs[count]["offset"] - after)]
        logprobs = logprobs[:count]
    is_all = after + len(text) >= len(snapshot.text) and after_tokens + len(logprobs) >= len(snapshot.logprobs)
    return ResponsePage(text=text, logprobs=logprobs, end=snapshot.end if is_all else None)
