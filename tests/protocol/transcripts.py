"""Golden transcripts: what two ends said to each other, as lines `client`, `server` and `close`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.protocol.scripted_server import Peer, Script

__all__ = ["TRANSCRIPTS", "read_transcript", "replaying"]

TRANSCRIPTS = sorted((Path(__file__).parent / "golden").glob("*.jsonl"))


def read_transcript(path: Path) -> list[tuple[str, Any]]:
    """(who, what) for each line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [next(iter(json.loads(line).items())) for line in lines]


def replaying(path: Path) -> list[Script]:
    """One script for each connection of the transcript: says the server's lines, and expects the client's."""
    ids: dict[str, str] = {}
    return [_script(list(lines), ids) for lines in _connections(read_transcript(path))]


def _connections(lines: list[tuple[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    number = 0

    def connection_of(line: tuple[str, Any]) -> int:
        nonlocal number
        number += line[0] == "client" and line[1]["type"] == "hello"
        return number

    for _, group in groupby(lines, connection_of):
        yield list(group)


def _script(lines: list[tuple[str, Any]], ids: dict[str, str]) -> Script:
    async def play(peer: Peer) -> None:
        for who, what in lines:
            if who == "close":
                await peer.close(what)
            elif who == "server":
                # The client chose ids of its own.
                await peer.say(**({**what, "re": ids[what["re"]]} if "re" in what else what))
            else:
                await _expect(peer, what, ids)
        await peer.linger()

    return play


async def _expect(peer: Peer, wanted: dict[str, Any], ids: dict[str, str]) -> None:
    received = await peer.receive(wanted["type"])
    if "id" in wanted:
        ids[wanted["id"]] = received["id"]
    data = wanted.get("data")
    if wanted["type"] == "cancel":
        data = {"target": ids[data["target"]]}
    given = received.get("data")
    if isinstance(data, dict) and isinstance(given, dict):
        # A client may spell out the defaults of what it leaves open.
        given = {name: given.get(name) for name in data}
    assert given == data, f"{received} instead of {wanted}"
