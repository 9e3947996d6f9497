"""Addresses that clients give: https alone, a host that can be asked for, and nothing that two readers split differently."""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

from attrs import Attribute

from protocol.validation import FieldFault

__all__ = ["address_problem", "https_address"]

_NO_ADDRESS = re.compile(r"[^\x21-\x7e]|\\")
"""White space, control characters, non-ASCII characters, and the backslash, which some parsers take for a slash."""
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
LONGEST_HOST = 253


def address_problem(text: str) -> str | None:
    """The problem with an https address, or None. Its destination is checked when it is used."""
    if _NO_ADDRESS.search(text):
        return "must be an https address of printable ASCII"
    try:
        parts = urlsplit(text)
        port = parts.port  # raises unless it is a number up to 65535
    except ValueError:
        return "must be an https address"
    if parts.scheme != "https":
        return "must be an https address: only https is spoken"
    if "@" in parts.netloc:
        return "must be an https address without a user's name"
    if port == 0:
        return "must be an https address with a port from 1 to 65535"
    if not _is_host(parts.hostname or "", has_brackets="[" in parts.netloc):
        return "must be an https address whose host is a name or an IP address"
    return None


def _is_host(host: str, *, has_brackets: bool) -> bool:
    """True for a name within the limits of DNS (RFC 1035, 2.3.4), or an IPv6 address without a zone."""
    if has_brackets:
        try:
            return "%" not in host and ipaddress.ip_address(host).version == 6
        except ValueError:
            return False
    name = host.removesuffix(".")
    return len(name) <= LONGEST_HOST and all(_LABEL.fullmatch(label) for label in name.split("."))


def https_address(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """Validator: an https address (see `address_problem`); None passes."""
    problem = None if value is None else address_problem(value)
    if problem is not None:
        raise FieldFault(attribute.name, problem)
