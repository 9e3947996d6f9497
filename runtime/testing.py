"""A test kit: trees that stop in order, handlers whose effects are data, probes, and fault injection."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import math
import pathlib
import types
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import attrs
import trio
from attrs import define, field, frozen

from runtime.actor import Actor, Context
from runtime.asking import ReplyPort
from runtime.dead_letters import DeadLetters
from runtime.errors import ActorDead
from runtime.incarnation import current_incarnation
from runtime.messages import Request
from runtime.reference import ActorRef, DynamicRef
from runtime.specs import SupervisorSpec
from runtime.system import ActorSystem
from runtime.timers import Timer

__all__ = [
    "CancelHere",
    "Effects",
    "FaultPlan",
    "Probe",
    "RaiseHere",
    "RecordingRef",
    "Sent",
    "Spawned",
    "StallHere",
    "TimerSet",
    "assert_frozen",
    "assert_no_dead_letters",
    "crash",
    "faulty",
    "run_handler",
    "running",
]

# --- a tree for one test ------------------------------------------------------------------------------


@asynccontextmanager
async def running(
    spec: SupervisorSpec | Callable[[ActorSystem], SupervisorSpec], **system_arguments: Any
) -> AsyncIterator[ActorSystem]:
    """Runs a tree for the duration of a block, and stops it in order at its end.

    ``spec`` may be a function of the system, for a tree whose actors take references.
    ``system_arguments`` are passed to `ActorSystem`; the loop watchdog is off by default. If the tree
    cannot start or gives up, the block is cancelled and the tree's own exception is raised. An exception
    in the block, or a cancellation, also stops the tree in order and then propagates.
    """
    system = ActorSystem(**{"watch_loop": False, **system_arguments})
    ready = trio.Event()
    failures: list[Exception] = []

    async def run(nursery: trio.Nursery) -> None:
        try:
            await system.run(spec if isinstance(spec, SupervisorSpec) else spec(system), task_status=_Ready(ready))
        except Exception as error:  # noqa: BLE001  raised below, without the nursery's group around it
            failures.append(error)
            nursery.cancel_scope.cancel(reason="the tree has failed")
        ready.set()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, nursery)
            await ready.wait()
            await trio.lowlevel.checkpoint_if_cancelled()
            try:
                yield system
            finally:
                system.request_stop("the block is over")
    except BaseExceptionGroup as group:
        if not failures and len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        if not failures:
            raise
    if failures:
        raise failures[0]


@frozen
class _Ready:
    """A task status that sets an event, so that a failed start raises its own exception."""

    event: trio.Event

    def started(self, value: object = None) -> None:
        self.event.set()


def crash(system: ActorSystem, path: str, error: Exception) -> None:
    """Ends the actor or supervisor at ``path`` as if it had raised ``error``. Never waits.

    Raises `UnknownPath`, or `ActorDead` if nothing runs there.
    """
    record = system.record(path)
    if record.life is None:
        raise ActorDead(path, record.incarnation, record.state.value)
    record.life.crash(error)


def assert_no_dead_letters(system: ActorSystem, *, ignoring: Collection[str] = ()) -> None:
    """Fails if a message was lost, late or left over, except for reasons in ``ignoring``."""
    left = [one for one in system.dead_letters.last if one.reason not in ignoring]
    lines = [f"{type(one.message).__name__} for {one.path}: {one.reason}" for one in left]
    assert not left, "dead letters:\n" + "\n".join(lines)


# --- frozen messages ----------------------------------------------------------------------------------

_ATOMS = (
    type(None), bool, int, float, complex, str, bytes, enum.Enum, datetime.date, datetime.time, datetime.timedelta,
    datetime.tzinfo, decimal.Decimal, fractions.Fraction, uuid.UUID, pathlib.PurePath, type, types.FunctionType,
    # Handles, which are made to be passed on; and errors, which do not change after they are raised.
    ActorRef, DynamicRef, ReplyPort, BaseException,
)  # fmt: skip


def assert_frozen(message: object) -> None:
    """Fails if a message, or anything within it, can be modified.

    Frozen attrs classes, tuples, frozen sets and read-only mappings of such, and plain values pass.
    Pass it as ``ActorSystem(message_check=assert_frozen)`` to check every message that a test sends.
    """
    culprit = _mutable_part(message, type(message).__name__)
    assert culprit is None, f"{culprit}: messages are frozen all the way down"


def _mutable_part(value: object, name: str) -> str | None:
    if isinstance(value, _ATOMS):
        return None
    parts: list[tuple[str, object]]
    if isinstance(value, tuple | frozenset):
        parts = [(f"{name}[{index}]", one) for index, one in enumerate(value)]
    elif isinstance(value, types.MappingProxyType):
        parts = [(f"{name}[{key!r}]", one) for key, one in value.items()]
    elif attrs.has(kind := type(value)):
        if not attrs.inspect(kind).is_frozen:
            return f"{name} is a {type(value).__name__}, an attrs class that is not frozen"
        parts = [(f"{name}.{one.name}", getattr(value, one.name)) for one in attrs.fields(kind)]
    else:
        return f"{name} is a {type(value).__name__}"
    return next((culprit for part, one in parts if (culprit := _mutable_part(one, part))), None)


# --- one handler, its effects as data -----------------------------------------------------------------


@frozen
class Sent:
    """A message sent through a `RecordingRef`."""

    path: str
    message: object
    timeout: float | None = None
    """Seconds, for an ask."""


@frozen
class Spawned:
    """A child task that the handler started; it runs only if `run_handler` is called with ``run_spawned``."""

    function: Callable[..., Awaitable[object]]
    args: tuple[Any, ...]
    name: str | None
    is_answer: bool
    """True if its result is the request's answer (`Context.answer_later`)."""
    scope: trio.CancelScope = field(factory=trio.CancelScope, eq=False, repr=False)


@frozen
class TimerSet:
    """A timer that the handler set."""

    seconds: float
    message: object
    is_periodic: bool
    timer: Timer = field(eq=False, repr=False)


@define
class Effects:
    """The effects of one handler call."""

    reply: object = None
    """The answer to a request."""
    error: Exception | None = None
    """The exception it raised: a request's answer, or for any other message the actor's crash."""
    is_deferred: bool = False
    """True if the handler took over the answer and has not given it yet."""
    told: list[Sent] = field(factory=list)
    asked: list[Sent] = field(factory=list)
    spawned: list[Spawned] = field(factory=list)
    timers: list[TimerSet] = field(factory=list)
    monitored: list[str] = field(factory=list)
    """Paths monitored afterwards."""
    linked: list[str] = field(factory=list)
    is_stopping: bool = False
    """True if it requested its own end."""


_effects: ContextVar[Effects | None] = ContextVar("runtime_testing_effects", default=None)


class RecordingRef(ActorRef[Any]):
    """A reference without an actor: it records messages and gives scripted answers."""

    __slots__ = ("answers", "asked", "told")

    def __init__(self, path: str, answers: Mapping[type, object] | None = None) -> None:
        """``answers`` maps request classes to a value, an exception to raise, or a function of the request."""
        self.path = path
        self.answers = dict(answers or {})
        self.told: list[Sent] = []
        self.asked: list[Sent] = []

    async def tell(self, message: Any) -> None:
        """Records the message. A checkpoint."""
        await trio.lowlevel.checkpoint()
        self.tell_nowait(message)

    def tell_nowait(self, message: Any) -> None:
        """Records the message."""
        sent = Sent(self.path, message)
        self.told.append(sent)
        effects = _effects.get()
        if effects is not None:
            effects.told.append(sent)

    async def ask(self, request: Request[Any], *, timeout: float) -> Any:  # noqa: ASYNC109  the real one's signature
        """Records the request and returns the scripted answer; fails without one. A checkpoint."""
        await trio.lowlevel.checkpoint()
        sent = Sent(self.path, request, timeout)
        self.asked.append(sent)
        effects = _effects.get()
        if effects is not None:
            effects.asked.append(sent)
        assert type(request) in self.answers, f"no answer scripted for {type(request).__name__}"
        return _scripted(self.answers[type(request)], request)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def _scripted(answer: object, request: object) -> object:
    if isinstance(answer, BaseException):
        raise answer
    return answer(request) if isinstance(answer, types.FunctionType) else answer


class _RecordingContext(Context):
    """A context that only records."""

    __slots__ = ("_effects", "_path", "port")

    def __init__(self, effects: Effects, path: str) -> None:
        self._effects = effects
        self._path = path
        self.port: ReplyPort | None = None

    @property
    def path(self) -> str:
        return self._path

    @property
    def incarnation(self) -> int:
        return 1

    @property
    def self_ref(self) -> ActorRef[Any]:
        return RecordingRef(self._path)

    def spawn(
        self,
        function: Callable[..., Awaitable[object]],
        *args: Any,
        name: str | None = None,
        answering: ReplyPort | None = None,
    ) -> trio.CancelScope:
        spawned = Spawned(function, args, name, is_answer=False)
        self._effects.spawned.append(spawned)
        return spawned.scope

    def defer(self) -> ReplyPort:
        if self.port is None:
            raise RuntimeError("defer() outside the handler of a request")
        self.port.is_deferred = True
        return self.port

    def answer_later(self, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        self.defer()
        self._effects.spawned.append(Spawned(function, args, None, is_answer=True))

    def after(self, seconds: float, message: object) -> Timer:
        return self._timer(seconds, message, is_periodic=False)

    def every(self, seconds: float, message: object) -> Timer:
        return self._timer(seconds, message, is_periodic=True)

    def _timer(self, seconds: float, message: object, *, is_periodic: bool) -> Timer:
        timer = Timer(trio.current_time() + seconds, seconds if is_periodic else None, lambda: None)
        self._effects.timers.append(TimerSet(seconds, message, is_periodic, timer))
        return timer

    def monitor(self, other: ActorRef[Any]) -> None:
        self._effects.monitored.append(other.path)

    def demonitor(self, other: ActorRef[Any]) -> None:
        if other.path in self._effects.monitored:
            self._effects.monitored.remove(other.path)

    def link(self, other: ActorRef[Any]) -> None:
        self._effects.linked.append(other.path)

    def stop(self) -> None:
        self._effects.is_stopping = True


async def run_handler(actor: Actor[Any], message: object, *, path: str = "actor", run_spawned: bool = False) -> Effects:
    """Runs `Actor.handle` once, without a tree, and returns its effects.

    ``run_spawned`` then runs the child tasks it started, one after the other. Cancellation passes through
    the handler unchanged. The actor can be used again and keeps its state.
    """
    effects = Effects()
    context = _RecordingContext(effects, path)
    actor.context = context
    if isinstance(message, Request):
        context.port = ReplyPort(path, type(message), math.inf, DeadLetters())
    token = _effects.set(effects)
    try:
        value = await actor.handle(message)
        if context.port is not None and not context.port.is_deferred:
            effects.reply = value
        for spawned in effects.spawned if run_spawned else ():
            with spawned.scope:
                result = await spawned.function(*spawned.args)
                if spawned.is_answer and context.port is not None:
                    context.port.reply(result)
        if context.port is not None and context.port.is_deferred:
            effects.is_deferred = context.port.is_open
            if not context.port.is_open:
                effects.reply = await context.port.wait()
    except Exception as error:  # noqa: BLE001  isolation boundary: it is one of the effects
        effects.error = error
    finally:
        _effects.reset(token)
    return effects


# --- a probe ------------------------------------------------------------------------------------------


class Probe:
    """Use ``probe.start`` in a child spec; the actor there collects every message, over all its incarnations."""

    def __init__(self, answers: Mapping[type, object] | None = None) -> None:
        """``answers`` as in `RecordingRef`; a request without one fails."""
        self.received: list[object] = []
        """Every message so far, including those already expected."""
        self.answers = dict(answers or {})
        self._waiting: list[object] = []
        self._arrived = trio.Event()

    def start(self) -> Actor[Any]:
        """The actor's factory."""
        return _ProbeActor(self)

    def note(self, message: object) -> None:
        """Collects a message."""
        self.received.append(message)
        self._waiting.append(message)
        self._arrived.set()
        self._arrived = trio.Event()

    async def expect(self, message_class: type, *, timeout: float = 1.0) -> Any:  # noqa: ASYNC109  a test's own deadline
        """Returns the first message of that class not expected yet; fails after ``timeout`` seconds.

        Messages of other classes stay for later calls. Cancellation takes nothing.
        """
        with trio.move_on_after(timeout):
            while True:
                for index, message in enumerate(self._waiting):
                    if isinstance(message, message_class):
                        await trio.lowlevel.checkpoint()
                        return self._waiting.pop(index)
                await self._arrived.wait()
        names = [type(one).__name__ for one in self._waiting]
        raise AssertionError(f"no {message_class.__name__} within {timeout:g} s; there were {names}")

    async def expect_nothing(self, *, seconds: float = 1.0) -> None:
        """Fails if a message is waiting or arrives within ``seconds``."""
        with trio.move_on_after(seconds):
            while not self._waiting:
                await self._arrived.wait()
        assert not self._waiting, f"expected nothing, got {self._waiting}"


class _ProbeActor(Actor[Any]):
    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    async def handle(self, message: object) -> object:
        self._probe.note(message)
        if isinstance(message, Request):
            return _scripted(self._probe.answers[type(message)], message)
        return None


# --- faults -------------------------------------------------------------------------------------------


@frozen
class RaiseHere:
    """Raises ``error``."""

    error: Exception = field(factory=lambda: RuntimeError("fault on purpose"))


@frozen
class StallHere:
    """Waits, by default until cancelled."""

    seconds: float = math.inf


@frozen
class CancelHere:
    """Cancels the actor that runs the step."""


class FaultPlan:
    """Maps steps to faults; steps are counted from 1, over all incarnations."""

    def __init__(self, faults: Mapping[int, RaiseHere | StallHere | CancelHere]) -> None:
        self.faults = dict(faults)
        self.steps = 0
        """Steps so far."""

    async def step(self) -> None:
        """Runs one step, with the fault planned for it. A checkpoint; cancellation passes through."""
        await trio.lowlevel.checkpoint()
        self.steps += 1
        match self.faults.get(self.steps):
            case RaiseHere(error):
                raise error
            case StallHere(seconds):
                await trio.sleep(seconds)
            case CancelHere():
                life = current_incarnation.get()
                assert life is not None, "only an actor can be cancelled by a fault plan"
                life.scope.cancel(reason="fault plan")
                await trio.lowlevel.checkpoint()
            case None:
                pass


def faulty(factory: Callable[[], Actor[Any]], plan: FaultPlan) -> Callable[[], Actor[Any]]:
    """Wraps a factory so that each handler of its actors begins with a step of ``plan``."""

    def start() -> Actor[Any]:
        actor = factory()
        original = type(actor)

        async def handle(self: Actor[Any], message: Any) -> object:
            await plan.step()
            return await original.handle(self, message)

        # A subclass, so that the actor keeps its type, its slots and its declared messages.
        faulty_class = type(f"Faulty{original.__name__}", (original,), {"__slots__": (), "handle": handle})
        actor.__class__ = faulty_class
        return actor

    return start
