"""Stock clients while the worker or the whole server is killed: nothing is lost silently, and their own retry is enough.

Run by `scripts/test_clients`: `restarts.py PYTHON FOLDER [--only-python]`, with the program that starts the server and a folder for its data.
Prints a line for each case; exits with 1 where one failed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
from restarted_clients import PATIENCE_SECONDS, PYTHON_CLIENTS, RETRIES, NodeClients, Restarted

PYTHON, FOLDER = sys.argv[1], Path(sys.argv[2])
ROOT = Path(__file__).resolve().parents[2]
STEP_SECONDS = "0.001"
"""Of the mock engine: otherwise a fast machine might have answered before the kill."""
LAST = 300
ASKED: list[Any] = [{"role": "user", "content": f"count to {LAST}"}]
ANSWER = " ".join(str(one) for one in range(1, LAST + 1))
ENDLESS = "count to 9000"
"""Fills the context."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Server:
    """The real program with the mock engine, on one port whatever becomes of it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._ports = ["--port", str(self.port), "--ws-port", str(free_port())]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [PYTHON, "-m", "actors.command_line.main", "serve", "--engine", "mock", "--data-dir", str(FOLDER)]
        with (FOLDER / "log").open("ab") as log:
            own = {**os.environ, "LEANVIBE_MOCK_STEP_SECONDS": STEP_SECONDS}
            self._process = subprocess.Popen([*command, *self._ports], cwd=ROOT, env=own, stdout=log, stderr=log)

    def until_ready(self) -> None:
        gives_up_at = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                if self.engine().get("inference_ready"):
                    return
            except OSError:
                pass
            if time.monotonic() > gives_up_at:
                raise SystemExit(f"the server is not ready:\n{(FOLDER / 'log').read_text()}")
            time.sleep(0.1)

    def engine(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/health/mlx", timeout=60) as answer:
            content: dict[str, Any] = json.load(answer)
            return content

    def end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(PATIENCE_SECONDS)


def stream(client: openai.OpenAI) -> Any:
    return client.chat.completions.create(model="mock", messages=ASKED, stream=True)


def text_of(chunk: Any) -> str:
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""


def worker_is_killed_while_it_streams(server: Server, client: openai.OpenAI) -> None:
    pieces: list[str] = []
    killed = reason = None
    for chunk in stream(client):
        pieces.append(text_of(chunk))
        if killed is None and sum(map(len, pieces)) > 100:
            killed = server.engine()["worker_pid"]
            os.kill(killed, signal.SIGKILL)
        if chunk.choices and chunk.choices[0].finish_reason:
            reason = chunk.choices[0].finish_reason
    assert "".join(pieces) == ANSWER
    assert reason == "stop", reason
    assert killed not in (None, server.engine()["worker_pid"]), "another worker finished it"


def server_is_killed_while_it_streams(server: Server, client: openai.OpenAI) -> None:
    pieces: list[str] = []
    try:
        for chunk in stream(client):
            pieces.append(text_of(chunk))
            if len(pieces) == 2:
                server.end(signal.SIGKILL)
    except (openai.APIError, httpx.HTTPError) as error:
        print(f"       told as {type(error).__name__}: {error}")
    else:
        raise AssertionError("the client took half an answer for all of it")
    finally:
        server.start()
    assert ANSWER.startswith("".join(pieces))
    # The same client asks again at once, while nothing listens yet.
    assert "".join(map(text_of, stream(client))) == ANSWER


def server_is_killed_while_it_answers(server: Server, client: openai.OpenAI) -> None:
    whole = asking(client)
    server.end(signal.SIGKILL)
    server.start()
    assert whole() == ANSWER


def server_is_restarted(server: Server, client: openai.OpenAI) -> None:
    before = asking(client)
    server.end(signal.SIGTERM)
    after = asking(client)
    server.start()
    assert before() == ANSWER
    assert after() == ANSWER


def server_is_killed_beneath_all_clients(server: Server, client: openai.OpenAI) -> None:
    question = ASKED[0]["content"]
    node = None if "--only-python" in sys.argv else NodeClients(server.url, ENDLESS, question)
    made = {name: make(server.url) for name, make in PYTHON_CLIENTS.items()}
    clients = {name: Restarted(*one, ENDLESS, question) for name, one in made.items()}
    for one in clients.values():
        assert one.is_streaming.wait(PATIENCE_SECONDS)
    if node is not None:
        node.stream()
    server.end(signal.SIGKILL)
    server.start()
    for name, one in clients.items():
        one.wait()
        print(f"       {name}: told as {type(one.told).__name__}: {str(one.told)[:100]}")
        assert one.told is not None, f"{name} took half an answer for all of it"
        assert one.answer == ANSWER, name
    if node is not None:
        node.finish()


def asking(client: openai.OpenAI) -> Callable[[], str]:
    """Asks in a thread, for the whole answer; what is returned waits for it."""
    answers: list[Any] = []

    def ask() -> None:
        try:
            made = client.chat.completions.create(model="mock", messages=ASKED)
            answers.append(made.choices[0].message.content)
        except Exception as error:
            answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.05)  # on its way, or already there: both are tried by whatever the machine makes of it

    def wait() -> str:
        thread.join(2 * PATIENCE_SECONDS)
        (answer,) = answers
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    return wait


def main() -> int:
    """Try all of them, one after the other, with one server."""
    server, failed = Server(), 0
    server.start()
    cases = (
        worker_is_killed_while_it_streams,
        server_is_killed_while_it_streams,
        server_is_killed_while_it_answers,
        server_is_restarted,
        server_is_killed_beneath_all_clients,
    )
    try:
        for one in cases:
            server.until_ready()
            began = time.monotonic()
            try:
                with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=RETRIES) as client:
                    one(server, client)
            except Exception:
                failed += 1
                print(f"FAILED {one.__name__}\n{traceback.format_exc(limit=-3, chain=False)[-1500:]}", flush=True)
            else:
                print(f"ok     {one.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
    finally:
        server.end(signal.SIGTERM)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
