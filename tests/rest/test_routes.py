"""Every route over a real hypercorn, asked by httpx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from protocol.commands import MAXIMUM_FRAME_BYTES
from runtime.testing import crash
from tests.server_fixture import RunningServer, count_to, eventually, running_server

pytestmark = pytest.mark.integration


def assert_problem(response: httpx.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """A problem of RFC 9457 with our fields; returns its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"], body.get("field")) == (status, code, field)
    assert set(body) <= {"title", "status", "detail", "code", "temporary", "field"}
    assert body["title"]
    assert body["detail"]
    return body


# --- health -------------------------------------------------------------------------------------------


async def test_health_routes_of_a_ready_mock(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.http() as http:
        live, ready, mlx, whole = [
            await http.get(path) for path in ("/health/live", "/health/ready", "/health/mlx", "/health")
        ]
    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "reasons": []})
    assert mlx.status_code == 200
    body = mlx.json()
    # A mock never claims to be what it is not.
    assert (body["status"], body["has_pretrained_weights"], body["canary_nll"]) == ("mock", False, None)
    assert "healthy" not in mlx.text + whole.text
    assert body["inference_ready"] is True
    assert body["backend"] == "cpu"
    assert any("no model" in one for one in body["warnings"])
    assert (whole.status_code, whole.json()["status"], whole.json()["service"]) == (200, "mock", "leanvibe")
    assert whole.json()["engine"]["status"] == "mock"


async def test_the_figures_of_health_are_measured(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.http() as http:
        before = (await http.get("/health/mlx")).json()
        await http.post("/ai/process", json={"type": "message", "content": "count to 50"})
        after = (await http.get("/health/mlx")).json()
    assert before["last_inference_time"] is None
    assert before["tokens_per_second"] is None
    assert 0 < after["last_inference_time"] < 10_000
    assert after["tokens_per_second"] > 0
    assert after["requests"] == {"stop": 1}
    assert after["worker_pid"] == (await server.engine()).worker_pid
    worker_mebibytes = after["memory_bytes"]["resident"] / 2**20
    # This process is the server, and shares some pages of the interpreter with its worker.
    assert after["memory_usage_mb"] > 20 + worker_mebibytes / 2


async def test_running_and_waiting_requests_are_counted(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.005, max_rows=1) as server,
        server.peer() as peer,
        server.http() as http,
    ):
        for name in "abc":
            await peer.send("generate", name, {"prompt": "count to 500"})
            assert (await peer.receive())["type"] in ("accepted", "token")
        await eventually(lambda: _queue(http, (1, 2)))


async def _queue(http: httpx.AsyncClient, wanted: tuple[int, int]) -> bool:
    body = (await http.get("/health/mlx")).json()
    return (body["running"], body["queue_depth"]) == wanted


async def test_a_restarted_worker_is_counted(server: RunningServer) -> None:
    before = await server.until_engine_is("ready")
    crash(server.system, "inference/engines/1", RuntimeError("x"))
    await eventually(lambda: server.system.record("inference/engines/1").incarnation == 2)
    await server.until_engine_is("ready")
    async with server.http() as http:
        body = (await http.get("/health/mlx")).json()
    assert body["restarts"] == 1
    assert body["worker_pid"] != before.worker_pid


async def test_while_the_engine_loads_it_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.inference.worker_config import WorkerConfig

    # A worker that starts and says nothing is for ever loading.
    monkeypatch.setattr(WorkerConfig, "command", lambda *_: ["sleep", "60"])
    async with running_server(tmp_path, wait=False) as server, server.http() as http:
        mlx = await http.get("/health/mlx")
        assert (mlx.status_code, mlx.json()["status"], mlx.json()["inference_ready"]) == (503, "loading", False)
        ready = await http.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
        assert any("engine" in one for one in ready.json()["reasons"])
        assert (await http.get("/health/live")).status_code == 200
        whole = await http.get("/health")
        assert (whole.status_code, whole.json()["status"]) == (200, "loading")


async def test_a_model_that_cannot_be_loaded_degrades_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.inference.worker_config import WorkerConfig
    from actors.inference.worker_frames import Load, ModelFiles

    def load_nowhere(protocol: int, config: WorkerConfig, _model: ModelFiles) -> Load:
        return Load(protocol, replace(config, engine="mlx"), ModelFiles("nowhere", tmp_path / "nowhere"))

    monkeypatch.setattr("actors.inference.engine.Load", load_nowhere)
    monkeypatch.setenv("PYTHONPATH", str(_without_mlx(tmp_path)))
    async with running_server(tmp_path, wait=False) as server, server.http() as http:
        await server.until_engine_is("down")
        mlx = await http.get("/health/mlx")
        assert (mlx.status_code, mlx.json()["status"]) == (503, "degraded")
        assert mlx.json()["problem"]
        assert (await http.get("/health/ready")).status_code == 503
        answer = await http.post("/ai/process", json={"type": "message", "content": "x"})
        assert assert_problem(answer, 503, "model_unavailable")["temporary"] is True


def _without_mlx(folder: Path) -> Path:
    """A folder whose `mlx` cannot be imported, so that the load fails at once."""
    package = folder / "path" / "mlx"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('no MLX in this test')", encoding="utf-8")
    return folder / "path"


async def test_readiness_ends_with_the_first_moment_of_a_shutdown(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.002, drain_seconds=3.0) as server,
        server.peer() as peer,
        server.http() as http,
    ):
        await peer.send("generate", "g", {"prompt": "count to 60"})
        assert (await peer.receive())["type"] == "accepted"
        server.system.request_stop("test")
        ready = await http.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json()["reasons"] == ["stopping: test"]
        late = await http.post("/ai/process", json={"type": "message", "content": "x"})
        assert_problem(late, 503, "shutting_down")


# --- metrics ------------------------------------------------------------------------------------------


async def test_metrics_can_be_read_by_prometheus(server: RunningServer) -> None:
    async with server.http() as http:
        await http.post("/ai/process", json={"type": "message", "content": "count to 20"})
        response = await http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    families = {one.name: one for one in text_string_to_metric_families(response.text)}
    assert families
    values = {sample.name: sample.value for family in families.values() for sample in family.samples}
    emitted = [value for name, value in values.items() if "token" in name and name.endswith("_total")]
    assert len(count_to(20)) in emitted


# --- /ai/process --------------------------------------------------------------------------------------


async def test_a_message_is_answered_whole(server: RunningServer) -> None:
    async with server.http() as http:
        response = await http.post("/ai/process", json={"type": "message", "content": "héllo", "seed": 7})
    assert response.status_code == 200
    body = response.json()
    assert (body["type"], body["content"], body["finish_reason"], body["seed"]) == (
        "message",
        "You said: héllo",
        "stop",
        7,
    )
    assert body["usage"]["completion_tokens"] == len("You said: héllo".encode())
    assert body["timings"]["total_ms"] > 0


async def test_max_tokens_ends_the_answer(server: RunningServer) -> None:
    async with server.http() as http:
        response = await http.post(
            "/ai/process", json={"type": "message", "content": "count to 9", "max_tokens": 3, "temperature": 1}
        )
    assert (response.json()["content"], response.json()["finish_reason"]) == ("1 2", "length")


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"type": "message", "content": ""}, 422, "invalid_field", "body.content"),
        ({"type": "message", "content": 5}, 422, "invalid_field", "body.content"),
        ({"type": "message", "content": None}, 422, "invalid_field", "body.content"),
        ({"type": "message"}, 422, "invalid_field", "body.content"),
        ({"content": "x"}, 422, "invalid_field", "body.type"),
        ({"type": "poem", "content": "x"}, 422, "invalid_field", "body.type"),
        ({"type": "message", "content": "x", "colour": 1}, 422, "invalid_field", "body.colour"),
        ({"type": "message", "content": "x", "max_tokens": -1}, 422, "invalid_field", "body.max_tokens"),
        ({"type": "message", "content": "x", "max_tokens": "5"}, 422, "invalid_field", "body.max_tokens"),
        ({"type": "message", "content": "x", "temperature": 9}, 422, "invalid_field", "body.temperature"),
        ({"type": "message", "content": "x", "seed": 1.5}, 422, "invalid_field", "body.seed"),
        ({"type": "message", "content": "x" * 9000}, 400, "context_length_exceeded", "body.content"),
        (b"", 400, "bad_message", None),
        (b"nonsense", 400, "bad_message", None),
        (b"[]", 400, "bad_message", None),
        (b"\xff\xfe", 400, "bad_message", None),
        ('{"type":"message","content":"é"}'.encode("utf-16"), 400, "bad_message", None),
        (b'{"type":"message","content":"x","temperature":NaN}', 400, "bad_message", "body.temperature"),
        (b'{"type":"message","content":"x","content":"y"}', 400, "bad_message", None),
        (b'{"type":"message","content":"\\ud800"}', 422, "invalid_field", "body.content"),
        (b'{"type":"message","content":"' + b"a" * 2 * MAXIMUM_FRAME_BYTES + b'"}', 413, "too_large", "body"),
    ],
    ids=lambda value: repr(value)[:50] if isinstance(value, dict | bytes) else None,
)
async def test_bad_input_is_a_problem_that_names_the_field(
    engineless_server: RunningServer, body: Any, status: int, code: str, field: str | None
) -> None:
    async with engineless_server.http() as http:
        arguments: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        problem = assert_problem(await http.post("/ai/process", **arguments), status, code, field)
        assert problem["temporary"] is False
        assert (await http.get("/health/live")).status_code == 200


async def test_a_client_that_leaves_frees_its_row(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server:
        with trio.move_on_after(5) as scope:
            async with server.http() as http, trio.open_nursery() as nursery:

                async def leave_once_it_runs() -> None:
                    await eventually(lambda: _runs(server))
                    nursery.cancel_scope.cancel()

                nursery.start_soon(leave_once_it_runs)
                await http.post("/ai/process", json={"type": "message", "content": "count to 900"})
        assert not scope.cancelled_caught
        await server.until_no_row_is_taken()
        assert (await server.snapshot("inference/inference"))["finished"] == {"cancelled": 1}


async def _runs(server: RunningServer) -> bool:
    return bool((await server.snapshot("inference/inference"))["running"])


async def test_an_actor_that_is_away_is_unavailable_for_a_moment(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runtime import ActorDead, ActorRef

    async def dead(self: ActorRef[Any], *_: Any, **__: Any) -> None:
        raise ActorDead(self.path, 1, "crashed")

    async with engineless_server.http() as http:
        monkeypatch.setattr(ActorRef, "ask", dead)
        response = await http.get("/models")
        monkeypatch.undo()
        assert assert_problem(response, 503, "unavailable")["temporary"] is True
        assert response.headers["Retry-After"] == "1"


# --- what is not served -------------------------------------------------------------------------------


async def test_an_unknown_route_is_a_problem(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        for path in ("/nothing", "/health/nothing", "/ai", "/wsx", "/metrics/"):
            assert_problem(await http.get(path), 404, "not_found")


async def test_a_wrong_method_is_a_problem_that_names_the_right_ones(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        response = await http.get("/ai/process")
        assert_problem(response, 405, "bad_message")
        assert "POST" in response.headers["Allow"]
        assert_problem(await http.delete("/health"), 405, "bad_message")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:8000"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/health", "/metrics", "/nothing"])
async def test_foreign_hosts_and_pages_are_forbidden(
    engineless_server: RunningServer, headers: dict[str, str], path: str
) -> None:
    async with engineless_server.http() as http:
        assert_problem(await http.get(path, headers=headers), 403, "forbidden")


async def test_hosts_and_pages_of_this_machine_may_come(tmp_path: Path) -> None:
    async with (
        running_server(
            tmp_path, wait=False, allowed_hosts=["box.lan"], allowed_origins=["https://app.example"]
        ) as server,
        server.http() as http,
    ):
        for headers in (
            {"Host": "localhost:1234"},
            {"Host": "[::1]"},
            {"Host": "box.lan:8000"},
            {"Origin": "http://localhost:3000"},
            {"Origin": "https://app.example"},
        ):
            assert (await http.get("/health/live", headers=headers)).status_code == 200, headers


async def test_the_answer_does_not_tell_what_serves_it(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        assert "server" not in (await http.get("/health/live")).headers


# --- sockets ------------------------------------------------------------------------------------------


async def test_a_restart_of_rest_touches_no_websocket(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.0005) as server, server.peer() as peer:
        await peer.send("generate", "g", {"prompt": "count to 150"})
        assert (await peer.receive())["type"] == "accepted"
        answer = await server.inspect({"command": "restart", "path": "rest"})
        assert answer == [{"restarted": "rest", "incarnation": 2}]
        async with server.http() as http:
            assert (await http.get("/health/live")).status_code == 200
        events = await peer.stream("g")
        assert "".join(one["data"]["text"] for one in events[:-1]) == count_to(150)
        assert events[-1]["type"] == "done"


async def test_a_reader_that_never_reads_does_not_hold_up_the_shutdown(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        port = int(server.about.rest_url.rsplit(":", 1)[1])
        began = trio.current_time()
        async with await trio.open_tcp_stream("127.0.0.1", port) as deaf:
            request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
            with trio.move_on_after(1):
                while True:
                    await deaf.send_all(request * 100)
            async with server.http() as http:
                assert (await http.get("/health/live")).status_code == 200
            began = trio.current_time()
            server.system.request_stop("test")
            await eventually(
                lambda: server.system.root is not None and server.system.root.life is None, seconds=10, what="stopped"
            )
        assert trio.current_time() - began < 10
    assert server.system.stuck == []


async def test_a_reader_that_never_reads_is_dropped_and_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors import write_pace

    monkeypatch.setattr(write_pace, "WINDOW_SECONDS", 0.2)
    async with running_server(tmp_path) as server:
        port = int(server.about.rest_url.rsplit(":", 1)[1])
        async with await trio.open_tcp_stream("127.0.0.1", port) as deaf:
            request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
            with trio.fail_after(60), pytest.raises(trio.BrokenResourceError):
                await send_for_ever(deaf, request * 100)
        async with server.http() as http:
            assert (await http.get("/health/live")).status_code == 200
        assert server.system.record("rest").incarnation == 1


async def send_for_ever(stream: trio.SocketStream, data: bytes) -> None:
    while True:
        await stream.send_all(data)


async def test_garbage_is_no_harm(engineless_server: RunningServer) -> None:
    port = int(engineless_server.about.rest_url.rsplit(":", 1)[1])
    for garbage in (b"\x00" * 100, b"GET\r\n\r\n", b"POST /ai/process HTTP/1.1\r\nContent-Length: x\r\n\r\n", b""):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(garbage)
            await stream.send_eof()
            # The server closes at once too, and keeps nothing of a client that has gone.
            with trio.fail_after(60):
                while await stream.receive_some():
                    pass
    async with engineless_server.http() as http:
        assert (await http.get("/health/live")).status_code == 200
    assert engineless_server.system.record("rest").incarnation == 1


@pytest.mark.parametrize(
    "target", [b"?", b"health/live", b"http://[::1", b"http://elsewhere/health/live", b"ftp://localhost/"]
)
async def test_a_target_that_is_no_path_of_this_server_is_a_bad_request(
    engineless_server: RunningServer, target: bytes
) -> None:
    """RFC 9112, 3.2: the framework failed at the first and the third."""
    assert b" 400 " in await status_line(engineless_server, target)


@pytest.mark.parametrize(
    "host", [b"a%5Bx", b"a%5B::1%5D", b"localhost%EF%BC%8F", b"local%68ost", b"%2F", b"localhost%"]
)
async def test_a_host_that_would_become_another_is_a_bad_request(engineless_server: RunningServer, host: bytes) -> None:
    """What the framework made of it before it took it apart was, for some, no address: a 500, and the address logged."""
    with capture_logs() as logged:
        assert b" 400 " in await status_line(engineless_server, b"http://" + host + b"/", host)
    assert logged == []


@pytest.mark.parametrize("target", [b"http://a%5Bx/", b"http://localhost%EF%BC%8F/"])
async def test_what_the_framework_cannot_read_is_a_bad_request_and_not_logged(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch, target: bytes
) -> None:
    from actors.rest import request_heads

    monkeypatch.setattr(request_heads, "check_target", lambda request: None)
    with capture_logs() as logged:
        assert b" 400 " in await status_line(engineless_server, target)
    assert logged == [{"event": "request unreadable", "reason": "ValueError", "log_level": "info"}]


async def test_a_target_in_absolute_form_is_taken_where_it_names_the_host_of_the_header(
    engineless_server: RunningServer,
) -> None:
    assert b" 200 " in await status_line(engineless_server, b"http://LocalHost/health/live")


async def status_line(server: RunningServer, target: bytes, host: bytes = b"localhost") -> bytes:
    port = int(server.about.rest_url.rsplit(":", 1)[1])
    received = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
        with trio.fail_after(60):
            async for chunk in stream:
                received += chunk
    return received.split(b"\r\n")[0]


async def test_a_connection_that_its_client_closes_is_closed_here_too(engineless_server: RunningServer) -> None:
    port = int(engineless_server.about.rest_url.rsplit(":", 1)[1])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        with trio.fail_after(60):
            while b"live" not in received:
                received += await stream.receive_some()
            await stream.send_eof()
            while await stream.receive_some():
                pass


async def test_a_client_that_wants_one_answer_only_gets_it_and_the_end(engineless_server: RunningServer) -> None:
    port = int(engineless_server.about.rest_url.rsplit(":", 1)[1])
    for request in (b"GET /health/live HTTP/1.0\r\n", b"GET /health/live HTTP/1.1\r\nConnection: close\r\n"):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(request + b"Host: localhost\r\n\r\n")
            received = b""
            with trio.fail_after(60):
                async for chunk in stream:
                    received += chunk
            assert b" 200 " in received
            assert received.endswith(b'{"status":"live"}\n')


async def test_a_body_that_never_ends_is_cut(engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.rest import serving

    monkeypatch.setattr(serving, "UNREAD_BODY_SECONDS", 0.2)
    port = int(engineless_server.about.rest_url.rsplit(":", 1)[1])
    head = b"POST /ai/process HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(head)
        with trio.fail_after(60), pytest.raises(trio.BrokenResourceError):
            await send_for_ever(stream, b"10000\r\n" + b"a" * 0x10000 + b"\r\n")
    async with engineless_server.http() as http:
        assert (await http.get("/health/live")).status_code == 200
