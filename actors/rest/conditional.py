"""Conditional requests: every answer to a GET has an entity tag, and no precondition of a write is ignored.

Routes whose resource has a version check it themselves (`tasks.py`) or through `writing`, which reads, compares and
writes while excluding other REST writes to the same resource.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

import trio
from quart import Response, request
from quart.wrappers.response import DataBody
from quart_trio import QuartTrio

from actors.errors import CommandError
from actors.rest.answers import empty_answer
from actors.rest.preconditions import (
    Condition,
    content_tag,
    holds_if_match,
    holds_if_none_match,
    read_condition,
)
from actors.rest.problems import problem
from protocol.errors import ErrorCode

__all__ = [
    "ConditionalWrites",
    "PreconditionFailed",
    "conditions",
    "judges_conditions",
    "register_conditions",
    "set_tag",
    "tag_of",
]

READS = frozenset({"GET", "HEAD"})
WITHOUT_TAG = ("/health", "/metrics")
"""Paths whose answers are measured for each request."""
_JUDGES = "judges_conditions"


class PreconditionFailed(CommandError):
    """Precondition failed (412): the current representation does not match (RFC 9110, 15.5.13)."""

    def __init__(self, header: str) -> None:
        super().__init__(ErrorCode.CONFLICT, f"the current representation does not match {header}", field=header)


def judges_conditions(route: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """Mark a writing route that evaluates `If-Match` and `If-None-Match` itself."""
    setattr(route, _JUDGES, True)
    return route


def conditions() -> tuple[Condition | None, Condition | None]:
    """Parse `If-Match` and `If-None-Match` of this request. Raises `CommandError`."""
    first, second = (read_condition(request.headers.getlist(name), name) for name in ("If-Match", "If-None-Match"))
    return first, second


def check_conditions(current: str | None) -> None:
    """Raise `PreconditionFailed` if the preconditions do not hold for the current tag."""
    if_match, if_none_match = (one and one.of_whole() for one in conditions())
    if not holds_if_match(if_match, current):
        raise PreconditionFailed("If-Match")
    if not holds_if_none_match(if_none_match, current):
        raise PreconditionFailed("If-None-Match")


def register_conditions(app: QuartTrio) -> None:
    """Evaluate preconditions that no route evaluates. Register last, so that other changes to an answer come after
    it.
    """

    @app.errorhandler(PreconditionFailed)
    async def failed(error: PreconditionFailed) -> Response:
        return problem(error.code, error.message, field=error.field, status=412)

    @app.before_request
    async def check_unjudged() -> None:
        if request.url_rule is None:
            return
        conditions()
        if request.method in (*READS, "OPTIONS"):
            return
        if not hasattr(app.view_functions[request.url_rule.endpoint], _JUDGES):
            # The resource has no version, so no tag matches it. It is known to exist only if it can be read.
            if_match, if_none_match = conditions()
            if if_match is not None and not if_match.is_any:
                raise PreconditionFailed("If-Match")
            adapter = app.create_url_adapter(request)
            can_be_read = adapter is not None and "GET" in adapter.allowed_methods()
            if if_none_match is not None and if_none_match.is_any and can_be_read:
                raise PreconditionFailed("If-None-Match")

    @app.after_request
    async def judge_reading(response: Response) -> Response:
        if request.method not in READS or response.status_code != 200 or request.path.startswith(WITHOUT_TAG):
            return response
        if "ETag" not in response.headers:
            if not isinstance(response.response, DataBody):
                return response
            set_tag(response, content_tag(bytes(response.response.data)))
        tag = response.headers["ETag"].strip('"')
        if_match, if_none_match = conditions()
        if not holds_if_match(if_match, tag):
            return await failed(PreconditionFailed("If-Match"))
        if holds_if_none_match(if_none_match, tag):
            return response
        kept = {name: response.headers[name] for name in ("ETag", "Cache-Control") if name in response.headers}
        return empty_answer(304, kept)


def set_tag(response: Response, tag: str) -> None:
    """Set the entity tag of an answer."""
    response.headers["ETag"] = f'"{tag}"'


def tag_of(response: Response) -> str:
    """Return the entity tag that a reader of the same representation receives."""
    assert isinstance(response.response, DataBody)
    return content_tag(bytes(response.response.data))


class ConditionalWrites:
    """Serializes conditional writes to each resource of one kind."""

    def __init__(self) -> None:
        # A lock lives as long as a task holds it or waits for it.
        self._locks: WeakValueDictionary[tuple[str, ...], trio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def writing(self, thing: tuple[str, ...], read: Callable[[], Awaitable[str]]) -> AsyncIterator[None]:
        """Enter once the request's preconditions hold for ``thing``; ``read`` returns its current tag.

        Raises `PreconditionFailed`. Writes over the WebSocket do not wait here: they have no preconditions.
        """
        lock = self._locks.setdefault(thing, trio.Lock())
        async with lock:
            if any(one is not None for one in conditions()):
                check_conditions(await read())
            yield
