"""Ask: one request, one answer, always a deadline.

A `ReplyPort` is the asker's end of one ask. It parks the asking task directly; a reply reschedules it.
The holder of the port may answer once. After the asker is gone (deadline, cancellation) a reply is late
and becomes a dead letter.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import trio
from outcome import Error, Outcome, Value

if TYPE_CHECKING:
    from runtime.dead_letters import DeadLetters

__all__ = ["ReplyPort", "current_deadline", "request_context"]

current_deadline: ContextVar[float | None] = ContextVar("runtime_current_deadline", default=None)
"""Trio-clock deadline of the request that this task works for; nested asks get at most the remaining time."""

request_context: ContextVar[object | None] = ContextVar("runtime_request_context", default=None)
"""Travels with every ask, so that a handler and its child tasks see the value set by their asker, like OTP's `seq_trace` token.
The runtime never reads it."""


class ReplyPort:
    """Destination of the answer to one request. Created by `ask`; used by handlers that answer later."""

    __slots__ = (
        "_asker",
        "_dead_letters",
        "_outcome",
        "context",
        "deadline",
        "holder",
        "is_deferred",
        "is_open",
        "path",
        "request",
        "scope",
    )

    def __init__(self, path: str, request: type, deadline: float, dead_letters: DeadLetters) -> None:
        self.path = path
        self.request = request
        self.deadline = deadline
        self.context = request_context.get()
        """The asker's `request_context`."""
        self.is_open = True
        """False once answered, or once the asker is gone."""
        self.is_deferred = False
        """True once a handler took the port over with `Context.defer`."""
        self.holder: set[ReplyPort] | None = None
        """The answering actor's deferred ports; it leaves the set once it is closed."""
        self.scope: trio.CancelScope | None = None
        """Scope of the work done for this ask; cancelled with the ask."""
        self._asker: trio.lowlevel.Task | None = None
        self._outcome: Outcome[Any] | None = None
        self._dead_letters = dead_letters

    def reply(self, value: object) -> None:
        """Answers the request. Never waits; a late reply becomes a dead letter."""
        self._settle(Value(value), value)

    def fail(self, error: Exception) -> None:
        """Answers with an exception, raised in the asker. Never waits."""
        self._settle(Error(error), error)

    def abandon(self, *, cancel_work: bool) -> None:
        """Records that the asker has stopped waiting. ``cancel_work`` (its ask was cancelled) stops the work too."""
        self._close()
        if cancel_work and self.scope is not None:
            self.scope.cancel(reason=f"the ask for {self.request.__name__} was cancelled")

    async def wait(self) -> Any:
        """Waits for the answer (the asking task only). Cancellation leaves the port open: call `abandon`."""
        if self._outcome is not None:
            await trio.lowlevel.checkpoint()
            return self._outcome.unwrap()
        self._asker = trio.lowlevel.current_task()

        def abort(_: Callable[[], Any]) -> trio.lowlevel.Abort:
            self._asker = None
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(abort)

    def _settle(self, outcome: Outcome[Any], content: object) -> None:
        if not self.is_open:
            self._dead_letters.add(self.path, content, "late_reply")
            return
        self._close()
        if self._asker is None:
            self._outcome = outcome
        else:
            asker, self._asker = self._asker, None
            trio.lowlevel.reschedule(asker, outcome)

    def _close(self) -> None:
        self.is_open = False
        if self.holder is not None:
            self.holder.discard(self)
