"""The carrier: what nodes exchange through the broker, as five verbs independent of the engine.

Everything here may be lost, and nothing durable is lost with it. What must be right is a row of the database; what must be
fast and may be lost goes through a carrier. Each verb has a deadline and may be repeated: one that failed may have been
carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from attrs import field, frozen

__all__ = [
    "ANNOUNCEMENTS_KEPT",
    "LOG_SECONDS",
    "MESSAGES_KEPT",
    "PRESENT_SECONDS",
    "Announced",
    "Appended",
    "Carrier",
    "CarrierFault",
    "CarrierUnavailable",
    "Ear",
    "Fenced",
    "Forged",
    "Gap",
    "Run",
    "Told",
]

LOG_SECONDS = 300.0
"""A log is kept for so long after the last append."""
PRESENT_SECONDS = 30.0
"""What a node presents is forgotten unless it presents it again within this time."""
MESSAGES_KEPT = 1024
"""Of a node's inbox; the oldest go first."""
ANNOUNCEMENTS_KEPT = 4096
"""Per topic; the oldest are dropped first, so a node that was away for long must check for itself."""


class CarrierFault(Exception):
    """The carrier did not do what it was asked."""


class CarrierUnavailable(CarrierFault):
    """The carrier is unreachable or too slow. It is unknown whether the verb was carried out."""


class Forged(CarrierFault):
    """The data was not written under this cluster's key."""


@frozen
class Appended:
    """The log now ends with sequence number ``head``, also when the run had been appended before."""

    head: int


@frozen
class Fenced:
    """An owner with a higher fence has taken over the log. Nothing was appended."""

    fence: int


@frozen
class Gap:
    """The run does not continue the log, which ends with ``head``: append from there on. Nothing was appended."""

    head: int


@frozen
class Run:
    """Consecutive entries of a log."""

    first: int
    last: int
    data: bytes = field(repr=False)


@frozen
class Told:
    """A message to this node."""

    message: bytes = field(repr=False)


@frozen
class Announced:
    """Something changed for ``key``. Interested nodes read it where it is stored."""

    topic: str
    key: str
    node: str
    """The announcing node."""


class Ear(Protocol):
    """Receives messages and announcements, in order per sender."""

    async def hear(self) -> tuple[Told | Announced, ...]:
        """Return what came since the last call, waiting for it, and for a moment only: then nothing.

        Raises `CarrierUnavailable`. The next call goes on where this one stood, as far as the carrier still has it. After
        a call that was cancelled there is no next one.
        """
        ...


class Carrier(Protocol):
    """Shared by all nodes of a cluster."""

    async def append(self, log: str, fence: int, first: int, last: int, data: bytes) -> Appended | Fenced | Gap:
        """Append entries ``first`` to ``last`` to a log if they continue it and no higher fence was seen.

        Without entries (``last`` below ``first``) the log is claimed: lower fences are refused from now on, and the answer
        tells where it ends. A higher fence that has not claimed the log replaces it by beginning at 1, and finds a gap
        otherwise. Repeating an append has no effect. Raises `CarrierUnavailable`.
        """
        ...

    async def read(self, positions: Mapping[str, int]) -> Mapping[str, tuple[Run, ...]]:
        """Return some of the runs that follow a position in each log, in order; logs without any are left out.

        The first run may begin at or before its position. Raises `CarrierUnavailable`, `Forged`.
        """
        ...

    async def tell(self, node: str, message: bytes) -> None:
        """Put a message into a node's inbox. Raises `CarrierUnavailable`."""
        ...

    async def announce(self, topic: str, key: str) -> None:
        """Let every node that listens to the topic hear of ``key``. Raises `CarrierUnavailable`."""
        ...

    async def present(self, key: str, value: bytes | None) -> Mapping[str, bytes]:
        """Present this node's value for a key, or withdraw it (None). Returns the values of all nodes, by node.

        Raises `CarrierUnavailable`, `Forged`.
        """
        ...

    def listen(self, topics: tuple[str, ...]) -> AbstractAsyncContextManager[Ear]:
        """Hear this node's inbox and the topics, from now on. Entering raises `CarrierUnavailable`."""
        ...
