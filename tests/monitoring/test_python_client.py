"""Operators' programs in Python: the newest state of each topic, across a cut."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import trio

from protocol.client import CommandFailed, Disconnected, connect
from protocol.commands import Generate
from protocol.operator_topics import RequestData, TraceWish
from protocol.operators import ActorState, EngineKill
from tests.cutting_proxy import cutting_proxy
from tests.server_fixture import count_to, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]


async def test_mo12_a_program_watches_the_server_across_a_cut(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, cutting_proxy(server.about.websocket_url, 60_000) as url:
        changes: list[str] = []
        async with connect(
            url, client_id="py", reconnect=True, on_change=lambda change: changes.append(change.state)
        ) as client:
            with trio.fail_after(120):
                async with client.watch("tree", "requests", trace=TraceWish(path="tasks")) as view:
                    await client.command("task_list", {})
                    async with client.generate(Generate(prompt="count to 3")) as answer:
                        assert await answer.text() == count_to(3)
                    seen = set()
                    ended: list[RequestData] = []
                    async for topic in view:
                        seen.add(topic)
                        ended = [one for one in view.items("requests").values() if one.state == "ended"]
                        if ended and "trace" in seen:
                            break
                    while changes.count("connected") == 1:
                        with suppress(Disconnected):
                            await client.ping("x" * 3000)
                    # What comes now was watched on the second connection.
                    async with client.generate(Generate(prompt="count to 4")) as answer:
                        assert await answer.text() == count_to(4)
                    async for _ in view:
                        if sum(one.state == "ended" for one in view.items("requests").values()) == 2:
                            break
                    assert ended[0].client_id == "py"
                    assert view.items("tree")["tasks"].kind == "actor"
                    assert view.trace[0].message_type == "ListTasks"
                    with pytest.raises(RuntimeError, match="one block at a time"):
                        async with client.watch("tree"):
                            pass
                state = await client.ask(ActorState(path="tasks"))
                assert state.snapshot is not None
                with pytest.raises(CommandFailed, match=r"not_found.*there is no nobody"):
                    await client.ask(ActorState(path="nobody"))
        assert changes.count("connected") >= 2
        with pytest.raises(Disconnected):
            await client.ask(EngineKill())
