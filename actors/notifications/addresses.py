"""Which addresses a server may be sent to by an address that a client gave: pure rules over IP addresses."""

from __future__ import annotations

import ipaddress

__all__ = ["refusal"]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")


def refusal(address: str) -> str | None:
    """Why nothing may be sent to this IP address; None if it is one of the public Internet.

    Private, loopback, link-local (cloud metadata is there), shared (RFC 6598) and every other range that is not
    globally reachable is refused. Where IPv6 carries an IPv4 address (NAT64, 6to4), that one is judged; mapped
    addresses and Teredo are refused as such.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "it is no IP address"
    found = _carried(found)
    if not found.is_global or found.is_multicast or found.is_reserved or found.is_unspecified:
        return "it is not an address of the public Internet"
    return None


def _carried(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 address leads to, or itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address in _SIX_TO_FOUR:
            return ipaddress.IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
    return address
