"""Messages of the cluster service."""

from __future__ import annotations

from attrs import frozen

from runtime import Request

__all__ = [
    "LOG_TOPIC",
    "Announce",
    "CarrierHealth",
    "ClusterHealth",
    "DescribeCarrier",
    "DescribeCluster",
    "NodeDescription",
]

LOG_TOPIC = "log"
"""Announces that events were appended to a client's log; the key is the client id."""


@frozen
class Announce:
    """Let the other nodes hear that something changed. May be lost: they also look for themselves."""

    topic: str
    key: str


@frozen(kw_only=True)
class NodeDescription:
    """A node as the database has it."""

    node: str
    incarnation: str
    state: str
    """`alive`, `silent` (its lease is over, and nobody has said so yet), `dead` or `left`."""
    age_ms: int
    """Since its last renewal, by the database's clock."""
    version: str
    model: str
    address: str


@frozen(kw_only=True)
class ClusterHealth:
    """State of a node in its cluster."""

    node: str
    is_member: bool
    """True while it holds its lease, as far as it knows."""
    problem: str | None
    """Why it does not, as a sentence."""


@frozen
class DescribeCluster(Request[ClusterHealth]):
    """Return this node's state."""


@frozen(kw_only=True)
class CarrierHealth:
    """State of announcing, or of hearing."""

    problem: str | None
    """Why it cannot, as a sentence."""


@frozen
class DescribeCarrier(Request[CarrierHealth]):
    """Return the state of announcing, or of hearing."""
