"""Clients that acknowledge the events they receive: `acknowledging_clients.py URL COUNT [--hello]`, with trio-websocket.

Prints a line when all are connected, greeted where the server wants that, and runs until its input ends.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import trio
import trio_websocket

import protocol

__all__ = ["PROGRAM", "client_name"]

PROGRAM = Path(__file__).resolve()
ENTERING = 8
"""Connections under way at once."""


def client_name(number: int) -> str:
    """The client id of one of them; each has its own."""
    return f"bench-{number}"


async def _client(
    nursery: trio.Nursery, url: str, number: int, says_hello: bool, entering: trio.Semaphore, has_entered: trio.Event
) -> None:
    async with entering:
        websocket = await trio_websocket.connect_websocket_url(
            nursery, url, subprotocols=[protocol.SUBPROTOCOL], max_message_size=2**20
        )
        if says_hello:
            await _say(websocket, {"type": "hello", "id": "h", "data": {"client_id": client_name(number)}})
            answer = json.loads(await websocket.get_message())
            if answer["type"] != "welcome":
                raise SystemExit(f"the hello was refused: {answer}")
        else:
            await websocket.send_message(str(number))
        has_entered.set()
    while True:
        message = json.loads(await websocket.get_message())
        if message["type"] == "notification":
            await _say(websocket, {"type": "ack", "data": {"stream": "client", "seq": message["seq"]}})
        elif message["type"] == "ping":
            await _say(websocket, {"type": "pong", "data": {}})


async def _say(websocket: Any, message: dict[str, Any]) -> None:
    await websocket.send_message(json.dumps(message))


async def main(url: str, count: int, says_hello: bool) -> None:
    """Connect all and acknowledge until nobody wants it any more."""
    entering = trio.Semaphore(ENTERING)
    have_entered = [trio.Event() for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(_client, nursery, url, number, says_hello, entering, have_entered[number])
        for one in have_entered:
            await one.wait()
        sys.stdout.write("connected\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel(reason="the measurement is over")


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]), "--hello" in sys.argv)
