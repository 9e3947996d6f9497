"""The OpenAPI document says what the routes do: schemathesis finds nothing, and the page to try them needs no network."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from jsonschema import Draft202012Validator

from actors import rest
from actors.rest.openapi import openapi
from actors.rest.openapi_services import EXAMPLES
from tests.server_fixture import RunningServer


def test_every_schema_of_the_document_is_one_and_every_reference_leads_somewhere() -> None:
    document = openapi("1")
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    for kind, name in re.findall(r"#/components/(\w+)/(\w+)", str(document)):
        assert name in document["components"][kind]
    assert schemas["TaskCreate"]["additionalProperties"] is False
    assert "version" not in schemas["TaskUpdateHere"]["properties"]


@pytest.mark.integration
async def test_schemathesis_finds_nothing(server: RunningServer, tmp_path: Path) -> None:
    await server.until_engine_is("ready")
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--no-color", "--config-file", str(Path(__file__).with_name("schemathesis.toml")), "run", f"{server.about.rest_url}/openapi.json",
        "--include-path-regex", "^/tasks/", "--phases", "examples,coverage,fuzzing", "--max-examples", "16", "--seed", "7",
        "--generation-deterministic", "--request-timeout", "20",
    ]  # fmt: skip
    result = await trio.run_process(
        command,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stdout.decode()[-30000:] + result.stderr.decode()[-2000:]


@pytest.mark.integration
async def test_the_page_to_try_the_routes_on_comes_from_this_server_alone(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        page = await http.get("/docs")
        addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert addresses
        for address in addresses:
            assert address.startswith("/")
            assert (await http.get(address)).status_code == 200
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert (await http.get("/openapi.json")).json()["openapi"] == "3.1.0"
        assert (await http.get("/docs/..%2f__init__.py")).status_code == 404
        assert (await http.get("/docs/swagger-ui.js")).status_code == 404


@pytest.mark.integration
async def test_the_document_describes_every_route_and_its_examples_are_carried_out(
    server: RunningServer,
) -> None:
    document = openapi("1")
    described = {(method, path) for path, one in document["paths"].items() for method in one if method != "parameters"}
    sources = [one.read_text() for one in Path(rest.__file__).parent.rglob("*.py")]
    routes = {found for text in sources for found in re.findall(r'@app\.(get|post|put|patch|delete)\("([^"]+)"', text)}
    assert len(routes) > 50
    plain = {(method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path)) for method, path in routes}
    # Files of a page are no routes that anybody calls.
    assert {one for one in plain if not one[1].startswith("/docs/")} - described == set()
    empty = {
        (method, path) for path, one in document["paths"].items() for method in one if _has_no_example(one[method])
    }
    assert empty == NEED_MORE, "a page that offers to send {} has nothing to try"
    await server.until_engine_is("ready")
    async with server.http(headers={"X-Client-Id": "me"}) as http:
        for (method, path), body in EXAMPLES.items():
            named = path.replace("{client_id}", "me").replace("{device_id}", "browser")
            answer = await http.request(method, named, json={**body, **({"model": "mock"} if "model" in body else {})})
            assert answer.status_code in (200, 201), (path, answer.text)


def _has_no_example(operation: Any) -> bool:
    content = operation.get("requestBody", {}).get("content", {}) if isinstance(operation, dict) else {}
    return any("example" not in one and one["schema"] == {"type": "object"} for one in content.values())


NEED_MORE = {
    ("post", "/mcp"),  # headers of its own protocol
    ("post", "/console/enter"),  # a code that is good for once
    ("post", "/api/pull"),
    ("delete", "/api/delete"),
    *(("post", path) for path in ("/api/embed", "/api/embeddings", "/v1/embeddings")),
    *(("post", f"/v1/conversations/{{conversation_id}}{path}") for path in ("", "/items")),
}
"""Whose bodies or paths name what a server may not have: a model of a hub, an encoder, a conversation."""


@pytest.mark.integration
async def test_the_document_is_made_once_however_many_ask_for_it_first(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def slowly(version: str) -> dict[str, object]:
        made.append(version)
        time.sleep(0.3)
        return openapi(version)

    monkeypatch.setattr("actors.rest.swagger_ui.openapi", slowly)
    statuses = []

    async def ask() -> None:
        statuses.append((await http.get("/openapi.json")).status_code)

    async with engineless_server.http() as http, trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(ask)
    assert statuses == [200] * 4
    assert len(made) == 1
