"""Pages of other origins, public pages, and what every answer says: by httpx against the real server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.access.messages import CreateToken, MadeToken
from actors.rest.auth import PUBLIC_PATHS
from actors.rest.cross_origin import preflight_headers
from tests.server_fixture import RunningServer, running_server

pytestmark = pytest.mark.integration

ALLOWED = "https://app.example"
LOCAL = "http://localhost:3000"
OF_CORS = "access-control-"


async def made_token(server: RunningServer, client_id: str = "ann") -> str:
    wanted = CreateToken(client_ids=(client_id,), roles=("user",), name="test", expires_ms=None)
    made: MadeToken = await server.system.reference("access").ask(wanted, timeout=60)
    return made.token


def words_of_cors(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith(OF_CORS)}


async def test_a_page_of_an_allowed_origin_asks_with_its_token_and_reads_the_answer(tmp_path: Path) -> None:
    """As a browser does it: the preflight has no token, the request has, and every answer can be read, errors too."""
    async with (
        running_server(tmp_path, wait=False, allowed_origins=[ALLOWED]) as server,
        server.http() as http,
    ):
        token = await made_token(server)
        for origin in (ALLOWED, LOCAL):
            for method, path in (
                ("POST", "/v1/chat/completions"),
                ("GET", "/v1/models"),
                ("PATCH", "/tasks/ann/00000000-0000-4000-8000-000000000000"),
                ("DELETE", "/notifications/ann/devices/phone"),
                ("GET", "/health/live"),
                ("PUT", "/subscriptions/phone"),
            ):
                asked = {
                    "Origin": origin,
                    "Access-Control-Request-Method": method,
                    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os, bad name",
                }
                preflight = await http.options(path, headers=asked)
                assert preflight.status_code == 204, (path, preflight.text)
                assert preflight.content == b""
                words = words_of_cors(preflight)
                assert words["access-control-allow-origin"] == origin
                assert method in words["access-control-allow-methods"].split(", ")
                taken = words["access-control-allow-headers"].lower().split(", ")
                assert {"authorization", "content-type", "x-stainless-os", "if-match", "x-client-id"} <= set(taken)
                assert "bad name" not in taken
                assert "origin" in preflight.headers["vary"].lower()
                assert "access-control-allow-credentials" not in words
        for headers, status in (({"Authorization": f"Bearer {token}"}, 200), ({}, 401)):
            response = await http.get("/tasks/ann", headers={"Origin": ALLOWED, **headers})
            assert response.status_code == status
            assert response.headers["access-control-allow-origin"] == ALLOWED
            assert {"ETag", "Retry-After", "X-Request-Id"} <= set(
                response.headers["access-control-expose-headers"].split(", ")
            )
            assert "origin" in response.headers["vary"].lower()
        nowhere = await http.get("/nowhere", headers={"Origin": ALLOWED, "Authorization": f"Bearer {token}"})
        assert (nowhere.status_code, nowhere.headers["access-control-allow-origin"]) == (404, ALLOWED)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://app.example.evil", "null", "http://localhost.evil"]
)
async def test_a_page_of_another_origin_is_told_nothing(tmp_path: Path, origin: str) -> None:
    async with (
        running_server(tmp_path, wait=False, allowed_origins=[ALLOWED]) as server,
        server.http() as http,
    ):
        for path in ("/v1/models", "/health/live", "/tasks/ann", "/nowhere"):
            preflight = {"Origin": origin, "Access-Control-Request-Method": "GET"}
            for response in (await http.options(path, headers=preflight), await http.get(path, headers=preflight)):
                assert response.status_code == 403
                assert words_of_cors(response) == {}
                assert "origin" in response.headers["vary"].lower()


async def test_a_request_of_no_page_has_nothing_of_it_but_differs_by_origin(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        response = await http.get("/health/live")
        assert words_of_cors(response) == {}
        assert response.headers["vary"] == "Origin"
        # No preflight: what a route takes is told to those who may ask it.
        options = await http.options("/ai/process")
        assert (options.status_code, "POST" in options.headers["allow"]) == (200, True)


def test_a_private_network_is_granted_where_that_is_asked() -> None:
    def words(*, asks: bool) -> Any:
        return preflight_headers(LOCAL, ["GET"], None, asks_for_private_network=asks)

    assert words(asks=True)["Access-Control-Allow-Private-Network"] == "true"
    assert "Access-Control-Allow-Private-Network" not in words(asks=False)


def timeless(response: httpx.Response) -> bytes:
    """Its body, without the time of day that one of them tells."""
    return re.sub(rb'"time_ms":[0-9]+', b"", response.content)


async def test_public_pages_open_without_a_token_and_tell_no_secret(tmp_path: Path) -> None:
    """Pages have a field for the token, so they must be seen without one; what they ask for needs it."""
    async with running_server(tmp_path, wait=False) as server, server.http() as http:
        without = {path: timeless(await http.get(path)) for path in PUBLIC_PATHS if not path.startswith("/health")}
        token = await made_token(server)
        for path, content in without.items():
            response = await http.get(path)
            assert (response.status_code, timeless(response)) == (200, content), path
            assert response.headers["x-content-type-options"] == "nosniff"
            assert (await http.head(path)).status_code == 200
        for path in ("/push/key", "/docs/oauth2-redirect.html", "/notifications/ann", "/metrics", "/nowhere"):
            assert (await http.get(path)).status_code == 401, path
        assert (await http.get("/push/key", headers={"Authorization": f"Bearer {token}"})).status_code == 200


async def test_public_pages_are_all_that_the_pages_load(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        for page in ("/push", "/docs", "/"):
            html = (await http.get(page, headers={"Accept": "text/html"})).text
            loaded = re.findall(r'(?:src|href)="([^"]+)"', html)
            assert len(loaded) >= 2
            for one in loaded:
                assert str(httpx.URL(one).path) in PUBLIC_PATHS, one
        scripts = [(await http.get(one)).text for one in ("/docs/start.js", "/push/page.js")]
        asked = re.findall(r'"(/openapi\.json|/push/worker\.js)"', "".join(scripts))
        assert set(asked) == {"/openapi.json", "/push/worker.js"} <= PUBLIC_PATHS


async def test_every_answer_has_the_name_of_its_request(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        for path in ("/health/live", "/nowhere", "/v1/nowhere"):
            assert (await http.get(path, headers={"X-Request-Id": "a-1.b:2"})).headers["x-request-id"] == "a-1.b:2"
            made = {(await http.get(path)).headers["x-request-id"] for _ in range(3)}
            assert len(made) == 3
        for wrong in ("", "a b", "a" * 129, 'a"', "é".encode().decode("latin-1")):
            told = (await http.get("/health/live", headers={"X-Request-Id": wrong.encode("latin-1")})).headers[
                "x-request-id"
            ]
            assert len(told) == 24
            assert told != wrong


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "GZIP"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tasks/ann", "/ai/process"])
async def test_compressed_bodies_are_refused_by_name(
    engineless_server: RunningServer, encoding: str, path: str
) -> None:
    async with engineless_server.http() as http:
        response = await http.post(path, content=b"\x1f\x8b\x08", headers={"Content-Encoding": encoding})
        assert response.status_code == 415
        assert response.headers["accept-encoding"] == "identity"
        lines = [("Content-Encoding", "identity"), ("Content-Encoding", encoding)]
        assert (await http.post(path, content=b"{}", headers=lines)).status_code == 415
        plain = await http.post(path, content=b"{}", headers={"Content-Encoding": "identity"})
        assert plain.status_code != 415


async def test_a_path_with_an_empty_part_is_not_there(engineless_server: RunningServer) -> None:
    """The router's own redirect was HTML."""
    server_url = engineless_server.about.rest_url
    async with engineless_server.http() as http:
        for path in ("/tasks//a", "//health", "/health/", "/tasks/a/", "/v1//models"):
            # httpx would take the first part of //health for a host.
            response = await http.get(httpx.URL(server_url).copy_with(raw_path=path.encode()))
            assert response.status_code == 404, path
            assert response.headers["content-type"] in ("application/problem+json", "application/json")
