"""Rules of the door: which Host and Origin headers a local server believes. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

__all__ = ["host_problem", "is_loopback", "origin_problem"]


def is_loopback(host: str) -> bool:
    """True for `localhost` and loopback addresses, with or without brackets."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_problem(host: str | None, allowed: frozenset[str]) -> str | None:
    """Why a Host header is not believed, or None.

    A page whose name was re-bound to 127.0.0.1 still sends its own name here, so only loopback names and
    the configured ones pass (DNS rebinding).
    """
    if not host:
        return "a Host header is needed"
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return f"{host[:64]!r} is not a host"
    if is_loopback(name) or name in allowed:
        return None
    return f"host {name[:64]!r} is not served here"


def origin_problem(origin: str | None, allowed: frozenset[str]) -> str | None:
    """Why a page of this origin is refused, or None. Programs send no Origin and pass.

    Browsers let any page open a WebSocket to 127.0.0.1, so the origin must be one of ours.
    """
    if origin is None:
        return None
    if origin in allowed:
        return None
    try:
        parts = urlsplit(origin)
        name = parts.hostname or ""
    except ValueError:
        name = ""
        parts = urlsplit("")
    if parts.scheme in ("http", "https") and is_loopback(name):
        return None
    return f"origin {origin[:64]!r} is not allowed"
