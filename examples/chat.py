"""A conversation that the server stores: python examples/chat.py [NAME]; run it again with the same name to go on."""

import os
import sys

import trio

from protocol.client import connect
from protocol.commands import ChatMessage, Generate, Role

URL = os.environ.get("LEANVIBE_URL", "ws://127.0.0.1:8000/ws")


async def main() -> None:
    """Read a line, stream its answer, until the input ends."""
    conversation = sys.argv[1] if len(sys.argv) > 1 else "example"
    async with connect(
        URL, client_id="examples", token=os.environ.get("LEANVIBE_TOKEN"), reconnect=True, detach=True
    ) as client:
        while line := await trio.to_thread.run_sync(read_line):
            # The server puts the stored turns before this one, and stores it with its answer.
            turn = Generate(messages=[ChatMessage(Role.USER, line)], conversation=conversation, max_tokens=200)
            async with client.generate(turn) as answer:
                async for text in answer:
                    print(text, end="", flush=True)
            print()


def read_line() -> str:
    """The next line that is not empty; an empty text at the end of the input."""
    print("> ", end="", flush=True)
    for line in sys.stdin:
        if line.strip():
            return line.strip()
    return ""


trio.run(main)
