"""Identifies callers by network address."""

from __future__ import annotations

import ipaddress

import trio

__all__ = ["address_of", "is_loopback", "network_of"]


def address_of(stream: trio.SocketStream) -> str:
    """Return the network of a peer, empty if it is already gone."""
    try:
        return network_of(stream.socket.getpeername()[0])
    except OSError:
        return ""


def network_of(address: str) -> str:
    """Return the unit by which addresses are counted: IPv4 addresses, IPv6 /64 networks. Empty if it is not an address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((int(found), 64), strict=False))
    return str(found)


def is_loopback(host: str) -> bool:
    """True for `localhost` and loopback addresses, with or without brackets or a final dot."""
    name = host.strip("[]").lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
