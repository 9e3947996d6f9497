"""References: how an actor is named by those who write to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from runtime.asking import ReplyPort, current_deadline
from runtime.errors import ActorDead, AskCycle, AskDeadline, WrongMessage
from runtime.incarnation import ActorIncarnation, current_incarnation
from runtime.mailbox import Overflow
from runtime.messages import Request

if TYPE_CHECKING:
    from runtime.child_record import ChildRecord
    from runtime.system import ActorSystem

__all__ = ["ActorRef"]

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
        """Send without waiting for an answer; waits for room only where the mailbox's policy is `block`.

        A message to an actor that is not running becomes a dead letter. Raises `MailboxFull` (policy
        `reject`) or `WrongMessage`. Cancelled while waiting for room, the message is withdrawn.
        """
        life = self._receiving(message, None)
        if life is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            await life.mailbox.put(message, None)
        except ActorDead:
            # It ended while we waited for room; closing the mailbox made the dead letter.
            return

    def tell_nowait(self, message: Message_contra) -> None:
        """`tell` for synchronous code: raises `MailboxFull` where `tell` would wait."""
        life = self._receiving(message, None)
        if life is not None:
            life.mailbox.put_nowait(message, None)

    async def ask(self, request: Request[Reply], *, timeout: float) -> Reply:  # noqa: ASYNC109  the deadline also travels to nested asks
        """Send a request and wait for its answer, at most ``timeout`` seconds.

        Inside the handling of another request the deadline is what remains of that one, if less. Raises
        `ActorDead` at once when the actor is not running or ends (with `has_begun` where it was handling the request:
        then the outcome is unknown), `AskDeadline`, `AskCycle`, `MailboxFull`, `HandlerFailed`, or the handler's own
        `Refused`. Cancelling an ask cancels the work it asked for; a deadline does not: then the outcome is unknown
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
        # Only asks awaited by a handler itself can deadlock; child tasks of an actor may wait as they like.
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
        """True while an incarnation is there to receive."""
        life = self.current_incarnation()
        return life is not None and life.mailbox.closed is None

    def _resolve(self) -> ChildRecord | None:
        record = self._record
        if record is None or record.supervisor is None:
            record = self._record = self._system.find(self.path)
        return record

    def _receiving(self, message: object, port: ReplyPort | None) -> ActorIncarnation | None:
        """Check the message and find its receiver; records a dead letter where there is none."""
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
