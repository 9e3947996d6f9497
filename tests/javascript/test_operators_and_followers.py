"""What the console needs of the JavaScript client: answers of another connection, states, and what operators watch."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.operator_topics import TOPICS
from tests.cutting_proxy import cutting_proxy
from tests.javascript.test_javascript_client import PLATFORMS, play
from tests.server_fixture import count_to, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_cl11_an_answer_is_followed_and_states_are_told(tmp_path: Path, platform: str) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.01) as server:
        result = await play(platform, "follows", server.about.websocket_url)
    assert result["text"] == result["own"] == count_to(60)
    assert result["done"]["finish_reason"] == "stop"
    assert "is followed already" in result["twice"]["message"]
    assert "lost this answer" in result["lost"]["message"]
    kinds = [kind for kind, _ in result["states"]]
    # At first both, as the welcome has them; then what changed.
    assert set(kinds[:2]) == {"agent_status", "devices"}
    devices = [data["devices"] for kind, data in result["states"] if kind == "devices"]
    assert [[one["device_id"] for one in told] for told in (devices[0], devices[-1])] == [["default", "two"], ["two"]]


async def test_mo11_a_view_lives_through_a_cut_and_commands_of_operators_are_not_put_off(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, cutting_proxy(server.about.websocket_url, 60_000) as url:
        result = await play("node", "watches", url)
    assert result["text"] == count_to(3)
    assert result["topics"] == ["requests", "trace", "tree"]
    assert {"root", "tasks", "inference/engines/1", "monitoring"} <= set(result["paths"])
    assert result["connections"] >= 2
    assert [(one["direction"], one["message_type"]) for one in result["trace"]][:1] == [("ask", "ListTasks")]
    assert result["none"]["name"] == "Disconnected"
    assert result["keys"] == list(TOPICS)
