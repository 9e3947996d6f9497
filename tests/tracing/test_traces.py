"""Traces of a whole server, as a collector gets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actors.tracing.tracer import Span, Tracer
from tests.notifications.push_services import push_services
from tests.server_fixture import Peer, RunningServer, eventually, running_server
from tests.tracing.collector import Collector, attributes_of, running_collector

pytestmark = pytest.mark.integration

SECRET = "count to 3 and keep it to yourself"
"""What nobody finds in a span."""
PARENT = "00000000000000aa"
ABOVE = {"POST /v1/chat/completions", "WebSocket generate", "WebSocket assist"}


def header_of(trace_id: str, flags: str = "01") -> str:
    return f"00-{trace_id}-{PARENT}-{flags}"


async def test_tr4_an_answer_is_one_trace_wherever_it_was_asked_for(tmp_path: Path) -> None:
    # An answer takes longer than it takes to write down that it has begun.
    settings = {"mock_step_seconds": 0.02}
    async with (
        running_collector() as collector,
        running_server(tmp_path, trace_endpoint=collector.url, **settings) as server,
    ):
        await over_http(server, collector)
        async with server.peer() as peer:
            await over_the_websocket(peer, collector)
            await in_a_conversation(peer, collector)
            await what_is_refused_says_so(peer, collector)
        await what_nobody_traces_is_not_recorded(server, collector)
        assert collector.heads[0][0] == "/v1/traces"
        assert collector.heads[0][1]["content-type"] == "application/x-protobuf"
        sent = b"".join(one.SerializeToString() for one in collector.requests)
        assert SECRET.encode() not in sent
        assert b"1 2 3" not in sent
        metrics = await metrics_of(server)
        assert metrics["leanvibe_trace_spans_exported_total"] == len(list(collector.spans())) > 10
        assert not any(name.startswith("leanvibe_trace_spans_dropped_total") for name in metrics)


async def over_http(server: RunningServer, collector: Collector) -> None:
    trace_id = "1" * 32
    async with server.http() as http:
        body = {"model": "mock", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 9, "stop": [SECRET]}
        headers = {"traceparent": header_of(trace_id), "tracestate": "congo=t61rcWkgMzE"}
        answer = await http.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200
    spans = await collector.until_named(trace_id, "POST /v1/chat/completions", "chat mock")
    request = is_whole(spans)
    assert {one.trace_state for one in spans.values()} == {"congo=t61rcWkgMzE"}
    assert request.kind == request.SPAN_KIND_SERVER
    told = attributes_of(request)
    assert told["http.route"] == told["url.path"] == "/v1/chat/completions"
    assert told["http.response.status_code"] == 200
    told = attributes_of(spans["chat mock"])
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == "leanvibe"
    assert told["gen_ai.request.model"] == told["gen_ai.response.model"] == "mock"
    assert told["gen_ai.request.max_tokens"] == 9
    usage = answer.json()["usage"]
    assert told["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert told["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    assert told["gen_ai.response.finish_reasons"] == [answer.json()["choices"][0]["finish_reason"]]


def is_whole(spans: dict[str, Any]) -> Any:
    """The request's span; its answer's are below it, and lie in one another in time."""
    (request,) = [one for name, one in spans.items() if name in ABOVE]
    assert request.parent_span_id.hex() == PARENT
    (answer,) = [one for name, one in spans.items() if name.startswith(("chat ", "text_completion "))]
    assert answer.parent_span_id == request.span_id
    queue, prefill, decode = (spans[name] for name in ("queue", "prefill", "decode"))
    assert {one.parent_span_id for one in (queue, prefill, decode)} == {answer.span_id}
    assert answer.start_time_unix_nano == queue.start_time_unix_nano
    assert queue.end_time_unix_nano == prefill.start_time_unix_nano
    assert prefill.end_time_unix_nano == decode.start_time_unix_nano
    assert decode.end_time_unix_nano == answer.end_time_unix_nano
    return request


async def over_the_websocket(peer: Peer, collector: Collector) -> None:
    trace_id = "2" * 32
    message = {"type": "generate", "id": "g", "data": {"prompt": SECRET}, "traceparent": header_of(trace_id)}
    await peer.websocket.send(json.dumps(message))
    assert (await peer.stream("g"))[-1]["type"] == "done"
    spans = await collector.until_named(trace_id, "WebSocket generate", "text_completion mock", "decode")
    is_whole(spans)
    # That the command is on disk before it is accepted is the answer's wait.
    assert spans["storage record_generation"].parent_span_id == spans["WebSocket generate"].span_id


async def in_a_conversation(peer: Peer, collector: Collector) -> None:
    trace_id = "3" * 32
    data = {"intent": "ask", "content": SECRET.replace("3", "40"), "conversation": "talk"}
    message = {"type": "assist", "id": "a", "data": data, "traceparent": header_of(trace_id)}
    await peer.websocket.send(json.dumps(message))
    assert (await peer.stream("a"))[-1]["type"] == "done"
    spans = await collector.until_named(trace_id, "WebSocket assist", "chat mock", "decode", "storage end_assist")
    request = is_whole(spans)
    below = {name for name, one in spans.items() if one.parent_span_id == request.span_id}
    assert {"storage begin_assist", "storage end_assist"} <= below


async def what_is_refused_says_so(peer: Peer, collector: Collector) -> None:
    trace_id = "4" * 32
    message = {
        "type": "task_get",
        "id": "t",
        "data": {"task_id": "00000000-0000-4000-8000-000000000000"},
        "traceparent": header_of(trace_id),
    }
    await peer.websocket.send(json.dumps(message))
    assert (await answer_of(peer, "t"))["type"] == "error"
    spans = await collector.until_named(trace_id, "WebSocket task_get")
    assert attributes_of(spans["WebSocket task_get"])["error.type"] == "not_found"
    # A message whose field is wrong is refused as any other is.
    await peer.websocket.send(json.dumps({**message, "id": "u", "traceparent": "nonsense"}))
    refused = await answer_of(peer, "u")
    assert (refused["type"], refused["data"]["field"]) == ("error", "traceparent")


async def answer_of(peer: Peer, command_id: str) -> dict[str, Any]:
    """Events of the client's own stream come between."""
    while (message := await peer.receive()).get("re") != command_id:
        pass
    return message


async def what_nobody_traces_is_not_recorded(server: RunningServer, collector: Collector) -> None:
    unsampled, sampled = "5" * 32, "6" * 32
    async with server.http() as http:
        await http.get("/v1/models", headers={"traceparent": header_of(unsampled, "00")})
        await http.get("/health", headers={"traceparent": header_of(unsampled)})
        await http.get("/metrics", headers={"traceparent": header_of(unsampled)})
        # Without a valid parent it begins a trace.
        await http.get("/v1/models", headers={"traceparent": "nonsense"})
        await http.get("/v1/models/none-such", headers={"traceparent": header_of(sampled)})
    (refused,) = (await collector.until_named(sampled, "GET /v1/models/<path:name>")).values()
    assert attributes_of(refused)["http.response.status_code"] == 404
    # Whose fault it is decides whether it is the server's error.
    assert "error.type" not in attributes_of(refused)
    assert not collector.of_trace(unsampled)
    (begun,) = [one for one in collector.spans() if one.name == "GET /v1/models"]
    assert not begun.parent_span_id
    assert any(begun.trace_id)


async def metrics_of(server: RunningServer) -> dict[str, float]:
    async with server.http() as http:
        lines = (await http.get("/metrics")).text.splitlines()
    return {one.rpartition(" ")[0]: float(one.rpartition(" ")[2]) for one in lines if not one.startswith("#")}


async def test_tr5_a_push_is_a_trace_of_its_own(tmp_path: Path) -> None:
    async with (
        push_services(tmp_path) as services,
        running_collector() as collector,
        running_server(
            tmp_path,
            trace_endpoint=collector.url,
            push_allow_private=True,
            push_ca_file=services.ca_file,
            push_hold_seconds=0.0,
        ) as server,
        server.http() as http,
    ):
        device = {"device_id": "hook", "platform": "webhook", "url": f"{services.url}/hook/mine", "secret": SECRET}
        assert (await http.post("/notifications/me/devices", json=device)).status_code < 300
        body = {"template": "message", "fields": {"title": SECRET, "body": ""}, "priority": "high"}
        assert (await http.post("/notifications/me", json=body)).status_code < 300

        def pushed() -> list[Any]:
            return [one for one in collector.spans() if one.name == "push webhook"]

        (push,) = await eventually(pushed, what="the span of the push")
        assert push.kind == push.SPAN_KIND_CLIENT
        assert not push.parent_span_id
        assert "error.type" not in attributes_of(push)
        assert len(services.received) == 1
        assert SECRET.encode() not in push.SerializeToString()


async def test_tr6_without_an_endpoint_nothing_is_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    recorded: list[Span] = []
    monkeypatch.setattr(Tracer, "record", lambda _, span: recorded.append(span))
    async with running_server(tmp_path) as server, server.peer() as peer:
        message = {"type": "generate", "id": "g", "data": {"prompt": SECRET}, "traceparent": header_of("1" * 32)}
        await peer.websocket.send(json.dumps(message))
        assert (await peer.stream("g"))[-1]["type"] == "done"
        assert "tracing" not in server.incarnations()
        assert recorded == []
        assert (await metrics_of(server))["leanvibe_trace_spans_exported_total"] == 0


IMPORTS = """
import sys
import actors.application, actors.rest.all_routes, actors.rest.serving, actors.command_line.serve
found = sorted(one for one in sys.modules if one.split(".")[0] in {"opentelemetry", "google"} or one == "actors.tracing.exporter")
assert not found, found
"""


def test_tr7_nothing_of_opentelemetry_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
