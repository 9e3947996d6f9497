"""SSRF guard: which IP addresses a URL given by a client may reach. Pure functions."""

from __future__ import annotations

import ipaddress

__all__ = ["deny_reason"]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
"""First half of an interface identifier whose second half is an IPv4 address (RFC 5214, 6.1)."""
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""Global unicast IPv6 (RFC 4291, 2.4). Site-local, unique local and unassigned ranges lie outside."""
_REFUSED: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = (
    # Listed here, whatever the Python at hand knows of the registries of special addresses: they grow.
    *(
        ipaddress.IPv4Network(one)
        for one in (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared by carriers (RFC 6598)
            "127.0.0.0/8",
            "169.254.0.0/16",  # link-local; metadata of clouds
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4, given up (RFC 7526)
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/3",  # multicast, reserved, broadcast
        )
    ),
    *(
        ipaddress.IPv6Network(one)
        for one in (
            "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "3fff::/20",  # documentation (RFC 9637)
        )
    ),
)


def deny_reason(address: str) -> str | None:
    """Return why an IP address is denied, or None if it is on the public Internet.

    Private, loopback, link-local (cloud metadata is there), site-local, shared (RFC 6598), documentation and every
    other range that is not globally reachable is refused. Where IPv6 carries an IPv4 address (NAT64, 6to4), that one
    is judged; mapped addresses and Teredo are refused as such.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "it is not an IP address"
    found = _carried(found)
    is_elsewhere = isinstance(found, ipaddress.IPv6Address) and found not in _GLOBAL_UNICAST
    if is_elsewhere or not found.is_global or any(found in one for one in _REFUSED):
        return "it is not an address of the public Internet"
    return None


def _carried(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address embedded in an IPv6 address, or the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _SIX_TO_FOUR:
            return ipaddress.IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
        is_isatap = address in _GLOBAL_UNICAST and (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
        if address in _NAT64 or is_isatap:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
