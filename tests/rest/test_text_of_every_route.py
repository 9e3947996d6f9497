"""U+0000 in any body, query or path of any route is refused by name, on both databases, and never our fault."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text

import actors.rest.all_routes as composition
from actors.inference.worker_config import WorkerConfig
from actors.rest.application import make_application
from actors.rest.auth import ENTRY_PATH
from actors.storage.database import open_engine
from tests.database_fixture import fresh_database
from tests.postgresql_fixture import fresh_postgresql_database
from tests.server_fixture import RunningServer, running_server

pytestmark = pytest.mark.integration

NUL = {"a": [{"b": "c\0d"}]}
WITHOUT_A_BODY = {
    # What they are told stands in their path.
    "POST /models/x/load",
    "POST /models/x/unload",
    "POST /notifications/me/read-all",
    "POST /notifications/me/x/read",
    "POST /notifications/me/dead-letters/x/resend",
    "POST /v1/responses/x/cancel",
}


@pytest.fixture(params=["sqlite", "postgresql"])
async def either_server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningServer]:
    monkeypatch.setattr(WorkerConfig, "command", lambda *_: ["sleep", "60"])
    database = fresh_postgresql_database().render_as_string() if request.param == "postgresql" else None
    async with running_server(tmp_path, wait=False, database=database) as started:
        yield started


def routes() -> list[tuple[str, str]]:
    """Method and path of every route, with a good value for each part of the path."""
    services: Any = None
    parts = [getattr(composition, name) for name in dir(composition) if name.startswith("register_")]

    class Nobody:
        def __getattr__(self, name: str) -> Any:
            return self

    services = Nobody()
    app = make_application(
        services=services, registry=CollectorRegistry(), readiness=Nobody(), about={"version": ""}, parts=parts
    )
    found = []
    for rule in app.url_map.iter_rules():
        path = rule.rule
        for name in rule.arguments:
            good = "me" if name == "client_id" else "0b0f1c8e-6f0c-4c7e-9d6b-0c6f3f1f2a11" if name == "task_id" else "x"
            for kind in ("", "uuid:", "path:", "string:"):
                path = path.replace(f"<{kind}{name}>", good)
        assert "<" not in path, path
        found += [(method, path) for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})]
    return found


def is_refused(response: httpx.Response, what: str) -> bool:
    assert response.status_code < 500, (what, response.text)
    return response.status_code >= 400 and "U+0000" in response.text


async def test_no_body_of_any_route_has_a_nul(either_server: RunningServer) -> None:
    took = set()
    async with either_server.http() as http:
        for method, path in routes():
            if method in ("POST", "PUT", "PATCH"):
                is_of_a_version = method != "POST" or path.endswith(("/move", "/decision"))
                headers = {"If-Match": '"1"'} if is_of_a_version else {}
                if path == ENTRY_PATH:
                    # Only pages of this server are read at all.
                    headers["Origin"] = either_server.about.rest_url
                response = await http.request(method, path, json=NUL, headers=headers)
                if not is_refused(response, path):
                    took.add(f"{method} {path}")
                elif "problem" in response.headers["content-type"]:
                    assert response.json()["code"] == "invalid_field"
                    assert response.json()["field"] == "body.a[0].b", path
    assert took == WITHOUT_A_BODY


async def test_no_path_and_no_query_has_a_nul(either_server: RunningServer) -> None:
    async with either_server.http() as http:
        for method, path in routes():
            if path.startswith("/health"):
                continue  # they read nothing
            response = await http.request(method, f"{path}?anything=a%00b")
            assert is_refused(response, path) or not path.startswith(("/tasks", "/notifications", "/conversations")), (
                path
            )
            for part in ("/me", "/x"):
                if f"{part}/" in f"{path}/":
                    response = await http.request(method, path.replace(part, f"{part}%00"))
                    assert 400 <= response.status_code < 500, (path, response.text)


@pytest.fixture(params=["sqlite", "postgresql"])
def either_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    engine = open_engine(
        fresh_database(tmp_path) if request.param == "sqlite" else fresh_postgresql_database(), writes=True
    )
    yield engine
    engine.dispose()


@pytest.mark.parametrize("character", ["\0", "\ud800"])
def test_what_a_model_wrote_is_kept_with_another_character_in_its_place(either_engine: Engine, character: str) -> None:
    insert = text("INSERT INTO client_logs (client_id, epoch, head) VALUES (:name, :epoch, 1)")
    with either_engine.begin() as connection:
        connection.execute(insert, {"name": "one", "epoch": f"a{character}é"})
        connection.execute(insert, [{"name": f"many{one}", "epoch": f"{character}{one}"} for one in range(2)])
    with either_engine.connect() as connection:
        found = connection.execute(text("SELECT epoch FROM client_logs ORDER BY client_id")).scalars().all()
        nobody = connection.execute(text("SELECT 1 FROM client_logs WHERE client_id = :id"), {"id": f"one{character}"})
        assert nobody.first() is None
    assert found == ["\ufffd0", "\ufffd1", "a\ufffdé"]
