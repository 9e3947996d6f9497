"""Acceptance of WebSocket handshakes, and the opening of sessions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.websocket


async def refusal(server: RunningServer, **arguments: Any) -> tuple[int, str]:
    """Return status and body of a refused handshake."""
    with pytest.raises(InvalidStatus) as caught:
        async with server.peer(hello=False, **arguments):
            raise AssertionError("it was accepted")
    response = caught.value.response
    return response.status_code, (response.body or b"").decode()


async def test_a_client_that_offers_our_subprotocol_gets_it(engineless_server: RunningServer) -> None:
    async with engineless_server.peer(
        hello=False, subprotocols=[Subprotocol("other"), Subprotocol("leanvibe.v1+json")]
    ) as peer:
        assert peer.websocket.subprotocol == "leanvibe.v1+json"


async def test_a_client_that_offers_none_gets_version_one(engineless_server: RunningServer) -> None:
    """P1."""
    async with engineless_server.peer(subprotocols=None) as peer:
        assert peer.websocket.subprotocol is None
        assert (await peer.ask("ping", "1", 5))["data"] == 5


async def test_a_client_that_offers_only_others_is_refused(engineless_server: RunningServer) -> None:
    """P1: with HTTP 400, naming our subprotocol."""
    status, body = await refusal(
        engineless_server, subprotocols=[Subprotocol("graphql-ws"), Subprotocol("leanvibe.v2+json")]
    )
    assert status == 400
    assert "leanvibe.v1+json" in body


@pytest.mark.parametrize("path", ["/", "/wsx", "/ws/", "/WS"])
async def test_another_path_is_not_found(engineless_server: RunningServer, path: str) -> None:
    status, body = await refusal(engineless_server, path=path)
    assert status == 404
    assert "/ws" in body


async def test_a_query_does_not_change_the_path(engineless_server: RunningServer) -> None:
    async with engineless_server.peer(path="/ws?v=1"):
        pass


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "file://"])
async def test_a_page_from_elsewhere_is_forbidden(engineless_server: RunningServer, origin: str) -> None:
    status, body = await refusal(engineless_server, origin=Origin(origin))
    assert status == 403
    assert "origin" in body


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:8000"])
async def test_a_page_of_this_machine_may_come(engineless_server: RunningServer, origin: str) -> None:
    async with engineless_server.peer(origin=Origin(origin)):
        pass


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8765", "localhost.evil.example"])
async def test_a_rebound_name_is_forbidden(engineless_server: RunningServer, host: str) -> None:
    """DNS rebinding: the socket is ours, the Host header is the page's."""
    request = (
        f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    status = await raw_status(engineless_server, request.encode())
    assert status == 403


async def raw_status(server: RunningServer, request: bytes) -> int:
    """Return the status of the response to a raw request; 0 without a response."""
    port = int(server.about.websocket_url.rsplit(":", 1)[1].split("/")[0])
    with trio.fail_after(60):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(request)
            received = b""
            async for chunk in stream:
                received += chunk
                if b"\r\n" in received:
                    break
    found = re.match(rb"HTTP/1\.1 (\d+)", received)
    return int(found[1]) if found else 0


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
    ],
    ids=["plain-http", "tls", "garbage"],
)
async def test_what_is_no_websocket_handshake_is_refused_and_forgotten(
    engineless_server: RunningServer, request_bytes: bytes
) -> None:
    assert await raw_status(engineless_server, request_bytes) in (0, 400, 426)
    await eventually(lambda: not engineless_server.connections())
    async with engineless_server.peer():
        pass


async def test_a_silent_socket_is_dropped_after_ten_seconds(mock_clock: MockClock, server: RunningServer) -> None:
    port = int(server.about.websocket_url.rsplit(":", 1)[1].split("/")[0])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await eventually(server.connections)
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(9)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert server.connections()
        mock_clock.jump(2)
        await eventually(lambda: not server.connections())
        assert await stream.receive_some() == b""


# --- hello --------------------------------------------------------------------------------------------


async def test_hello_is_answered_with_welcome(engineless_server: RunningServer) -> None:
    async with engineless_server.peer(hello=False) as peer:
        answer = await peer.ask("hello", "h-1", {"client_id": "me", "device_id": "desk", "agent": "test/1"})
        assert (answer["type"], answer["re"]) == ("welcome", "h-1")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer["time"])
        welcome = answer["data"]
        assert (welcome["client_id"], welcome["device_id"], welcome["model"]) == ("me", "desk", "mock")
        assert welcome["server"].startswith("leanvibe/")
        assert welcome["epoch"]
        assert welcome["connection_id"]
        assert welcome["resumed"] == []
        assert welcome["state"]["devices"] == {"devices": [{"device_id": "desk", "connections": 1}]}
        assert set(welcome["state"]["agent_status"]) >= {"state", "queue_depth", "running"}
        assert welcome["limits"] == {
            "frame_bytes": 1024 * 1024,
            "commands_in_flight": 32,
            "streams": 128,
            "commands_per_second": 20,
            "command_burst": 60,
            "connections_per_client": 16,
            "detach_seconds": 60,
            "command_memory_seconds": 600,
        }


async def test_the_device_is_called_default_where_none_is_named(engineless_server: RunningServer) -> None:
    async with engineless_server.peer(hello=False) as peer:
        assert (await peer.hello("me"))["device_id"] == "default"


async def test_streams_to_resume_are_answered_each(engineless_server: RunningServer) -> None:
    async with engineless_server.peer(hello=False) as peer:
        welcome = await peer.hello("me", resume=[{"stream": "client", "epoch": "old", "seq": 7}])
        (answer,) = welcome["resumed"]
        snapshot = {"epoch": welcome["epoch"], "seq": 0, "unread": 0, "task_count": 0}
        assert answer == {"stream": "client", "resumed": False, "head": 0, "snapshot": snapshot}


async def test_connections_have_ids_of_their_own_and_one_epoch(engineless_server: RunningServer) -> None:
    async with engineless_server.peer(hello=False) as one, engineless_server.peer(hello=False) as two:
        first, second = await one.hello("a"), await two.hello("a")
        assert first["connection_id"] != second["connection_id"]
        assert first["epoch"] == second["epoch"]


@pytest.mark.parametrize(("kind", "data"), [("ping", 1), ("generate", {"prompt": "x"}), ("cancel", {"target": "1"})])
async def test_a_command_before_hello_is_unauthorized(engineless_server: RunningServer, kind: str, data: Any) -> None:
    async with engineless_server.peer(hello=False) as peer:
        answer = await peer.ask(kind, "1", data)
        assert (answer["type"], answer["re"], answer["data"]["code"]) == ("error", "1", "unauthorized")
        assert await peer.close_code() == 4401


async def test_a_pong_before_hello_is_nothing(engineless_server: RunningServer) -> None:
    async with engineless_server.peer(hello=False) as peer:
        await peer.send("pong")
        await peer.hello()


async def test_a_second_hello_is_one_too_many(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as peer:
        answer = await peer.ask("hello", "again", {"client_id": "tester"})
        assert (answer["re"], answer["data"]["code"]) == ("again", "conflict")
        assert await peer.close_code() == 4429


async def test_two_hellos_at_once_are_one_too_many(engineless_server: RunningServer) -> None:
    async with engineless_server.peer(hello=False) as peer:
        await peer.send("hello", "1", {"client_id": "one"})
        await peer.send("hello", "2", {"client_id": "two"})
        first, second = await peer.receive(), await peer.receive()
        assert (first["type"], first["data"]["client_id"]) == ("welcome", "one")
        assert (second["type"], second["re"], second["data"]["code"]) == ("error", "2", "conflict")
        assert await peer.close_code() == 4429


async def test_commands_may_follow_a_hello_before_its_answer(engineless_server: RunningServer) -> None:
    async with engineless_server.peer(hello=False) as peer:
        await peer.send("hello", "1", {"client_id": "one"})
        await peer.send("ping", "2", "early")
        assert (await peer.receive())["type"] == "welcome"
        assert (await peer.receive())["data"] == "early"


async def test_a_wrong_hello_may_be_said_again(engineless_server: RunningServer) -> None:
    async with engineless_server.peer(hello=False) as peer:
        answer = await peer.ask("hello", "1", {"client_id": "not a name"})
        assert (answer["data"]["code"], answer["data"]["field"]) == ("invalid_field", "data.client_id")
        await peer.hello("a-name")


async def test_a_token_where_none_is_configured_is_refused(engineless_server: RunningServer) -> None:
    async with engineless_server.peer(hello=False) as peer:
        answer = await peer.ask("hello", "1", {"client_id": "me", "token": "sesame"})
        assert answer["data"]["code"] == "unauthorized"
        assert "sesame" not in json.dumps(answer)
        assert await peer.close_code() == 4401


async def test_a_client_that_never_says_hello_is_closed(mock_clock: MockClock, server: RunningServer) -> None:
    async with server.peer(hello=False) as peer:
        await eventually(server.connections)
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(9)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert server.connections()
        mock_clock.jump(1.5)
        assert await peer.close_code() == 4408


async def test_a_peer_that_leaves_before_its_handshake_is_forgotten_at_once(engineless_server: RunningServer) -> None:
    port = int(engineless_server.about.websocket_url.rsplit(":", 1)[1].split("/")[0])
    async with await trio.open_tcp_stream("127.0.0.1", port):
        await eventually(engineless_server.connections)
    await eventually(lambda: not engineless_server.connections(), seconds=2)


async def test_a_full_house_refuses_with_503(tmp_path: Path) -> None:
    async with running_server(tmp_path, max_connections=2) as server, server.peer(), server.peer():
        status, _ = await refusal(server)
        assert status == 503
    assert server.system.stuck == []
