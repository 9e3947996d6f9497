"""The opening handshake of a WebSocket (RFC 6455, 4.2; RFC 9112): parses bytes into an `Offer` or a `Refusal`. No I/O.

h11 parses the request head; all checks of its contents are here, and every refusal is an HTTP response that gives
the reason. wsproto's own handshake accepts any key, takes the last of repeated headers, and accepts malformed hosts.
"""

from __future__ import annotations

import base64
import binascii
import email.utils
import hashlib
import http
import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

import h11
from attrs import field, frozen

__all__ = ["HEAD_BYTES", "HandshakeReader", "Offer", "Refusal", "switching"]

HEAD_BYTES = 16 * 1024
"""Limit on the request line and all headers together."""
VERSION = "13"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16
_LATIN = "latin-1"
"""Maps every byte to a character, so that the client's own text can be echoed."""

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105  RFC 9110's word for a word
_TOKEN_FORM = re.compile(_TOKEN)
_PROTOCOL = re.compile(rf"({_TOKEN})(?:/{_TOKEN})?")
_PARAMETER = rf'\s*;\s*{_TOKEN}(?:\s*=\s*(?:{_TOKEN}|"{_TOKEN}"))?'
_EXTENSION = re.compile(rf"{_TOKEN}(?:{_PARAMETER})*")
_SPLIT = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')
"""Commas outside quotes."""
_FOLD = re.compile(rb"\n[ \t]")
_AUTHORITY_FORM = re.compile(r"(?i:(https?|wss?))://([^/?#]*)([^#]*)")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]+)(?::[0-9]*)?")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SINGLE = ("sec-websocket-key", "sec-websocket-version", "origin", "host", "authorization", "x-api-key", "x-client-id")
"""Headers that must not be repeated, because it would be unclear which one counts."""


@frozen
class Refusal:
    """Rejects a handshake with an HTTP response that closes the connection."""

    status: int
    reason: str
    """One sentence for a person."""
    headers: tuple[tuple[str, str], ...] = ()
    has_body: bool = True
    """False in response to HEAD."""

    def encode(self) -> bytes:
        """Return the whole response."""
        body = f"{self.reason}\n".encode()
        lines = [
            f"HTTP/1.1 {self.status} {http.HTTPStatus(self.status).phrase}",
            f"Date: {email.utils.formatdate(usegmt=True)}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "X-Content-Type-Options: nosniff",
            *[f"{name}: {value}" for name, value in self.headers],
        ]
        if not any(name == "Connection" for name, _ in self.headers):
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode(_LATIN, "replace") + (body if self.has_body else b"")


@frozen(kw_only=True)
class Offer:
    """A valid handshake. The access actor and the path decide whether to accept it."""

    path: str
    """Percent-decoded; need not be UTF-8."""
    query: str = field(repr=False)
    host: str
    """From the target if that is an absolute URL (RFC 9112, 3.2.2), else from the header."""
    origin: str | None
    key: str = field(repr=False)
    subprotocols: tuple[str, ...]
    """In the client's order of preference."""
    rest: bytes = field(default=b"", repr=False)
    """Bytes received after the head."""


def switching(offer: Offer, subprotocol: str | None) -> bytes:
    """Return the response that accepts an offer. Extensions are never negotiated."""
    accept = base64.b64encode(hashlib.sha1(offer.key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        f"Date: {email.utils.formatdate(usegmt=True)}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept}",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    return "\r\n".join([*lines, "", ""]).encode()


class HandshakeReader:
    """Collects bytes until a request head is complete."""

    def __init__(self) -> None:
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._head = bytearray()

    @property
    def has_begun(self) -> bool:
        """True once any bytes have been received."""
        return bool(self._head)

    def receive(self, data: bytes) -> Offer | Refusal | None:
        """Parse more bytes; None while the head is incomplete."""
        if not self._head:
            data = data.lstrip(b"\r\n")  # empty lines before a request are ignored (RFC 9112, 2.2)
        self._head += data
        try:
            self._parser.receive_data(data)
            event = self._parser.next_event()
        except h11.RemoteProtocolError as error:
            return Refusal(error.error_status_hint, f"not a valid HTTP/1.1 request: {_reason_of(error)}")
        if event is h11.NEED_DATA:
            return None
        if not isinstance(event, h11.Request):
            return Refusal(400, "not a valid HTTP/1.1 request")
        rest = bytes(self._parser.trailing_data[0])
        head = bytes(self._head[: len(self._head) - len(rest)])
        verdict = _judge(event, head, rest)
        if isinstance(verdict, Refusal) and event.method == b"HEAD":
            return Refusal(verdict.status, verdict.reason, verdict.headers, has_body=False)
        return verdict


def _reason_of(error: h11.RemoteProtocolError) -> str:
    """Return the message without the client's own text."""
    return str(error).partition(":")[0].partition("{")[0].strip()


def _judge(request: h11.Request, head: bytes, rest: bytes) -> Offer | Refusal:
    """Check every MUST of RFC 6455, 4.2.1, the most helpful message first."""
    headers: dict[str, list[str]] = {}
    for name, value in request.headers:
        headers.setdefault(name.decode(_LATIN).lower(), []).append(value.decode(_LATIN))
    method, target = request.method.decode(_LATIN), request.target.decode(_LATIN)
    return (
        _problem_of_message(request, head, headers)
        or _problem_of_upgrade(method, headers)
        or _problem_of_lists(headers)
        or _offer(target, headers, rest)
    )


def _problem_of_message(request: h11.Request, head: bytes, headers: Mapping[str, list[str]]) -> Refusal | None:
    """Check the rules that hold for any request."""
    if len(head) > HEAD_BYTES:
        return Refusal(431, f"the request head must not exceed {HEAD_BYTES} bytes")
    major, minor = request.http_version.split(b".")
    if major != b"1" or minor == b"0":
        return Refusal(505, "a WebSocket handshake needs HTTP/1.1")
    if _FOLD.search(head):
        return Refusal(400, "a header must not be folded over several lines")
    for name in _SINGLE:
        if len(headers.get(name, ())) > 1:
            return Refusal(400, f"{name} must occur once, not {len(headers[name])} times")
    if "transfer-encoding" in headers or headers.get("content-length", ["0"]) != ["0"]:
        return Refusal(400, "a WebSocket handshake must not have a body")
    host = headers.get("host", [""])[0]
    if not host.isascii():
        return Refusal(400, "Host must be ASCII; a name in other letters is written as `xn--…`")
    if not _HOST.fullmatch(host):
        return Refusal(400, "Host must be a name or an address, with or without a port")
    return None


def _problem_of_upgrade(method: str, headers: Mapping[str, list[str]]) -> Refusal | None:
    """Check that the request asks for a WebSocket of the supported version with a valid key."""
    if method != "GET":
        return Refusal(405, f"a WebSocket handshake must use GET, not {method[:16]}", (("Allow", "GET"),))
    wanted = [_PROTOCOL.fullmatch(one) for one in _elements(headers.get("upgrade", []))]
    if not any(one is not None and one[1].lower() == "websocket" for one in wanted):
        return _upgrade_required("this port speaks WebSocket: Upgrade must name websocket")
    if "upgrade" not in [one.lower() for one in _elements(headers.get("connection", []))]:
        return _upgrade_required("this port speaks WebSocket: Connection must name Upgrade")
    versions = headers.get("sec-websocket-version")
    if versions is None:
        return Refusal(400, "Sec-WebSocket-Version is missing", (("Sec-WebSocket-Version", VERSION),))
    if versions != [VERSION]:
        return _upgrade_required(f"Sec-WebSocket-Version must be {VERSION}")
    keys = headers.get("sec-websocket-key")
    if keys is None:
        return Refusal(400, "Sec-WebSocket-Key is missing")
    if not _is_key(keys[0]):
        return Refusal(400, f"Sec-WebSocket-Key must be {_KEY_BYTES} bytes in base64")
    return None


def _problem_of_lists(headers: Mapping[str, list[str]]) -> Refusal | None:
    """Check the syntax of subprotocols and extensions (RFC 6455, 4.3); each may come in several lines."""
    subprotocols = _elements(headers.get("sec-websocket-protocol", []))
    if "sec-websocket-protocol" in headers and not subprotocols:
        return Refusal(400, "Sec-WebSocket-Protocol is empty")
    if not all(_TOKEN_FORM.fullmatch(one) for one in subprotocols):
        return Refusal(400, "Sec-WebSocket-Protocol holds an invalid token")
    if len(set(subprotocols)) < len(subprotocols):
        return Refusal(400, "Sec-WebSocket-Protocol names one subprotocol twice")
    extensions = _elements(headers.get("sec-websocket-extensions", []))
    if not all(_EXTENSION.fullmatch(one) for one in extensions):
        return Refusal(400, "Sec-WebSocket-Extensions holds an invalid extension")
    return None


def _offer(target: str, headers: Mapping[str, list[str]], rest: bytes) -> Offer | Refusal:
    """Parse the request target, which is a path or an absolute URL."""
    host, resource = headers["host"][0], target
    if not target.startswith("/"):
        found = _AUTHORITY_FORM.fullmatch(target)
        if found is None or not _HOST.fullmatch(found[2]):
            return Refusal(400, "the request target must be a path or an absolute http or https URL")
        host, resource = found[2], found[3] if found[3].startswith("/") else f"/{found[3]}"
    if "#" in resource:
        return Refusal(400, "the request target must not have a fragment")
    if _BAD_ESCAPE.search(resource):
        return Refusal(400, "a `%` in the request target must be followed by two hexadecimal digits")
    path, _, query = resource.partition("?")
    origin = headers.get("origin")
    return Offer(
        path=unquote_to_bytes(path).decode(_LATIN),
        query=query,
        host=host,
        origin=None if origin is None else origin[0],
        key=headers["sec-websocket-key"][0],
        subprotocols=tuple(_elements(headers.get("sec-websocket-protocol", []))),
        rest=rest,
    )


def _elements(lines: list[str]) -> list[str]:
    """Return the non-empty elements of a list that may come in several lines (RFC 9110, 5.3 and 5.6.1)."""
    return [one.strip(" \t") for one in _SPLIT.split(",".join(lines)) if one.strip(" \t")]


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def _upgrade_required(reason: str) -> Refusal:
    """Name the protocol and version to upgrade to (RFC 9110, 15.5.22; RFC 6455, 4.2.2)."""
    return Refusal(
        426,
        reason,
        (("Upgrade", "websocket"), ("Connection", "Upgrade, close"), ("Sec-WebSocket-Version", VERSION)),
    )
