"""The JavaScript client in Node and in headless Chromium: against the real server, and against a scripted one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from protocol.errors import CLOSE_CODES
from tests.cutting_proxy import cutting_proxy
from tests.javascript.tools import FOLDER, chromium, npm_file
from tests.protocol.scripted_server import Peer, Script, cut_after, goes_on_from, scripted_listener
from tests.protocol.transcripts import TRANSCRIPTS, replaying
from tests.server_fixture import RunningServer, count_to, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

PLATFORMS = ["node", "chromium"]


async def play(platform: str, scenario: str, *arguments: Any, **settings: str) -> Any:
    """Run one scenario to its end and return what it returned; ``settings`` join the program's environment."""
    given = [scenario, *(json.dumps(one) for one in arguments)]
    node = str(npm_file(".bin/node"))
    if platform == "node":
        command = [node, str(FOLDER / "run_in_node.mjs"), *given]
    else:
        npm_file("playwright-core")
        command = [node, str(FOLDER / "run_in_chromium.mjs"), chromium(), *given]
    with trio.fail_after(60):
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, env={**os.environ, **settings}
        )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


# --- the real server ----------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_p1_hello_ping_generate_and_cancel(tmp_path: Path, platform: str) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.002) as server:
        result = await play(platform, "basics", server.about.websocket_url)
        await server.until_no_row_is_taken()
        finished = (await server.snapshot("inference/inference"))["finished"]
    assert (result["welcome"]["client_id"], result["welcome"]["device_id"]) == ("js", "desk")
    assert result["pings"] == [None, 5, "é", [1, {"a": None}]]
    assert result["text"] == count_to(60)
    assert result["count"] > 1
    assert result["done"]["finish_reason"] == "stop"
    assert result["wasCancelled"] is True
    assert count_to(900).startswith(result["cancelled"])
    assert result["refused"] == {
        "name": "CommandFailed",
        "code": "invalid_field",
        "field": "data.top_k",
        "message": result["refused"]["message"],
    }
    assert (result["tooLarge"]["name"], result["tooLarge"]["code"]) == ("CommandFailed", "too_large")
    assert result["both"] == ["You said: one", "You said: two"]
    assert result["afterwards"]["name"] == "Disconnected"
    assert finished["cancelled"] == 2


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_p4_commands_are_answered_across_cuts(engineless_server: RunningServer, platform: str) -> None:
    async with cutting_proxy(engineless_server.about.websocket_url, 1500, 2500, 4001) as url:
        result = await play(platform, "cuts", url)
    assert result == {"connections": 4, "cutsSeen": 3, "wrong": []}


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_p4_a_generation_loses_and_repeats_nothing_across_cuts(tmp_path: Path, platform: str) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.005) as server,
        cutting_proxy(server.about.websocket_url, 900, 1501, 2503) as url,
    ):
        result = await play(platform, "detached", url, "count to 150")
    assert result == {"text": count_to(150), "cuts": 3, "reason": "stop"}


async def test_a_refused_hello_says_what_the_server_said(engineless_server: RunningServer) -> None:
    refusal = await play("node", "refusedHello", engineless_server.about.websocket_url)
    assert (refusal["name"], refusal["code"]) == ("CommandFailed", "unauthorized")


async def test_a_server_with_tls_is_believed_by_whoever_knows_its_authority_and_by_nobody_else(tmp_path: Path) -> None:
    """Node takes further authorities from a file that its environment names, and checks issuer and name itself."""
    authorities = []
    for name in ("right", "wrong"):
        authority = trustme.CA()
        authorities.append(tmp_path / f"{name}.pem")
        authority.cert_pem.write_to_path(str(authorities[-1]))
        if name == "right":
            authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    right, wrong = map(str, authorities)
    async with running_server(tmp_path, tls_certificate=tmp_path / "server.pem") as server:
        url = server.about.websocket_url
        assert url.startswith("wss://127.0.0.1:")
        believed = await play("node", "overTls", url, NODE_EXTRA_CA_CERTS=right)
        assert believed == {"result": {"ping": "é", "text": count_to(9)}, "failed": None}
        other_name = await play("node", "overTls", url.replace("127.0.0.1", "localhost"), NODE_EXTRA_CA_CERTS=right)
        for refused in (await play("node", "overTls", url, NODE_EXTRA_CA_CERTS=wrong), other_name):
            assert refused["result"] is None
            assert refused["failed"]["name"] == "Disconnected"
            assert "a certificate that is not trusted" in refused["failed"]["message"]
        assert not server.connections()


async def test_nobody_listening_is_a_failure_and_not_a_wait() -> None:
    refusal = await play("node", "nobody")
    assert refusal["name"] == "Disconnected"


# --- a scripted server --------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_p4_an_answer_goes_on_where_it_was_cut(platform: str) -> None:
    points: list[Any] = []

    async def first(peer: Peer) -> None:
        await peer.welcome()
        command = await peer.accept()
        assert command["data"] == {"on_disconnect": "detach", "prompt": "x"}
        await peer.tokens("a", "b")
        await peer.cut()

    async def second(peer: Peer) -> None:
        hello = await peer.welcome()
        points.extend(hello["resume"])
        await peer.tokens("b", after=1)
        await peer.say(type="token", stream="g-1", first_seq=3, seq=5, data={"text": "cde", "index": 4})
        await peer.done(6)
        await peer.linger()

    async with scripted_listener(first, second) as (url, _):
        result = await play(platform, "oneAnswer", url, {"detach": True})
    assert points == [{"stream": "g-1", "epoch": "e-1", "seq": 2}]
    assert result["told"] == ["a", "b", "cde"]
    assert result["done"] == {"finish_reason": "stop"}
    assert result["states"] == ["connected", "disconnected", "connected"]


async def test_p4_an_answer_whose_events_are_gone_goes_on_from_the_snapshot() -> None:
    async with scripted_listener(
        cut_after("a", "b"), goes_on_from({"seq": 7, "text": "abcd", "state": "running"}, "e")
    ) as (url, _):
        result = await play("node", "oneAnswer", url)
    assert result["told"] == ["a", "b", "cd", "e"]
    assert result["failed"] is None


async def test_p4_an_answer_that_a_restarted_server_makes_again_is_not_told_twice() -> None:
    async with scripted_listener(
        cut_after("ab", "cd"), goes_on_from({"seq": 1, "text": "a", "state": "running"}, "b", "cde")
    ) as (url, _):
        result = await play("node", "oneAnswer", url)
    assert result["told"] == ["ab", "cd", "e"]
    assert result["failed"] is None


async def test_p4_an_answer_that_the_server_has_lost_says_so() -> None:
    async def second(peer: Peer) -> None:
        await peer.welcome([])
        await peer.linger()

    async with scripted_listener(cut_after("a"), second) as (url, _):
        result = await play("node", "oneAnswer", url)
    assert result["told"] == ["a"]
    assert result["failed"]["name"] == "Disconnected"
    assert "lost this answer" in result["failed"]["message"]


async def test_p4_a_gap_is_filled_by_a_resume() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.accept()
        await peer.tokens("a")
        await peer.tokens("c", "d", after=2)
        resume = await peer.receive("resume")
        assert resume["data"] == {"stream": "g-1", "epoch": "e-1", "seq": 1}
        await peer.tokens("wrong", after=1)
        await peer.say(type="result", re=resume["id"], data={"resumed": True, "head": 4})
        await peer.tokens("b", "c", "d", after=1)
        await peer.done(5)
        await peer.linger()

    async with scripted_listener(script) as (url, _):
        result = await play("node", "oneAnswer", url)
    assert result["told"] == ["a", "b", "c", "d"]


async def test_p2_a_command_whose_answer_was_lost_is_sent_again_with_its_id_and_data() -> None:
    received: list[Any] = []

    async def first(peer: Peer) -> None:
        await peer.welcome()
        received.append(await peer.receive("task_create"))
        await peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        received.append(await peer.receive("task_create"))
        await peer.say(type="result", re=received[-1]["id"], data={"task": 1})
        await peer.linger()

    async with scripted_listener(first, second) as (url, _):
        assert await play("node", "oneCommand", url) == {"task": 1}
    assert received[0] == received[1]


@pytest.mark.parametrize("code", [1001, 1009, 1011, 4008, 4400, 4429, 1000])
async def test_p12_close_codes_say_whether_the_client_comes_back(code: int) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.say(type="going_away", data={"retry_after_ms": 5})
        await peer.close(code)

    async def second(peer: Peer) -> None:
        await peer.welcome()
        ping = await peer.receive("ping")
        await peer.say(type="pong", re=ping["id"], data=ping["data"])
        await peer.linger()

    async with scripted_listener(first, second) as (url, server):
        result = await play("node", "afterClose", url)
    if code in {1001, 1011, 4008, 4429}:
        assert (result["answer"], len(server.attempts)) == (7, 2)
        assert result["states"] == ["connected", "going_away", "disconnected", "connected", "ended"]
    else:
        assert (result["failed"]["code"], len(server.attempts)) == (code, 1)
        assert result["states"] == ["connected", "going_away", "ended"]


async def test_p4_p6_durable_events_come_once_in_order_and_are_acknowledged() -> None:
    acknowledged: list[Any] = []

    async def event(peer: Peer, seq: int, event_id: str) -> None:
        await peer.say(type="task_deleted", stream="client", seq=seq, data={"event_id": event_id, "task_id": "t"})

    async def first(peer: Peer) -> None:
        await peer.welcome([{"stream": "client", "resumed": False, "head": 4, "snapshot": {"seq": 4}}])
        await event(peer, 5, "five")
        await event(peer, 6, "five")
        batch = [{"type": "notification", "seq": seq, "data": {"event_id": f"id-{seq}"}} for seq in (7, 8)]
        await peer.say(type="events", stream="client", first_seq=7, seq=9, data={"events": batch})
        acknowledged.append((await peer.receive("ack"))["data"])
        await peer.cut()

    async def second(peer: Peer) -> None:
        hello = await peer.welcome()
        assert hello["resume"] == [{"stream": "client", "epoch": "e-client", "seq": 9}]
        await event(peer, 10, "ten")
        await peer.linger()

    async with scripted_listener(first, second) as (url, _):
        received = await play("node", "events", url, 5)
    assert received == [
        ["snapshot", 4], ["task_deleted", 5], ["notification", 7], ["notification", 8], ["task_deleted", 10],
    ]  # fmt: skip
    assert acknowledged == [{"stream": "client", "seq": 8}]


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_p12_the_rules_are_those_of_the_protocol(platform: str) -> None:
    result = await play(platform, "rules")
    assert result["takes"] == ["next", "next", "seen", "seen", "loss", "loss", "next"]
    assert result["point"] == {"stream": "s", "epoch": "new", "seq": 9}
    assert result["codes"] == {str(int(code)): about.reconnect for code, about in CLOSE_CODES.items()}
    assert result["comesBack"] == [True, False, True, True, False]
    assert result["highest"] == [250, 500, 1000, 2000, 4000, 8000, 10000, 10000]
    assert result["hinted"] == 1234


MALFORMED: list[dict[str, Any]] = [
    {"type": "failed", "stream": "g-1", "seq": 1, "data": None},
    {"type": "token", "stream": "g-1", "seq": 1, "data": {"text": 5}},
    {"type": "token", "stream": "g-1", "seq": "1", "data": {"text": "a"}},
    {"type": "done", "stream": "g-1", "seq": 1, "data": []},
    {"type": "events", "stream": "client", "seq": 1, "data": 5},
    {"type": "task_created", "stream": "client", "seq": 1, "data": 5},
    {"type": "error"},
    {"type": "going_away"},
    {"type": 5},
]


async def test_a_malformed_message_is_a_failure_of_the_connection_and_not_of_the_program() -> None:
    """One connection for each; after a close that ends the session, each answer ends by a failure that has a name."""

    def serving(message: dict[str, Any]) -> Script:
        async def script(peer: Peer) -> None:
            await peer.welcome([{"stream": "client", "resumed": False, "head": 0, "snapshot": {"seq": 0}}])
            await peer.accept()
            await peer.say(**message)
            await peer.close(4400)

        return script

    async with scripted_listener(*map(serving, MALFORMED)) as (url, _):
        failures = await play("node", "manyAnswers", url, len(MALFORMED))
    # A durable event may have any data; there it is the close that ends the session, and says so.
    ends = ["Refused" if one["type"] == "task_created" else "Disconnected" for one in MALFORMED]
    assert [one["name"] for one in failures] == ends


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_p14_a_transcript_replays_on_the_javascript_client(platform: str) -> None:
    async with scripted_listener(*replaying(TRANSCRIPTS[0])) as (url, _):
        result = await play(platform, "goldenTranscript", url)
    assert (result["ping"], result["text"]) == (["grüße", {"a": None}], "1 2 3 4 5")
    assert (result["done"]["usage"]["completion_tokens"], result["refused"]) == (9, "rate_limited")


# --- the platform's own WebSocket ---------------------------------------------------------------------


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_p15_the_server_as_nodes_and_chromiums_own_websocket_see_it(
    engineless_server: RunningServer, platform: str
) -> None:
    result = await play(platform, "plainWebSocket", engineless_server.about.websocket_url)
    told = {
        name: (one["protocol"], one["types"], one["data"], one["code"], one["wasClean"]) for name, one in result.items()
    }
    ours = "leanvibe.v1+json"
    assert told == {
        "pings": (ours, ["welcome", "pong", "pong"], ["grüße 😀", [1, None]], 1000, True),
        "offersNothing": ("", ["welcome", "pong"], [1], 4999, True),
        "code3000": (ours, [], [], 3000, True),
        "binary": (ours, ["welcome"], [], 4400, True),
        "tooLarge": (ours, ["welcome"], [], 1009, True),
        "tooLargeInBytes": (ours, ["welcome"], [], 1009, True),
        "beforeHello": (ours, ["error"], ["unauthorized"], 4401, True),
        "twoHellos": (ours, ["welcome", "error"], ["conflict"], 4429, True),
        "empty": (ours, ["welcome", "error", "pong"], ["bad_message", 2], 1000, True),
    }
