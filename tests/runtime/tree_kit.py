"""Actors and trees that the runtime's tests share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import frozen
from trio.testing import wait_all_tasks_blocked

from runtime import Actor, ActorSystem, ChildSpec, DynamicSpec, MailboxSpec, Request, Strategy, SupervisorSpec, reject
from runtime.testing import crash

Work = Callable[["Worker"], Awaitable[object]]


@frozen
class Do:
    """Told: the worker runs ``work``; what it raises crashes it."""

    work: Work


@frozen
class Call(Request[Any]):
    """Asked: the worker answers with what ``work`` returns or raises."""

    work: Work


@frozen
class Note:
    """Told: the worker writes it down."""

    text: str
    key: str = ""


class Worker(Actor[Do | Call | Note]):
    """Does what messages say, and writes its life into a journal."""

    def __init__(self, journal: list[Any], name: str, on_start: Work | None, mailbox: MailboxSpec) -> None:
        self.journal = journal
        self.name = name
        self.on_start = on_start
        self.mailbox = mailbox

    async def started(self) -> None:
        self.journal.append(f"start {self.name}")
        if self.on_start is not None:
            await self.on_start(self)

    async def handle(self, message: Do | Call | Note) -> object:
        if isinstance(message, Note):
            self.journal.append(message.text)
            return None
        return await message.work(self)

    async def down(self, down: Any) -> None:
        self.journal.append(down)

    async def stopping(self) -> None:
        self.journal.append(f"stop {self.name}")

    def snapshot(self) -> dict[str, object]:
        return {"name": self.name}


class Boom(Exception):
    """The error that the tests' actors raise."""


async def boom(_: object = None) -> None:
    raise Boom("boom")


def child(
    journal: list[Any],
    name: str,
    *,
    on_start: Work | None = None,
    mailbox: MailboxSpec | None = None,
    **spec: Any,
) -> ChildSpec:
    return ChildSpec(id=name, start=lambda: Worker(journal, name, on_start, mailbox or reject(16)), **spec)


def family(journal: list[Any], names: str = "abc", **spec: Any) -> SupervisorSpec:
    return SupervisorSpec(children=tuple(child(journal, name) for name in names), **spec)


def under(name: str, spec: SupervisorSpec, **own: Any) -> SupervisorSpec:
    return SupervisorSpec(children=(ChildSpec(id=name, start=spec),), **own)


def worker(journal: list[Any], name: str = "x", on_start: Any = None) -> Any:
    return lambda: Worker(journal, name, on_start, reject(16))


def dynamic_tree(max_children: int = 3) -> SupervisorSpec:
    return SupervisorSpec(children=(ChildSpec(id="pool", start=DynamicSpec(max_children=max_children)),))


def incarnations(system: ActorSystem, *paths: str) -> list[int]:
    return [system.record(path).incarnation for path in paths]


def states(system: ActorSystem, *paths: str) -> list[str]:
    return [system.record(path).state.value for path in paths]


async def crash_and_settle(system: ActorSystem, path: str, error: Exception | None = None) -> None:
    crash(system, path, error or Boom(path))
    await wait_all_tasks_blocked()


__all__ = [
    "Boom",
    "Call",
    "Do",
    "Note",
    "Strategy",
    "Worker",
    "boom",
    "child",
    "crash_and_settle",
    "dynamic_tree",
    "family",
    "incarnations",
    "states",
    "under",
    "worker",
]
