"""`leanvibe model`, from the hub to a checkpoint that can be trusted, and what it says when something is in the way."""

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import mlx.core as mx
import numpy
import pytest
from click.testing import CliRunner, Result

from actors.command_line import model as command_module
from actors.command_line import model_work
from actors.command_line.main import leanvibe
from actors.inference.checkpoints.encoder import ENCODER_BYTES, ENCODER_FILES, ENCODER_NAME, encoder_folder
from actors.inference.checkpoints.manifest import write_manifest
from actors.inference.mlx.load import load_checkpoint
from actors.inference.model_registry import CheckpointRegistry, ServableModel
from actors.inspection.server_file import ServerFile, lock_data_folder
from tests.inference.golden.phi3_shapes import prompts
from tests.inference.models.local_hub import Hub, serving
from tests.inference.models.small_checkpoints import rewrite_tensors, write_small

Run = Callable[..., Result]
GOLDEN = Path(__file__).parents[1] / "inference" / "golden" / "phi3_reference.npz"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def run(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    # The process of the tests has MLX already, and with it its BLAS.
    for module in (command_module, model_work):
        monkeypatch.setattr(module, "load_blas", lambda _settings: None)
    monkeypatch.setenv("LEANVIBE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*words: str | Path) -> Result:
        result = CliRunner().invoke(leanvibe, ["model", *map(str, words), "--cache-dir", str(cache)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub()) as running:
        running.add_folder(write_small(tmp_path / "published", shards=3))
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
        monkeypatch.setattr(time, "sleep", lambda _seconds: None)
        yield running


def _listed(run: Run) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in json.loads(run("list", "--json").stdout)}


def _greedy(folder: Path, ids: list[int], count: int) -> list[int]:
    model = load_checkpoint(folder, "cpu").model
    sequence = list(ids)
    for _ in range(count):
        sequence.append(int(model(mx.array([sequence]))[0, -1].argmax().item()))
    return sequence[len(ids) :]


def test_pulled_converted_quantized_verified_and_the_same_text_as_the_reference(
    run: Run, hub: Hub, cache: Path, tmp_path: Path
) -> None:
    hub.cuts["model-00002-of-00003.safetensors"] = [2000]
    pulled = run("pull", "someone/small", "--json")
    assert pulled.exit_code == 0, pulled.output
    outcome = json.loads(pulled.stdout)
    assert (outcome["provenance"], outcome["is_fit"]) == ("verified", True)
    whole, small = tmp_path / "whole", tmp_path / "small"
    assert run("convert", "someone/small", "--to", whole).exit_code == 0
    assert run("convert", "someone/small", "--to", small, "--quantize", "8", "--group-size", "32").exit_code == 0
    for folder in (whole, small):
        assert run("verify", folder).exit_code == 0
    reference = numpy.load(GOLDEN)
    for number, ids in enumerate(prompts("grouped_heads")):
        expected = reference[f"grouped_heads/{number}/greedy"].tolist()
        assert _greedy(whole, ids, len(expected)) == expected
    manifest = json.loads((small / "manifest.json").read_text())
    assert manifest["source"]["hub_id"] == "someone/small"
    assert manifest["source"]["revision"] == hub.commit
    assert manifest["conversion"] == {"bits": 8, "group_size": 32, "dtype": None}
    entry = _listed(run)["someone/small"]
    assert (entry["is_present"], entry["type"], entry["provenance"]) == (True, "phi3 float32", "verified")
    assert entry["source"] == f"from someone/small at {hub.commit[:12]}"
    assert run("path", "someone/small").stdout.strip() == str(cache / "models" / "someone--small")
    removed = json.loads(run("remove", "someone/small", "--yes", "--json").stdout)
    assert removed["freed_bytes"] > 100_000
    assert "someone/small" not in _listed(run)


def test_a_folder_that_nobody_vouches_for_is_verified_by_accepting_it(run: Run, cache: Path) -> None:
    write_small(cache / "models" / "mine")
    refused = run("verify", "mine")
    assert refused.exit_code == 1
    assert "leanvibe model verify mine --accept" in refused.stdout
    assert _listed(run)["mine"]["provenance"] == "unverified"
    accepted = run("verify", "mine", "--accept")
    assert accepted.exit_code == 0, accepted.output
    assert "provenance: verified" in accepted.stdout
    assert _listed(run)["mine"]["provenance"] == "verified"
    weights = cache / "models" / "mine" / "model.safetensors"
    intact = weights.read_bytes()
    weights.write_bytes(weights.read_bytes()[:-8] + bytes(8))
    damaged = run("verify", "mine", "--json")
    assert damaged.exit_code == 1
    (failed,) = [check for check in json.loads(damaged.stdout)["checks"] if not check["passed"]]
    assert failed["name"] == "files"
    assert "SHA-256" in failed["detail"]
    assert failed["action"]
    assert _listed(run)["mine"]["provenance"] == "failed files", "nobody vouches for what it is now"
    weights.write_bytes(intact)
    assert run("verify", "mine").exit_code == 0
    assert _listed(run)["mine"]["provenance"] == "verified"


def test_weights_that_know_nothing_are_refused_whoever_publishes_them_and_are_listed_as_failed(
    run: Run, hub: Hub, tmp_path: Path
) -> None:
    name = "model-00001-of-00003.safetensors"
    loud = tmp_path / name
    loud.write_bytes(hub.files[name])
    rewrite_tensors(loud, lambda tensors: tensors.update({one: 40 * tensors[one] for one in tensors}))
    hub.files[name] = loud.read_bytes()
    pulled = run("pull", "someone/small", "--json")
    assert pulled.exit_code == 1
    outcome = json.loads(pulled.stdout)
    assert (outcome["provenance"], outcome["is_fit"]) == ("unverified", False)
    (failed,) = [check for check in outcome["checks"] if not check["passed"]]
    assert failed["name"] == "canary_short"
    assert not [check for check in outcome["checks"] if "--accept" in check["action"]], "it could not be accepted"
    assert _listed(run)["someone/small"]["provenance"] == "failed canary_short"
    refused = run("convert", "someone/small", "--to", tmp_path / "made", "--quantize", "8", "--group-size", "32")
    assert refused.exit_code == 1
    assert "someone--small gives the canary paragraph" in refused.stderr.replace("\n", "")
    assert "nothing was written" in refused.stderr
    assert not (tmp_path / "made").exists()


def test_the_list_shows_short_names_that_are_not_here_with_what_to_type(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEANVIBE_COMMAND", "/srv/it/scripts/leanvibe")
    entries = _listed(run)
    assert {name: entry["is_present"] for name, entry in entries.items()} == {"embedded": False, "phi-3-mini": False}
    shown = run("list").stdout
    assert "/srv/it/scripts/leanvibe model embed" in shown
    assert "/srv/it/scripts/leanvibe model pull phi-3-mini" in shown


@pytest.fixture
def running_server(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Look like a server that runs a model; the lock on the data folder is what makes it one."""
    folder = tmp_path / "data"
    descriptor = lock_data_folder(folder)

    def write(model: str, model_folder: Path | None = None, rest_url: str = "http://127.0.0.1:1") -> None:
        ServerFile(
            pid=os.getpid(), started_at="2026-01-01T00:00:00Z", rest_url=rest_url,
            websocket_url="ws://127.0.0.1:2", inspection_socket="", engine="mlx", model=model,
            model_folder=None if model_folder is None else str(model_folder.resolve()),
        ).write(folder)  # fmt: skip

    yield write
    os.close(descriptor)


def test_the_model_in_use_is_shown_and_not_removed(run: Run, cache: Path, running_server: Callable[..., None]) -> None:
    folder = write_small(cache / "models" / "mine")
    running_server("mine", folder)
    assert _listed(run)["mine"]["is_in_use"]
    refused = run("remove", "mine", "--yes")
    assert refused.exit_code == 1
    assert "in use by the server" in refused.stderr
    assert folder.is_dir()
    running_server("mock")
    assert not _listed(run)["mine"]["is_in_use"]
    assert run("remove", "mine", "--yes").exit_code == 0
    assert not folder.exists()


def test_a_model_in_use_that_lies_elsewhere_is_listed_too(
    run: Run, tmp_path: Path, running_server: Callable[..., None]
) -> None:
    folder = write_small(tmp_path / "elsewhere")
    running_server("../elsewhere", folder)
    entry = _listed(run)["elsewhere"]
    assert (entry["is_in_use"], entry["folder"]) == (True, str(folder))


def test_what_the_server_holds_besides_is_not_removed_either(
    run: Run, tmp_path: Path, cache: Path, running_server: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, draining, free = (
        write_small(one) for one in (tmp_path / "elsewhere", cache / "models" / "mine", cache / "models" / "free")
    )
    listed = [
        {"full_name": "elsewhere", "is_in_use": True, "state": "loaded"},
        {"full_name": "mine", "is_in_use": False, "state": "draining"},
        {"full_name": "free", "is_in_use": False, "state": "available"},
    ]

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"models": listed}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running_server("elsewhere", elsewhere, f"http://127.0.0.1:{server.server_address[1]}")
        # Where a path relative to this folder would lead nowhere.
        monkeypatch.chdir(tmp_path / "data")
        assert {name for name, one in _listed(run).items() if one["is_in_use"]} == {"elsewhere"}
        assert "in use by the server" in run("remove", "mine", "--yes").stderr
        assert run("remove", "free", "--yes").exit_code == 0
        server.shutdown()
    assert draining.is_dir()
    assert not free.exists()


def test_the_server_lists_the_model_that_it_was_started_with_wherever_it_lies(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_small(tmp_path / "elsewhere")
    model_registry = CheckpointRegistry(ServableModel(name="elsewhere", folder=folder.resolve()), cache)
    monkeypatch.chdir("/")
    assert [one.folder for one in model_registry.entries() if one.is_present] == [folder.resolve()]


@pytest.mark.parametrize(
    "name", ["phi-3-mini", "phi3-mini", "Phi-3-Mini", "PHI-3-MINI", "mlx-community--Phi-3-mini-4k-instruct-4bit"]
)
def test_the_model_in_use_is_not_removed_by_any_of_its_names(
    run: Run, cache: Path, running_server: Callable[..., None], name: str
) -> None:
    folder = write_small(cache / "models" / "mlx-community--Phi-3-mini-4k-instruct-4bit")
    running_server("phi-3-mini", folder)
    refused = run("remove", name, "--yes")
    assert refused.exit_code == 1
    assert "in use by the server" in refused.stderr
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pull", "embedded"), "leanvibe model embed"),
        (("pull", "notaname"), "OWNER/NAME"),
        (("pull", "some/thing", "--offline"), "offline mode"),
        (("path", "some/thing"), "no model named"),
        (("path", "embedded"), "not there yet"),
        (("verify", "embedded"), "not there yet"),
        (("remove", "some/thing", "--yes"), "no model named"),
        (("remove", "../cache", "--yes"), "no model named"),
        (("convert", "some/thing", "--to", "x"), "no model named"),
    ],
)
def test_what_is_in_the_way_is_one_line_that_says_what_to_do(run: Run, words: tuple[str, ...], said: str) -> None:
    result = run(*words)
    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_a_path_is_not_pulled_but_explained(run: Run, tmp_path: Path) -> None:
    folder = write_small(tmp_path / "mine")
    assert "leanvibe model convert" in run("pull", folder).stderr


def test_what_the_hub_refuses_reaches_the_person(run: Run, hub: Hub) -> None:
    assert "no model 'someone/other'" in run("pull", "someone/other").stderr
    assert "no revision 'v9'" in run("pull", "someone/small", "--revision", "v9").stderr
    hub.is_gated = True
    assert "is gated" in run("pull", "someone/small").stderr


def test_looking_at_models_imports_no_mlx() -> None:
    import subprocess

    program = (
        "import sys\nfrom click.testing import CliRunner\nfrom actors.command_line.main import leanvibe\n"
        "assert CliRunner().invoke(leanvibe, ['model', 'list']).exit_code == 0\n"
        "assert not {'mlx', 'mlx_lm', 'transformers', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("command", ["load", "unload"])
def test_without_a_server_there_is_nothing_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("LEANVIBE_DATA_DIR", str(tmp_path / "data"))
    result = CliRunner().invoke(leanvibe, ["model", command, "any"])
    assert result.exit_code == 3
    assert "no server runs" in result.output


def test_ol13_models_have_the_hash_of_their_weights_and_their_time_and_the_encoder_is_listed(
    run: Run, cache: Path, running_server: Callable[..., None]
) -> None:
    folder = write_small(cache / "models" / "mine")
    assert _listed(run)["mine"]["digest"] == "", "nobody hashed it"
    write_manifest(folder, {})
    weights = folder / "model.safetensors"
    os.utime(weights, (1_000_000_000, 1_000_000_000))
    encoder = encoder_folder(cache)
    encoder.mkdir(parents=True)
    for one in ENCODER_FILES:
        with (encoder / one.name).open("wb") as file:
            file.truncate(one.size_bytes)
    listed = _listed(run)
    assert listed["mine"]["digest"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert listed["mine"]["modified_seconds"] == 1_000_000_000
    (found,) = [one for name, one in listed.items() if name == ENCODER_NAME]
    assert (found["type"], found["is_in_use"], found["size_bytes"]) == ("bert float32", False, ENCODER_BYTES)
    assert found["digest"] == ENCODER_FILES[-1].sha256
    assert ENCODER_NAME in run("list").stdout
    # A server that does not answer says nothing of it.
    running_server("mine", folder)
    assert not _listed(run)[ENCODER_NAME]["is_in_use"]
