"""Follow the Kanban board: python examples/follow_board.py [HOW MANY EVENTS]; `scripts/leanvibe task add …` makes some."""

import os
import sys

import trio

from protocol.client import Change, Client, Snapshot, connect
from protocol.tasks import TaskBoard

URL = os.environ.get("LEANVIBE_URL", "ws://127.0.0.1:8000/ws")
CLIENT = os.environ.get("LEANVIBE_CLIENT_ID", "examples")


def on_change(change: Change) -> None:
    """Say when the server is away and when it is back; no event is lost meanwhile."""
    print(f"[{change.state}]", file=sys.stderr)


async def main() -> None:
    """Print the board, then each event."""
    left = int(sys.argv[1]) if len(sys.argv) > 1 else -1
    async with connect(
        URL, client_id=CLIENT, device_id="follower", token=os.environ.get("LEANVIBE_TOKEN"),
        reconnect=True, events=True, on_change=on_change,
    ) as client:  # fmt: skip
        # Events are followed from here on, so that what changes after the board was read is not missed.
        async with client.events() as events:
            await print_board(client)
            async for event in events:
                if isinstance(event, Snapshot):
                    # More was lost than the server keeps: read the state again.
                    await print_board(client)
                elif event.type.startswith("task_"):
                    task = event.data.get("task", {})
                    print(event.seq, event.type, task.get("title", event.data.get("task_id")), flush=True)
                    left -= 1
                    if left == 0:
                        return


async def print_board(client: Client) -> None:
    """How many tasks each column has."""
    board = await client.ask(TaskBoard())
    print("board:", ", ".join(f"{one.status.value} {one.count}" for one in board.columns), flush=True)


trio.run(main)
