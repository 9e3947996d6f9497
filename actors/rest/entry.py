"""The door of REST: one check before every route, so that a new route cannot forget it."""

from __future__ import annotations

from quart import request
from quart_trio import QuartTrio

from actors.access.messages import CheckDoor, EntryRefused
from actors.refusals import CommandRefused
from actors.rest.rooms import ACCESS_SECONDS, Rooms, identity
from protocol.errors import ErrorCode

__all__ = ["OPERATOR_PREFIXES", "PUBLIC_PATHS", "needs_operator", "register_entry"]

PUBLIC_PATHS = frozenset({"/health/live", "/health/ready"})
"""Asked by whatever watches over the process, which has no token."""
OPERATOR_PREFIXES = ("/models", "/metrics")
"""They change the server for everybody, or tell about everybody."""


def needs_operator(path: str) -> bool:
    """Whether this path is for operators alone."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in OPERATOR_PREFIXES)


def register_entry(app: QuartTrio, rooms: Rooms) -> None:
    """Check door, token and role of every request, those for routes that are not there too."""

    @app.before_request
    async def check_entry() -> None:
        try:
            await rooms.access.ask(
                CheckDoor(
                    host=request.headers.get("Host"),
                    origin=request.headers.get("Origin"),
                    query=request.query_string.decode("latin-1"),
                ),
                timeout=ACCESS_SECONDS,
            )
        except EntryRefused as refusal:
            raise CommandRefused(ErrorCode.FORBIDDEN, str(refusal)) from None
        if request.path in PUBLIC_PATHS:
            return
        who = await identity(rooms, (request.view_args or {}).get("client_id"))
        if needs_operator(request.path) and not who.is_operator:
            raise CommandRefused(ErrorCode.FORBIDDEN, "this needs a token with the role operator")
