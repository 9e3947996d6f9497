"""`POST /console/enter`: the console hands over a code out of its address and gets the token that the code makes, once.

Open to callers without a token, and therefore only to pages of this very origin: what other pages of this machine may do
elsewhere (`cross_origin`) is not enough here.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen
from quart import jsonify, request
from quart_trio import QuartTrio

from actors.access.messages import MadeToken, TakeOfferedToken
from actors.errors import CommandError
from actors.rest.auth import ENTRY_PATH
from actors.rest.services import Services, body_as
from protocol.errors import ErrorCode, TooLarge
from protocol.validation import length

__all__ = ["register_entry_by_code"]

ACCESS_SECONDS = 10.0
CODE_CHARACTERS = 128
BODY_BYTES = 512


@frozen(kw_only=True)
class EntryCode:
    """Body sent by the page."""

    code: str = field(validator=length(1, CODE_CHARACTERS, "characters"), repr=False)
    """Out of the address that a person was given."""


def register_entry_by_code(app: QuartTrio, services: Services) -> None:
    """Register the route."""

    @app.post(ENTRY_PATH)
    async def enter_by_code() -> Any:
        if not is_same_origin(
            request.headers.get("Origin"), request.headers.get("Host"), request.headers.get("Sec-Fetch-Site")
        ):
            raise CommandError(ErrorCode.FORBIDDEN, "only the console of this server may ask this")
        if request.content_length is None or request.content_length > BODY_BYTES:
            raise TooLarge(f"the body needs a Content-Length of at most {BODY_BYTES} bytes", field="body")
        wanted: EntryCode = await body_as(EntryCode)
        made: MadeToken = await services.access.ask(TakeOfferedToken(wanted.code), timeout=ACCESS_SECONDS)
        clients = made.description.client_ids
        response = jsonify({"token": made.token, "client_id": None if clients is None else clients[0]})
        response.headers["Cache-Control"] = "no-store"
        return response


def is_same_origin(origin: str | None, host: str | None, fetch_site: str | None) -> bool:
    """True if the request comes from a page of this server; a browser's Fetch Metadata is trusted too.

    The scheme is not compared: a proxy that ends TLS asks here without.
    """
    if origin is None or not host or fetch_site not in (None, "same-origin"):
        return False
    scheme, separator, place = origin.partition("://")
    return separator != "" and scheme in ("http", "https") and place.lower() == host.lower()
