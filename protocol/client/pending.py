"""Commands that wait for their answers, and what becomes of them on the next connection: pure rules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import trio
from attrs import define, field

from protocol.client.errors import CommandFailed, Disconnected, OutcomeUnknown
from protocol.client.sleeping import ClockMarks, slept_seconds
from protocol.command_type import ONLY_IF_KNOWN
from protocol.commands import COMMANDS
from protocol.errors import ErrorCode

__all__ = ["PENDING_COMMANDS", "Pending", "PendingCommands", "can_be_asked", "memory_seconds"]

PENDING_COMMANDS = 1024
"""More at a time are refused here: without a server they would wait in this program's memory."""
MEMORY_SECONDS = 600.0
"""For a server that does not say how long it remembers commands."""
MARGIN = 0.9
"""Of that time, what a command may take to be repeated in: it has to arrive in time, too."""


def memory_seconds(welcome: dict[str, Any]) -> float:
    """For how long a command may be sent again under its id, as the server's `welcome` says."""
    limits = welcome.get("limits")
    told = limits.get("command_memory_seconds") if isinstance(limits, dict) else None
    return MARGIN * (told if isinstance(told, int | float) and not isinstance(told, bool) else MEMORY_SECONDS)


def can_be_asked(welcome: dict[str, Any]) -> bool:
    """Whether this server answers what became of a command; one that does says for how long it remembers."""
    limits = welcome.get("limits")
    return isinstance(limits, dict) and "command_memory_seconds" in limits


@define(eq=False)
class Pending:
    """A command that waits for its answer."""

    message: dict[str, Any]
    is_resent: bool = True
    on_answer: Callable[[dict[str, Any]], Awaitable[None]] | None = None
    """Called by the reader before anything that comes after the answer is read."""
    answered: trio.Event = field(factory=trio.Event)
    answer: dict[str, Any] | None = None
    failure: Disconnected | None = None
    """Why there will be none."""
    first_sent: tuple[float, ClockMarks] | None = None
    """When by Trio's clock, and the marks of then."""
    times_sent: int = 0

    @property
    def kind(self) -> str:
        """Its type."""
        return str(self.message["type"])

    @property
    def may_have_changed_something(self) -> bool:
        """It was sent, and is none of those that only read. What this client does not know may change anything."""
        known = COMMANDS.get(self.kind)
        if self.first_sent is None:
            return False
        if known is not None and known.needs_operator:
            return True
        return self.is_resent and (known is None or known.writes)

    @property
    def is_not_known(self) -> bool:
        """The server was asked what became of it, and could not tell. Whatever an error says: it is of the asking."""
        return ONLY_IF_KNOWN in self.message and self.answer is not None and self.answer["type"] == "error"

    @property
    def was_put_off(self) -> bool:
        """Sent again, it was answered with a temporary error: that is true of this sending alone, not of the first.

        A stream's command stays as answered: asked again, it has another answer made, and loses nothing.
        """
        return (
            self.times_sent > 1
            and self.may_have_changed_something
            and self.on_answer is None
            and self.answer is not None
            and self.answer["type"] == "error"
            and self.answer["data"].get("temporary") is True
        )

    def ask_what_became_of_it(self) -> None:
        """From now on it is not carried out any more; a server that remembers it answers as it did."""
        self.message = {**self.message, ONLY_IF_KNOWN: True}

    def note_sent(self, now: float, marks: ClockMarks) -> None:
        """From its first sending on the server may remember it."""
        self.times_sent += 1
        if self.first_sent is None:
            self.first_sent = now, marks

    def may_be_repeated(self, now: float, marks: ClockMarks, memory: float) -> bool:
        """Whether the server will know it again, should it have been carried out. Sleep counts here."""
        if not self.may_have_changed_something or self.first_sent is None:
            return True
        sent_at, sent_marks = self.first_sent
        return now - sent_at + slept_seconds(sent_marks, marks) < memory

    def fail(self, cause: Disconnected) -> None:
        """No answer will come."""
        self.failure = self.failure_for(cause)
        self.answered.set()

    def failure_for(self, cause: Disconnected) -> Disconnected:
        """What the program is told in place of an answer."""
        if self.may_have_changed_something:
            return OutcomeUnknown(self.kind, str(self.message["id"]), cause)
        return cause


class PendingCommands:
    """All of them by their ids, at most `PENDING_COMMANDS`."""

    def __init__(self) -> None:
        self._by_id: dict[str, Pending] = {}

    def add(self, pending: Pending) -> None:
        """Raises `CommandFailed` where too many wait; nothing was sent then."""
        if len(self._by_id) >= PENDING_COMMANDS:
            message = f"{PENDING_COMMANDS} commands of this program wait for their answers; nothing was sent"
            raise CommandFailed({"code": ErrorCode.OVERLOADED.value, "message": message, "temporary": True})
        self._by_id[pending.message["id"]] = pending

    def remove(self, pending: Pending) -> None:
        """It is over."""
        self._by_id.pop(pending.message["id"], None)

    def forget_those_of_one_connection(self) -> None:
        """It ended, and the next begins with its own. Who waits for one of these learns that no answer will come."""
        for one in self:
            if not one.is_resent:
                self.remove(one)
                one.fail(Disconnected(None, "the connection ended before the answer came"))

    def get(self, command_id: object) -> Pending | None:
        """None where nobody waits for it."""
        return self._by_id.get(command_id) if isinstance(command_id, str) else None

    def __iter__(self) -> Iterator[Pending]:
        return iter(list(self._by_id.values()))
