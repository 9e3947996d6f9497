"""What every carrier promises, tried as a state machine on the one in memory and on Redis, which is also killed and stopped."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, ClassVar

import pytest
import trio
from attrs import define, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from actors.cluster.carrier import (
    Announced,
    Appended,
    Carrier,
    CarrierUnavailable,
    Ear,
    Fenced,
    Gap,
    Run,
    Told,
)
from actors.cluster.configuration import BrokerAddress, ClusterConfiguration
from actors.cluster.memory_carrier import MemoryBroker, MemoryCarrier
from actors.cluster.redis_carrier import open_redis_carrier
from tests.redis_fixture import RedisProcess

KEY = bytes(range(32))
LOGS = st.sampled_from(["one", "two"])
NODES = ("ada", "bob")
TOPICS = ("log", "tokens")


def configuration(address: BrokerAddress, node: str = "ada", key: bytes = KEY) -> ClusterConfiguration:
    return ClusterConfiguration(node=node, broker=address, key=key)


class Loop:
    """An event loop in a thread of its own, for a machine whose rules are plain functions."""

    def __init__(self, opening: Callable[[AsyncExitStack], Awaitable[None]]) -> None:
        self._opening = opening
        self._started = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,))
        self._thread.start()
        self._started.wait()

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._end = trio.Event()
        async with AsyncExitStack() as stack:
            # What is opened here is closed by the same task.
            await self._opening(stack)
            self._started.set()
            await self._end.wait()

    def run(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

    def end(self) -> None:
        self._token.run_sync_soon(self._end.set)
        self._thread.join(30)


@define
class Log:
    """What a log should be."""

    fence: int = 0
    runs: list[Run] = field(factory=list)

    @property
    def head(self) -> int:
        return self.runs[-1].last if self.runs else 0


class CarrierMachine(RuleBasedStateMachine):
    """Two nodes, two logs, an ear each; the model is what was acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[str, Carrier] = {}
        self.ears: dict[str, Ear] = {}
        self.logs: dict[str, Log] = {}
        self.values: dict[str, bytes] = {}
        self.unheard: dict[str, list[Told | Announced]] = {node: [] for node in NODES}
        self.count = 0

    async def opened(self, stack: AsyncExitStack, node: str) -> Carrier:
        raise NotImplementedError

    def forget_everything(self) -> None:
        raise NotImplementedError

    @initialize()
    def open_nodes(self) -> None:
        async def opening(stack: AsyncExitStack) -> None:
            for node in NODES:
                self.nodes[node] = await self.opened(stack, node)
                self.ears[node] = await stack.enter_async_context(self.nodes[node].listen(TOPICS))

        self.loop = Loop(opening)

    def teardown(self) -> None:
        self.loop.end()

    @rule(
        node=st.sampled_from(NODES),
        log=LOGS,
        fence=st.integers(1, 4),
        place=st.sampled_from(["next", "again", "begin", "hole", "overlap"]),
        length=st.integers(1, 3),
    )
    def append(self, node: str, log: str, fence: int, place: str, length: int) -> None:
        held = self.logs.get(log, Log())
        if place == "again" and held.runs:
            run = held.runs[-1]
        else:
            first = {"begin": 1, "hole": held.head + 2, "overlap": max(1, held.head)}.get(place, held.head + 1)
            run = Run(first, first + length - 1, os.urandom(4) * length)
        answer = self.loop.run(self.nodes[node].append, log, fence, run.first, run.last, run.data)
        if fence < held.fence:
            assert answer == Fenced(held.fence)
        elif fence > held.fence:
            if run.first == 1:
                assert answer == Appended(run.last)
                self.logs[log] = Log(fence, [run])
            else:
                assert answer == Gap(0)
        elif run.last <= held.head:
            assert answer == Appended(held.head)
        elif run.first == held.head + 1:
            assert answer == Appended(run.last)
            held.runs.append(run)
        else:
            assert answer == Gap(held.head)

    @rule(node=st.sampled_from(NODES), log=LOGS, fence=st.integers(1, 4))
    def claim(self, node: str, log: str, fence: int) -> None:
        held = self.logs.setdefault(log, Log())
        answer = self.loop.run(self.nodes[node].append, log, fence, 1, 0, b"")
        assert answer == (Fenced(held.fence) if fence < held.fence else Appended(held.head))
        held.fence = max(fence, held.fence)

    @rule(node=st.sampled_from(NODES), after=st.integers(0, 12))
    def read(self, node: str, after: int) -> None:
        found = self.loop.run(self.nodes[node].read, dict.fromkeys(("one", "two", "none"), after))
        wanted = {
            log: tuple(one for one in held.runs if one.last > after)
            for log, held in self.logs.items()
            if held.head > after
        }
        assert found == wanted

    @rule(node=st.sampled_from(NODES), to=st.sampled_from(NODES))
    def tell(self, node: str, to: str) -> None:
        self.count += 1
        message = f"message {self.count}".encode()
        self.loop.run(self.nodes[node].tell, to, message)
        self.unheard[to].append(Told(message))

    @rule(node=st.sampled_from(NODES), topic=st.sampled_from([*TOPICS, "other"]))
    def announce(self, node: str, topic: str) -> None:
        self.count += 1
        self.loop.run(self.nodes[node].announce, topic, f"client {self.count}")
        if topic in TOPICS:
            for heard in self.unheard.values():
                heard.append(Announced(topic, f"client {self.count}", node))

    @rule(node=st.sampled_from(NODES))
    def hear(self, node: str) -> None:
        """All of it comes, once, and in order within the inbox and each topic."""
        heard: list[Told | Announced] = []
        while len(heard) < len(self.unheard[node]):
            more = self.loop.run(self.ears[node].hear)
            assert more, (heard, self.unheard[node])
            heard += more
        for feed in ("", *TOPICS):
            assert of_feed(heard, feed) == of_feed(self.unheard[node], feed)
        self.unheard[node].clear()

    @rule(node=st.sampled_from(NODES), value=st.none() | st.binary(max_size=4))
    def present(self, node: str, value: bytes | None) -> None:
        found = self.loop.run(self.nodes[node].present, "client", value)
        self.values.pop(node, None)
        if value is not None:
            self.values[node] = value
        assert found == self.values

    @rule()
    def forget(self) -> None:
        self.forget_everything()
        self.forgotten()

    def forgotten(self) -> None:
        self.logs.clear()
        self.values.clear()
        for heard in self.unheard.values():
            heard.clear()


def of_feed(heard: list[Told | Announced], feed: str) -> list[Told | Announced]:
    return [one for one in heard if (one.topic if isinstance(one, Announced) else "") == feed]


class MemoryMachine(CarrierMachine):
    def __init__(self) -> None:
        super().__init__()
        self.broker = MemoryBroker()

    async def opened(self, stack: AsyncExitStack, node: str) -> Carrier:
        return MemoryCarrier(self.broker, node)

    def forget_everything(self) -> None:
        self.broker.forget()


class RedisMachine(CarrierMachine):
    redis: ClassVar[RedisProcess]

    def __init__(self) -> None:
        super().__init__()
        self.redis.command("FLUSHALL")
        self.may_stop = True

    async def opened(self, stack: AsyncExitStack, node: str) -> Carrier:
        return await stack.enter_async_context(open_redis_carrier(configuration(self.redis.address, node)))

    def forget_everything(self) -> None:
        self.redis.command("FLUSHALL")

    @rule()
    def kill(self) -> None:
        """The next command of each connection may find it cut; the one after does what it says."""
        self.redis.kill()
        for node in NODES:
            with pytest.raises(CarrierUnavailable):
                self.loop.run(self.nodes[node].read, {"one": 0})
        self.redis.start()
        self.forgotten()
        for node in NODES:
            self.loop.run(self.persistently, self.nodes[node].read, {"one": 0})
            self.loop.run(self.persistently, self.ears[node].hear)

    @precondition(lambda self: self.may_stop)
    @rule(log=LOGS)
    def stop(self, log: str) -> None:
        """A command ends in time while nothing answers, and repeating it makes it so once."""
        self.may_stop = False
        held = self.logs.setdefault(log, Log())
        held.fence = max(1, held.fence)
        run = Run(1, 1, b"x") if not held.runs else Run(held.head + 1, held.head + 1, b"x")
        if not held.runs:
            self.loop.run(self.nodes["ada"].append, log, held.fence, 1, 0, b"")
        self.redis.stop()
        began = time.monotonic()
        with pytest.raises(CarrierUnavailable):
            self.loop.run(self.nodes["ada"].append, log, held.fence, run.first, run.last, run.data)
        assert time.monotonic() - began < 20
        self.redis.go_on()
        append = self.nodes["ada"].append
        answer = self.loop.run(self.persistently, append, log, held.fence, run.first, run.last, run.data)
        assert answer == Appended(run.last)
        held.runs.append(run)

    async def persistently(self, verb: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        with trio.fail_after(60):
            while True:
                try:
                    return await verb(*arguments)
                except CarrierUnavailable:
                    await trio.sleep(0.02)


def run_machine(machine: type[CarrierMachine], examples: int, steps: int) -> None:
    health = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=health
        ),
    )


def test_cb5_the_carrier_in_memory_keeps_the_contract() -> None:
    run_machine(MemoryMachine, 25, 30)


@pytest.mark.integration
def test_cb5_the_carrier_on_redis_keeps_the_contract_through_kills_stops_and_losses(redis: RedisProcess) -> None:
    RedisMachine.redis = redis
    run_machine(RedisMachine, 8, 30)
