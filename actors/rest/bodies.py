"""Checks request bodies before any route reads them: media type, encoding, and the sender's record of unreadable
bodies.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import structlog
import trio
from quart import Response, g, request
from quart_trio import QuartTrio

from actors.access.messages import Identity
from actors.errors import CommandError
from actors.long_texts import LongTexts
from actors.networks import network_of
from actors.nonsense import NonsenseLedger, Sender
from actors.rest.auth import ENTRY_PATH, PUBLIC_PATHS
from actors.rest.exchanges import IN_FLIGHT, InFlight
from actors.rest.problems import problem
from actors.rest.services import Services, identity
from protocol.errors import ErrorCode
from protocol.json_text import object_in_steps

__all__ = ["MEDIA_TYPES", "register_bodies"]

_log = structlog.get_logger("rest")

MEDIA_TYPES = frozenset(
    {
        "",
        "application/json",
        "application/merge-patch+json",
        # Defaults of curl and browsers for a text without a declared type.
        "application/x-www-form-urlencoded",
        "text/plain",
    }
)
"""Accepted media types. The body is JSON in any case."""
UNREADABLE = frozenset({400, 413, 415})
WRONG = 422
TOO_MUCH = "too many unreadable request bodies came from here"
PAUSE_SECONDS = 1.0
"""Delay before a sender of unreadable bodies gets 429, for clients that retry at once."""


OPEN_PATHS = PUBLIC_PATHS | {ENTRY_PATH}
"""Nobody knows who asks there."""


def register_bodies(app: QuartTrio, services: Services) -> None:
    """Check each body by its headers, and its sender by earlier bodies. Register after authentication."""
    ledger, long_texts = NonsenseLedger(), LongTexts()

    @app.before_request
    async def judge_body() -> Response | None:
        if not _has_body() or request.url_rule is None or request.path in OPEN_PATHS:
            return None
        sender = _sender(await identity(services, (request.view_args or {}).get("client_id")))
        g.sender = sender
        g.read_object = partial(_read_object, ledger, long_texts, sender)
        wait_seconds = ledger.wait_seconds(sender, trio.current_time())
        if wait_seconds is not None:
            return await _told_to_wait(sender, wait_seconds)
        return _encoding_problem() or _media_type_problem()

    @app.after_request
    async def charge(response: Response) -> Response:
        sender: Sender | None = g.get("sender")
        if sender is None or g.get("waits"):
            return response
        status = response.status_code
        if status in UNREADABLE or status == WRONG:
            in_flight: InFlight = request.scope[IN_FLIGHT]  # type: ignore[literal-required]
            size = max(request.content_length or 0, in_flight.received_bytes())
            # Valid JSON with wrong content costs as much as a correct body, apart from its size.
            is_readable = status == WRONG or g.get("is_readable", False)
            ledger.charge(sender, size, trio.current_time(), is_readable=is_readable)
        elif status < 300:
            ledger.took(sender)
        return response


async def _read_object(
    ledger: NonsenseLedger, long_texts: LongTexts, sender: Sender, text: bytes, **how: Any
) -> dict[str, Any]:
    def may_be_read() -> None:
        # The sender may have sent other bodies in the meantime that were read before this one.
        seconds = ledger.wait_seconds(sender, trio.current_time())
        if seconds is not None:
            raise CommandError(ErrorCode.RATE_LIMITED, TOO_MUCH, retry_after_ms=round(1000 * seconds))

    return await long_texts.read(text, object_in_steps(text, **how), may_be_read)


def _has_body() -> bool:
    return bool(request.content_length) or "Transfer-Encoding" in request.headers


def _sender(who: Identity) -> Sender:
    client = request.scope.get("client")
    return Sender(network_of("" if client is None else client[0]), who.domain, who.client_id)


async def _told_to_wait(sender: Sender, seconds: float) -> Response:
    g.waits = True
    _log.info("nonsense refused", address=sender.address, client_id=sender.client_id)
    await trio.sleep(min(seconds, PAUSE_SECONDS))
    refusal = problem(
        ErrorCode.RATE_LIMITED,
        TOO_MUCH,
        retry_after_ms=round(1000 * seconds),
    )
    # The body is not read, so the rest of it must not be parsed as a request.
    refusal.headers["Connection"] = "close"
    return refusal


def _encoding_problem() -> Response | None:
    """Compressed bodies are rejected: they could expand to a thousand times the bytes received."""
    encodings = [one.strip().lower() for line in request.headers.getlist("Content-Encoding") for one in line.split(",")]
    if all(one in ("", "identity") for one in encodings):
        return None
    refusal = problem(
        ErrorCode.BAD_MESSAGE, "the body must be sent without a content encoding", field="Content-Encoding", status=415
    )
    refusal.headers["Accept-Encoding"] = "identity"
    return refusal


def _media_type_problem() -> Response | None:
    if request.mimetype in MEDIA_TYPES and request.mimetype_params.get("charset", "utf-8").lower() == "utf-8":
        return None
    refusal = problem(
        ErrorCode.BAD_MESSAGE,
        "the body must be JSON in UTF-8, with the type application/json",
        field="Content-Type",
        status=415,
    )
    # RFC 9110, 12.5.1 and RFC 5789, 3.1.
    refusal.headers["Accept-Patch" if request.method == "PATCH" else "Accept"] = (
        "application/merge-patch+json, application/json" if request.method == "PATCH" else "application/json"
    )
    return refusal
