"""The official `openai` Python client, unmodified, against the real server with the mock engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import openai
import pytest
import trio

from tests.server_fixture import RunningServer, count_to, running_server

pytestmark = pytest.mark.integration

Answer = TypeVar("Answer")
MESSAGES: list[Any] = [{"role": "user", "content": "count to 12"}]


async def call(server: RunningServer, work: Callable[[openai.OpenAI], Answer]) -> Answer:
    """Run the client in a thread: it knows asyncio and threads, and not Trio."""

    def run() -> Answer:
        with openai.OpenAI(
            base_url=f"{server.about.rest_url}/v1", api_key="unused", max_retries=0, timeout=120
        ) as client:
            return work(client)

    return await trio.to_thread.run_sync(run)


async def test_models_are_listed_and_found_by_name(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    listed = await call(server, lambda client: list(client.models.list()))
    assert [one.id for one in listed] == ["mock", "all-minilm-l6-v2"]
    assert (await call(server, lambda client: client.models.retrieve("mock"))).owned_by == "leanvibe"
    with pytest.raises(openai.NotFoundError) as refused:
        await call(server, lambda client: client.models.retrieve("gpt-5/turbo"))
    assert (refused.value.code, refused.value.param, refused.value.type) == (
        "model_not_found",
        "model",
        "not_found_error",
    )


async def test_a_chat_is_answered_whole_with_its_usage(server: RunningServer) -> None:
    answer = await call(server, lambda client: client.chat.completions.create(model="mock", messages=MESSAGES, seed=3))
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == count_to(12)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len("count to 12")
    assert answer.usage.completion_tokens == len(count_to(12))
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


async def test_a_streamed_chat_is_the_same_as_the_whole_one(server: RunningServer) -> None:
    def stream(client: openai.OpenAI) -> list[Any]:
        options: Any = {"include_usage": True}
        made = client.chat.completions.create(
            model="mock", messages=MESSAGES, stream=True, stream_options=options, logprobs=True, top_logprobs=1
        )
        return list(made)

    chunks = await call(server, stream)
    whole = await call(
        server,
        lambda client: client.chat.completions.create(model="mock", messages=MESSAGES, logprobs=True, top_logprobs=1),
    )
    assert len({one.id for one in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert text == whole.choices[0].message.content == count_to(12)
    reasons = [one.choices[0].finish_reason for one in chunks if one.choices]
    assert reasons[-1] == "stop"
    assert set(reasons[:-1]) == {None}
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(one.usage is None for one in chunks[:-1])
    assert whole.choices[0].logprobs is not None
    streamed = [
        entry for one in chunks if one.choices and one.choices[0].logprobs for entry in one.choices[0].logprobs.content
    ]
    assert streamed == whole.choices[0].logprobs.content
    assert "".join(entry.token for entry in streamed) == text
    assert [bytes(entry.bytes).decode() for entry in streamed] == [entry.token for entry in streamed]
    assert all(len(entry.top_logprobs) == 1 for entry in streamed)


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        ({"stop": "5"}, "1 2 3 4 ", "stop"),
        ({"stop": ["9", " 4"]}, "1 2 3", "stop"),
        ({"max_tokens": 3}, "1 2", "length"),
        ({"max_completion_tokens": 5}, "1 2 3", "length"),
        # Some clients ask for as much as another model could answer.
        ({"max_tokens": 32_000}, count_to(12), "stop"),
        ({"max_completion_tokens": 5, "max_tokens": 5}, "1 2 3", "length"),
        ({"temperature": 0, "top_p": 0.5, "presence_penalty": 1, "frequency_penalty": -1}, count_to(12), "stop"),
        ({"logit_bias": {"65": -100}, "seed": 1, "user": "someone", "n": 1, "store": False}, count_to(12), "stop"),
        ({"response_format": {"type": "text"}, "tools": [], "tool_choice": "none"}, count_to(12), "stop"),
        ({"top_p": 0, "seed": -(2**53)}, count_to(12), "stop"),
        ({"seed": 2**53, "temperature": 1}, count_to(12), "stop"),
        ({"seed": -1}, count_to(12), "stop"),
        ({"seed": 2**63 - 1}, count_to(12), "stop"),
        ({"seed": -(2**63)}, count_to(12), "stop"),
        ({"extra_body": {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1}}, count_to(12), "stop"),
        ({"extra_body": {"top_k": -1, "repeat_penalty": 1.1}}, count_to(12), "stop"),
    ],
    ids=str,
)
async def test_options_are_carried_out(server: RunningServer, options: dict[str, Any], text: str, reason: str) -> None:
    answer = await call(
        server, lambda client: client.chat.completions.create(model="mock", messages=MESSAGES, **options)
    )
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (text, reason)


async def test_a_message_may_be_an_array_of_text_parts(server: RunningServer) -> None:
    parts: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "count "}, {"type": "text", "text": "to 4"}]},
    ]
    answer = await call(server, lambda client: client.chat.completions.create(model="mock", messages=parts))
    assert answer.choices[0].message.content == "1 2 3 4"


async def test_a_prompt_is_completed_whole_and_streamed(server: RunningServer) -> None:
    whole = await call(server, lambda client: client.completions.create(model="mock", prompt="count to 7", logprobs=1))
    assert whole.object == "text_completion"
    assert whole.choices[0].text == count_to(7)
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert "".join(logprobs.tokens or ()) == count_to(7)
    assert logprobs.text_offset == list(range(len(count_to(7))))
    chunks = await call(
        server,
        lambda client: list(
            client.completions.create(
                model="mock", prompt=["count to 7"], stream=True, logprobs=1, stream_options={"include_usage": True}
            )
        ),
    )
    assert "".join(one.choices[0].text for one in chunks if one.choices) == count_to(7)
    offsets = [
        at
        for one in chunks
        if one.choices and one.choices[0].logprobs
        for at in one.choices[0].logprobs.text_offset or ()
    ]
    assert offsets == logprobs.text_offset
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"n": 9}, "n"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": "x", "name": "Eve Smith"}]}, "messages[0].name"),
        ({"audio": {}}, "audio"),
        ({"temperature": 9}, "temperature"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens"),
        ({"stop": ""}, "stop"),
        ({"stop": ["x", ""]}, "stop[1]"),
        ({"stop": [str(one) for one in range(17)]}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x"),
        ({"logit_bias": {"65": 101}}, "logit_bias.65"),
        ({"logit_bias": {"9999": 1}}, "logit_bias.9999"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_object", "json_schema": {"name": "x", "schema": {}}}},
            "response_format.json_schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}},
            "response_format",
        ),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"max_tokens": 10**400}, "max_tokens"),
        ({"temperature": 10**400}, "temperature"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"top_p": -0.1}, "top_p"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_is_not_carried_out_is_refused_by_name(
    engineless_server: RunningServer, options: dict[str, Any], parameter: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await call(
            engineless_server,
            lambda client: client.chat.completions.create(**{"model": "mock", "messages": MESSAGES, **options}),
        )
    assert (refused.value.param, refused.value.type) == (parameter, "invalid_request_error")
    assert "data." not in refused.value.message


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"prompt": ""}, "prompt"),
        ({"suffix": "x"}, "suffix"),
        ({"logprobs": 6}, "logprobs"),
    ],
    ids=str,
)
async def test_completions_refuse_by_name_too(
    engineless_server: RunningServer, options: dict[str, Any], parameter: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await call(
            engineless_server, lambda client: client.completions.create(**{"model": "mock", "prompt": "x", **options})
        )
    assert refused.value.param == parameter


async def test_an_unknown_model_is_404_in_openais_shape(engineless_server: RunningServer) -> None:
    for work in (
        lambda client: client.chat.completions.create(model="gpt-5", messages=MESSAGES),
        lambda client: client.completions.create(model="gpt-5", prompt="x"),
    ):
        with pytest.raises(openai.NotFoundError) as refused:
            await call(engineless_server, work)
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


async def test_a_prompt_beyond_the_context_tells_both_numbers(engineless_server: RunningServer) -> None:
    long: list[Any] = [{"role": "user", "content": "x" * 9000}]
    with pytest.raises(openai.BadRequestError, match=r"maximum context length is 8192 tokens.*9000 tokens") as refused:
        await call(engineless_server, lambda client: client.chat.completions.create(model="mock", messages=long))
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize(("setting", "reason", "tokens"), [(None, "stop", len(count_to(900))), (50, "length", 50)])
async def test_an_answer_whose_length_nobody_named_goes_on_to_its_own_end(
    tmp_path: Path, setting: int | None, reason: str, tokens: int
) -> None:
    long: list[Any] = [{"role": "user", "content": "count to 900"}]
    async with running_server(tmp_path, default_max_tokens=setting) as server:
        answer = await call(server, lambda client: client.chat.completions.create(model="mock", messages=long))
    assert answer.usage is not None
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == (reason, tokens)


async def test_a_full_house_is_429_with_a_time_to_wait(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.01, max_rows=1, max_waiting=1) as server,
        server.peer() as peer,
    ):
        for name in "ab":
            await peer.send("generate", name, {"prompt": "count to 500"})
            assert (await peer.receive())["type"] in ("accepted", "token")
        with pytest.raises(openai.RateLimitError) as refused:
            await call(server, lambda client: client.chat.completions.create(model="mock", messages=MESSAGES))
    assert (refused.value.code, refused.value.type) == ("overloaded", "rate_limit_error")
    assert int(refused.value.response.headers["Retry-After"]) >= 1


async def test_a_failure_in_mid_stream_is_an_error_event(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.01) as server:
        seen: list[str] = []
        has_begun = trio.Event()

        def read(client: openai.OpenAI) -> None:
            long: list[Any] = [{"role": "user", "content": "count to 900"}]
            for chunk in client.chat.completions.create(model="mock", messages=long, stream=True):
                seen.append(chunk.choices[0].delta.content or "")
                if len(seen) == 3:
                    trio.from_thread.run_sync(has_begun.set)

        async with trio.open_nursery() as nursery:

            async def break_it() -> None:
                await has_begun.wait()
                from runtime.testing import crash

                crash(server.system, "inference/inference", RuntimeError("on purpose"))

            nursery.start_soon(break_it)
            with pytest.raises(openai.APIError) as failed:
                await call(server, read)
        assert failed.value.code == "unavailable"
        assert "".join(seen)


def _whole(client: openai.OpenAI, messages: list[Any]) -> Any:
    return client.chat.completions.create(model="mock", messages=messages).choices[0].message


def _streamed(client: openai.OpenAI, messages: list[Any]) -> Any:
    with client.chat.completions.stream(model="mock", messages=messages) as stream:
        stream.until_done()
        return stream.get_final_completion().choices[0].message


def _parsed(client: openai.OpenAI, messages: list[Any]) -> Any:
    return client.chat.completions.parse(model="mock", messages=messages).choices[0].message


@pytest.mark.parametrize("ask", [_whole, _streamed, _parsed])
@pytest.mark.parametrize(
    "as_kept",
    [
        lambda message: message,
        lambda message: message.model_dump(),
        # What it would hold of a schema, which the mock engine cannot follow.
        lambda message: {**message.model_dump(), "parsed": {"counted": 12}},
    ],
    ids=["object", "dump", "parsed"],
)
async def test_whatever_the_client_makes_of_an_answer_is_taken_back_as_a_turn(
    server: RunningServer, ask: Callable[[openai.OpenAI, list[Any]], Any], as_kept: Callable[[Any], Any]
) -> None:
    def two_turns(client: openai.OpenAI) -> tuple[str, str]:
        first = ask(client, MESSAGES)
        second = ask(client, [*MESSAGES, as_kept(first), {"role": "user", "content": "count to 3"}])
        return first.content, second.content

    assert await call(server, two_turns) == (count_to(12), count_to(3))
