"""The interface for authors of actors: `Actor` and its `Context`."""

from __future__ import annotations

import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

import trio

from runtime.asking import ReplyPort
from runtime.errors import Refused
from runtime.incarnation import ActorIncarnation
from runtime.mailbox import MailboxSpec, reject
from runtime.messages import Down, DownReason
from runtime.reference import ActorRef
from runtime.timers import Timer

__all__ = ["Actor", "Context"]

Message = TypeVar("Message")


class Actor(Generic[Message]):
    """Handles one message at a time. Subclass it as ``class Echo(Actor[Ping | Pong])``.

    The type argument declares the accepted message classes, for the type checker and at run time.
    Each incarnation gets a fresh object, so `__init__` sets up its initial state.
    """

    __slots__ = ("context",)

    mailbox: ClassVar[MailboxSpec] = reject(64)
    """Capacity and overflow policy."""

    _accepted_classes: ClassVar[tuple[type, ...]] = ()

    context: Context
    """Exists from construction on, so that it can be passed to the actor's parts; usable from `started` on."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        actor = super().__new__(cls)
        actor.context = Context()
        return actor

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for base in types.get_original_bases(cls) if hasattr(types, "get_original_bases") else _original_bases(cls):
            origin = typing.get_origin(base)
            if isinstance(origin, type) and issubclass(origin, Actor):
                cls._accepted_classes = _classes(typing.get_args(base)[0])

    @classmethod
    def accepted_messages(cls) -> tuple[type, ...]:
        """The message classes it declares; empty accepts any (for test actors only)."""
        return cls._accepted_classes

    async def started(self) -> None:
        """Prepares the actor. The next sibling starts when this returns; an exception is a failed start.

        Cancelled at the start deadline, and immediately if the supervisor has to stop meanwhile.
        """

    async def handle(self, message: Message) -> object:
        """Handles one message; for a `Request` the returned value is the answer.

        An exception while handling a request is raised in the asker (`Refused` unchanged, anything else as
        `HandlerFailed`); while handling any other message it crashes the actor. Cancelled when the ask that it
        answers is cancelled, or when the actor must end: change state only after the last await.
        """
        raise NotImplementedError

    async def draining(self) -> None:
        """Runs when the whole system is about to stop, as a child task while messages are still handled.

        The drain ends when every actor's `draining` has returned. It is cancelled at the drain deadline, or when the
        actor ends.
        """

    async def stopping(self) -> None:
        """Cleans up. Runs after the last message; cancelled at the child's drain deadline."""

    async def down(self, down: Down) -> None:
        """Called when a monitored actor has ended. Cancelled like `handle`; an exception crashes this actor."""

    def snapshot(self) -> Mapping[str, object]:
        """The part of its state that operators may see: JSON values, without secrets or user text."""
        return {}


def _original_bases(cls: type) -> tuple[Any, ...]:
    bases: tuple[Any, ...] = cls.__dict__.get("__orig_bases__", cls.__bases__)
    return bases


def _classes(argument: Any) -> tuple[type, ...]:
    """The classes of a message union; a type variable or `Any` accepts all."""
    if isinstance(argument, types.UnionType) or typing.get_origin(argument) is typing.Union:
        return tuple(one for part in typing.get_args(argument) for one in _classes(part))
    origin = typing.get_origin(argument)
    if isinstance(origin, type):
        return (origin,)
    if argument is Any:  # a class since Python 3.11, but not one for isinstance()
        return ()
    return (argument,) if isinstance(argument, type) else ()


class Context:
    """An actor's own view of the runtime. Only the actor and its child tasks use it."""

    __slots__ = ("_life",)

    _life: ActorIncarnation

    def bind(self, life: ActorIncarnation) -> None:
        """Binds this view to an incarnation. For the runtime only."""
        self._life = life

    @property
    def path(self) -> str:
        """The actor's path in the tree."""
        return self._life.record.path

    @property
    def incarnation(self) -> int:
        """Number of this incarnation: 1 for the first start, one more for each restart."""
        return self._life.record.incarnation

    @property
    def self_ref(self) -> ActorRef[Any]:
        """This actor's own reference, valid across restarts."""
        return ActorRef(self._life.system, self.path)

    def spawn(
        self,
        function: Callable[..., Awaitable[object]],
        *args: Any,
        name: str | None = None,
        answering: ReplyPort | None = None,
    ) -> trio.CancelScope:
        """Starts a child task. It is cancelled when the actor ends, and its exception crashes the actor.

        With ``answering`` it works for that ask: it inherits the ask's deadline and is cancelled with it. Returns
        the task's cancel scope.
        """
        return self._life.spawn(function, args, name=name, port=answering)

    def defer(self) -> ReplyPort:
        """Takes over the answer to the request being handled: the handler's return value is not sent.

        If the actor ends before the port is answered, the asker gets `ActorDead` with `has_begun`.
        """
        port = self._life.port
        if port is None:
            raise RuntimeError("defer() outside the handler of a request")
        port.is_deferred = True
        if self._life.deferred is None:
            self._life.deferred = set()
        port.holder = self._life.deferred
        port.holder.add(port)
        return port

    def answer_later(self, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Makes a child task compute the answer to the request being handled.

        Its return value or exception goes to the asker as the handler's would; the actor handles its next
        message meanwhile.
        """
        port = self.defer()
        life = self._life

        async def answer() -> None:
            try:
                port.reply(await function(*args))
            except Refused as refusal:
                port.fail(refusal)
            except Exception as error:  # noqa: BLE001  isolation boundary: a request's exception is its asker's answer
                life.report_handler_failure(port, error)

        self.spawn(answer, name=getattr(function, "__name__", None), answering=port)

    def after(self, seconds: float, message: object) -> Timer:
        """Sends ``message`` to this incarnation in ``seconds``. The timer ends with the incarnation."""
        return self._life.add_timer(seconds, message, every=False)

    def every(self, seconds: float, message: object) -> Timer:
        """Sends ``message`` to this incarnation every ``seconds``."""
        return self._life.add_timer(seconds, message, every=True)

    def monitor(self, other: ActorRef[Any]) -> None:
        """Delivers exactly one `Down` (through `Actor.down`) when that actor's current incarnation ends.

        If it is not running the `Down` comes at once. The monitor is removed when this actor ends.
        """
        life = other.current_incarnation()
        if life is None:
            self._life.mailbox.put_system(Down(other.path, other.incarnation, DownReason.DEAD))
        else:
            self._life.watch(life)

    def demonitor(self, other: ActorRef[Any]) -> None:
        """Undoes `monitor`; a `Down` already queued is still delivered."""
        life = other.current_incarnation()
        if life is not None:
            self._life.unwatch(life)

    def link(self, other: ActorRef[Any]) -> None:
        """Shares failure: when either actor crashes, the other crashes with `LinkedActorFailed`.

        An end without a crash removes the link and has no effect on the other. Raises `ActorDead` if it is not running.
        """
        self._life.link(other.living_incarnation())

    def note_problem(self, problem: str | None) -> None:
        """Reports, in readiness, a function that this actor cannot perform while the rest works; None clears it."""
        self._life.record.problem = problem

    def stop(self) -> None:
        """Ends this actor after the current message; a permanent one is then restarted."""
        self._life.stop_self()
