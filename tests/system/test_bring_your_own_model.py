"""A user's own model through the real program: pulled, converted, quantized, verified, served, changed, adapted."""

import json
import os
import re
import secrets
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy
import pytest
import trio
from websockets.trio.client import connect
from websockets.typing import Subprotocol

import protocol
from tests.inference.models.local_hub import Hub, serving
from tests.system.serving_process import ServingProcess, is_alive, leanvibe, start_server, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.mlx_real_inference]

GOLDEN = Path(__file__).parents[1] / "inference" / "golden"
CASES: list[dict[str, Any]] = json.loads((GOLDEN / "tiny_phi3.json").read_text(encoding="utf-8"))["cases"]
READY_SECONDS = 120.0
"""For a worker that loads a tiny model on a busy machine."""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serving(Hub(model="someone/tiny")) as running:
        running.add_folder(GOLDEN / "tiny_phi3")
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> Path:
    """Prepare a data folder whose cache has the model as pulled, in float32, and in 8 bits."""
    folder = tmp_path_factory.mktemp("own")
    models = folder / "cache" / "models"
    network = {
        "HF_ENDPOINT": hub.url,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        # Without leftovers of earlier downloads of this person.
        "HF_HOME": str(folder / "hugging-face"),
    }
    for words in (
        ("pull", "someone/tiny"),
        ("convert", "someone/tiny", "--to", str(models / "tiny-float32"), "--dtype", "float32"),
        ("convert", "someone/tiny", "--to", str(models / "tiny-8bit"), "--quantize", "8", "--group-size", "32"),
        ("verify", "tiny-float32"),
        ("verify", "tiny-8bit"),
    ):
        done = leanvibe(folder, "model", *words, seconds=300, **network)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    return folder


def get(server: ServingProcess, path: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(server.about["rest_url"] + path, timeout=10) as response:
            return dict(json.load(response))
    except urllib.error.HTTPError as error:
        with error:
            return dict(json.load(error))


def until_ready(server: ServingProcess) -> dict[str, Any]:
    def health() -> dict[str, Any] | None:
        body = get(server, "/health/mlx")
        return body if body.get("inference_ready") or str(body.get("problem")).startswith("failed") else None

    found: dict[str, Any] = wait_for(health, seconds=READY_SECONDS, what="a loaded model")
    return found


async def answers(server: ServingProcess) -> tuple[str, list[str]]:
    """Return the model named in `welcome`, and its greedy answers over the WebSocket."""
    texts: list[str] = []
    async with connect(
        server.about["websocket_url"], subprotocols=[Subprotocol(protocol.SUBPROTOCOL)], proxy=None, max_queue=None
    ) as websocket:

        async def receive() -> dict[str, Any]:
            with trio.fail_after(READY_SECONDS):
                message: dict[str, Any] = json.loads(await websocket.recv())
            return message

        # A device of its own: a repeated command of the same device would get its first outcome.
        hello = {"client_id": "own", "device_id": secrets.token_hex(8)}
        await websocket.send(json.dumps({"type": "hello", "id": "h", "data": hello}))
        welcome = await receive()
        for number, case in enumerate(CASES):
            data = {"messages": [{"role": "user", "content": case["question"]}], "max_tokens": 64}
            await websocket.send(json.dumps({"type": "generate", "id": str(number), "data": data}))
            text = ""
            while (message := await receive())["type"] != "done":
                if message.get("re") == str(number):
                    assert message["type"] in ("accepted", "token"), message
                    text += message["data"].get("text", "")
            texts.append(text)
    return welcome["data"]["model"], texts


GREEDY = [case["text"] for case in CASES]


def test_md20_a_checkpoint_of_transformers_is_pulled_converted_quantized_verified_and_answers_as_there(
    data: Path,
) -> None:
    listed = json.loads(leanvibe(data, "model", "list", "--json").stdout)
    by_name = {one["full_name"]: one for one in listed}
    assert {by_name[name]["provenance"] for name in ("someone/tiny", "tiny-float32", "tiny-8bit")} == {"verified"}
    assert by_name["tiny-8bit"]["quantization"] == "8 bits in groups of 32"
    with start_server(data, "--engine", "mlx", "--model", "tiny-float32") as server:
        health = until_ready(server)
        assert (health["status"], health["has_pretrained_weights"], health["model"]) == (
            "healthy",
            True,
            "tiny-float32",
        )
        first = server.worker_pid()
        assert trio.run(answers, server) == ("tiny-float32", GREEDY)
        done = server.run("model", "load", "tiny-8bit")
        assert (done.returncode, done.stdout) == (0, "tiny-8bit is loaded\n"), done.stderr
        assert trio.run(answers, server) == ("tiny-8bit", GREEDY)
        used = {
            one["full_name"] for one in json.loads(server.run("model", "list", "--json").stdout) if one["is_in_use"]
        }
        assert used == {"tiny-8bit"}
        wait_for(lambda: not is_alive(first), what="the first worker's end")
        missing = server.run("model", "load", "no-such-model")
        assert missing.returncode == 1
        assert "no model called no-such-model" in missing.stderr
        assert server.run("model", "unload", "tiny-8bit").stdout == "tiny-8bit is unloaded\n"
        assert get(server, "/health/mlx")["status"] == "unloaded"
        assert trio.run(answers, server) == ("tiny-8bit", GREEDY)


def test_md20_the_hub_is_asked_for_the_model_and_for_nothing_else(data: Path, hub: Hub) -> None:
    asked = {path for _method, path, _range in hub.asked}
    assert asked
    assert {
        path for path in asked if not path.startswith(("/api/models/someone/tiny", "/someone/tiny/resolve/"))
    } == set()


def test_md20_the_pulled_checkpoint_serves_as_it_is(data: Path) -> None:
    with start_server(data, "--engine", "mlx", "--model", "someone/tiny") as server:
        assert until_ready(server)["status"] == "healthy"
        assert trio.run(answers, server) == ("someone/tiny", GREEDY)


def test_md20_a_killed_worker_is_followed_by_the_spare_with_the_model_in_use(data: Path) -> None:
    with start_server(data, "--engine", "mlx", "--model", "tiny-8bit") as server:
        until_ready(server)
        first = server.worker_pid()
        wait_for(lambda: "standby worker ready" in server.log.read_text(), seconds=READY_SECONDS, what="a spare")
        line = next(one for one in server.log.read_text().splitlines() if "standby worker ready" in one)
        os.kill(first, signal.SIGKILL)
        second = server.worker_pid(other_than=first)
        stood_by = re.search(r"worker_pid\D+(\d+)", line)
        assert stood_by is not None
        assert int(stood_by[1]) == second, "it is the one that stood by"
        assert trio.run(answers, server) == ("tiny-8bit", GREEDY)


def write_adapter(folder: Path, inputs: int) -> Path:
    """Write an adapter that changes every answer, for layers with this many inputs."""
    folder.mkdir()
    keys = ["self_attn.o_proj"]
    config = {
        "fine_tune_type": "lora",
        "num_layers": 2,
        "lora_parameters": {"rank": 4, "scale": 20.0, "dropout": 0.0, "keys": keys},
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    random = numpy.random.RandomState(3)
    parts = {}
    for layer in range(2):
        name = f"model.layers.{layer}.{keys[0]}"
        parts[f"{name}.lora_a"] = mx.array(random.standard_normal((inputs, 4)).astype("float32"))
        parts[f"{name}.lora_b"] = mx.array(random.standard_normal((4, 64)).astype("float32") * 0.002)
    mx.save_safetensors(str(folder / "adapters.safetensors"), parts)
    return folder


def test_md21_an_adapter_named_at_the_start_is_in_effect_and_vouched_for_on_its_own(data: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "polite", 64)
    serve = ("--engine", "mlx", "--model", "tiny-float32", "--adapter", str(adapter))
    with start_server(data, *serve) as server:
        health = until_ready(server)
        assert (health["adapter"], health["provenance"], health["has_pretrained_weights"]) == (
            "polite",
            "unverified",
            False,
        )
        without = json.loads((data / "cache" / "models" / "tiny-float32" / "manifest.json").read_text())
        assert health["canary_nll"] != pytest.approx(without["canary_nats_per_token"], abs=1e-3)
        listed = {one["name"]: one for one in get(server, "/models")["models"]}
        assert listed["tiny-float32"]["adapter"] == "polite"
    accepted = leanvibe(data, "model", "verify", "tiny-float32", "--adapter", str(adapter), "--accept", seconds=120)
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    with start_server(data, *serve) as server:
        health = until_ready(server)
        assert (health["adapter"], health["provenance"], health["has_pretrained_weights"]) == (
            "polite",
            "verified",
            True,
        )


def test_md21_an_adapter_that_does_not_fit_is_refused_in_words(data: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "other", 32)
    with start_server(data, "--engine", "mlx", "--model", "tiny-float32", "--adapter", str(adapter)) as server:
        problem = until_ready(server)["problem"]
        assert problem.startswith("failed")
        assert "self_attn.o_proj" in problem
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    done = leanvibe(
        data,
        "serve",
        "--port",
        "0",
        "--ws-port",
        "0",
        "--adapter",
        str(nothing),
        LEANVIBE_ENGINE="mlx",
        LEANVIBE_MODEL="tiny-float32",
    )
    assert done.returncode == 2
    assert "it has no adapter_config.json and no adapters.safetensors" in done.stderr
