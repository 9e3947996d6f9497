"""The limit of open descriptors, and the number of connections that fit in it."""

from __future__ import annotations

import resource

from attrs import frozen

__all__ = ["ConnectionBudget", "budget_for", "raise_descriptor_limit"]

RESERVED = 256
"""Descriptors reserved for the database, worker pipes, inspection, push deliveries and the rest of the process."""
MOST_RESERVED_SHARE = 0.5
"""Upper bound of the reserve, as a share of a small limit."""
LARGEST_ASKED = 1_048_576
"""First value to request where the hard limit is infinite, as on macOS; smaller ones follow."""


@frozen(kw_only=True)
class ConnectionBudget:
    """Concurrent connections by transport."""

    websocket: int
    http: int


def raise_descriptor_limit() -> int:
    """Raise the soft limit to the hard one and return the current value. If the system refuses, the limit stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    asked = LARGEST_ASKED if hard == resource.RLIM_INFINITY else hard
    while soft != resource.RLIM_INFINITY and asked > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (asked, hard))
        except (OSError, ValueError):
            asked //= 2
        else:
            return asked
    return LARGEST_ASKED if soft == resource.RLIM_INFINITY else soft


def budget_for(limit: int, wanted: ConnectionBudget) -> ConnectionBudget:
    """Return the wanted budget, or a proportional part of it that fits the limit, at least one per transport."""
    left = limit - int(min(RESERVED, limit * MOST_RESERVED_SHARE))
    total = wanted.websocket + wanted.http
    if total <= left:
        return wanted
    websocket = max(1, left * wanted.websocket // total)
    return ConnectionBudget(websocket=websocket, http=max(1, min(wanted.http, left - websocket)))
