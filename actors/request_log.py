"""Log of running and recent requests to the model, written by inference and read by monitoring. No I/O.

It belongs to the process, as metrics do, so that it is readable while an actor is busy or restarting. A request costs two
dictionary writes and one record; running requests are described only when the log is read.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

import attrs
from attrs import define, frozen

__all__ = ["KEPT", "LOST", "RequestLog", "RequestTimes"]

KEPT = 200
"""Number of ended requests retained."""
LOST = "lost"
"""Outcome of a request whose inference actor was lost; withdrawn if the request resumes."""


@frozen(kw_only=True)
class RequestTimes:
    """Progress of a request. Times are in seconds of Trio's clock."""

    client_id: str
    model: str
    accepted_at: float
    admitted_at: float | None
    """Time at which it was first given a row."""
    first_token_at: float | None
    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int
    engine_restarts: int
    ended_at: float | None = None
    outcome: str | None = None
    """Outcome; None while it runs."""


@define
class _Live:
    number: int
    describe: Callable[[], RequestTimes]


class RequestLog:
    """A ring of ended requests, and descriptions of running ones."""

    def __init__(self) -> None:
        self._numbers = 0
        self._live: dict[str, _Live] = {}
        self._ended: OrderedDict[int, RequestTimes] = OrderedDict()
        self._lost: dict[str, int] = {}
        self._first_token_seconds: deque[float] = deque(maxlen=KEPT)

    def begin(self, stream: str, describe: Callable[[], RequestTimes]) -> None:
        """Add a request that was accepted, or resumed after a loss of the inference actor. ``describe`` must not block."""
        number = self._lost.pop(stream, None)
        if number is None:
            self._numbers += 1
            number = self._numbers
        self._ended.pop(number, None)
        self._live[stream] = _Live(number, describe)

    def end(self, stream: str, outcome: str, now: float) -> None:
        """Record the end of a request."""
        live = self._live.pop(stream, None)
        if live is None:
            return
        times = attrs.evolve(live.describe(), ended_at=now, outcome=outcome)
        self._keep(live.number, times)
        if times.first_token_at is not None:
            self._first_token_seconds.append(times.first_token_at - times.accepted_at)

    def lose(self, now: float) -> None:
        """Record the loss of the inference actor with all running requests; resumed ones keep their numbers."""
        self._lost.clear()
        for stream, live in self._live.items():
            self._keep(live.number, attrs.evolve(live.describe(), ended_at=now, outcome=LOST))
            self._lost[stream] = live.number
        self._live.clear()

    def all(self) -> Iterator[tuple[int, RequestTimes]]:
        """Yield the number and progress of each request, oldest first."""
        live = [(one.number, one.describe()) for one in self._live.values()]
        yield from sorted([*self._ended.items(), *live], key=lambda one: one[0])

    def first_token_quantile(self, share: float) -> float | None:
        """Return a quantile, by nearest rank, of the seconds from acceptance to the first token over recent requests, or None."""
        measured = sorted(self._first_token_seconds)
        if not measured:
            return None
        return measured[max(1, math.ceil(share * len(measured))) - 1]

    def _keep(self, number: int, times: RequestTimes) -> None:
        self._ended[number] = times
        while len(self._ended) > KEPT:
            self._ended.popitem(last=False)
