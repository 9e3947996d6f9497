"""`/models` over the real tree with the mock engine's two models."""

from pathlib import Path
from typing import Any

import pytest

from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.integration


async def listed(server: RunningServer) -> dict[str, dict[str, Any]]:
    async with server.http() as http:
        answer = await http.get("/models")
    assert answer.status_code == 200
    return {one["name"]: one for one in answer.json()["models"]}


async def test_md1_the_model_in_use_is_changed_over_rest_and_told_everywhere(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    assert (await listed(server))["mock"]["is_in_use"]
    async with server.http() as http:
        changed = await http.post("/models/mock-other/load")
        assert (changed.status_code, changed.json()["state"]) == (200, "loaded")
        assert (await http.get("/health/mlx")).json()["model"] == "mock-other"
        said = (await http.post("/ai/process", json={"type": "message", "content": "which model"})).json()
    assert said["content"] == "mock-other"
    models = await listed(server)
    assert (models["mock-other"]["is_in_use"], models["mock"]["is_in_use"]) == (True, False)
    async with server.peer(hello=False) as peer:
        assert (await peer.hello())["model"] == "mock-other"
        events = await peer.generate("g", "which model")
        assert "".join(one["data"]["text"] for one in events if one["type"] == "token") == "mock-other"


async def test_md8_an_unloaded_model_is_ready_to_be_asked(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.http() as http:
        assert (await http.post("/models/mock/unload")).json()["state"] == "unloaded"
        mlx = await http.get("/health/mlx")
        assert (mlx.status_code, mlx.json()["status"], mlx.json()["inference_ready"]) == (200, "unloaded", False)
        assert mlx.json()["worker_pid"] is None
        assert (await http.get("/health/ready")).status_code == 200
        said = (await http.post("/ai/process", json={"type": "message", "content": "which model"})).json()
    assert said["content"] == "mock"


async def test_md4_a_model_that_has_no_name_here_is_not_found(server: RunningServer) -> None:
    async with server.http() as http:
        for name in ("nobody", "someone/nobody", "etc%2Fpasswd", "..%2Fmock"):
            answer = await http.post(f"/models/{name}/load")
            assert answer.status_code == 404, name
        refused = await http.post("/models/mock-other/unload")
    assert refused.status_code == 409
    assert "mock-other is not the model in use" in refused.json()["detail"]


async def test_md3_a_failed_load_is_told_to_the_asker_and_in_the_list(tmp_path: Path) -> None:
    plan = '[{"fault": "raise", "load": "mock-other"}]'
    async with running_server(tmp_path, worker_faults=plan) as server, server.http() as http:
        answer = await http.post("/models/mock-other/load")
        assert answer.status_code == 503
        assert "planned for the load of mock-other" in answer.json()["detail"]
        assert (await listed(server))["mock-other"]["state"] == "failed"
        assert (await http.get("/health/mlx")).json()["model"] == "mock"


async def test_md2_a_long_load_is_told_in_the_list_and_in_health(tmp_path: Path) -> None:
    import trio

    plan = '[{"fault": "slow", "load": "mock-other", "seconds": 1.0}]'
    async with (
        running_server(tmp_path, worker_faults=plan) as server,
        server.http() as http,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(http.post, "/models/mock-other/load")

        async def is_loading() -> bool:
            return bool((await listed(server))["mock-other"]["state"] == "loading")

        await eventually(is_loading, what="loading")
        body = (await http.get("/health/mlx")).json()
        assert (body["status"], body["model"], body["changing_to"]) == ("mock", "mock", "mock-other")
        assert body["change_stage"]
