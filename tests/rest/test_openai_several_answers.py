"""Several answers to one request: `n`, several prompts, `echo` and `best_of`; and what a stream says while nothing comes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
import trio

from actors.rest.openai import answers
from actors.rest.openai.answers import seed_of
from actors.rest.openai.requests import read_chat, read_completion
from protocol.errors import InvalidField
from tests.rest.test_openai_clients import MESSAGES, call
from tests.rest.test_openai_streams import chat
from tests.server_fixture import RunningServer, count_to, eventually, running_server

pytestmark = pytest.mark.integration


def completed(**fields: Any) -> Any:
    return lambda client: client.completions.create(**{"model": "mock", "prompt": "count to 5", **fields})


async def test_n_answers_have_numbers_and_their_usage_is_one_sum(server: RunningServer) -> None:
    def ask(client: openai.OpenAI) -> tuple[Any, list[Any]]:
        whole = client.chat.completions.create(model="mock", messages=MESSAGES, n=3)
        options: Any = {"include_usage": True}
        return whole, list(
            client.chat.completions.create(model="mock", messages=MESSAGES, n=3, stream=True, stream_options=options)
        )

    whole, chunks = await call(server, ask)
    assert [one.index for one in whole.choices] == [0, 1, 2]
    assert [one.message.content for one in whole.choices] == [count_to(12)] * 3
    assert whole.usage.prompt_tokens == len("count to 12")
    assert whole.usage.completion_tokens == 3 * len(count_to(12))
    assert chunks[-1].usage == whole.usage
    for index in range(3):
        own = [one.choices[0] for one in chunks if one.choices and one.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert "".join(one.delta.content or "" for one in own) == count_to(12)
        assert [one.finish_reason for one in own if one.finish_reason] == ["stop"]


async def test_several_prompts_are_answered_in_their_order(server: RunningServer) -> None:
    prompts = ["count to 3", "count to 40", "count to 2"]
    whole = await call(server, completed(prompt=prompts, n=2))
    wanted = [count_to(number) for number in (3, 3, 40, 40, 2, 2)]
    assert [(one.index, one.text) for one in whole.choices] == list(enumerate(wanted))
    assert whole.usage.prompt_tokens == sum(len(one) for one in prompts)
    assert whole.usage.completion_tokens == sum(len(one) for one in wanted)
    chunks = await call(server, lambda client: list(completed(prompt=prompts, n=2, stream=True)(client)))
    told = dict.fromkeys(range(6), "")
    for one in chunks:
        told[one.choices[0].index] += one.choices[0].text
    assert list(told.values()) == wanted


async def test_echo_puts_the_prompt_before_the_answer(server: RunningServer) -> None:
    prompts = ["count to 3", "count to 2"]
    wanted = [prompt + count_to(number) for prompt, number in zip(prompts, (3, 2), strict=True)]
    whole = await call(server, completed(prompt=prompts, echo=True))
    assert [one.text for one in whole.choices] == wanted
    chunks = await call(server, lambda client: list(completed(prompt=prompts, echo=True, stream=True)(client)))
    for index, text in enumerate(wanted):
        assert "".join(one.choices[0].text for one in chunks if one.choices[0].index == index) == text


async def test_best_of_makes_more_than_it_tells_and_counts_them_all(server: RunningServer) -> None:
    whole = await call(server, completed(best_of=4, n=2))
    assert [(one.index, one.text) for one in whole.choices] == [(0, count_to(5)), (1, count_to(5))]
    assert whole.usage.completion_tokens == 4 * len(count_to(5))


async def test_several_answers_may_call_tools(server: RunningServer) -> None:
    tools: list[Any] = [{"type": "function", "function": {"name": "look"}}]
    answer = await call(
        server,
        lambda client: client.chat.completions.create(
            model="mock", messages=MESSAGES, n=2, tools=tools, tool_choice="required", parallel_tool_calls=False
        ),
    )
    called = [one.message.tool_calls[0] for one in answer.choices]
    assert [(one.function.name, one.function.arguments) for one in called] == [("look", "{}")] * 2
    assert called[0].id != called[1].id


def test_each_answer_has_a_seed_of_its_own_and_the_first_has_the_requests() -> None:
    seeds = [seed_of(7, index) for index in range(8)]
    assert seeds[0] == 7
    assert len(set(seeds)) == 8
    assert seeds == [seed_of(7, index) for index in range(8)]
    assert seed_of(None, 3) is None


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"n": 9}, "n"),
        ({"n": 0}, "n"),
        ({"n": 2, "best_of": 1}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"best_of": 9}, "best_of"),
        ({"prompt": [1, -2]}, "prompt"),
        ({"prompt": [1, 2.5]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [[1, 2], []]}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1, "echo": True}, "max_tokens"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt"),
        ({"prompt": ["a"] * 9, "n": 8}, "prompt"),
        ({"prompt": ["a"] * 17, "echo": True, "logprobs": 1}, "prompt"),
        ({"prompt": [[1]] * 17, "echo": True}, "prompt"),
    ],
    ids=str,
)
def test_what_cannot_be_made_of_several_is_refused_by_name(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidField) as refused:
        read_completion({"model": "m", "prompt": "x", **fields})
    assert refused.value.field == f"body.{path}"
    with pytest.raises(InvalidField):
        read_chat({"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 9})


@pytest.mark.parametrize("stream", [False, True])
async def test_when_the_client_leaves_all_of_its_answers_end(tmp_path: Path, stream: bool) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.http() as http:

        async def are_there() -> bool:
            return bool((await server.snapshot("inference/inference"))["running"] == 4)

        async with trio.open_nursery() as nursery:

            async def leave_once_they_are_there() -> None:
                await eventually(are_there)
                nursery.cancel_scope.cancel()

            nursery.start_soon(leave_once_they_are_there)
            await http.post("/v1/chat/completions", json=chat("count to 900", n=4, stream=stream))
        await server.until_no_row_is_taken()
        assert (await server.snapshot("inference/inference"))["finished"] == {"cancelled": 4}


async def test_a_stream_says_something_while_its_prompt_waits_or_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "SIGN_OF_LIFE_SECONDS", 0.02)
    seen: list[str] = []
    async with running_server(tmp_path, mock_step_seconds=0.1, max_rows=1) as server, server.http() as http:
        long = chat("count to 2 " + "x" * 3000, stream=True)

        async def read(body: dict[str, Any]) -> list[str]:
            async with http.stream("POST", "/v1/chat/completions", json=body) as response:
                return [line async for line in response.aiter_lines()]

        async with server.peer() as peer:
            await peer.send("generate", "first", {"prompt": "count to 3"})
            assert (await peer.receive())["type"] in ("accepted", "token")
            seen = await read(long)
    comments = [line for line in seen if line.startswith(":")]
    assert ": waiting" in comments
    assert any(line.startswith(": prefill ") and line.endswith("/3011") for line in comments), comments
    parts = [json.loads(line[6:]) for line in seen if line.startswith("data: {")]
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in parts) == count_to(2)
