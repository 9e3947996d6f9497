"""Clients of both kinds: ours over the WebSocket, and OpenAI's chat completions over plain HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import h11
import trio
from attrs import define, field

from protocol.client import Client, CommandFailed, Disconnected, connect
from protocol.commands import ChatMessage, Generate, Role

__all__ = ["Asker", "CommandContext", "ask_chat", "at_once", "chat", "over_websocket"]

ANSWER_SECONDS = 900.0
"""A request that has not ended by then has failed."""
END_TOKENS = ("0", "2")
"""Tokens that would end an answer early; forbidden where every answer shall have the same length."""


@define
class CommandContext:
    """Outcomes of a set of requests."""

    tokens: int = 0
    failed: list[str] = field(factory=list)
    retries: int = 0
    """Refusals with a retry time, all of them honoured."""
    first_token_seconds: list[float] = field(factory=list)
    token_times: list[float] = field(factory=list)
    """Clock of every token, for requests that ask one after the other."""
    cached_tokens: int = 0
    elapsed_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Tokens per second, all requests together."""
        return self.tokens / self.elapsed_seconds


Asker = Callable[[CommandContext], Awaitable[None]]


def chat(*turns: str, tokens: int, **settings: Any) -> Generate:
    """Turns of user and assistant by turns, and an answer of exactly so many tokens."""
    roles = (Role.USER, Role.ASSISTANT)
    messages = [ChatMessage(roles[number % 2], text) for number, text in enumerate(turns)]
    return Generate(messages=messages, max_tokens=tokens, logit_bias=dict.fromkeys(END_TOKENS, -100.0), **settings)


async def over_websocket(client: Client, generate: Generate, asked: CommandContext) -> str:
    """Send one request over the WebSocket. After `overloaded` it is sent again once the given time has passed, as a good client does."""
    began = time.perf_counter()
    while True:
        try:
            with trio.fail_after(ANSWER_SECONDS):
                async with client.generate(generate) as answer:
                    text = []
                    async for piece in answer:
                        now = time.perf_counter()
                        if not text:
                            asked.first_token_seconds.append(now - began)
                        asked.token_times.append(now)
                        text.append(piece)
                assert answer.done is not None
                asked.tokens += answer.done["usage"]["completion_tokens"]
                asked.cached_tokens += answer.done["usage"]["cached_tokens"]
                return "".join(text)
        except CommandFailed as error:
            wait_ms = error.data.get("retry_after_ms")
            if error.code not in ("overloaded", "rate_limited") or wait_ms is None:
                asked.failed.append(error.code)
                return ""
            asked.retries += 1
            await trio.sleep(wait_ms / 1000)
        except (Disconnected, trio.TooSlowError) as error:
            asked.failed.append(type(error).__name__)
            return ""


async def at_once(
    url: str, requests: list[Generate], *, connections: int, ask: Callable[..., Awaitable[Any]] = over_websocket
) -> CommandContext:
    """Send all requests at the same moment over connections that are already open."""
    asked = CommandContext()
    clients: list[Client] = []
    are_ready, are_done = trio.Event(), trio.Event()

    async def hold(number: int) -> None:
        async with connect(url, client_id=f"bench-{number}") as client:
            clients.append(client)
            if len(clients) == connections:
                are_ready.set()
            await are_done.wait()

    async with trio.open_nursery() as holding:
        for number in range(connections):
            holding.start_soon(hold, number)
        await are_ready.wait()
        began = time.perf_counter()
        async with trio.open_nursery() as asking:
            for number, request in enumerate(requests):
                asking.start_soon(ask, clients[number % connections], request, asked)
        asked.elapsed_seconds = time.perf_counter() - began
        are_done.set()
    return asked


# --- chat completions -------------------------------------------------------------------------------


async def ask_chat(port: int, requests: list[Generate]) -> CommandContext:
    """The same requests to another server, all at once, one connection each; what fails is counted and not tried again."""
    asked = CommandContext()
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for request in requests:
            nursery.start_soon(_one_chat, port, request, asked)
    asked.elapsed_seconds = time.perf_counter() - began
    return asked


async def _one_chat(port: int, request: Generate, asked: CommandContext) -> None:
    body = json.dumps(
        {
            "messages": [{"role": one.role.value, "content": one.content} for one in request.messages or ()],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    began = time.perf_counter()
    made = 0
    has_begun = is_whole = False
    try:
        with trio.fail_after(ANSWER_SECONDS):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                async for event in _events(stream, body):
                    if event == "[DONE]":
                        is_whole = True
                        continue
                    content = json.loads(event)
                    if content.get("usage"):
                        made = content["usage"]["completion_tokens"]
                    if any(one.get("delta", {}).get("content") for one in content.get("choices", ())):
                        now = time.perf_counter()
                        asked.token_times.append(now)
                        if not has_begun:
                            has_begun = True
                            asked.first_token_seconds.append(now - began)
    except (OSError, trio.BrokenResourceError, trio.TooSlowError, h11.ProtocolError, ValueError) as error:
        asked.failed.append(type(error).__name__)
        return
    if is_whole:
        asked.tokens += made
    else:
        asked.failed.append("cut short")


async def _events(stream: trio.SocketStream, body: bytes) -> Any:
    """Data lines of a server-sent event stream. Raises `ValueError` for a status other than 200."""
    connection = h11.Connection(h11.CLIENT)
    headers = [("Host", "127.0.0.1"), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    request = h11.Request(method="POST", target="/v1/chat/completions", headers=[*headers, ("Connection", "close")])
    await stream.send_all((connection.send(request) or b"") + (connection.send(h11.Data(data=body)) or b""))
    connection.send(h11.EndOfMessage())
    left = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(65_536))
        elif isinstance(event, h11.Response) and event.status_code != 200:
            raise ValueError(f"status {event.status_code}")
        elif isinstance(event, h11.Data):
            *lines, left = (left + bytes(event.data)).split(b"\n")
            for line in lines:
                if line.startswith(b"data: "):
                    yield line[6:].decode()
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return
