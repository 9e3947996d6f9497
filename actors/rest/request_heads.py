"""Validates request heads (RFC 9112), more strictly than h11 where two parsers could disagree. Pure functions.

Request smuggling relies on one server of a chain seeing one request where the next sees two. So a head with two
meanings is rejected and its connection closed, even where the RFC lets a server guess.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes, urlsplit

import h11

import protocol
from protocol.commands import MAXIMUM_FRAME_BYTES

__all__ = [
    "HEAD_BYTES",
    "METHODS",
    "HeadRefused",
    "check_lines",
    "check_request",
    "chunk_extension",
    "incomplete_head_problem",
    "is_of_websocket",
    "offers_websocket",
]

HEAD_BYTES = 16 * 1024
"""Limit for one request's head: target and all headers."""
TARGET_BYTES = 8 * 1024
HEADER_LINES = 100
CHUNK_DIGITS = 16
"""Digits of a chunk's size (RFC 9112, 7.1). Parsers disagree about more than 64 bits."""
CHUNK_LINE_BYTES = 1024
EXTENSION_BYTES = 16 * 1024
"""Limit for all extensions in a body. They are ignored, so they would have no bound otherwise (RFC 9112, 7.1.1)."""
_HEX = b"0123456789abcdefABCDEF"
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
"""Methods that some route accepts; the router decides per path."""
SINGLE = {
    name.lower().encode(): name
    for name in (
        "Access-Control-Request-Method",
        "Authorization",
        "Content-Length",
        "Content-Type",
        "Host",
        "Idempotency-Key",
        "Origin",
        "Transfer-Encoding",
        "X-Api-Key",
        "X-Client-Id",
        "X-Request-Id",
    )
}
"""Headers that may appear only once. With duplicates, parsers disagree about the one that counts."""


class HeadRefused(h11.RemoteProtocolError):
    """The head is rejected and the connection closed."""

    def __init__(self, status: int, message: str, *, field: str | None = None) -> None:
        super().__init__(message, error_status_hint=status)
        self.message = message
        self.field = field
        """Name of the offending header."""


def incomplete_head_problem(received: bytes) -> HeadRefused | None:
    """Return the error for an incomplete head that has become too large, else None."""
    if len(received) <= HEAD_BYTES:
        return None
    if b"\n" not in received[:HEAD_BYTES]:
        return HeadRefused(414, f"a request target may have at most {TARGET_BYTES} bytes")
    return HeadRefused(431, f"a request head may have at most {HEAD_BYTES} bytes")


def check_lines(head: bytes) -> None:
    """Check the syntax of a complete head's lines. Raises `HeadRefused`."""
    lines = head.split(b"\r\n")
    if any(b"\n" in line or b"\r" in line for line in lines):
        raise HeadRefused(
            400, "each line of the head must end with CR LF, and neither may appear elsewhere (RFC 9112, 2.2)"
        )
    headers = [line for line in lines[1:] if line]
    if len(headers) > HEADER_LINES:
        raise HeadRefused(431, f"a request may have at most {HEADER_LINES} headers")
    seen: set[bytes] = set()
    for line in headers:
        if line[:1] in b" \t":
            raise HeadRefused(400, "a header must be on one line (RFC 9112, 5.2)")
        name, _, value = line.partition(b":")
        name = name.lower()
        if name not in SINGLE:
            continue
        if name in seen:
            raise HeadRefused(400, f"{SINGLE[name]} is given more than once", field=SINGLE[name])
        seen.add(name)
        if name == b"content-length" and not re.fullmatch(rb"[0-9]{1,19}", value.strip(b" \t")):
            raise HeadRefused(400, "Content-Length must be one number", field="Content-Length")


def chunk_extension(received: bytes) -> int | None:
    """Check a chunk's first line, which may be incomplete. Returns the length of its extension, None if it is
    incomplete.

    h11 would wait for any size that the line promises. Raises `HeadRefused`.
    """
    line, end, _ = received[:CHUNK_LINE_BYTES].partition(b"\r\n")
    digits = len(line) - len(line.lstrip(_HEX))
    if digits > CHUNK_DIGITS:
        raise HeadRefused(400, f"the size of a chunk may have at most {CHUNK_DIGITS} digits", field="body")
    if digits < len(line) or end:
        # Text that is not a number is left to h11.
        if digits and int(line[:digits], 16) > MAXIMUM_FRAME_BYTES:
            raise HeadRefused(413, f"a body may have at most {MAXIMUM_FRAME_BYTES} bytes", field="body")
        if not end and len(received) >= CHUNK_LINE_BYTES:
            raise HeadRefused(400, f"the first line of a chunk may have at most {CHUNK_LINE_BYTES} bytes", field="body")
    return len(line) - digits if end else None


def check_request(request: h11.Request) -> None:
    """Check a request by its head. Raises `HeadRefused`."""
    headers = dict(request.headers)
    if request.http_version not in (b"1.0", b"1.1"):
        raise HeadRefused(505, "only HTTP/1.1 is supported")
    if len(request.target) > TARGET_BYTES:
        raise HeadRefused(414, f"a request target may have at most {TARGET_BYTES} bytes")
    # h11's own limit applies to incomplete heads; a single read may bring a larger one.
    if len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers) > HEAD_BYTES:
        raise HeadRefused(431, f"a request head may have at most {HEAD_BYTES} bytes")
    if request.method != request.method.upper() or request.method == b"CONNECT":
        # Method names are case-sensitive (RFC 9110, 9.1): `get` is unknown, but the router would accept it.
        raise HeadRefused(405, "no route accepts this method; method names are in upper case")
    check_target(request)
    _check_framing(request, headers)
    expected = headers.get(b"expect", b"").strip().lower()
    if expected not in (b"", b"100-continue") and request.http_version != b"1.0":
        raise HeadRefused(417, "the only supported expectation is 100-continue", field="Expect")
    if offers_websocket(request):
        raise HeadRefused(400, f"WebSockets are opened at {protocol.PATH}", field="Upgrade")
    if is_of_websocket(request.target):
        raise HeadRefused(426, "this path requires `Upgrade: websocket`", field="Upgrade")


def check_target(request: h11.Request) -> None:
    """Reject a target (RFC 9112, 3.2) that is not a path, or whose host differs from the Host header.

    quart splits both before our code sees them, and fails on what it cannot parse. It sees them unquoted; a host that
    changes by unquoting is never ours, since no name or address of this machine contains `%`.
    """
    if request.target.startswith(b"/") or (request.target == b"*" and request.method == b"OPTIONS"):
        return
    try:
        target = urlsplit(request.target.decode("ascii"))
    except ValueError:
        target = urlsplit("")
    host = dict(request.headers).get(b"host", b"").decode("latin-1")
    if target.scheme not in ("http", "https") or "%" in target.netloc or target.netloc.lower() != host.lower():
        raise HeadRefused(400, "the request target is not a path of this server")


def _check_framing(request: h11.Request, headers: dict[bytes, bytes]) -> None:
    """Check that the body's length is given exactly once (RFC 9112, 6.1)."""
    length = headers.get(b"content-length")
    if b"transfer-encoding" in headers:
        if length is not None:
            raise HeadRefused(400, "Content-Length and Transfer-Encoding cannot be combined", field="Content-Length")
        if request.http_version == b"1.0":
            raise HeadRefused(400, "HTTP/1.0 has no Transfer-Encoding", field="Transfer-Encoding")
    # Reported before the client sends the body or is told to continue.
    if length is not None and int(length) > MAXIMUM_FRAME_BYTES:
        raise HeadRefused(413, f"a body may have at most {MAXIMUM_FRAME_BYTES} bytes", field="body")


def is_of_websocket(target: bytes) -> bool:
    """True if a request's target, a path or a full address, is the WebSocket endpoint."""
    path = target.partition(b"?")[0]
    if not path.startswith(b"/"):
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    return unquote_to_bytes(path) == protocol.PATH.encode()


def offers_websocket(request: h11.Request) -> bool:
    """True if the request offers an upgrade to WebSocket. Other offers are ignored, as RFC 9110, 7.8 allows."""
    offers = [
        offer.strip().lower()
        for name, value in request.headers
        if name == b"upgrade"
        for offer in value.partition(b"/")[0].split(b",")
    ]
    return b"websocket" in offers
