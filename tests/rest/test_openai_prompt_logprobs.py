"""`echo` with `logprobs` of the completions API: the prompt's tokens before the answer's, the first with null."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from actors.inference.messages import OneToken, PromptToken
from actors.rest.openai import answers
from actors.rest.openai.prompt_echo import read_echo
from tests.server_fixture import RunningServer

NAMES = {"tokens", "token_logprobs", "top_logprobs", "text_offset"}


async def ask(server: RunningServer, **fields: Any) -> httpx.Response:
    await server.until_engine_is("ready")
    async with server.http() as http:
        return await http.post("/v1/completions", json={"model": "mock", "prompt": "né", "echo": True, **fields})


@pytest.mark.integration
async def test_oa30_a_prompt_is_scored_without_an_answer_as_evaluations_ask(server: RunningServer) -> None:
    whole = (await ask(server, logprobs=1, max_tokens=0, temperature=0)).json()
    (choice,) = whole["choices"]
    assert choice == {
        "index": 0,
        "text": "né",
        "finish_reason": "length",
        "logprobs": {
            "tokens": ["n", "bytes:\\xc3", "bytes:\\xa9"],
            "token_logprobs": [None, 0.0, 0.0],
            "top_logprobs": [None, {"bytes:\\xc3": 0.0}, {"bytes:\\xa9": 0.0}],
            "text_offset": [0, 1, 1],
        },
    }
    assert whole["usage"]["prompt_tokens"] == 3
    assert whole["usage"]["completion_tokens"] == 0


@pytest.mark.integration
async def test_the_answers_tokens_follow_the_prompts_and_a_stream_says_the_same(server: RunningServer) -> None:
    fields = {"prompt": ["count to 3", [104, 105]], "logprobs": 2, "n": 2}
    whole = (await ask(server, **fields)).json()["choices"]
    assert [one["text"] for one in whole] == ["count to 31 2 3"] * 2 + ["hiYou said: hi"] * 2
    for one in whole:
        told = one["logprobs"]
        assert set(told) == NAMES
        assert "".join(told["tokens"]) == one["text"]
        assert told["text_offset"] == list(range(len(one["text"])))
        assert told["token_logprobs"] == [None, *[0.0] * (len(one["text"]) - 1)]
    text = (await ask(server, stream=True, **fields)).text
    for index, one in enumerate(whole):
        chunks = [chunk["choices"][0] for chunk in events_of(text)]
        mine = [chunk for chunk in chunks if chunk["index"] == index]
        assert "".join(chunk["text"] for chunk in mine) == one["text"]
        for name in NAMES:
            assert [value for chunk in mine if chunk["logprobs"] for value in chunk["logprobs"][name]] == one[
                "logprobs"
            ][name]


@pytest.mark.integration
async def test_token_ids_are_echoed_as_their_text(server: RunningServer) -> None:
    for stream in (False, True):
        answer = await ask(server, prompt=[110, 195, 169], max_tokens=0, stream=stream)
        (first, *_) = events_of(answer.text) if stream else [answer.json()]
        assert (first["choices"][0]["text"], first["choices"][0]["logprobs"]) == ("né", None)


@pytest.mark.integration
async def test_more_tokens_than_are_told_are_refused(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MAXIMUM_READ_TOKENS", 10)
    refused = await ask(server, prompt=["seven b", "seven b"], logprobs=0, max_tokens=0)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "prompt"
    # One prompt may have as many as the context.
    assert (await ask(server, prompt="more than ten", logprobs=0, max_tokens=0)).status_code == 200


def told(*tokens: OneToken) -> list[PromptToken]:
    return [
        PromptToken(index=index, token_id=index, token=one, log_probability=-1.0 if index else None)
        for index, one in enumerate(tokens)
    ]


START = OneToken("<s>", b"<s>", is_shown=False)


async def test_what_a_tokenizer_puts_before_a_text_is_none_of_it() -> None:
    tokens = told(
        START, OneToken(" hi", b" hi"), OneToken("<s>", b"<s>", is_shown=False), OneToken(" é", " é".encode())
    )
    echo = await read_echo("hi<s> é", tokens, has_logprobs=True)
    assert echo.text == "hi<s> é"
    assert echo.logprobs is not None
    assert echo.logprobs["text_offset"] == [0, 0, 2, 5]
    assert echo.logprobs["token_logprobs"] == [None, -1.0, -1.0, -1.0]
    assert (await read_echo([0, 1], told(START, OneToken(" hi", b" hi")), has_logprobs=False)).text == "<s> hi"


def events_of(text: str) -> list[dict[str, Any]]:
    lines = [one.removeprefix("data: ") for one in text.split("\n") if one.startswith("data: ")]
    return [json.loads(one) for one in lines if one != "[DONE]"]
