"""Acknowledgements by devices, over real sockets: only what was sent to a device becomes delivered by its `ack`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actors.notifications.history import HISTORY, Page
from actors.notifications.store import POST, Posting
from actors.storage.messages import Storage
from protocol.events import Priority
from protocol.notifications import NotificationPost
from tests.server_fixture import Peer, RunningServer, eventually

pytestmark = [pytest.mark.websocket, pytest.mark.integration]


def storage(server: RunningServer) -> Storage:
    return Storage(server.system.reference("storage/writer"), server.system.reference("storage/readers"))


async def post(server: RunningServer, title: str, priority: Priority = Priority.MEDIUM) -> None:
    """Post a notification to the client, with its title as id."""
    data = NotificationPost(template="message", fields={"title": title}, priority=priority)
    posting = Posting(client_id="tester", notification_id=title, data=data)
    await storage(server).transact(POST, posting, client_id="tester")


async def delivered_to(server: RunningServer, device_id: str) -> list[str]:
    """Return the ids of notifications that this device has acknowledged, in order."""
    page = await storage(server).read(HISTORY, Page(client_id="tester", limit=200))
    return [
        entry.notification.notification_id
        for entry in reversed(page.entries)
        if any(one.device_id == device_id for one in entry.deliveries)
    ]


@asynccontextmanager
async def device(server: RunningServer, device_id: str, **hello: Any) -> AsyncIterator[Peer]:
    """Open a connection of a device, closed in order at the end."""
    async with server.peer(hello=False) as peer:
        await peer.hello(device_id=device_id, **hello)
        yield peer


async def take(peer: Peer, *titles: str) -> int:
    """Receive exactly these notifications. Returns the last one's `seq`."""
    seq = 0
    for title in titles:
        frame = await peer.receive()
        assert frame["data"]["notification"]["title"] == title
        seq = frame["seq"]
    return seq


async def acknowledge(server: RunningServer, peer: Peer, device_id: str, seq: int, marker: str) -> list[str]:
    """Send an `ack`. Returns the device's deliveries once they include ``marker``, which the ack covers."""
    await peer.send("ack", data={"stream": "client", "seq": seq})

    async def is_noted() -> bool:
        return marker in await delivered_to(server, device_id)

    await eventually(is_noted, what=f"{marker} delivered to {device_id}")
    return await delivered_to(server, device_id)


async def test_n2_an_ack_leaves_out_what_the_devices_subscription_left_out(engineless_server: RunningServer) -> None:
    server = engineless_server
    async with device(server, "watch") as watch, device(server, "laptop") as laptop:
        await watch.ask("subscribe", "s", {"min_priority": "high"})
        for title, priority in (("a", Priority.LOW), ("b", Priority.HIGH), ("c", Priority.LOW), ("d", Priority.HIGH)):
            await post(server, title, priority)
        assert await acknowledge(server, watch, "watch", await take(watch, "b", "d"), "d") == ["b", "d"]
        seq = await take(laptop, "a", "b", "c", "d")
        assert await acknowledge(server, laptop, "laptop", seq, "d") == ["a", "b", "c", "d"]


async def test_n2_an_ack_counts_what_was_sent_before_the_subscription_changed(engineless_server: RunningServer) -> None:
    server = engineless_server
    async with device(server, "watch") as watch:
        await post(server, "a", Priority.LOW)
        await take(watch, "a")
        await watch.ask("subscribe", "1", {"channels": ["tasks"]})
        await post(server, "b", Priority.CRITICAL)
        # That it skipped this connection shows only in the next one's arrival.
        await watch.ask("subscribe", "2", {"batch_ms": 20})
        await post(server, "c")
        assert await acknowledge(server, watch, "watch", await take(watch, "c"), "c") == ["a", "c"]


async def test_n2_an_ack_does_not_count_what_was_told_before_the_device_came(engineless_server: RunningServer) -> None:
    server = engineless_server
    await post(server, "a")
    async with device(server, "watch") as watch:
        await post(server, "b")
        assert await acknowledge(server, watch, "watch", await take(watch, "b"), "b") == ["b"]
    await eventually(lambda: not server.connections(), what="the connection is gone")
    await post(server, "c")
    async with device(server, "watch") as watch:
        await post(server, "d")
        assert await acknowledge(server, watch, "watch", await take(watch, "d"), "d") == ["b", "d"]


async def test_n2_an_ack_after_a_resume_counts_what_the_device_had_before_it(engineless_server: RunningServer) -> None:
    server = engineless_server
    await post(server, "a")
    async with server.peer(hello=False) as watch:
        epoch = (await watch.hello(device_id="watch"))["epoch"]
        await watch.ask("subscribe", "s", {"min_priority": "medium"})
        await post(server, "b", Priority.LOW)
        await post(server, "c")
        seq = await take(watch, "c")
    await post(server, "d")
    async with device(server, "watch", resume=[{"stream": "client", "epoch": epoch, "seq": seq}]) as watch:
        assert await acknowledge(server, watch, "watch", await take(watch, "d"), "d") == ["c", "d"]


async def test_n2_an_ack_counts_what_another_connection_of_the_device_got(engineless_server: RunningServer) -> None:
    server = engineless_server
    async with device(server, "watch") as first:
        await post(server, "a")
        await take(first, "a")
        async with device(server, "watch") as second:
            await post(server, "b")
            assert await acknowledge(server, second, "watch", await take(second, "b"), "b") == ["a", "b"]
            # One that lags behind adds nothing and takes nothing back.
            await first.send("ack", data={"stream": "client", "seq": 1})
            await post(server, "c")
            assert await acknowledge(server, first, "watch", await take(first, "b", "c"), "c") == ["a", "b", "c"]
