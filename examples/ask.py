"""One question, streamed: python examples/ask.py What is a hash table?"""

import os
import sys

import trio

from protocol.client import connect
from protocol.commands import ChatMessage, Generate, Role

URL = os.environ.get("LEANVIBE_URL", "ws://127.0.0.1:8000/ws")


async def main() -> None:
    """Print the answer as it comes."""
    question = " ".join(sys.argv[1:]) or "What is a hash table?"
    command = Generate(messages=[ChatMessage(Role.USER, question)], max_tokens=200)
    # With `reconnect` a cut is mended and the answer goes on; with `detach` the server goes on with it meanwhile.
    async with connect(
        URL, client_id="examples", token=os.environ.get("LEANVIBE_TOKEN"), reconnect=True, detach=True
    ) as client:
        async with client.generate(command) as answer:  # leaving the block early cancels it
            async for text in answer:
                print(text, end="", flush=True)
    print()
    if answer.done is not None:
        print(f"{answer.done['usage']['completion_tokens']} tokens, {answer.done['finish_reason']}", file=sys.stderr)


trio.run(main)
