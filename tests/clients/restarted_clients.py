"""Stock clients beneath which the server is killed, for `restarts.py`: each streams, and asks again by its own retry where it has one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RETRIES = 20
"""The clients wait half a second first, and eight at most."""
PATIENCE_SECONDS = 120.0
MODEL = "mock"
KEY = "unused"
FOLDER = Path(__file__).resolve().parent
NODE = FOLDER.parent / "javascript" / "node_modules" / ".bin" / "node"

Streams = Callable[[str], Iterator[str]]
"""The pieces of the answer to a question."""
Asks = Callable[[str], str]
"""The whole answer, over whatever becomes of the connection."""


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def anthropic_client(url: str) -> tuple[Streams, Asks]:
    import anthropic

    client = anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=RETRIES)
    fields: Any = {"model": MODEL, "max_tokens": 8000}

    def streams(text: str) -> Iterator[str]:
        with client.messages.stream(messages=user(text), **fields) as stream:
            yield from stream.text_stream

    def asks(text: str) -> str:
        return str(client.messages.create(messages=user(text), **fields).content[0].text)

    return streams, asks


def langchain_client(url: str) -> tuple[Streams, Asks]:
    from langchain_openai import ChatOpenAI

    chain = ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key=KEY, max_retries=RETRIES)
    return lambda text: (str(one.content) for one in chain.stream(text)), lambda text: str(chain.invoke(text).content)


def litellm_client(url: str) -> tuple[Streams, Asks]:
    import litellm

    litellm.suppress_debug_info = True
    fields: Any = {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": KEY, "max_retries": RETRIES}

    def streams(text: str) -> Iterator[str]:
        for chunk in litellm.completion(messages=user(text), stream=True, **fields):
            yield chunk.choices[0].delta.content or ""

    return streams, lambda text: str(litellm.completion(messages=user(text), **fields).choices[0].message.content)


def ollama_client(url: str) -> tuple[Streams, Asks]:
    import ollama

    client = ollama.Client(host=url)

    def asks(text: str) -> str:
        # It has no retry of its own, but says each time what is the matter.
        gives_up_at = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return str(client.chat(model=MODEL, messages=user(text)).message.content)
            except (ConnectionError, ollama.ResponseError):
                if time.monotonic() > gives_up_at:
                    raise
                time.sleep(0.2)

    def streams(text: str) -> Iterator[str]:
        for one in client.chat(model=MODEL, messages=user(text), stream=True):
            yield one.message.content or ""

    return streams, asks


PYTHON_CLIENTS = {
    "anthropic": anthropic_client,
    "ollama": ollama_client,
    "langchain": langchain_client,
    "litellm": litellm_client,
}


class Restarted:
    """A client in a thread: is told of the cut in mid-answer, and asks again."""

    def __init__(self, streams: Streams, asks: Asks, endless: str, question: str) -> None:
        self.is_streaming = threading.Event()
        self.told: Exception | None = None
        """How it was told that the answer was cut off."""
        self.answer: str | Exception | None = None
        self._streams, self._asks, self._endless, self._question = streams, asks, endless, question
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait(self) -> None:
        """For its whole answer. Raises what the client raised."""
        self._thread.join(2 * PATIENCE_SECONDS)
        if isinstance(self.answer, Exception):
            raise self.answer

    def _run(self) -> None:
        try:
            for piece in self._streams(self._endless):
                if piece:
                    self.is_streaming.set()
        except Exception as error:
            self.told = error
        self.is_streaming.set()
        try:
            self.answer = self._asks(self._question)
        except Exception as error:
            self.answer = error


class NodeClients:
    """The clients for Node, in a process of theirs: a line on its input starts them, lines on its output say where they are."""

    def __init__(self, url: str, endless: str, question: str) -> None:
        command = [str(NODE), str(FOLDER / "restarts.mjs"), f"{url}/v1", MODEL, endless, question]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=sys.stderr, text=True)

    def stream(self) -> None:
        """Start them; returns when each has its first piece."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line == "streaming\n", line

    def finish(self) -> None:
        """Wait for their answers. Raises `AssertionError` with what they say went wrong."""
        try:
            said, _ = self._process.communicate(timeout=2 * PATIENCE_SECONDS)
        finally:
            self._process.kill()
        print(said, end="", flush=True)
        assert self._process.returncode == 0, "see above"
