"""Rules for the Host header, the Origin header and the query string of a local server. Pure functions."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import parse_qsl

from actors.networks import is_loopback

__all__ = ["host_problem", "origin_problem", "query_problem"]

TOKEN_PARAMETERS = frozenset(
    {"token", "access_token", "accesstoken", "api_key", "apikey", "api-key", "auth", "authorization", "bearer"}
)
_LOOKS_LIKE_A_TOKEN = re.compile(r"lv_[0-9a-f]{12}_")
# No user, path or blank: an address with a user in it names another host than a reader thinks.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s\[\]:@/?#\\,]+)(?::([0-9]{1,5}))?")


def host_problem(host: str | None, allowed: frozenset[str], *, allows_addresses: bool = False) -> str | None:
    """Return why a Host header is refused, or None.

    A page whose name was re-bound to 127.0.0.1 still sends its own name here, so only loopback names and
    the configured ones pass (DNS rebinding). Case and the final dot of a full name do not matter (RFC 4343, 1034).
    ``allows_addresses`` for a server that other machines reach: an address cannot be re-bound as a name can.
    """
    if not host:
        return "a Host header is needed"
    name = _host_name(host)
    if name is None:
        return f"{host[:64]!r} is not a host"
    if is_loopback(name) or name.removesuffix(".") in {one.lower().removesuffix(".") for one in allowed}:
        return None
    if allows_addresses and _is_address(name):
        return None
    return f"host {name[:64]!r} is not served here"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_name(host: str) -> str | None:
    """Return the name in a Host header in lower case, or None if RFC 9110 does not allow the header."""
    found = _HOST.fullmatch(host)
    if found is None or int(found[2] or 0) > 65535:
        return None
    return found[1].strip("[]").lower()


def origin_problem(origin: str | None, allowed: frozenset[str]) -> str | None:
    """Return why a page of this origin is refused, or None. Programs send no Origin header and pass.

    Browsers let any page open a WebSocket to 127.0.0.1, so the origin must be ours. A sandboxed frame of any page
    sends `null`, which is therefore refused unless it is configured.
    """
    if origin is None or origin in allowed:
        return None
    scheme, separator, host = origin.partition("://")
    name = _host_name(host) if separator else None
    if scheme.lower() in ("http", "https") and name is not None and is_loopback(name):
        return None
    return f"origin {origin[:64]!r} is not allowed"


def query_problem(query: str) -> str | None:
    """Return why a URL with this query is refused, or None. URLs end up in histories and logs, so they must hold no token."""
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name.lower() in TOKEN_PARAMETERS or _LOOKS_LIKE_A_TOKEN.search(name + value):
            return (
                "a token does not belong in an address; send it in the header `Authorization: Bearer …`, or over "
                "the WebSocket in the field `token` of hello; a token that was in an address should be revoked"
            )
    return None
