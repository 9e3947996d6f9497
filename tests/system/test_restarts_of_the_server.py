"""The server is killed, or stopped in order, in the middle of streams: clients that resume lose and repeat nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
from attrs import define

from protocol.client import Client, Disconnected, connect
from protocol.commands import Generate
from protocol.events import FinishReason
from protocol.tasks import TaskCreate
from tests.server_fixture import count_to, eventually
from tests.system.restarting_server import (
    CLIENT_ID,
    QUICK,
    PlainWitness,
    RestartingServer,
    Witness,
    make_tasks,
    restarting_server,
)

pytestmark = pytest.mark.integration

KILLS = 3
EVENTS_BETWEEN_KILLS = 25
MAKERS = ("first", "second")
LAST = "the last one"


@define
class Traffic:
    """An endless stream of events, and its subscribers."""

    maker: Client
    witness: Witness
    plain: PlainWitness
    acknowledged: dict[str, list[str]]
    making: list[trio.CancelScope]

    async def more(self) -> None:
        """Wait until both subscribers have received further events."""
        for seen in (self.witness.seen, self.plain.seen):
            await seen.until_seen(events=len(seen.seqs) + EVENTS_BETWEEN_KILLS)

    async def is_complete(self) -> None:
        """Stop the producer, wait for all events, and assert that nothing is missing or repeated."""
        for scope in self.making:
            scope.cancel()
        await self.maker.ask(TaskCreate(title=LAST))
        for seen in (self.witness.seen, self.plain.seen):
            await seen.until_seen(title=LAST)
            assert seen.reasons(self.acknowledged) == []
        assert self.plain.faults == []
        # One of them may already have received events in flight when the producer stopped.
        both = min(len(self.witness.seen.seqs), len(self.plain.seen.seqs))
        assert self.witness.seen.event_ids[:both] == self.plain.seen.event_ids[:both]


@asynccontextmanager
async def traffic(server: RestartingServer) -> AsyncIterator[Traffic]:
    """Run one client that creates tasks and two that receive the events, all of the same client id."""
    witness, plain = Witness(), PlainWitness(server.websocket_url)
    acknowledged: dict[str, list[str]] = {name: [] for name in MAKERS}
    with trio.fail_after(60):
        async with (
            connect(
                server.websocket_url,
                client_id=CLIENT_ID,
                device_id="follower",
                reconnect=True,
                events=True,
                backoff=QUICK,
                on_change=witness.changes.append,
            ) as subscriber,
            connect(
                server.websocket_url, client_id=CLIENT_ID, device_id="maker", reconnect=True, backoff=QUICK
            ) as maker,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(witness.follow, subscriber)
            nursery.start_soon(plain.follow)
            await plain.follows.wait()
            making: list[trio.CancelScope] = []

            async def make(name: str) -> None:
                with trio.CancelScope() as scope:
                    making.append(scope)
                    await make_tasks(maker, name, acknowledged[name])

            for name in MAKERS:
                nursery.start_soon(make, name)
            yield Traffic(maker, witness, plain, acknowledged, making)
            nursery.cancel_scope.cancel()


async def test_p4_kill_9_in_the_middle_of_a_stream_of_events_loses_and_repeats_nothing(tmp_path: Path) -> None:
    async with restarting_server(tmp_path) as server, traffic(server) as events:
        for _ in range(KILLS):
            await events.more()
            await server.kill()
            await server.start()
        await events.more()
        await events.is_complete()
        assert events.plain.connections == KILLS + 1
        cuts = [one for one in events.witness.changes if one.state == "disconnected"]
        assert len(cuts) >= KILLS
        assert not [one for one in events.witness.changes if one.state in ("going_away", "ended")]


async def test_p16_a_server_that_is_told_to_stop_says_so_and_nothing_is_missing_after_the_restart(
    tmp_path: Path,
) -> None:
    async with restarting_server(tmp_path, LEANVIBE_MOCK_STEP_SECONDS="0.02") as server, traffic(server) as events:
        await events.more()
        async with (
            httpx.AsyncClient(base_url=server.rest_url, trust_env=False, timeout=10) as rest,
            connect(server.websocket_url, client_id=CLIENT_ID, device_id="asker") as asker,
            asker.generate(Generate(prompt="count to 40")) as answer,
            trio.open_nursery() as nursery,
        ):
            # The server drains meanwhile: long enough to observe it.
            begun = await anext(answer)
            assert (await rest.get("/health/ready")).status_code == 200
            statuses: list[int] = []

            async def stop() -> None:
                statuses.append(await server.stop_in_order())

            nursery.start_soon(stop)
            await eventually(lambda: [one for one in events.witness.changes if one.state == "going_away"])
            ready = await rest.get("/health/ready")
            assert (ready.status_code, answer.is_over) == (503, False)
            assert begun + await answer.text() == count_to(40)
        assert statuses == [0]
        states = [one.state for one in events.witness.changes]
        assert states[:3] == ["connected", "going_away", "disconnected"]
        hint, end = events.witness.changes[1:3]
        assert hint.delay_seconds is not None
        assert 0.5 <= hint.delay_seconds <= 1.5
        assert isinstance(end.cause, Disconnected)
        assert end.cause.code == 1012
        await server.start()
        await events.more()
        await events.is_complete()


async def test_p4_a_detached_generation_goes_on_after_a_kill_9_of_the_server(tmp_path: Path) -> None:
    """Events that had arrived are not repeated; the rest equals the undisturbed answer."""
    with trio.fail_after(60):
        async with (
            restarting_server(tmp_path, LEANVIBE_MOCK_STEP_SECONDS="0.02") as server,
            connect(server.websocket_url, client_id=CLIENT_ID, reconnect=True, detach=True, backoff=QUICK) as client,
            client.generate(Generate(prompt="count to 30")) as answer,
        ):
            pieces = [await anext(answer) for _ in range(5)]
            await server.kill()
            await server.start()
            assert "".join(pieces) + await answer.text() == count_to(30)
            assert answer.result is not None
            assert answer.result.finish_reason is FinishReason.STOP
