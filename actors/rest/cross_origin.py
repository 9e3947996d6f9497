"""What pages of other origins may read (CORS, the Fetch standard): the header lines of answers and preflights. Pure.

An origin that is not allowed was refused before, so whatever is asked here is allowed to come. Nothing of ours is kept in a
cookie, so credentials in the standard's sense are never allowed; a page sends its token in `Authorization`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["EXPOSED", "answer_headers", "preflight_headers"]

EXPOSED = ("Allow", "Content-Disposition", "ETag", "Location", "Retry-After", "WWW-Authenticate", "X-Request-Id")
"""Header lines that a page may read besides those that every page may."""
ALWAYS_TAKEN = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "X-Client-Id",
    "X-Request-Id",
)
MAXIMUM_ASKED = 64
MAXIMUM_AGE_SECONDS = 600
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")


def answer_headers(origin: str | None) -> dict[str, str]:
    """What an answer to a page of this origin says; answers differ by origin, so caches are told that in any case."""
    if origin is None:
        return {"Vary": "Origin"}
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": ", ".join(EXPOSED),
    }


def preflight_headers(
    origin: str, methods: Iterable[str], asked: str | None, *, asks_for_private_network: bool
) -> dict[str, str]:
    """What the answer to a preflight says; ``asked`` are the header lines that the page wants to send.

    Clients add names of their own (`x-stainless-os`), which mean nothing here; whatever is a name may be sent.
    """
    names = {name.lower(): name for name in ALWAYS_TAKEN}
    for name in (asked or "").split(",")[:MAXIMUM_ASKED]:
        if _TOKEN.fullmatch(name.strip()):
            names.setdefault(name.strip().lower(), name.strip())
    headers = {
        "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
        "Access-Control-Allow-Headers": ", ".join(names.values()),
        "Access-Control-Max-Age": str(MAXIMUM_AGE_SECONDS),
    }
    if asks_for_private_network:
        headers["Access-Control-Allow-Private-Network"] = "true"
    return headers
