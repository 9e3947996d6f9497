"""Whatever a server sends, the Python client fails as a connection does, and never otherwise."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from protocol.client import CommandFailed, Disconnected, connect
from protocol.commands import Generate
from protocol.server_messages import SERVER_MESSAGES
from tests.protocol.scripted_server import Peer, scripted

URL = "ws://scripted/ws"


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"seq": 1}', '{"type": 5}'])
async def test_a_server_that_speaks_something_else_is_left(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.websocket.send_message(text)
        await peer.linger()

    async with scripted(monkeypatch, script), connect(URL, client_id="me") as client:
        with pytest.raises(Disconnected, match="not a message of this protocol"):
            await client.ping()


KNOWN_TYPES = sorted(SERVER_MESSAGES)
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(["text", "stream", "events", "code", "retry_after_ms", "x"]), inner, max_size=3
        ),
    ),
    max_leaves=4,
)
ENVELOPES = st.fixed_dictionaries(
    {"type": st.sampled_from(KNOWN_TYPES)},
    optional={
        "re": st.one_of(st.just("RE"), JSON_VALUES),
        "stream": st.one_of(st.just("g-1"), st.just("client"), JSON_VALUES),
        "seq": st.integers(-1, 4) | JSON_VALUES,
        "first_seq": st.integers(-1, 4) | JSON_VALUES,
        "data": JSON_VALUES,
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ENVELOPES, max_size=5))
@example([{"type": "failed", "stream": "g-1", "seq": 1, "data": None}])
@example([{"type": "token", "stream": "g-1", "seq": 1, "data": {"text": 5}}])
@example([{"type": "done", "stream": "g-1", "seq": 1, "data": []}])
@example([{"type": "task_created", "stream": "client", "seq": 1, "data": 5}])
@example([{"type": "error", "re": "RE", "data": []}])
@example([{"type": "error"}])
@example([{"type": "going_away", "data": {"retry_after_ms": "soon"}}])
def test_nothing_that_a_server_sends_comes_out_as_anything_but_a_failure_of_the_connection(
    messages: list[dict[str, Any]],
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        command = await peer.accept()
        for message in messages:
            if message.get("re") == "RE":
                message["re"] = command["id"]
            await peer.say(**message)
        await peer.close(1011)

    async def main(monkeypatch: pytest.MonkeyPatch) -> None:
        async with scripted(monkeypatch, script), connect(URL, client_id="me", events=True) as client:
            with suppress(CommandFailed, Disconnected):
                async with client.generate(Generate(prompt="x")) as answer:
                    await answer.text()
            with suppress(Disconnected):
                for _ in range(100):
                    await client.ping()
                pytest.fail("the connection has not ended")

    with pytest.MonkeyPatch.context() as monkeypatch:
        trio.run(main, monkeypatch, clock=MockClock(autojump_threshold=0))
