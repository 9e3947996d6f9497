"""Random trees under random faults, on a mock clock and a seeded scheduler: I5.

Each example builds a tree, does a list of things to it (crashes, stalls, stops, restarts, asks, ...) and
stops it; meanwhile and afterwards the invariants of the runtime are checked from the outside.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from random import Random
from typing import Any

import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from runtime import (
    ActorSystem,
    Backoff,
    ChildEnded,
    ChildRestarting,
    ChildSpec,
    ChildStarted,
    DynamicSpec,
    MailboxSpec,
    Restart,
    RestartIntensityExceeded,
    RuntimeFault,
    Strategy,
    StuckReport,
    SupervisorSpec,
    block,
    conflate,
    drop_newest,
    drop_oldest,
    reject,
)
from runtime.child_record import State
from runtime.inspection import readiness, restart, suspend, tree
from runtime.testing import crash
from tests.runtime.tree_kit import Boom, Call, Do, Note, Worker, boom

MAILBOXES = (block(2), reject(2), drop_oldest(2), drop_newest(2), conflate(2, key=type))
SHIELDED_SECONDS = 4.0
EXAMPLES = 800


@define
class World:
    """Observations of one example."""

    spec: SupervisorSpec | None = None
    workers: list[Worker] = field(factory=list)
    events: list[tuple[float, Any]] = field(factory=list)
    live: Counter[str] = field(factory=Counter)
    asks: list[list[object]] = field(factory=list)
    windows: dict[Any, list[float]] = field(factory=lambda: defaultdict(list))
    new_names: int = 0


class Tracked(Worker):
    """A worker that is counted while it lives."""

    def __init__(self, world: World, mailbox: MailboxSpec, starts_badly: bool) -> None:
        super().__init__([], "", None, mailbox)
        self.world = world
        self.starts_badly = starts_badly
        world.workers.append(self)

    async def started(self) -> None:
        if self.starts_badly and self.context.incarnation % 3 == 2:
            await trio.sleep(1)
            raise Boom("bad start")


def random_tree(world: World, random: Random, depth: int = 2) -> SupervisorSpec:
    children = []
    for number in range(random.randint(1, 4)):
        kind = random.choice(["actor", "actor", "supervisor", "pool"] if depth else ["actor"])
        mailbox, bad = random.choice(MAILBOXES), random.random() < 0.15
        start: Any = lambda mailbox=mailbox, bad=bad: Tracked(world, mailbox, bad)  # noqa: E731
        if kind == "supervisor":
            start = random_tree(world, random, depth - 1)
        elif kind == "pool":
            start = DynamicSpec(max_children=3, intensity=random.choice([1, 3]))
        children.append(
            ChildSpec(
                id=f"c{number}",
                start=start,
                restart=random.choice(list(Restart)) if kind == "actor" else Restart.PERMANENT,
                drain_seconds=1,
                cancel_seconds=1,
                backoff=Backoff(base_seconds=0.5, jitter=0.1),
            )
        )
    return SupervisorSpec(
        children=children,
        strategy=random.choice(list(Strategy)),
        # The root mostly lives on, so that the rest of the steps is not in vain.
        intensity=random.choice([8, 8, 0] if depth == 2 else [0, 1, 3, 8]),
        period_seconds=5,
    )


ACTIONS = (
    "crash", "crash", "stall", "shield", "stop", "restart", "ask", "ask", "cancelled_ask", "tell", "raise",
    "spawn", "suspend", "resume", "link", "monitor", "start_child", "stop_child", "sleep", "look",
)  # fmt: skip


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(st.integers(0, 2**64))
def test_i5_invariants_hold_over_random_trees_and_faults(seed: int) -> None:
    """The seed alone decides the example: examples drawn piece by piece come out far smaller."""
    random, world = Random(seed), World()
    world.spec = random_tree(world, random)
    trio.run(live_through, world, random, clock=MockClock(autojump_threshold=0))


async def live_through(world: World, random: Random) -> None:
    steps = [
        (random.choice(ACTIONS), random.randrange(10_000), random.choice([0.0, 0.3, random.uniform(0, 3)]))
        for _ in range(random.randint(0, 60))
    ]
    settle = random.random() < 0.5
    assert world.spec is not None
    system = ActorSystem(watch_loop=False, drain_seconds=1)
    system.observers.append(lambda event: observe(world, system, event))
    began = None
    ended: list[BaseException | None] = []
    is_over = trio.Event()

    async def run(task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        try:
            await system.run(world.spec, task_status=task_status)  # type: ignore[arg-type]
        except (RestartIntensityExceeded, Boom) as error:
            ended.append(error)
        else:
            ended.append(None)
        is_over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        for action, number, seconds in steps:
            if random.random() < 0.7:
                await wait_all_tasks_blocked()
            if ended:
                break
            await act(world, system, nursery, action, number, seconds)
        if settle:
            await trio.sleep(200)
        began = trio.current_time()
        order_from = len(world.events)
        system.request_stop("the example is over")
        # The clock jumps over this at once when nothing else can ever happen.
        with trio.move_on_after(10_000):
            await is_over.wait()
        if not ended:
            report = "\n".join([system.stuck_report(), *task_names(trio.lowlevel.current_task())])
            break_open(trio.lowlevel.current_task())
            raise AssertionError(f"the tree never ended\n{report}")
        # Asks and senders that wait on something gone must have been let go by now, without any deadline.
        await wait_all_tasks_blocked()
        left = [one.name for one in nursery.child_tasks]
        assert not left, f"still waiting after the tree has ended: {left}"
    check(world, system, trio.current_time() - began)
    if settle:
        check_stop_order(world, system, order_from)


def observe(world: World, system: ActorSystem, event: Any) -> None:
    now = trio.current_time()
    world.events.append((now, event))
    match event:
        case ChildStarted(path, incarnation, _):
            earlier = [e.incarnation for _, e in world.events[:-1] if isinstance(e, ChildStarted) and e.path == path]
            assert not earlier or incarnation > max(earlier), f"{path} went back to incarnation {incarnation}"
        case ChildEnded():
            record = system.find(event.path)
            if record is not None and record.life is not None:
                assert record.life.exit is not None, f"{event.path} runs twice"
        case ChildRestarting() if event.delay_seconds is not None:
            supervisor = system.record(event.path).supervisor
            assert supervisor is not None
            times = world.windows[supervisor]
            times.append(now)
            period, allowed = supervisor.spec.period_seconds, supervisor.spec.intensity
            recent = [one for one in times if one > now - period]
            assert allowed is None or len(recent) <= allowed, f"{event.path}: over its supervisor's intensity"


async def act(
    world: World, system: ActorSystem, nursery: trio.Nursery, action: str, number: int, seconds: float
) -> None:
    records = [one for one in system.records() if not one.is_supervisor]
    if action == "sleep" or not records:
        await trio.sleep(seconds)
        return
    record = records[number % len(records)]
    reference = system.reference(record.path)

    async def stall(_: Worker) -> None:
        await trio.sleep(seconds * 3)

    async def shield(_: Worker) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(SHIELDED_SECONDS)

    async def spawn(actor: Worker) -> None:
        actor.context.spawn(boom if number % 4 == 0 else trio.sleep_forever)
        actor.context.every(1, Note("tick"))

    async def answer(actor: Worker) -> object:
        if number % 3 == 0:
            actor.context.answer_later(trio.sleep, seconds)
        elif number % 3 == 1:
            await boom()
        await trio.sleep(seconds)
        return number

    async def bind(actor: Worker) -> None:
        other = system.reference(records[(number * 7 + 1) % len(records)].path)
        if action == "monitor":
            actor.context.monitor(other)
        elif other.is_running:
            actor.context.link(other)

    async def ask(seconds: float, cancel_after: float) -> None:
        outcome: list[object] = []
        world.asks.append(outcome)
        try:
            with trio.move_on_after(cancel_after) as scope:
                outcome.append(await reference.ask(Call(answer), timeout=seconds))
        except RuntimeFault as error:
            outcome.append(error)
        if scope.cancelled_caught:
            outcome.append("cancelled")

    async def quietly(function: Any, *args: Any) -> None:
        with contextlib.suppress(RuntimeFault, Boom, ValueError):
            await function(*args)

    told = {"stall": stall, "shield": shield, "raise": boom, "spawn": spawn, "link": bind, "monitor": bind}
    if action in told:
        nursery.start_soon(quietly, reference.tell, Do(told[action]))
    elif action == "tell":
        for _ in range(number % 5):
            nursery.start_soon(quietly, reference.tell, Note("x"))
    elif action == "crash":
        anything = [one for one in system.records() if one.life is not None]
        if anything:
            crash(system, anything[number % len(anything)].path, Boom("injected"))
    elif action == "stop" and record.life is not None:
        record.life.stop_self()  # type: ignore[attr-defined]
    elif action == "restart":
        nursery.start_soon(quietly, restart, system, system.records()[number % len(system.records())].path)
    elif action == "ask":
        nursery.start_soon(ask, seconds + 0.1, 1e9)
    elif action == "cancelled_ask":
        nursery.start_soon(ask, 1e6, seconds)
    elif action in {"suspend", "resume"} and reference.is_running:
        suspend(system, record.path, suspended=action == "suspend")
    elif action in {"start_child", "stop_child"}:
        pools = [one for one in system.records() if isinstance(one.spec.start, DynamicSpec)]
        if pools and action == "start_child":
            world.new_names += 1
            pool = system.dynamic(pools[number % len(pools)].path)
            kind = list(Restart)[number % 3]

            async def start() -> None:
                with trio.move_on_after(5 if number % 5 else 0.5):
                    await pool.start_child(
                        f"d{world.new_names}",
                        lambda: Tracked(world, MAILBOXES[number % 5], number % 7 == 0),
                        restart=kind,
                        drain_seconds=1,
                    )

            nursery.start_soon(quietly, start)
        elif pools and record.supervisor is not None and isinstance(record.supervisor.spec, DynamicSpec):
            pool = system.dynamic(record.supervisor.record.path)
            nursery.start_soon(quietly, pool.stop_child, record.spec.id)
    else:
        tree(system, stacks=True)
        readiness(system)


def check(world: World, system: ActorSystem, stop_seconds: float) -> None:
    """Asserts the invariants of a tree that has ended."""
    tasks = trio.lowlevel.current_root_task()
    assert tasks is not None
    names = task_names(tasks)
    assert not [one for one in names if one.startswith(("runtime", "c"))], f"orphan tasks: {names}"
    for worker in world.workers:
        mailbox = worker.context._life.mailbox if hasattr(worker, "context") else None
        if mailbox is not None:
            assert mailbox.closed is not None
            assert mailbox._receiver is None, "a task is parked in a closed mailbox"
            assert not mailbox._blocked, "a sender is parked in a closed mailbox"
            assert worker.context._life.exit is not None
            assert not worker.context._life._child_tasks
    assert all(len(outcome) == 1 for outcome in world.asks), f"asks without exactly one end: {world.asks}"
    assert all(record.life is None for record in system.records())
    # One second of drain, then two for each child of at most four to a supervisor on three levels, and the shields.
    assert stop_seconds <= 1 + 2 * 64 + 2 * SHIELDED_SECONDS


def check_stop_order(world: World, system: ActorSystem, order_from: int) -> None:
    """After a quiet time the stop goes in reverse start order, except for those that were stuck."""
    stuck = {event.path for _, event in world.events if isinstance(event, StuckReport)}
    last_seen: dict[object, int] = {}
    for _, event in world.events[order_from:]:
        record = system.find(event.path) if isinstance(event, ChildEnded) else None
        if record is None or record.supervisor is None or isinstance(record.supervisor.spec, DynamicSpec):
            continue
        if any(one.startswith(event.path) for one in stuck):
            continue
        index = list(record.supervisor.children.values()).index(record)
        assert index < last_seen.get(record.supervisor, 99), f"{event.path} was stopped out of order"
        last_seen[record.supervisor] = index
        assert record.state in {State.STOPPED, State.ENDED}


def task_names(task: trio.lowlevel.Task) -> list[str]:
    return [task.name] + [
        name for nursery in task.child_nurseries for one in nursery.child_tasks for name in task_names(one)
    ]


def break_open(task: trio.lowlevel.Task) -> None:
    """Cancel all tasks below, through every shield: a tree that does not end must not hang the test run."""
    for nursery in task.child_nurseries:
        for one in nursery.child_tasks:
            status = one._cancel_status
            while status is not None and status is not nursery._cancel_status:
                status._scope.shield = False
                status = status._parent
            break_open(one)
        nursery.cancel_scope.cancel(reason="broken open")
