"""A request ends with the token that began it, on routes that no model has a part in too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from actors import write_pace
from actors.access.messages import CreateToken, ForgetTokens, MadeToken, RevokeToken
from tests.rest.test_slow_clients import connect, read_to_end
from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.integration

TASKS = 200


async def made_token(server: RunningServer) -> MadeToken:
    wanted = CreateToken(client_ids=("me",), name="test", roles=("user", "operator"), expires_ms=None)
    made: MadeToken = await server.system.reference("access").ask(wanted, timeout=60)
    return made


def bearer(token: MadeToken) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.token}"}


@pytest.mark.parametrize("way", ["revoked", "forgotten"])
@pytest.mark.parametrize(
    ("method", "path", "service"), [("GET", "/tasks/me", "tasks"), ("POST", "/models/mock/load", "inference/inference")]
)
async def test_a_request_that_waits_is_refused_when_its_token_ends(
    engineless_server: RunningServer, way: str, method: str, path: str, service: str
) -> None:
    """A request ends with its token, whichever service it waits for."""
    server = engineless_server
    token = await made_token(server)
    answers: list[Any] = []

    async def ask() -> None:
        async with server.http(headers=bearer(token)) as http:
            answers.append(await http.request(method, path))

    await server.inspect({"command": "suspend", "path": service})
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await eventually(lambda: answered(server))
            access = server.system.reference("access")
            message = RevokeToken(token.description.token_id) if way == "revoked" else ForgetTokens()
            await access.ask(message, timeout=60)
    finally:
        await server.inspect({"command": "resume", "path": service})
    (answer,) = answers
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthorized"


@pytest.fixture
async def full_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningServer]:
    """With tasks enough that an export does not fit into what sockets hold."""
    async with running_server(tmp_path, wait=False, send_buffer_bytes=4096) as server:
        tasks = [{"title": f"t{one}", "description": "x" * 4000} for one in range(TASKS)]
        async with server.http() as http:
            imported = await http.post("/tasks/me/import", json={"tasks": tasks})
            assert imported.status_code == 200, imported.text
        yield server


async def test_a_download_is_cut_when_its_token_ends(
    full_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut, and not ended: nobody may take a part for the whole. That holds for one who does not read, too."""
    # By this alone nothing would end here.
    monkeypatch.setattr(write_pace, "WINDOW_SECONDS", 600.0)
    token = await made_token(full_server)
    async with await connect(full_server) as stream:
        stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        head = f"GET /tasks/me/export HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token.token}\r\n\r\n"
        await stream.send_all(head.encode())
        assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 200 ")
        await full_server.system.reference("access").ask(RevokeToken(token.description.token_id), timeout=60)

        async def is_over() -> bool:
            return await answered(full_server) == 0

        # Nothing is read meanwhile, so what is being written cannot go out.
        await eventually(is_over)
        rest = await read_to_end(stream)
    assert not rest.endswith(b"0\r\n\r\n")


async def answered(server: RunningServer) -> int:
    """How many requests are being answered."""
    return int((await server.snapshot("rest"))["answering"])
