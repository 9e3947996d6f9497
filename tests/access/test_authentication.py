"""Authentication and permissions over both listeners of a real server: tokens, their expiry, and what each permits."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from websockets.exceptions import InvalidStatus

from actors.access.actor import Access, AccessSettings
from actors.access.local_token import LOCAL_TOKEN_FILE, read_local_token
from actors.access.messages import (
    AuthenticationError,
    CheckIdentity,
    CreateToken,
    EnsureLocalToken,
    ForgetTokens,
    Identity,
    ListTokens,
    MadeToken,
    RevokeToken,
)
from actors.access.tokens import new_token
from actors.errors import CommandError
from actors.storage.messages import Storage
from runtime.inspection import suspend
from runtime.testing import RecordingRef, crash, run_handler
from tests.server_fixture import Peer, RunningServer, eventually, running_server

pytestmark = pytest.mark.integration


async def make_token(server: RunningServer, *client_ids: str, **changes: Any) -> MadeToken:
    """Create a token with the server's access service."""
    made: MadeToken = await server.system.reference("access").ask(
        CreateToken(**{"client_ids": client_ids or ("me",), **changes}), timeout=60
    )
    return made


def bearer(token: MadeToken | str | None) -> dict[str, str]:
    """Return the header that presents a token."""
    if token is None:
        return {}
    return {"Authorization": f"Bearer {token if isinstance(token, str) else token.token}"}


@asynccontextmanager
async def greeted(server: RunningServer, token: MadeToken, client_id: str = "me") -> AsyncIterator[Peer]:
    """Open a connection authenticated by a token."""
    async with server.peer(hello=False) as peer:
        await peer.hello(client_id, token=token.token)
        yield peer


async def status(server: RunningServer, path: str, token: MadeToken | str | None = None, **headers: str) -> int:
    async with server.http() as http:
        return (await http.get(path, headers={**bearer(token), **headers})).status_code


# --- without tokens -----------------------------------------------------------------------------------


async def test_without_tokens_this_machine_enters_and_rest_ignores_the_header(engineless_server: RunningServer) -> None:
    assert await status(engineless_server, "/health") == 200
    assert await status(engineless_server, "/health", "sk-any-dummy-key") == 200
    assert await status(engineless_server, "/metrics", "sk-any-dummy-key") == 200
    assert not (engineless_server.settings.data_dir / LOCAL_TOKEN_FILE).exists()
    async with engineless_server.peer():
        pass


async def test_a_server_for_other_machines_lets_nobody_in_without_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`leanvibe serve` refuses to start like this; if the tokens vanish in another way, access stays closed all the same."""
    nobody: RecordingRef = RecordingRef("storage")
    access = Access(AccessSettings(data_folder=tmp_path, is_loopback_only=False), Storage(nobody, nobody))
    for token in (None, "x"):
        check = CheckIdentity(client_id="me", token=token, may_be_needless=True)
        refused = await run_handler(access, check)
        assert isinstance(refused.error, AuthenticationError)
        assert refused.error.is_forbidden is False


# --- with tokens --------------------------------------------------------------------------------------


async def test_p13_every_route_needs_a_token_but_the_two_probes(engineless_server: RunningServer) -> None:
    await make_token(engineless_server)
    wrong = new_token()[1]
    async with engineless_server.http() as http:
        assert (await http.get("/health/live")).status_code == 200
        assert (await http.get("/health/ready")).status_code == 503, "the engine loads; nobody is asked for a token"
        for path in ("/health", "/health/mlx", "/metrics", "/models", "/nothing-here", "/health/live/", "/HEALTH/LIVE"):
            for header in (
                {},
                bearer(wrong),
                bearer("sesame"),
                {"Authorization": "Basic bWU6bWU="},
                {"Authorization": "Bearer"},
            ):
                answer = await http.get(path, headers=header)
                assert (path, header, answer.status_code) == (path, header, 401)
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert answer.json()["code"] == "unauthorized"
        assert (await http.post("/ai/process", json={"type": "message", "content": "x"})).status_code == 401


async def test_roles_open_what_is_theirs(engineless_server: RunningServer) -> None:
    user = await make_token(engineless_server)
    operator = await make_token(engineless_server, roles=("operator",))
    for path in ("/metrics", "/models", "/models/anything", "/metrics/x"):
        assert await status(engineless_server, path, user) == 403
    assert await status(engineless_server, "/metrics", operator) == 200
    assert await status(engineless_server, "/models-of-another-kind", user) == 404
    for token in (user, operator):
        assert await status(engineless_server, "/health", token) == 200


async def test_the_client_id_comes_from_the_header_or_the_token(engineless_server: RunningServer) -> None:
    access = engineless_server.system.reference("access")
    token = await make_token(engineless_server, "first", "second")

    async def who(client_id: str | None) -> Identity:
        identity: Identity = await access.ask(CheckIdentity(client_id=client_id, token=token.token), timeout=60)
        return identity

    assert (await who(None)).client_id == "first"
    assert (await who("second")).client_id == "second"
    assert (await who("second")).domain == (await who("first")).domain == token.description.token_id
    assert await status(engineless_server, "/health", token, **{"X-Client-Id": "second"}) == 200
    async with engineless_server.http() as http:
        other = await http.get("/health", headers={**bearer(token), "X-Client-Id": "other"})
        assert (other.status_code, other.json()["field"]) == (403, "X-Client-Id")
        wrong = await http.get("/health", headers={**bearer(None), "X-Client-Id": "no such name!"})
        assert wrong.status_code == 401


async def test_a_header_that_names_no_client_is_a_named_fault(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        for name in ("", "a/b", "-x", "x" * 65):
            wrong = await http.get("/health", headers={"X-Client-Id": name})
            expected = (200, None) if name == "" else (422, "X-Client-Id")
            assert (wrong.status_code, wrong.json().get("field")) == expected


async def test_a_hello_needs_its_token_and_its_client_id(engineless_server: RunningServer) -> None:
    token = await make_token(engineless_server, "me", "you")
    for client_id in ("me", "you"):
        async with greeted(engineless_server, token, client_id) as peer:
            assert (await peer.ask("ping", "1", 1))["type"] == "pong"
    cases: list[tuple[dict[str, Any], str, int]] = [
        ({"client_id": "me"}, "unauthorized", 4401),
        ({"client_id": "me", "token": "sesame"}, "unauthorized", 4401),
        ({"client_id": "me", "token": new_token()[1]}, "unauthorized", 4401),
        ({"client_id": "other", "token": token.token}, "forbidden", 4403),
        ({"client_id": "local", "token": token.token}, "forbidden", 4403),
    ]
    for hello, code, close in cases:
        async with engineless_server.peer(hello=False) as peer:
            answer = await peer.ask("hello", "1", hello)
            assert (answer["type"], answer["data"]["code"]) == ("error", code)
            assert hello.get("token", "…") not in json.dumps(answer)
            assert await peer.close_code() == close


async def test_a_revoked_token_closes_its_connections_and_fails_at_once(engineless_server: RunningServer) -> None:
    access = engineless_server.system.reference("access")
    mine, other = await make_token(engineless_server), await make_token(engineless_server)
    async with (
        greeted(engineless_server, mine) as one,
        greeted(engineless_server, mine) as two,
        greeted(engineless_server, other) as third,
    ):
        assert await status(engineless_server, "/health", mine) == 200
        await access.ask(RevokeToken(mine.description.token_id), timeout=60)
        assert await status(engineless_server, "/health", mine) == 401
        assert await one.close_code() == await two.close_code() == 4401
        assert (await third.ask("ping", "1", 1))["type"] == "pong"
    assert await status(engineless_server, "/health", other) == 200


async def test_an_expired_token_closes_its_connections(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    token = await make_token(engineless_server, expires_ms=int(time.time() * 1000) + 3_600_000)
    async with greeted(engineless_server, token) as peer:
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 3_601)
        assert await status(engineless_server, "/health", token) == 401
        assert await peer.close_code() == 4401


async def test_the_first_token_ends_what_entered_without(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as early:
        token = await make_token(engineless_server)
        assert await early.close_code() == 4401
        assert await status(engineless_server, "/health") == 401
        assert await status(engineless_server, "/health", token) == 200


async def test_connections_are_closed_even_by_an_access_service_that_was_lost(engineless_server: RunningServer) -> None:
    access = engineless_server.system.reference("access")
    token = await make_token(engineless_server)
    async with greeted(engineless_server, token) as peer:
        crash(engineless_server.system, "access", RuntimeError("x"))

        async def knows_the_connection() -> bool:
            return access.is_running and (await engineless_server.snapshot("access"))["sessions"] == 1

        await eventually(lambda: access.incarnation == 2 and access.is_running)
        await eventually(knows_the_connection)
        assert (await peer.ask("ping", "1", 1))["type"] == "pong"
        await access.ask(RevokeToken(token.description.token_id), timeout=60)
        assert await peer.close_code() == 4401
    await eventually(lambda: _holds(engineless_server, 0))


async def _holds(server: RunningServer, count: int) -> bool:
    return bool((await server.snapshot("access"))["sessions"] == count)


async def test_a_session_that_ends_is_forgotten(engineless_server: RunningServer) -> None:
    token = await make_token(engineless_server)
    async with greeted(engineless_server, token):
        assert await _holds(engineless_server, 1)
    await eventually(lambda: _holds(engineless_server, 0))


async def test_tokens_are_still_there_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.inference.worker_config import WorkerConfig

    monkeypatch.setattr(WorkerConfig, "command", lambda *_: ["sleep", "60"])
    async with running_server(tmp_path, wait=False) as server:
        token = await make_token(server)
        local = read_local_token(tmp_path)
    async with running_server(tmp_path, wait=False) as server:
        assert await status(server, "/health", token) == 200
        assert await status(server, "/health") == 401
        assert read_local_token(tmp_path) == local, "what is there and right stays"


async def test_checks_read_no_database(engineless_server: RunningServer) -> None:
    token = await make_token(engineless_server)
    for path in ("storage/readers", "storage/writer"):
        suspend(engineless_server.system, path, suspended=True)
    assert await status(engineless_server, "/health/mlx", token) == 503, "let in; the engine is what is missing"
    assert await status(engineless_server, "/health/mlx", new_token()[1]) == 401


async def test_a_change_that_was_cancelled_is_looked_up_afterwards(engineless_server: RunningServer) -> None:
    """The write may be on disk though its caller was cancelled; memory and disk must agree all the same."""
    access = engineless_server.system.reference("access")
    token = await make_token(engineless_server)
    for _ in range(20):
        with trio.move_on_after(0):
            await access.ask(RevokeToken(token.description.token_id), timeout=60)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: access.ask(RevokeToken(token.description.token_id), timeout=60))
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    async def agrees() -> bool:
        (found,) = [one for one in await access.ask(ListTokens(), timeout=60) if not one.is_local]
        is_open = await status(engineless_server, "/health", token) == 200
        return is_open == (found.revoked_ms is None)

    assert await agrees()
    await access.ask(RevokeToken(token.description.token_id), timeout=60)
    assert await status(engineless_server, "/health", token) == 401


# --- the command line's own token ---------------------------------------------------------------------


async def test_the_first_token_brings_one_for_this_machines_command_line(engineless_server: RunningServer) -> None:
    folder = engineless_server.settings.data_dir
    await make_token(engineless_server)
    path = folder / LOCAL_TOKEN_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    local = read_local_token(folder)
    assert await status(engineless_server, "/metrics", local, **{"X-Client-Id": "anybody"}) == 200
    assert not list(folder.glob(".cli-token-*"))


@pytest.mark.parametrize("spoil", ["missing", "readable by others", "another's", "empty", "binary"])
async def test_a_local_token_that_cannot_be_trusted_is_made_anew(engineless_server: RunningServer, spoil: str) -> None:
    folder = engineless_server.settings.data_dir
    access = engineless_server.system.reference("access")
    await make_token(engineless_server)
    old, path = read_local_token(folder), folder / LOCAL_TOKEN_FILE
    match spoil:
        case "missing":
            path.unlink()
        case "readable by others":
            path.chmod(0o640)
        case "another's":
            path.write_text(new_token()[1], encoding="ascii")
        case "empty":
            path.write_bytes(b"")
        case "binary":
            path.write_bytes(b"\xff" * 100)
    assert await access.ask(EnsureLocalToken(), timeout=60) is True
    new = read_local_token(folder)
    assert new is not None
    assert new != old
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await status(engineless_server, "/metrics", new) == 200
    assert await status(engineless_server, "/metrics", old) == 401


async def test_revoking_the_local_token_replaces_it(engineless_server: RunningServer) -> None:
    access = engineless_server.system.reference("access")
    await make_token(engineless_server)
    old = read_local_token(engineless_server.settings.data_dir)
    (local,) = [one for one in await access.ask(ListTokens(), timeout=60) if one.is_local]
    await access.ask(RevokeToken(local.token_id), timeout=60)
    new = read_local_token(engineless_server.settings.data_dir)
    assert await status(engineless_server, "/metrics", old) == 401
    assert await status(engineless_server, "/metrics", new) == 200


async def test_forgetting_all_tokens_opens_this_machine_again(engineless_server: RunningServer) -> None:
    access = engineless_server.system.reference("access")
    token = await make_token(engineless_server)
    async with greeted(engineless_server, token) as peer:
        assert await access.ask(ForgetTokens(), timeout=60) == 2
        assert await peer.close_code() == 4401
    assert await status(engineless_server, "/health") == 200
    assert not (engineless_server.settings.data_dir / LOCAL_TOKEN_FILE).exists()


async def test_tokens_are_not_forgotten_while_other_machines_may_come(tmp_path: Path) -> None:
    nobody: RecordingRef = RecordingRef("storage")
    access = Access(AccessSettings(data_folder=tmp_path, is_loopback_only=False), Storage(nobody, nobody))
    refused = await run_handler(access, ForgetTokens(), run_spawned=True)
    assert isinstance(refused.error, CommandError)
    assert refused.error.code.value == "conflict"


# --- addresses ----------------------------------------------------------------------------------------


async def test_p13_a_token_in_an_address_is_refused_by_both_listeners(engineless_server: RunningServer) -> None:
    token = await make_token(engineless_server)
    for query in (f"token={token.token}", f"x={token.token}", "access_token=1"):
        async with engineless_server.http() as http:
            answer = await http.get(f"/health?{query}", headers=bearer(token))
            assert answer.status_code == 403
            assert "Authorization: Bearer" in answer.json()["detail"]
            assert token.token not in answer.text
        with pytest.raises(InvalidStatus) as caught:
            async with engineless_server.peer(hello=False, path=f"/ws?{query}"):
                pass
        body = (caught.value.response.body or b"").decode()
        assert caught.value.response.status_code == 403
        assert "hello" in body
        assert token.token not in body
