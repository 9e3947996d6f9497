"""References: `ActorRef` sends messages to an actor, `DynamicRef` starts and stops the children of a dynamic supervisor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from runtime.asking import ReplyPort, current_deadline
from runtime.errors import ActorDead, AskCycle, AskDeadline, WrongMessage
from runtime.incarnation import ActorIncarnation, current_incarnation
from runtime.mailbox import Overflow
from runtime.messages import Request
from runtime.restart_policy import Backoff
from runtime.specs import ChildSpec, DynamicSpec, Restart
from runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from runtime.actor import Actor
    from runtime.child_record import ChildRecord
    from runtime.system import ActorSystem


__all__ = ["ActorRef", "DynamicRef"]

Message_contra = TypeVar("Message_contra", contravariant=True)
Reply = TypeVar("Reply")


class ActorRef(Generic[Message_contra]):
    """Names a path in the tree. Valid before the actor starts and across its restarts."""

    __slots__ = ("_record", "_system", "path")

    def __init__(self, system: ActorSystem, path: str) -> None:
        self._system = system
        self._record: ChildRecord | None = None
        self.path = path
        """Names from the root, joined by `/`."""

    async def tell(self, message: Message_contra) -> None:
        """Sends without waiting for an answer; waits for space only if the mailbox's policy is `block`.

        A message to an actor that is not running becomes a dead letter. Raises `MailboxFull` (policy
        `reject`) or `WrongMessage`. Cancellation while waiting withdraws the message.
        """
        life = self._receiving(message, None)
        if life is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            await life.mailbox.put(message, None)
        except ActorDead:
            # It ended while this task waited for space; closing the mailbox recorded the dead letter.
            return

    def tell_nowait(self, message: Message_contra) -> None:
        """`tell` for synchronous code: raises `MailboxFull` where `tell` would wait."""
        life = self._receiving(message, None)
        if life is not None:
            life.mailbox.put_nowait(message, None)

    async def ask(self, request: Request[Reply], *, timeout: float) -> Reply:  # noqa: ASYNC109  the deadline also travels to nested asks
        """Sends a request and waits for its answer, at most ``timeout`` seconds.

        Within the handling of another request the deadline is that request's remaining time, if less. Raises
        `ActorDead` at once if the actor is not running or ends (with `has_begun` if it was handling the request:
        the outcome is then unknown), `AskDeadline`, `AskCycle`, `MailboxFull`, `HandlerFailed`, or the handler's own
        `Refused`. Cancelling an ask cancels its work; a deadline does not: the outcome is then unknown
        too, and a late reply becomes a dead letter.
        """
        inherited = current_deadline.get()
        deadline = trio.current_time() + timeout
        if inherited is not None and inherited < deadline:
            deadline = inherited
        port = ReplyPort(self.path, type(request), deadline, self._system.dead_letters)
        life = self._receiving(request, port)
        if life is None:
            raise self._dead()
        asker = current_incarnation.get()
        # Only asks awaited by a handler itself can deadlock; an actor's child tasks may wait freely.
        if asker is not None and asker.task is trio.lowlevel.current_task():
            self._refuse_cycle(asker, life, type(request))
            asker.awaiting = life
        else:
            asker = None
        try:
            with trio.CancelScope(deadline=deadline) as scope:
                if life.mailbox.spec.overflow is Overflow.BLOCK:
                    await life.mailbox.put(request, port)
                else:
                    life.mailbox.put_nowait(request, port)
                reply: Reply = await port.wait()
                return reply
        except trio.Cancelled:
            port.abandon(cancel_work=True)
            raise
        finally:
            if asker is not None:
                asker.awaiting = None
        assert scope.cancelled_caught
        port.abandon(cancel_work=False)
        raise AskDeadline(self.path, type(request), timeout)

    def current_incarnation(self) -> ActorIncarnation | None:
        """The running incarnation, for the runtime's own use."""
        record = self._resolve()
        life = None if record is None else record.life
        return life if isinstance(life, ActorIncarnation) and life.exit is None else None

    def living_incarnation(self) -> ActorIncarnation:
        """The running incarnation, or `ActorDead`."""
        life = self.current_incarnation()
        if life is None:
            raise self._dead()
        return life

    @property
    def incarnation(self) -> int:
        """Number of the current or last incarnation; 0 before the first."""
        record = self._resolve()
        return 0 if record is None else record.incarnation

    @property
    def is_running(self) -> bool:
        """True if an incarnation is there to receive."""
        life = self.current_incarnation()
        return life is not None and life.mailbox.closed is None

    def _resolve(self) -> ChildRecord | None:
        record = self._record
        if record is None or record.supervisor is None:
            record = self._record = self._system.find(self.path)
        return record

    def _receiving(self, message: object, port: ReplyPort | None) -> ActorIncarnation | None:
        """Checks the message and finds its receiver; without one, records a dead letter."""
        record = self._resolve()
        life = None if record is None else record.life
        if not isinstance(life, ActorIncarnation) or life.mailbox.closed is not None:
            if port is None:
                self._system.dead_letters.add(self.path, message, "not_running")
            return None
        accepts = life.accepts
        if accepts and type(message) not in accepts and not isinstance(message, accepts):
            raise WrongMessage(self.path, type(message), accepts)
        system = self._system
        if system.message_check is not None:
            system.message_check(message)
        if system.trace_sessions:
            system.trace(life.record, message, port is not None)
        return life

    def _dead(self) -> ActorDead:
        record = self._resolve()
        if record is None:
            return ActorDead(self.path, 0, "no such actor")
        if isinstance(record.life, ActorIncarnation) and record.life.mailbox.closed is not None:
            return record.life.mailbox.closed.again()
        return ActorDead(self.path, record.incarnation, record.state.value)

    def _refuse_cycle(self, asker: ActorIncarnation, target: ActorIncarnation, request: type) -> None:
        chain = [asker.record.path]
        link: ActorIncarnation | None = target
        while link is not None:
            chain.append(link.record.path)
            if link is asker:
                raise AskCycle(self.path, request, tuple(chain))
            link = link.awaiting

    def __repr__(self) -> str:
        return f"<ActorRef {self.path}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorRef) and other.path == self.path and other._system is self._system

    def __hash__(self) -> int:
        return hash((self.path, id(self._system)))


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
        """Starts an actor and returns its reference once it is ready.

        Raises `CapacityExceeded` if there are already `max_children` (nothing is queued), `ActorDead` if the
        supervisor is not running, `ValueError` for an id in use, or the exception of the start. Cancellation
        ends the child that was starting.
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
        """Stops a child as in a shutdown: stop message, drain deadline, cancellation. No-op if it is gone.

        After cancellation the child still receives its stop message and ends once it has handled it, however long that takes.
        """
        supervisor = self._supervisor()
        record = supervisor.children.get(id)
        if record is not None:
            await supervisor.stop_one(record)

    def child(self, id: str) -> ActorRef[Any]:  # noqa: A002  the name the spec uses
        """A reference to the child with that id, which need not exist yet."""
        return ActorRef(self._system, f"{self.path}/{id}")

    def has_child(self, id: str) -> bool:  # noqa: A002  the name the spec uses
        """True if there is a child with that id, running or about to be restarted."""
        record = self._system.find(self.path)
        return record is not None and isinstance(record.life, Supervisor) and id in record.life.children

    @property
    def child_count(self) -> int:
        """The current number of children; 0 while the supervisor is not running."""
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
