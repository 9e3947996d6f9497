"""The runtime's errors, and whose fault each one is.

::

    RuntimeFault
    ├─ SendFault                 a message could not be delivered
    │  ├─ ActorDead              the receiver is gone, restarting or was stopped (receiver's); `has_begun` tells
    │  │                         if it was handling the request, so that the work may have been done
    │  ├─ MailboxFull            the receiver's mailbox is full and its policy is to reject (receiver's)
    │  └─ WrongMessage           the receiver does not declare this message class (sender's, a bug)
    ├─ AskFault                  an ask ended without an answer
    │  ├─ AskDeadline            no answer in time; whether the work was done is unknown (receiver's)
    │  ├─ AskCycle               the ask would wait for itself (sender's, a bug)
    │  └─ HandlerFailed          the handler raised; the cause is attached (receiver's, a bug)
    └─ SupervisionFault
       ├─ StartDeadlineExceeded  `started` took longer than the child's spec allows (child's)
       ├─ RestartIntensityExceeded  too many restarts in the window; carries the causes (children's)
       ├─ CapacityExceeded       a dynamic supervisor already has `max_children` (caller's)
       ├─ LinkedActorFailed      an actor linked to this one crashed (the other's)
       ├─ ChildStuck             a child outlived cancellation (child's)
       ├─ UnknownPath           the tree has no actor of that path (caller's)
       └─ UnsafeIntensity        a tree's restart intensities multiply past the bound (author's)

    Refused                      base of an application's own rejections: a handler that raises one
                                 answers its asker with it; it is an answer, not a failure
"""

from __future__ import annotations

__all__ = [
    "ActorDead",
    "AskCycle",
    "AskDeadline",
    "AskFault",
    "CapacityExceeded",
    "ChildStuck",
    "HandlerFailed",
    "LinkedActorFailed",
    "MailboxFull",
    "Refused",
    "RestartIntensityExceeded",
    "RuntimeFault",
    "SendFault",
    "StartDeadlineExceeded",
    "SupervisionFault",
    "UnknownPath",
    "UnsafeIntensity",
    "WrongMessage",
]


class Refused(Exception):
    """Base class of the application's own rejections, which reach the asker unchanged."""


class RuntimeFault(Exception):
    """Base class of all errors raised by the runtime itself."""


class SendFault(RuntimeFault):
    """A message could not be delivered to ``path``."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


class ActorDead(SendFault):
    """The receiver is not running: it crashed, was stopped, or is between two incarnations."""

    def __init__(self, path: str, incarnation: int, reason: str, *, has_begun: bool = False) -> None:
        what = "ended while it handled this request" if has_begun else "is not running"
        super().__init__(path, f"actor {path} (incarnation {incarnation}) {what}: {reason}")
        self.incarnation = incarnation
        self.reason = reason
        self.has_begun = has_begun
        """True if the request had been taken out of the mailbox, so that its work may have been done."""

    def again(self, *, has_begun: bool = False) -> ActorDead:
        """Creates an equal error for another sender: tasks that share one instance would mix their tracebacks."""
        return ActorDead(self.path, self.incarnation, self.reason, has_begun=has_begun)


class MailboxFull(SendFault):
    """The receiver's mailbox holds ``capacity`` messages and its policy is to reject."""

    def __init__(self, path: str, capacity: int) -> None:
        super().__init__(path, f"mailbox of {path} is full ({capacity} messages)")
        self.capacity = capacity


class WrongMessage(SendFault, TypeError):
    """The receiver does not accept this message class. A bug in the sender."""

    def __init__(self, path: str, got: type, accepted: tuple[type, ...]) -> None:
        names = ", ".join(sorted(one.__name__ for one in accepted))
        super().__init__(path, f"{path} does not accept {got.__name__}; it accepts {names}")
        self.got = got
        self.accepted = accepted


class AskFault(RuntimeFault):
    """An ask to ``path`` ended without an answer."""

    def __init__(self, path: str, request: type, message: str) -> None:
        super().__init__(message)
        self.path = path
        self.request = request


class AskDeadline(AskFault):
    """No answer within ``seconds``. The work may or may not have been done."""

    def __init__(self, path: str, request: type, seconds: float) -> None:
        super().__init__(path, request, f"{path} did not answer {request.__name__} within {seconds:g} s")
        self.seconds = seconds


class AskCycle(AskFault):
    """Handlers would wait for one another indefinitely; ``cycle`` lists their paths in order."""

    def __init__(self, path: str, request: type, cycle: tuple[str, ...]) -> None:
        super().__init__(path, request, f"ask cycle: {' → '.join(cycle)}")
        self.cycle = cycle


class HandlerFailed(AskFault):
    """The handler of the request raised; the exception is ``__cause__``. The actor keeps running."""

    def __init__(self, path: str, request: type, error: BaseException) -> None:
        super().__init__(path, request, f"{path} failed to handle {request.__name__}: {type(error).__name__}: {error}")
        self.__cause__ = error


class SupervisionFault(RuntimeFault):
    """A problem at ``path`` that supervision could not resolve."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


class StartDeadlineExceeded(SupervisionFault):
    """The child did not acknowledge its start within ``seconds``."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__(path, f"{path} was not started within {seconds:g} s")
        self.seconds = seconds


class RestartIntensityExceeded(SupervisionFault):
    """More than ``intensity`` restarts in ``period_seconds``; ``causes`` groups the children's exceptions."""

    def __init__(self, path: str, intensity: int, period_seconds: float, causes: ExceptionGroup[Exception]) -> None:
        super().__init__(path, f"supervisor {path}: more than {intensity} restarts in {period_seconds:g} s")
        self.intensity = intensity
        self.period_seconds = period_seconds
        self.causes = causes
        self.__cause__ = causes


class CapacityExceeded(SupervisionFault):
    """The dynamic supervisor already has ``max_children`` children; nothing was started."""

    def __init__(self, path: str, max_children: int) -> None:
        super().__init__(path, f"{path} already has {max_children} children")
        self.max_children = max_children


class LinkedActorFailed(SupervisionFault):
    """The actor at ``path`` crashed, and this one is linked to it; its error is ``__cause__``."""

    def __init__(self, path: str, error: BaseException | None) -> None:
        super().__init__(path, f"linked actor {path} failed: {error!r}")
        self.__cause__ = error


class ChildStuck(SupervisionFault):
    """The child still runs after cancellation; ``stack`` is its await stack."""

    def __init__(self, path: str, stack: tuple[str, ...]) -> None:
        where = f" at {stack[-1]}" if stack else ""
        super().__init__(path, f"{path} is STUCK{where}")
        self.stack = stack


class UnknownPath(SupervisionFault):
    """No supervisor or actor has this path."""

    def __init__(self, path: str) -> None:
        super().__init__(path, f"nothing in the tree is called {path!r}")


class UnsafeIntensity(SupervisionFault):
    """Restart intensities multiply by level; this tree could restart ``product`` times before it gives up."""

    def __init__(self, path: str, product: int, bound: int) -> None:
        super().__init__(path, f"restart intensities down to {path} multiply to {product}, over the bound of {bound}")
        self.product = product
        self.bound = bound
