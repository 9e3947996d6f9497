"""Handles on dynamic supervisors: children started and stopped at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runtime.backoff import Backoff
from runtime.errors import ActorDead
from runtime.reference import ActorRef
from runtime.specs import ChildSpec, DynamicSpec, Restart
from runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from runtime.actor import Actor
    from runtime.system import ActorSystem

__all__ = ["DynamicRef"]


class DynamicRef:
    """Names a dynamic supervisor; valid before it starts and across its restarts."""

    __slots__ = ("_system", "path")

    def __init__(self, system: ActorSystem, path: str) -> None:
        self._system = system
        self.path = path

    async def start_child(
        self,
        id: str,  # noqa: A002  the name the spec uses
        start: Callable[[], Actor[Any]],
        *,
        restart: Restart = Restart.TEMPORARY,
        drain_seconds: float = 5.0,
        start_seconds: float = 20.0,
        backoff: Backoff | None = None,
    ) -> ActorRef[Any]:
        """Start an actor and return its reference once it is ready.

        Raises `CapacityExceeded` when `max_children` are there (nothing is queued), `ActorDead` when the
        supervisor is not running, `ValueError` for an id in use, or what the start raised. Cancelled,
        the child that was starting ends.
        """
        spec = ChildSpec(
            id=id,
            start=start,
            restart=restart,
            drain_seconds=drain_seconds,
            start_seconds=start_seconds,
            backoff=backoff or Backoff(),
        )
        record = await self._supervisor().start_dynamic(spec)
        return ActorRef(self._system, record.path)

    async def stop_child(self, id: str) -> None:  # noqa: A002  the name the spec uses
        """Stop a child as in a shutdown: stop message, drain deadline, cancellation. No-op if it is gone.

        Cancelled, the child has its stop message and leaves once it has handled it, however long that takes.
        """
        supervisor = self._supervisor()
        record = supervisor.children.get(id)
        if record is not None:
            await supervisor.stop_one(record)

    def child(self, id: str) -> ActorRef[Any]:  # noqa: A002  the name the spec uses
        """A reference to the child of that name, which need not exist yet."""
        return ActorRef(self._system, f"{self.path}/{id}")

    def has_child(self, id: str) -> bool:  # noqa: A002  the name the spec uses
        """Whether there is a child of that name, running or about to be started again."""
        record = self._system.find(self.path)
        return record is not None and isinstance(record.life, Supervisor) and id in record.life.children

    @property
    def child_count(self) -> int:
        """How many children there are now; 0 while the supervisor is not running."""
        record = self._system.find(self.path)
        return len(record.life.children) if record is not None and isinstance(record.life, Supervisor) else 0

    def _supervisor(self) -> Supervisor:
        record = self._system.find(self.path)
        if record is None:
            raise ActorDead(self.path, 0, "no such actor")
        life = record.life
        if not isinstance(life, Supervisor) or not isinstance(life.spec, DynamicSpec) or life.exit is not None:
            raise ActorDead(self.path, record.incarnation, record.state.value)
        return life
