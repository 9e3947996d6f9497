"""The last requests to the model and those that run now: written by inference, read by monitoring. Pure.

It belongs to the process, as metrics do, so that it is there while an actor is busy or is started again. It costs a request
two dictionary writes and one record; what has not ended is described only when somebody looks.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

import attrs
from attrs import define, frozen

__all__ = ["KEPT", "LOST", "RequestLog", "RequestTimes"]

KEPT = 200
"""Requests that have ended."""
LOST = "lost"
"""Outcome of a request whose inference actor was lost; it is withdrawn where the request goes on."""


@frozen(kw_only=True)
class RequestTimes:
    """How far a request has come; times by Trio's clock, seconds."""

    client_id: str
    model: str
    accepted_at: float
    admitted_at: float | None
    """When it first had a row."""
    first_token_at: float | None
    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int
    engine_restarts: int
    ended_at: float | None = None
    outcome: str | None = None
    """How it ended; None while it runs."""


@define
class _Live:
    number: int
    describe: Callable[[], RequestTimes]


class RequestLog:
    """A ring of what has ended, and a way to look at what runs."""

    def __init__(self) -> None:
        self._numbers = 0
        self._live: dict[str, _Live] = {}
        self._ended: OrderedDict[int, RequestTimes] = OrderedDict()
        self._lost: dict[str, int] = {}
        self._first_token_seconds: deque[float] = deque(maxlen=KEPT)

    def begin(self, stream: str, describe: Callable[[], RequestTimes]) -> None:
        """A request was accepted, or goes on after the inference actor was lost; ``describe`` never waits."""
        number = self._lost.pop(stream, None)
        if number is None:
            self._numbers += 1
            number = self._numbers
        self._ended.pop(number, None)
        self._live[stream] = _Live(number, describe)

    def end(self, stream: str, outcome: str, now: float) -> None:
        """It is over, however."""
        live = self._live.pop(stream, None)
        if live is None:
            return
        times = attrs.evolve(live.describe(), ended_at=now, outcome=outcome)
        self._keep(live.number, times)
        if times.first_token_at is not None:
            self._first_token_seconds.append(times.first_token_at - times.accepted_at)

    def lose(self, now: float) -> None:
        """The inference actor was lost with all that ran; what its followers go on with begins again under its number."""
        self._lost.clear()
        for stream, live in self._live.items():
            self._keep(live.number, attrs.evolve(live.describe(), ended_at=now, outcome=LOST))
            self._lost[stream] = live.number
        self._live.clear()

    def all(self) -> Iterator[tuple[int, RequestTimes]]:
        """Running numbers and how far each has come, oldest first."""
        live = [(one.number, one.describe()) for one in self._live.values()]
        yield from sorted([*self._ended.items(), *live], key=lambda one: one[0])

    def first_token_quantile(self, share: float) -> float | None:
        """Of the last requests that got a token, seconds from acceptance to it (nearest rank); None where there is none."""
        measured = sorted(self._first_token_seconds)
        if not measured:
            return None
        return measured[max(1, math.ceil(share * len(measured))) - 1]

    def _keep(self, number: int, times: RequestTimes) -> None:
        self._ended[number] = times
        while len(self._ended) > KEPT:
            self._ended.popitem(last=False)
