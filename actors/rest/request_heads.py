"""Which request heads are taken (RFC 9112): pure rules, stricter than h11 where two readers of a head could differ.

What one server of a chain reads as one request and the next as two is how requests are smuggled past a gateway. So a
head with two meanings is refused and its connection ends, also where the RFC would let a server guess.
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
"""Of one request: its address and all its headers."""
TARGET_BYTES = 8 * 1024
HEADER_LINES = 100
CHUNK_DIGITS = 16
"""Of a chunk's size (RFC 9112, 7.1): more than 64 bits mean different numbers to different readers."""
CHUNK_LINE_BYTES = 1024
EXTENSION_BYTES = 16 * 1024
"""Of all chunks of a body: nobody reads extensions, so a body in them would have no bound (RFC 9112, 7.1.1)."""
_HEX = b"0123456789abcdefABCDEF"
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
"""Methods that some path takes; which of them a path takes is the router's to say."""
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
"""Headers that are read once: of two lines one would be believed and the other not, so both are refused."""


class HeadRefused(h11.RemoteProtocolError):
    """This head is not taken, and its connection ends."""

    def __init__(self, status: int, message: str, *, field: str | None = None) -> None:
        super().__init__(message, error_status_hint=status)
        self.message = message
        self.field = field
        """Name of the header at fault."""


def incomplete_head_problem(received: bytes) -> HeadRefused | None:
    """Why a head that has not ended yet will not be taken any more."""
    if len(received) <= HEAD_BYTES:
        return None
    if b"\n" not in received[:HEAD_BYTES]:
        return HeadRefused(414, f"an address may have {TARGET_BYTES} bytes")
    return HeadRefused(431, f"a head may have {HEAD_BYTES} bytes")


def check_lines(head: bytes) -> None:
    """Refuse a head, with its last line break, by how its lines are written. Raises `HeadRefused`."""
    lines = head.split(b"\r\n")
    if any(b"\n" in line or b"\r" in line for line in lines):
        raise HeadRefused(400, "each line of a head ends with CR and LF, which stand nowhere else (RFC 9112, 2.2)")
    headers = [line for line in lines[1:] if line]
    if len(headers) > HEADER_LINES:
        raise HeadRefused(431, f"a request may have {HEADER_LINES} header lines")
    seen: set[bytes] = set()
    for line in headers:
        if line[:1] in b" \t":
            raise HeadRefused(400, "a header is written in one line (RFC 9112, 5.2)")
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
    """Judge the line that begins a chunk by as much of it as came; how long its extension is, or None if it goes on.

    h11 waits for what a size promises, whatever that is. Raises `HeadRefused`.
    """
    line, end, _ = received[:CHUNK_LINE_BYTES].partition(b"\r\n")
    digits = len(line) - len(line.lstrip(_HEX))
    if digits > CHUNK_DIGITS:
        raise HeadRefused(400, f"the size of a chunk may have {CHUNK_DIGITS} digits", field="body")
    if digits < len(line) or end:
        # What is no number at all is for h11 to say.
        if digits and int(line[:digits], 16) > MAXIMUM_FRAME_BYTES:
            raise HeadRefused(413, f"a body may have {MAXIMUM_FRAME_BYTES} bytes", field="body")
        if not end and len(received) >= CHUNK_LINE_BYTES:
            raise HeadRefused(400, f"the line of a chunk may have {CHUNK_LINE_BYTES} bytes", field="body")
    return len(line) - digits if end else None


def check_request(request: h11.Request) -> None:
    """Refuse a request by what its head says. Raises `HeadRefused`."""
    headers = dict(request.headers)
    if request.http_version not in (b"1.0", b"1.1"):
        raise HeadRefused(505, "HTTP/1.1 is spoken here")
    if len(request.target) > TARGET_BYTES:
        raise HeadRefused(414, f"an address may have {TARGET_BYTES} bytes")
    # h11's own limit is on heads that are not whole yet; one read may bring a larger one.
    if len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers) > HEAD_BYTES:
        raise HeadRefused(431, f"a head may have {HEAD_BYTES} bytes")
    if request.method != request.method.upper() or request.method == b"CONNECT":
        # Names of methods are case-sensitive (RFC 9110, 9.1): `get` is none, but the router would take it for one.
        raise HeadRefused(405, "no path takes this method; names of methods are written in capitals")
    check_target(request)
    _check_framing(request, headers)
    expected = headers.get(b"expect", b"").strip().lower()
    if expected not in (b"", b"100-continue") and request.http_version != b"1.0":
        raise HeadRefused(417, "100-continue alone can be expected", field="Expect")
    if offers_websocket(request):
        raise HeadRefused(400, f"a WebSocket begins at {protocol.PATH}", field="Upgrade")
    if is_of_websocket(request.target):
        raise HeadRefused(426, "a WebSocket begins with `Upgrade: websocket`", field="Upgrade")


def check_target(request: h11.Request) -> None:
    """Refuse a request's target (RFC 9112, 3.2) that is no path, and one whose host is not that of the header.

    quart takes both apart before anything of ours sees them, and fails at what it cannot read. It sees them unquoted:
    a host that would be another then is none of ours, as no name and no address of this machine has a `%`.
    """
    if request.target.startswith(b"/") or (request.target == b"*" and request.method == b"OPTIONS"):
        return
    try:
        target = urlsplit(request.target.decode("ascii"))
    except ValueError:
        target = urlsplit("")
    host = dict(request.headers).get(b"host", b"").decode("latin-1")
    if target.scheme not in ("http", "https") or "%" in target.netloc or target.netloc.lower() != host.lower():
        raise HeadRefused(400, "this target is no path of this server")


def _check_framing(request: h11.Request, headers: dict[bytes, bytes]) -> None:
    """Where the body ends must be said once (RFC 9112, 6.1)."""
    length = headers.get(b"content-length")
    if b"transfer-encoding" in headers:
        if length is not None:
            raise HeadRefused(400, "Content-Length and Transfer-Encoding exclude each other", field="Content-Length")
        if request.http_version == b"1.0":
            raise HeadRefused(400, "HTTP/1.0 has no Transfer-Encoding", field="Transfer-Encoding")
    # Said before the client has sent it, and before it is told to.
    if length is not None and int(length) > MAXIMUM_FRAME_BYTES:
        raise HeadRefused(413, f"a body may have {MAXIMUM_FRAME_BYTES} bytes", field="body")


def is_of_websocket(target: bytes) -> bool:
    """Whether a request's target, a path or a whole address, is where WebSockets begin."""
    path = target.partition(b"?")[0]
    if not path.startswith(b"/"):
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    return unquote_to_bytes(path) == protocol.PATH.encode()


def offers_websocket(request: h11.Request) -> bool:
    """Other offers are left unanswered, as RFC 9110, 7.8 lets a server do."""
    offers = [
        offer.strip().lower()
        for name, value in request.headers
        if name == b"upgrade"
        for offer in value.partition(b"/")[0].split(b",")
    ]
    return b"websocket" in offers
