"""What tests of the assistant look at: the events that a client's devices are told."""

from __future__ import annotations

import json
from typing import Any

from actors.storage.log import LOG_PAGE, LogPageQuery
from actors.storage.messages import Storage
from tests.server_fixture import Peer, RunningServer, eventually

__all__ = ["answered", "ask", "told"]


async def told(server: RunningServer, client_id: str = "tester") -> list[tuple[str, dict[str, Any]]]:
    """All events of a client's log."""
    storage = Storage(server.system.reference("storage/writer"), server.system.reference("storage/readers"))
    page = await storage.read(LOG_PAGE, LogPageQuery(client_id=client_id, after_seq=0))
    return [(one.type, json.loads(one.data)) for one in page.events]


async def answered(server: RunningServer, count: int = 1, client_id: str = "tester") -> list[dict[str, Any]]:
    """The data of this many `ai_response`s, once they are there; and no more."""

    async def answers() -> list[dict[str, Any]]:
        return [data for kind, data in await told(server, client_id) if kind == "ai_response"]

    async def enough() -> bool:
        return len(await answers()) >= count

    await eventually(enough, what="ai_response")
    found = await answers()
    assert len(found) == count
    return found


async def ask(peer: Peer, kind: str, command_id: str, data: Any = None) -> dict[str, Any]:
    """Send a command and return its answer; what comes unasked meanwhile is passed over."""
    await peer.send(kind, command_id, data)
    while (answer := await peer.receive()).get("re") != command_id or "stream" in answer:
        pass
    return answer
