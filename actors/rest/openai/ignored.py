"""Reports ignored fields: to the client in a header, and to the log once for each client and field."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from quart import Response, g, request
from quart_trio import QuartTrio

from actors.rest.openai.fields import IGNORED_HEADER, ignored_header

__all__ = ["IgnoredFields"]

_log = structlog.get_logger("rest")

MAXIMUM_LOGGED = 1024
"""Pairs of client and field that are logged per server run, since clients choose the names."""


class IgnoredFields:
    """Reports ignored fields of one application."""

    def __init__(self, app: QuartTrio) -> None:
        self._logged: set[tuple[str, str]] = set()

        @app.after_request
        async def name_them(response: Response) -> Response:
            if names := g.get("ignored_names"):
                response.headers[IGNORED_HEADER] = ignored_header(names)
            return response

    def note(self, client_id: str, names: Sequence[str]) -> None:
        """Report these fields of the current request; the list may be empty."""
        if not names:
            return
        g.ignored_names = [*g.get("ignored_names", ()), *names]
        new = {(client_id, name) for name in names} - self._logged
        if new and len(self._logged) + len(new) <= MAXIMUM_LOGGED:
            self._logged |= new
            fields = ignored_header(sorted(name for _, name in new))
            _log.info("fields ignored", client_id=client_id, fields=fields, path=request.path)
