"""The protocol by hand: cut the connection in mid-answer and go on. python examples/resume_after_cut.py [PROMPT]

Any WebSocket library will do; this one is trio-websocket, which LeanVibe uses itself.
"""

import json
import os
import sys
from typing import Any

import trio
from trio_websocket import WebSocketConnection, connect_websocket_url

URL = os.environ.get("LEANVIBE_URL", "ws://127.0.0.1:8000/ws")
HELLO = {"client_id": "examples", "device_id": "cut", "token": os.environ.get("LEANVIBE_TOKEN")}
CUT_AFTER = 5


async def open_session(nursery: trio.Nursery) -> WebSocketConnection:
    """Connect and say hello."""
    socket = await connect_websocket_url(nursery, URL, subprotocols=["leanvibe.v1+json"])
    await send(socket, "hello", "1", {name: value for name, value in HELLO.items() if value is not None})
    await receive(socket, "welcome")
    return socket


async def send(socket: WebSocketConnection, kind: str, command_id: str, data: dict[str, Any]) -> None:
    """One command."""
    await socket.send_message(json.dumps({"type": kind, "id": command_id, "data": data}))


async def receive(socket: WebSocketConnection, *kinds: str) -> dict[str, Any]:
    """The next message of these types."""
    while True:
        message: dict[str, Any] = json.loads(await socket.get_message())
        if message["type"] == "error":
            sys.exit(f"{message['data']['code']}: {message['data']['message']}")
        if message["type"] in kinds:
            return message


async def main() -> None:
    """Read some tokens, cut, resume, read the rest."""
    prompt = " ".join(sys.argv[1:]) or "count to 40"
    text, seq = "", 0
    async with trio.open_nursery() as nursery:
        socket = await open_session(nursery)
        # A detached answer goes on without a connection, for the server's `detach_seconds`.
        await send(socket, "generate", "2", {"prompt": prompt, "max_tokens": 200, "on_disconnect": "detach"})
        started = (await receive(socket, "accepted"))["data"]
        while seq < CUT_AFTER:
            token = await receive(socket, "token", "done")
            if token["type"] == "done":
                sys.exit("the answer was too short to be cut")
            text, seq = text + token["data"]["text"], token["seq"]
        nursery.cancel_scope.cancel()  # no close frame, no goodbye: a cut
    print(f"{text} [cut after event {seq}] ", end="", flush=True)

    async with trio.open_nursery() as nursery:
        socket = await open_session(nursery)
        await send(socket, "resume", "3", {"stream": started["stream"], "epoch": started["epoch"], "seq": seq})
        while True:
            message = await receive(socket, "token", "done", "failed", "cancelled")
            if message.get("stream") != started["stream"] or message["seq"] <= seq:
                continue  # of another stream, or seen before
            if message["type"] != "token":
                print(f"\n[{message['type']}]")
                break
            seq = message["seq"]
            print(message["data"]["text"], end="", flush=True)
        nursery.cancel_scope.cancel()


trio.run(main)
