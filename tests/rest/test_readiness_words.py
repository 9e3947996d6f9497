"""What `/health/ready` tells strangers: a word for each reason, and no name of anything."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from actors.access.messages import CreateToken
from actors.inference.worker_config import WorkerConfig
from runtime.inspection import suspend
from runtime.testing import crash
from tests.connections.test_opening_handshake import Case, read_answer
from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.integration

WORD = re.compile(r"[a-z]+")


async def ready(server: RunningServer, token: str | None = None) -> tuple[int, dict[str, list[str]]]:
    async with server.http() as http:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        answer = await http.get("/health/ready", headers=headers)
        return answer.status_code, answer.json()


async def test_op_readiness_names_nothing_to_who_has_no_token(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = engineless_server
    server.system.record("inspection").problem = "/home/somebody/data/server.json is not there"
    status, without_tokens = await ready(server)
    assert status == 503
    assert any("engine is loading: starting" in one for one in without_tokens["reasons"]), "nobody is a stranger here"
    made = await server.system.reference("access").ask(CreateToken(client_ids=("me",)), timeout=60)
    # A supervisor that is about to give up, and services that do not answer at all.
    for _ in range(3):
        crash(server.system, "tasks", ValueError("a bug at postgresql://role@host:5432"))
        await eventually(lambda: server.system.reference("tasks").is_running)
    monkeypatch.setattr(server.system, "stopping_reason", "SIGTERM from /home/somebody")
    status, stranger = await ready(server)
    assert status == 503
    assert {"stopping", "engine"} <= set(stranger["reasons"])
    assert [one for one in (*stranger["reasons"], *stranger["degraded"]) if not WORD.fullmatch(one)] == []
    status, known = await ready(server, made.token)
    assert status == 503
    assert any("/home/somebody/data/server.json" in one for one in known["degraded"])
    assert any("engine is loading" in one for one in known["reasons"])
    _, guessed = await ready(server, "lv_guess_guess")
    assert guessed == stranger
    # Or nothing would stop it at the end.
    monkeypatch.undo()


HEAD = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
BELOW: dict[str, tuple[bytes, int]] = {
    # Refused by the HTTP library, by ours around it, or by the router: no route has a part in them.
    "no header": (b"GET /health/live" + HEAD + b"X\r\n\r\n", 400),
    "no request": (b"\x16\x03\x01\r\n\r\n", 400),
    "nobody": (b"GET /v1/models" + HEAD + b"\r\n", 401),
    "another host": (b"GET /health/live HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
    "no path": (b"GET /nothing" + HEAD + b"\r\n", 401),
    "no method": (b"BREW /health/live" + HEAD + b"\r\n", 405),
    "a small method": (b"get /health/live" + HEAD + b"\r\n", 405),
    "a large body": (b"POST /ai/process" + HEAD + b"Content-Length: 99999999\r\n\r\n", 413),
    "a large chunk": (b"POST /ai/process" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n", 413),
    "a long address": (b"GET /" + b"a" * 9000 + HEAD + b"\r\n", 414),
    "an expectation": (b"POST /ai/process" + HEAD + b"Expect: x\r\nContent-Length: 2\r\n\r\n{}", 417),
    "no WebSocket": (b"GET /ws" + HEAD + b"\r\n", 426),
    "a large head": (b"GET /" + HEAD + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    "a coding": (b"POST /ai/process" + HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
    "not ready": (b"GET /health/ready" + HEAD + b"\r\n", 503),
    "no listener": (Case(status=101).encode(), 503),
}
PAGES = ("/", "/docs", "/push")


@pytest.fixture(params=["plain", "TLS"])
async def strangers_server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[RunningServer, ssl.SSLContext | None]]:
    """A server with tokens; its engine never comes up."""
    monkeypatch.setattr(WorkerConfig, "command", lambda *_: ["sleep", "60"])
    how, context = {}, None
    if request.param == "TLS":
        authority, chain = trustme.CA(), tmp_path / "chain.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(chain))
        context = ssl.create_default_context()
        authority.configure_trust(context)
        how = {"tls_certificate": chain}
    async with running_server(tmp_path, wait=False, **how) as server:
        await server.system.reference("access").ask(CreateToken(client_ids=("me",)), timeout=60)
        yield server, context


async def raw(server: RunningServer, context: ssl.SSLContext | None, sent: bytes) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of the answer; the connection ends behind it."""
    tcp = await trio.open_tcp_stream("127.0.0.1", int(server.about.rest_url.rpartition(":")[2]))
    stream: Any = tcp
    if context is not None:
        stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
    async with tcp:
        await stream.send_all(sent)
        return await read_answer(stream, until_end=True)


async def test_op19_every_json_answer_to_a_stranger_forbids_to_guess_another_type_also_below_the_application(
    strangers_server: tuple[RunningServer, ssl.SSLContext | None],
) -> None:
    server, context = strangers_server
    found, wanted = {}, {}
    for name, (sent, status) in BELOW.items():
        suspend(server.system, "connections/listener", suspended=name == "no listener")
        told, headers, body = await raw(server, context, sent)
        wanted[name] = (status, "nosniff", True)
        is_named = "json" in headers["content-type"] or (name == "no listener" and bool(body))
        found[name] = (told, headers.get("x-content-type-options"), is_named)
    suspend(server.system, "connections/listener", suspended=False)
    assert found == wanted


async def test_op16_readiness_tells_a_word_only_over_tls_too(
    strangers_server: tuple[RunningServer, ssl.SSLContext | None],
) -> None:
    server, context = strangers_server
    status, _, body = await raw(server, context, b"GET /health/ready" + HEAD + b"\r\n")
    told = json.loads(body)
    assert (status, told["status"]) == (503, "not_ready")
    assert "engine" in told["reasons"]
    assert [one for one in (*told["reasons"], *told.get("degraded", ())) if not WORD.fullmatch(one)] == []


async def test_ht9_pages_and_all_that_they_load_open_without_a_token_over_tls_too(
    strangers_server: tuple[RunningServer, ssl.SSLContext | None],
) -> None:
    server, context = strangers_server
    for page in PAGES:
        status, headers, html = await raw(
            server, context, b"GET " + page.encode() + HEAD + b"Accept: text/html\r\n\r\n"
        )
        assert (page, status, headers["content-type"]) == (page, 200, "text/html; charset=utf-8")
        loaded = re.findall(r'(?:src|href)="(/[^"#?]*)"', html)
        assert loaded, page
        for one in {*loaded, page}:
            status, headers, text = await raw(server, context, b"GET " + one.encode() + HEAD + b"Accept: */*\r\n\r\n")
            assert (one, status, headers.get("x-content-type-options")) == (one, 200, "nosniff")
            assert "lv_" not in text.replace("lv_…", ""), one
            assert str(server.settings.data_dir) not in text


async def test_op_every_json_answer_forbids_to_guess_another_type(tmp_path: Path) -> None:
    async with running_server(tmp_path, wait=False) as server, server.http() as http:
        for path in (
            "/health",
            "/health/live",
            "/health/ready",
            "/tasks/a",
            "/nothing",
            "/tasks/a/nothing",
            "/openapi.json",
        ):
            answer = await http.get(path)
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path
