"""The stock `openai` client reads a response to its end over a cut connection, a killed worker and a killed server."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.server_fixture import count_to
from tests.system.serving_process import ServingProcess, start_server, wait_for

pytestmark = pytest.mark.integration

LAST = 300
ASKED: dict[str, Any] = {"model": "mock", "input": f"count to {LAST}"}
STEP = {"LEANVIBE_MOCK_STEP_SECONDS": "0.003"}


def client_of(server: ServingProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.about['rest_url']}/v1", api_key="unused", max_retries=0)


def told(event: Any) -> tuple[str, int, str]:
    return event.type, event.sequence_number, getattr(event, "delta", "")


def take(stream: Any, count: int) -> list[Any]:
    """So many events, then the connection is cut."""
    with stream:
        return [next(stream) for _ in range(count)]


def test_rs12_the_stock_client_reads_on_over_cut_and_kills_to_the_same_text(tmp_path: Path) -> None:
    with start_server(tmp_path, **STEP) as server, client_of(server) as client:
        got = take(client.responses.create(**ASKED, stream=True), 30)
        name = got[0].response.id
        os.kill(server.worker_pid(), signal.SIGKILL)
        got += take(client.responses.retrieve(name, stream=True, starting_after=got[-1].sequence_number), 30)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(10)
    with start_server(tmp_path, **STEP) as server, client_of(server) as client:
        # At once, while the answer is made again from its first token.
        with client.responses.retrieve(name, stream=True, starting_after=got[-1].sequence_number) as stream:
            got += list(stream)
        undisturbed = list(client.responses.create(**ASKED, stream=True))
        assert [told(one) for one in got] == [told(one) for one in undisturbed]
        final = client.responses.retrieve(name)
        assert final.output_text == undisturbed[-1].response.output_text == count_to(LAST)
        assert final == got[-1].response
        # What has ended is read again from any place.
        with client.responses.retrieve(name, stream=True, starting_after=3) as stream:
            assert [told(one) for one in stream] == [told(one) for one in undisturbed[4:]]


def test_rs13_a_background_response_needs_no_reader_over_a_kill(tmp_path: Path) -> None:
    with start_server(tmp_path, **STEP) as server, client_of(server) as client:
        name = client.responses.create(**ASKED, background=True, metadata={"notify": "true"}).id
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(10)
    with start_server(tmp_path) as server, client_of(server) as client:
        wait_for(lambda: client.responses.retrieve(name).status == "completed", what="the response's end")
        assert client.responses.retrieve(name).output_text == count_to(LAST)
        shown = server.run("notify", "list", "--json", "--client", "local")
        assert "Answer done: count to 300" in shown.stdout


def test_a_stopped_server_makes_it_again(tmp_path: Path) -> None:
    with start_server(tmp_path, **STEP, LEANVIBE_DRAIN_SECONDS="0.2") as server, client_of(server) as client:
        name = client.responses.create(**ASKED, background=True).id
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)
    with start_server(tmp_path) as server, client_of(server) as client:
        wait_for(lambda: client.responses.retrieve(name).status == "completed", what="the response's end")
        assert client.responses.retrieve(name).output_text == count_to(LAST)


def test_cv7_a_conversation_gets_an_answer_once_over_kills_of_worker_and_server(tmp_path: Path) -> None:
    with start_server(tmp_path, **STEP) as server, client_of(server) as client:
        name = client.conversations.create().id
        made = client.responses.create(**ASKED, background=True, conversation=name).id
        take(client.responses.retrieve(made, stream=True), 30)
        os.kill(server.worker_pid(), signal.SIGKILL)
        take(client.responses.retrieve(made, stream=True), 60)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(10)
    with start_server(tmp_path) as server, client_of(server) as client:
        wait_for(lambda: client.responses.retrieve(made).status == "completed", what="the response's end")
        items: list[Any] = list(client.conversations.items.list(name, order="asc"))
        assert [one.content[0].text for one in items] == [ASKED["input"], count_to(LAST)]
        # It is open for the next one.
        client.responses.create(model="mock", input="hi", conversation=name)
        assert len(list(client.conversations.items.list(name))) == 4
