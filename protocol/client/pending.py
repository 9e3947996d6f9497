"""Commands that wait for their answers, and the rules for resending them on the next connection. No I/O."""

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
"""Limit on waiting commands: without a server they would accumulate in the program's memory."""
MEMORY_SECONDS = 600.0
"""Default for servers that do not announce how long they remember commands."""
MARGIN = 0.9
"""Share of that time within which a command may be resent, since it also has to arrive in time."""


def memory_seconds(welcome: dict[str, Any]) -> float:
    """Time for which a command may be resent under its id, from the server's `welcome`."""
    limits = welcome.get("limits")
    told = limits.get("command_memory_seconds") if isinstance(limits, dict) else None
    return MARGIN * (told if isinstance(told, int | float) and not isinstance(told, bool) else MEMORY_SECONDS)


def can_be_asked(welcome: dict[str, Any]) -> bool:
    """True if this server reports the outcome of a command; such servers announce how long they remember."""
    limits = welcome.get("limits")
    return isinstance(limits, dict) and "command_memory_seconds" in limits


@define(eq=False)
class Pending:
    """A command that waits for its answer."""

    message: dict[str, Any]
    is_resent: bool = True
    on_answer: Callable[[dict[str, Any]], Awaitable[None]] | None = None
    """Called by the reader before it reads anything after the answer."""
    answered: trio.Event = field(factory=trio.Event)
    answer: dict[str, Any] | None = None
    failure: Disconnected | None = None
    """The reason why there will be no answer."""
    first_sent: tuple[float, ClockMarks] | None = None
    """Time by Trio's clock, and the clock marks at that time."""
    times_sent: int = 0

    @property
    def kind(self) -> str:
        """Type of the command."""
        return str(self.message["type"])

    @property
    def may_have_changed_something(self) -> bool:
        """True if it was sent and does not merely read. A command unknown to this client may change anything."""
        known = COMMANDS.get(self.kind)
        if self.first_sent is None:
            return False
        if known is not None and known.needs_operator:
            return True
        return self.is_resent and (known is None or known.writes)

    @property
    def is_not_known(self) -> bool:
        """True if the server was asked for the outcome and could not tell. Any error then refers to the question."""
        return ONLY_IF_KNOWN in self.message and self.answer is not None and self.answer["type"] == "error"

    @property
    def was_put_off(self) -> bool:
        """True if a resent command was answered with a temporary error, which says nothing about its first sending.

        Streaming commands are excluded: sent again, they generate another answer and lose nothing.
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
        """Turns it into a question for its outcome, which is never carried out."""
        self.message = {**self.message, ONLY_IF_KNOWN: True}

    def note_sent(self, now: float, marks: ClockMarks) -> None:
        """Records the first sending, from which on the server may remember it."""
        self.times_sent += 1
        if self.first_sent is None:
            self.first_sent = now, marks

    def may_be_repeated(self, now: float, marks: ClockMarks, memory: float) -> bool:
        """True if the server would still recognise it, had it been carried out. Sleep counts."""
        if not self.may_have_changed_something or self.first_sent is None:
            return True
        sent_at, sent_marks = self.first_sent
        return now - sent_at + slept_seconds(sent_marks, marks) < memory

    def fail(self, cause: Disconnected) -> None:
        """Records that no answer will come."""
        self.failure = self.failure_for(cause)
        self.answered.set()

    def failure_for(self, cause: Disconnected) -> Disconnected:
        """The exception for the caller in place of an answer."""
        if self.may_have_changed_something:
            return OutcomeUnknown(self.kind, str(self.message["id"]), cause)
        return cause


class PendingCommands:
    """Pending commands by id, at most `PENDING_COMMANDS`."""

    def __init__(self) -> None:
        self._by_id: dict[str, Pending] = {}

    def add(self, pending: Pending) -> None:
        """Adds a command. Raises `CommandFailed` if too many wait; nothing was sent then."""
        if len(self._by_id) >= PENDING_COMMANDS:
            message = f"{PENDING_COMMANDS} commands of this program are waiting for their answers; nothing was sent"
            raise CommandFailed({"code": ErrorCode.OVERLOADED.value, "message": message, "temporary": True})
        self._by_id[pending.message["id"]] = pending

    def remove(self, pending: Pending) -> None:
        """Removes a finished command."""
        self._by_id.pop(pending.message["id"], None)

    def forget_those_of_one_connection(self) -> None:
        """Fails commands that belong to the ended connection alone, since the next one starts with its own."""
        for one in self:
            if not one.is_resent:
                self.remove(one)
                one.fail(Disconnected(None, "the connection ended before the answer came"))

    def get(self, command_id: object) -> Pending | None:
        """The pending command with this id, or None."""
        return self._by_id.get(command_id) if isinstance(command_id, str) else None

    def __iter__(self) -> Iterator[Pending]:
        return iter(list(self._by_id.values()))
