"""How many files this process may open, and how many connections fit that: a socket is one, and so is a file."""

from __future__ import annotations

import resource

from attrs import frozen

__all__ = ["ConnectionBudget", "budget_for", "raise_descriptor_limit"]

RESERVED = 256
"""For the database, the worker's pipe, inspection, deliveries to push services and the rest of the process."""
MOST_RESERVED_SHARE = 0.5
"""Of a small limit, no more than this is held back."""
LARGEST_ASKED = 1_048_576
"""Where the hard limit has no number, as on macOS, ever smaller ones are asked for."""


@frozen(kw_only=True)
class ConnectionBudget:
    """Connections at once, by door."""

    websocket: int
    http: int


def raise_descriptor_limit() -> int:
    """Raise the soft limit to the hard one and return what it is now. What the system refuses is left as it was."""
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
    """What is wanted, or as much of it as a limit of descriptors leaves, each door its share and at least one."""
    left = limit - int(min(RESERVED, limit * MOST_RESERVED_SHARE))
    total = wanted.websocket + wanted.http
    if total <= left:
        return wanted
    websocket = max(1, left * wanted.websocket // total)
    return ConnectionBudget(websocket=websocket, http=max(1, min(wanted.http, left - websocket)))
