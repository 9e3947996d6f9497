"""The systems under test: our server, a plain BatchGenerator loop, and other servers, each a separate process (tree)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

__all__ = ["ChatServer", "Loop", "OurServer", "llama_server", "mlx_lm_server", "run_loop", "run_mlx_lm_server"]

TOP = Path(__file__).resolve().parents[2]
START_SECONDS = 300.0


class _Closable(Protocol):
    def close(self) -> None: ...


@contextmanager
def _closed_unless_started(system: _Closable) -> Iterator[None]:
    """End a system if its start fails, because its caller can do so only after the start."""
    try:
        yield
    except BaseException:
        system.close()
        raise


class OurServer:
    """`leanvibe serve` on free ports with a data folder of its own."""

    name = "leanvibe"

    def __init__(self, engine: str, model: str, *, drafts: bool = True) -> None:
        from actors.inspection.server_file import read_server_file

        self._folder = tempfile.TemporaryDirectory(prefix="leanvibe-bench-")
        words = [str(Path(sys.prefix) / "bin/leanvibe"), "serve", "--port", "0", "--ws-port", "0"]
        words += ["--data-dir", self._folder.name, "--engine", engine, "--model", model, "--log-level", "error"]
        environment = {**os.environ, "LEANVIBE_DRAFTS": str(drafts).lower()}
        self._process = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment, start_new_session=True)
        with _closed_unless_started(self):
            while (found := read_server_file(Path(self._folder.name))) is None:
                if self._process.poll() is not None:
                    sys.exit("the server did not start; try ./scripts/run")
                time.sleep(0.05)
            self.websocket_url, self._rest_url = found.websocket_url, found.rest_url
            deadline = time.monotonic() + START_SECONDS
            while not self.health().get("inference_ready"):
                if time.monotonic() > deadline:
                    sys.exit(f"the server did not become ready: {self.health()['problem']}")
                time.sleep(0.1)

    def health(self) -> dict[str, Any]:
        """Body of `/health/mlx`, whatever its status."""
        try:
            with urllib.request.urlopen(f"{self._rest_url}/health/mlx", timeout=30) as response:
                body: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                body = json.load(error)
        return body

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._folder.cleanup()


class ChatServer:
    """Another program that answers OpenAI's chat completions on a loopback port."""

    def __init__(self, name: str, command: list[str], port: int) -> None:
        self.name = name
        self.port = port
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the server
        self._process = subprocess.Popen(
            command, stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + START_SECONDS
        with _closed_unless_started(self):
            while not self._answers():
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self._log.seek(0)
                    sys.exit(f"{name} did not start: {self._log.read()[-2000:].decode(errors='replace')}")
                time.sleep(0.2)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def mlx_lm_server(blas: str, model: str) -> ChatServer:
    """mlx-lm's own server over the same checkpoint: as installed (`shipped`), or with our BLAS in the process before."""
    port = _free_port()
    script = str(TOP / "scripts/bench_inference")
    name = "mlx_lm.server" if blas == "shipped" else "mlx_lm.server, our BLAS"
    return ChatServer(name, [sys.executable, script, "--mlx-lm-server", f"{blas}:{port}", "--model", model], port)


def llama_server(program: str, gguf: str) -> ChatServer:
    """llama-server by path, over the GGUF that the embedded model was made of."""
    port = _free_port()
    words = [program, "-m", gguf, "--port", str(port), "--host", "127.0.0.1", "-np", "32", "-c", str(32 * 1024)]
    return ChatServer("llama-server", words, port)


class Loop:
    """A plain BatchGenerator in a process of its own, because a process has one BLAS."""

    def __init__(self, blas: str, model: str) -> None:
        words = [sys.executable, str(TOP / "scripts/bench_inference"), "--loop", blas, "--model", model]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        with _closed_unless_started(self):
            self.blas: str = self._read()["blas"]

    def run(self, questions: list[str], tokens: int) -> tuple[float, float]:
        """Tokens per second for these prompts at once: from the start, and once all prompts are read."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([questions, tokens]) + "\n")
        self._process.stdin.flush()
        made = self._read()
        return made["rate"], made["decode"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("the BatchGenerator loop has ended; its words are above")
        made: dict[str, Any] = json.loads(line)
        return made


# --- what runs in those processes -------------------------------------------------------------------


def run_loop(blas: str, model_name: str) -> int:
    """The bare equivalent: mlx-lm's own batched generation over the same weights and prompts, nothing around it."""
    folder, report = _prepare(blas, model_name)
    from mlx_lm.generate import BatchGenerator

    from actors.inference.mlx.load import available_device, load_checkpoint
    from actors.inference.text.text_model import CheckpointText
    from protocol.commands import ChatMessage, Generate, Role

    model = load_checkpoint(folder, available_device(), may_compile=False).model
    text = CheckpointText(folder)
    print(json.dumps({"blas": report}), flush=True)
    for line in sys.stdin:
        questions, tokens = json.loads(line)
        prompts = [text.encode(Generate(messages=[ChatMessage(Role.USER, one)])) for one in questions]
        count = len(prompts)
        began = time.perf_counter()
        generator = BatchGenerator(
            model, max_tokens=tokens, completion_batch_size=count, prefill_batch_size=min(count, 8)
        )
        generator.insert(prompts)
        made = first_made = 0
        first_at = began
        while responses := generator.next_generated():
            made += len(responses)
            if made >= count and not first_made:
                first_made, first_at = made, time.perf_counter()
        ended = time.perf_counter()
        generator.close()
        assert made == count * tokens, (made, count, tokens)
        decode = (made - first_made) / (ended - first_at) if made > first_made else None
        print(json.dumps({"rate": made / (ended - began), "decode": decode}), flush=True)
    return 0


def run_mlx_lm_server(blas_and_port: str, model_name: str) -> int:
    """mlx-lm's server program in this process, after our BLAS where that is wanted."""
    blas, _, port = blas_and_port.rpartition(":")
    folder, _ = _prepare(blas, model_name)
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.argv = ["mlx_lm.server", "--model", str(folder), "--host", "127.0.0.1", "--port", port, "--log-level", "ERROR"]
    from mlx_lm.server import main

    main()
    return 0


def _prepare(blas: str, model_name: str) -> tuple[Path, str]:
    """The checkpoint's folder and the name of the BLAS, which has to be in the process before MLX."""
    from actors.inference.checkpoints.catalogue import find_checkpoint
    from actors.inference.worker.blas import load_blas
    from actors.settings import load_settings

    settings = load_settings({})
    report = load_blas(blas, settings.cache_dir)
    return find_checkpoint(model_name, settings.cache_dir).folder, report.name
