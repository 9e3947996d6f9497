"""Renews this node's lease in the database, and reaps nodes whose leases have expired."""

from __future__ import annotations

import secrets

import structlog
import trio
from attrs import frozen

from actors.cluster.messages import ClusterHealth, DescribeCluster
from actors.cluster.store import (
    LEAVE_NODE,
    REAP_NODES,
    REGISTER_NODE,
    RENEW_NODE,
    NodeKey,
    Registration,
    Renewed,
)
from actors.errors import CommandError
from actors.storage.messages import LEASE_MILLISECONDS, Storage
from runtime import Actor, RuntimeFault, reject

__all__ = ["Membership", "MembershipSettings", "Streak"]

_log = structlog.get_logger("cluster")

RENEW_SECONDS = 2.0
STORAGE_SECONDS = 4.0
LEAVE_SECONDS = 2.0
LONGEST_GAP_MS = 4_000
"""Between two renewals of a streak. A node that was as late by the same outage has still renewed before its lease is over."""


@frozen(kw_only=True)
class MembershipSettings:
    """Description that a node gives of itself."""

    node: str
    version: str
    model: str
    address: str


class Streak:
    """Judge of whether this node may declare others dead: only after renewing without a gap for as long as a lease.

    After an outage of the database everybody's lease looks over, so all must have had time to renew before anybody reaps.
    """

    def __init__(self) -> None:
        self._began_ms: int | None = None
        self._last_ms = 0

    def renewed(self, now_ms: int) -> None:
        """Note a renewal, at the database's time."""
        if self._began_ms is None or not 0 <= now_ms - self._last_ms <= LONGEST_GAP_MS:
            self._began_ms = now_ms
        self._last_ms = now_ms

    def broken(self) -> None:
        """Note that the lease was lost."""
        self._began_ms = None

    @property
    def may_reap(self) -> bool:
        """True if it is long enough."""
        return self._began_ms is not None and self._last_ms - self._began_ms >= LEASE_MILLISECONDS


class Membership(Actor[DescribeCluster]):
    """Renews the lease from the event loop, so that a node whose loop or whose writer is stuck loses it."""

    mailbox = reject(256)

    def __init__(self, settings: MembershipSettings, storage: Storage) -> None:
        self._settings = settings
        self._storage = storage
        self._key: NodeKey | None = None
        self._renewed_at = -float("inf")
        self._streak = Streak()
        self._problem: str | None = "this node has not joined yet"

    async def started(self) -> None:
        """Begin to join the cluster."""
        self.context.spawn(self._live)

    async def handle(self, message: DescribeCluster) -> ClusterHealth:
        return ClusterHealth(node=self._settings.node, is_member=self._is_member, problem=self._problem)

    async def stopping(self) -> None:
        """Leave, so that the name is free at once."""
        if self._key is not None:
            try:
                await self._storage.transact(LEAVE_NODE, self._key, client_id=self._lock_name, timeout=LEAVE_SECONDS)
            except (CommandError, RuntimeFault) as error:
                _log.warning("node could not leave; its lease will expire", error=str(error))

    def snapshot(self) -> dict[str, object]:
        """The lease."""
        return {"node": self._settings.node, "is_member": self._is_member, "problem": self._problem}

    @property
    def _is_member(self) -> bool:
        age = trio.current_time() - self._renewed_at
        return self._key is not None and age * 1000 < LEASE_MILLISECONDS

    @property
    def _lock_name(self) -> str:
        """Lock name in place of a client id. It contains a space, which no client id has, so renewals never wait for clients' writes."""
        return f"node {self._settings.node}"

    async def _live(self) -> None:
        while True:
            try:
                await (self._register() if self._key is None else self._renew(self._key))
            except (CommandError, RuntimeFault) as error:
                if str(error) != self._problem:
                    _log.warning("lease not renewed", error=str(error))
                self._note(str(error))
            await trio.sleep(RENEW_SECONDS)

    async def _register(self) -> None:
        key = NodeKey(node=self._settings.node, incarnation=secrets.token_hex(8))
        wanted = Registration(
            key=key, version=self._settings.version, model=self._settings.model, address=self._settings.address
        )
        asked_at = trio.current_time()
        stored = await self._storage.transact(REGISTER_NODE, wanted, client_id="", timeout=STORAGE_SECONDS)
        self._key = key
        self._held(stored.value, asked_at)
        _log.info("joined the cluster", node=key.node, incarnation=key.incarnation)

    async def _renew(self, key: NodeKey) -> None:
        # The lease counts from before the question: the answer may have been long on its way.
        asked_at = trio.current_time()
        stored = await self._storage.transact(RENEW_NODE, key, client_id=self._lock_name, timeout=STORAGE_SECONDS)
        if not stored.value.is_held:
            _log.error("fenced out: another node found this node's lease expired", incarnation=key.incarnation)
            self._key = None
            self._streak.broken()
            self._note("this node lost its lease and is rejoining")
            return
        self._held(stored.value, asked_at)
        if self._streak.may_reap:
            await self._reap()

    def _held(self, renewed: Renewed, asked_at: float) -> None:
        self._renewed_at = asked_at
        self._streak.renewed(renewed.now_ms)
        if self._problem is not None:
            self._note(None)

    def _note(self, problem: str | None) -> None:
        self._problem = problem
        self.context.note_problem(problem)

    async def _reap(self) -> None:
        dead = await self._storage.transact(REAP_NODES, None, client_id="cluster reaper", timeout=STORAGE_SECONDS)
        for node in dead.value:
            _log.warning("node is dead: its lease has expired", node=node)
