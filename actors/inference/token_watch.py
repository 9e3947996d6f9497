"""Ends generations whose access token has ended, whichever transport started them and even without subscribers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from actors.access.messages import AwaitTokenChange, FindEnded
from actors.inference.generation import Generation
from actors.token_changes import until_tokens_may_have_changed
from protocol.errors import ErrorCode
from runtime import ActorRef, RuntimeFault

__all__ = ["TokenWatch"]

_log = structlog.get_logger("inference")

ASK_SECONDS = 2.0


class TokenWatch:
    """Asks the access actor for ended tokens while generations started with any token are running or waiting."""

    def __init__(
        self,
        access: ActorRef[FindEnded | AwaitTokenChange],
        generations: Mapping[str, Generation],
        is_stream: Callable[[str], bool],
        fail: Callable[[Generation, ErrorCode, str], None],
    ) -> None:
        """``is_stream`` tells clients' streams from requests of other actors of the server, which carry no token."""
        self._access = access
        self._generations = generations
        self._is_stream = is_stream
        self._fail = fail

    async def run(self) -> None:
        """Checks on every change of tokens, and periodically, until cancelled."""
        seen: int | None = None
        while True:
            seen = await until_tokens_may_have_changed(self._access, seen)
            begun_by = frozenset(
                one.domain for one in self._generations.values() if one.domain or self._is_stream(one.stream)
            )
            if begun_by:
                await self._look(begun_by)

    async def _look(self, domains: frozenset[str]) -> None:
        try:
            ended: Mapping[str, str] = await self._access.ask(FindEnded(domains), timeout=ASK_SECONDS)
        except RuntimeFault as error:
            # The access actor is restarting and will be asked again in a moment.
            _log.debug("tokens not checked", error=str(error))
            return
        for generation in list(self._generations.values()):
            reason = ended.get(generation.domain)
            if reason is not None and (generation.domain or self._is_stream(generation.stream)):
                self._fail(generation, ErrorCode.UNAUTHORIZED, reason)
