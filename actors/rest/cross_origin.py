"""CORS headers of answers and preflights (Fetch standard). Pure functions.

Origins that are not allowed have been rejected before, so every request seen here is allowed. The server keeps
nothing in cookies, so credentials in the standard's sense are never allowed; a page sends its token in
`Authorization`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["EXPOSED", "answer_headers", "preflight_headers"]

EXPOSED = ("Allow", "Content-Disposition", "ETag", "Location", "Retry-After", "WWW-Authenticate", "X-Request-Id")
"""Response headers that a page may read, besides those that every page may."""
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
    """CORS headers of an answer to a page of this origin. `Vary` is always set, because answers differ by origin."""
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
    """Headers of the answer to a preflight; ``asked`` lists the request headers that the page wants to send.

    Clients add headers of their own (`x-stainless-os`), which are ignored; any valid header name is allowed.
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
