"""A client that was away for long asks about a command, and nothing is carried out twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from protocol.commands import COMMANDS
from tests.protocol.command_samples import VALID
from tests.server_fixture import Peer, RunningServer

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

WRITES = [name for name, one in COMMANDS.items() if one.writes]

CHANGING = {"notification_preferences": {"preferences": {"min_priority": "high"}}}
"""Data that makes a command change something, where the least data only reads."""


async def asked(peer: Peer, kind: str, command_id: str, data: Any, *, only_if_known: Any = True) -> dict[str, Any]:
    message = {"type": kind, "id": command_id, "data": data, "only_if_known": only_if_known}
    await peer.websocket.send(json.dumps(message))
    while (answer := await peer.receive()).get("re") != command_id or "stream" in answer:
        pass
    return answer


async def test_cl10_a_command_that_is_known_is_answered_as_it_was_and_not_carried_out(server: RunningServer) -> None:
    async with server.peer() as peer:
        made = await asked(peer, "task_create", "c", {"title": "t"}, only_if_known=False)
        again = await asked(peer, "task_create", "c", {"title": "t"})
        assert (again["type"], again["data"]) == ("result", made["data"])
        other = await asked(peer, "task_create", "c", {"title": "other"})
        assert (other["data"]["code"], other["data"]["field"]) == ("conflict", "id")
        listed = await asked(peer, "task_list", "l", {}, only_if_known=False)
        assert len(listed["data"]["tasks"]) == 1


async def test_cl10_no_command_that_is_not_known_is_carried_out(server: RunningServer) -> None:
    """Every command that changes something, with valid data."""
    async with server.peer() as peer:
        wrong = {}
        for kind in WRITES:
            answer = await asked(peer, kind, f"never-{kind}", {**VALID[kind], **CHANGING.get(kind, {})})
            if answer["data"].get("field") != "only_if_known":
                wrong[kind] = answer["data"]
            if kind in ("generate", "assist"):
                # Not even begun.
                assert "resume the stream" in answer["data"]["message"]
        assert not wrong
        assert (await asked(peer, "task_list", "l", {}, only_if_known=False))["data"]["tasks"] == []


async def test_cl10_only_a_command_that_changes_something_can_be_asked_about(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as peer:
        for kind, data in (("ping", 1), ("task_list", {}), ("cancel", {"target": "x"})):
            answer = await asked(peer, kind, kind, data)
            assert (answer["data"]["code"], answer["data"]["field"]) == ("invalid_field", "only_if_known")
        for wrong in (None, 1, "true", []):
            answer = await asked(peer, "task_create", "c", {"title": "t"}, only_if_known=wrong)
            assert (answer["data"]["code"], answer["data"]["field"]) == ("invalid_field", "only_if_known")
