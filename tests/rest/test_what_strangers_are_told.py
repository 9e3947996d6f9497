"""What a server with tokens tells those who have none, over every route and at the WebSocket, in each state it may be in."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from attrs import evolve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from actors import process_memory
from actors.access.messages import CreateToken
from actors.storage.database import FILE_NAME
from runtime.inspection import suspend
from runtime.testing import crash
from tests.connections.test_opening_handshake import secure_server
from tests.rest.test_text_of_every_route import routes
from tests.server_fixture import PATIENCE_SECONDS, Peer, RunningServer, eventually

pytestmark = pytest.mark.integration

PUBLIC = ("/docs", "/push", "/openapi.json", "/console/")
"""Pages, the same for everybody: they may name routes."""
ODD_REQUESTS = (
    b"GET /nothing/here HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"TRACE /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /health/ready HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n",
    b"GET /health/ready?token=abc HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /health/ready HTTP/1.1\r\n\r\n",
    b"GET /tasks/me HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer lv_0123456789ab_x\r\n\r\n",
    b"GET /tasks/me HTTP/1.1\r\nHost: localhost\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%ff%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n{{{",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
    b"PUT /push HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n",
)


async def unlink_database(server: RunningServer) -> None:
    (server.settings.data_dir / FILE_NAME).unlink()


async def lose_access(server: RunningServer) -> None:
    suspend(server.system, "access", suspended=True)


async def suspend_storage(server: RunningServer) -> None:
    suspend(server.system, "storage/writer", suspended=True)


async def break_helpers_and_rooms(server: RunningServer) -> None:
    server.system.record("inspection").problem = f"{server.settings.data_dir}/server.json is not there"
    for _ in range(3):
        crash(server.system, "tasks", ValueError("a bug at postgresql://role@db.internal:5432"))
        await eventually(lambda: server.system.reference("tasks").is_running)


async def begin_to_stop(server: RunningServer) -> None:
    server.system.stopping_reason = f"SIGTERM by {server.settings.data_dir}"


async def lack_memory(_: RunningServer) -> None:
    process_memory.note_shortage()


STATES: dict[str, tuple[tuple[Callable[[RunningServer], Awaitable[None]], ...], set[str]]] = {
    "loading": ((), {"engine"}),
    "without its database": ((unlink_database, break_helpers_and_rooms, lack_memory), {"storage", "memory"}),
    "stopping": ((suspend_storage, begin_to_stop), {"storage", "stopping"}),
    "without access": ((lose_access,), set()),
}
"""How a server comes into a state, and words that readiness has for it."""


def leaks(server: RunningServer, told: str) -> list[str]:
    """What of the server's insides stands in an answer."""
    folder = str(server.settings.data_dir)
    known = [folder, FILE_NAME, "server.json", "db.internal", "postgres", "sqlite", "Traceback"]
    known += [server.about.inspection_socket, '.py"', "sqlalchemy", "hypercorn", "quart"]
    found = [one for one in known if one.lower() in told.lower()]
    # A word, as some machines have names of two letters.
    found += re.findall(rf"(?i)(?<!\w){re.escape(socket.gethostname())}(?!\w)", told)
    # Actors are named by their way down the tree.
    parts = {record.path.split("/")[0] for record in server.system.records() if "/" in record.path}
    return found + re.findall(rf"(?<![/\w])(?:{'|'.join(sorted(parts))})/\w+", told)


def head_and_body(response: httpx.Response) -> str:
    return "\r\n".join(f"{name}: {value}" for name, value in response.headers.items()) + "\r\n\r\n" + response.text


async def over_rest(server: RunningServer) -> dict[str, str]:
    """Head and body of every route's answer, by method and path."""
    told = {}
    limit = trio.CapacityLimiter(8)
    async with server.http() as http, trio.open_nursery() as nursery:

        async def ask(method: str, path: str) -> None:
            async with limit:
                body: Any = {"json": {}} if method in ("POST", "PUT", "PATCH") else {}
                told[f"{method} {path}"] = head_and_body(await http.request(method, path, **body))

        for method, path in routes():
            nursery.start_soon(ask, method, path)
    return told


async def odd_answers(server: RunningServer, context: ssl.SSLContext | None = None) -> dict[str, str]:
    port = int(server.about.rest_url.rpartition(":")[2])
    told = {}
    for request in ODD_REQUESTS:
        tcp = await trio.open_tcp_stream("127.0.0.1", port)
        stream: Any = tcp
        if context is not None:
            stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
            request = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)  # noqa: PLW2901  TLS has no half-closed connections
        async with tcp:
            await stream.send_all(request)
            if context is None:
                await stream.send_eof()
            received = b""
            with trio.fail_after(PATIENCE_SECONDS):
                async for chunk in stream:
                    received += chunk
        told[repr(request[:60])] = received.decode("latin-1")
    return told


async def at_the_websocket(server: RunningServer, **how: Any) -> dict[str, str]:
    """Refused handshakes, and what a connection without a token is told before it is closed."""
    told = {}
    for name, arguments in {
        "path": {"path": "/elsewhere"},
        "origin": {"origin": "https://evil.example"},
        "query": {"path": "/ws?token=a"},
        "host": {"additional_headers": {"Host": "evil.example"}},
    }.items():
        try:
            async with server.peer(hello=False, **how, **arguments):  # type: ignore[arg-type]
                told[name] = "entered"
        except InvalidStatus as refusal:
            told[name] = f"{refusal.response.headers} {(refusal.response.body or b'').decode()}"
    for name, message in {
        "no token": {"type": "hello", "id": "1", "data": {"client_id": "me"}},
        "wrong token": {"type": "hello", "id": "1", "data": {"client_id": "me", "token": "lv_0123456789ab_x"}},
        "no hello": {"type": "ping", "id": "1"},
        "nonsense": {"type": "hello", "data": {"client_id": 5}},
    }.items():
        try:
            async with server.peer(hello=False, **how) as peer:
                told[name] = await all_said(peer, message, leaves=name == "nonsense")
        except InvalidStatus as refusal:
            # Without access there is no handshake either.
            told[name] = f"{refusal.response.headers} {(refusal.response.body or b'').decode()}"
    return told


async def all_said(peer: Peer, message: dict[str, Any], *, leaves: bool) -> str:
    """What comes until the connection is closed."""
    await peer.send(message["type"], message.get("id"), message.get("data"))
    said = ""
    with trio.fail_after(PATIENCE_SECONDS):
        try:
            while True:
                said += str(await peer.websocket.recv())
                if leaves:
                    await peer.websocket.aclose()
        except ConnectionClosed as closed:
            return f"{said} {closed}"


def leaking(server: RunningServer, told: dict[str, str]) -> dict[str, tuple[list[str], str]]:
    """Which answers say something of the server's insides, and what."""
    found = {}
    for asked, answer in told.items():
        page = any(asked.startswith(f"GET {one}") for one in PUBLIC)
        if what := leaks(server, answer.partition("\r\n\r\n")[0] if page else answer):
            found[asked] = (what, answer[-300:])
    return found


async def test_op27_nor_over_tls_and_at_the_websocket_on_the_port_of_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with secure_server(tmp_path, monkeypatch) as (server, context):
        await server.system.reference("access").ask(CreateToken(client_ids=("me",)), timeout=60)
        await unlink_database(server)
        await break_helpers_and_rooms(server)
        url = server.about.rest_url.replace("https://127.0.0.1", "wss://localhost") + "/ws"
        at_rest = evolve(server, about=evolve(server.about, websocket_url=url))
        told = {
            **await over_rest(server),
            **await odd_answers(server, context),
            **await at_the_websocket(at_rest, ssl=context),
        }
        assert len(told) > 100
        assert "unauthorized" in told["no token"]
        assert leaking(server, told) == {}


@pytest.mark.parametrize("state", STATES)
async def test_op_no_answer_to_a_stranger_names_anything_in_any_state(
    engineless_server: RunningServer, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = engineless_server
    ways, words = STATES[state]
    made = await server.system.reference("access").ask(CreateToken(client_ids=("me",)), timeout=60)
    if state == "without access":
        # Each request would wait as long for it as the product lets it.
        monkeypatch.setattr("actors.rest.services.ACCESS_SECONDS", 0.05)
        monkeypatch.setattr("actors.rest.auth.ACCESS_SECONDS", 0.05)
        monkeypatch.setattr("actors.connections.session.AUTHENTICATE_SECONDS", 0.05)
        monkeypatch.setattr("actors.connections.connection.ORIGIN_SECONDS", 0.05)
    monkeypatch.setattr(server.system, "stopping_reason", server.system.stopping_reason)
    monkeypatch.setattr(process_memory, "_shortages", [])
    for reach in ways:
        await reach(server)

    async def ready(token: str | None = None) -> dict[str, Any]:
        async with server.http() as http:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            body: dict[str, Any] = (await http.get("/health/ready", headers=headers)).json()
            return body

    async def says_so() -> bool:
        return words <= set((await ready()).get("reasons", ()))

    await eventually(says_so, what=f"readiness says {words}")
    if state == "without its database":
        assert str(server.settings.data_dir) in str(await ready(made.token)), "who may know is told the details"
    told = {**await over_rest(server), **await odd_answers(server), **await at_the_websocket(server)}
    assert leaking(server, told) == {}
    # Or nothing would stop it at the end, and what is suspended takes part in the stop.
    monkeypatch.undo()
    for path in ("access", "storage/writer"):
        suspend(server.system, path, suspended=False)
