"""Log-probabilities tell each token's exact bytes: together they are the answer's text, and no two tokens are one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from actors.inference.answer_forms import ReasoningForm, ToolCallFormat
from actors.inference.generation import Generation
from actors.inference.messages import GenerationEvent, GenerationTokens
from actors.inference.text.text_model import CheckpointText
from actors.rest.answer_reading.reader import AnswerReader
from actors.rest.openai.replies import ReplyHead, chat_completion, completion
from protocol.commands import Generate
from protocol.events import Done, FinishReason, Timings, Usage

from .test_spelled_text import TOKENIZERS, Spelling

TEXTS = [
    "hello world",
    " leading and  double ",
    "emoji 😀😃👩‍👩‍👧 é 日本 東京 €5",
    "a\n\tb\u2028 e\u0301",
    "😀",
    "\u2581 <0x41> <|end|> \\xf0",
    "",
]
DONE = Done(
    finish_reason=FinishReason.STOP,
    usage=Usage(prompt_tokens=1, completion_tokens=1),
    timings=Timings(queued_ms=0, first_token_ms=0, total_ms=0, tokens_per_second=None),
    confidence=None,
    seed=0,
    engine_restarts=0,
)


@pytest.fixture(scope="module", params=list(TOKENIZERS))
def text(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CheckpointText:
    return Spelling(tmp_path_factory.mktemp("tokenizer"), TOKENIZERS[request.param]()).text


def answer(text: CheckpointText, ids: Sequence[int], stops: Sequence[str] = ()) -> list[GenerationTokens]:
    """Events of an answer of these tokens, with as many alternatives as there are tokens before each."""
    events: list[GenerationEvent] = []
    generation = Generation(
        stream="s",
        client_id="c",
        generate=Generate(prompt="x", stop=list(stops), logprobs=5),
        seed=1,
        prompt_ids=[1],
        max_tokens=10_000,
        detokenizer=text.detokenizer(),
        deliver=events.append,
        accepted_at=0.0,
        token_text=text.token_text,
    )
    for place, token_id in enumerate(ids):
        others = [(token_id, -0.5), *((other, -1.0 - other) for other in range(5) if other != token_id)][:5]
        generation.advance(token_id, -0.5, None, float(place), others)
        if generation.has_finished:
            break
    else:
        generation.advance(2, -0.5, "stop", 99.0, [])
    return [one for one in events if isinstance(one, GenerationTokens)]


def told(events: Sequence[GenerationTokens]) -> tuple[str, list[dict[str, Any]]]:
    return "".join(one.text for one in events), [entry for one in events for entry in one.logprobs or ()]


def bytes_of(entries: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(bytes(one["bytes"]) for one in entries)


@pytest.mark.parametrize("content", TEXTS, ids=ascii)
def test_the_bytes_of_all_tokens_are_the_text(text: CheckpointText, content: str) -> None:
    ids = text._tokenizer.encode(content, add_special_tokens=False).ids
    whole, entries = told(answer(text, ids))
    assert bytes_of(entries) == whole.encode()
    assert [one["token_id"] for one in entries] == ids[: len(entries)]
    for place, one in enumerate(entries):
        before = bytes_of(entries[:place])
        assert one["offset"] == len(before.decode(errors="ignore")), "where the character begins that it is part of"


@pytest.mark.parametrize("seed", range(20))
def test_the_bytes_of_tokens_drawn_at_random_are_the_text(text: CheckpointText, seed: int) -> None:
    draw = random.Random(seed)
    ids = [draw.choice([one for one in range(text.vocabulary_size) if one != 2]) for _ in range(40)]
    whole, entries = told(answer(text, ids))
    assert bytes_of(entries).decode(errors="replace") == whole


@pytest.mark.parametrize("stop", ["lo", "o w", "d", "hello", " ", "😃", "日本 東", "never"])
@pytest.mark.parametrize("content", TEXTS[:3], ids=ascii)
def test_what_a_stop_text_cuts_off_is_cut_off_the_tokens(text: CheckpointText, content: str, stop: str) -> None:
    ids = text._tokenizer.encode(content, add_special_tokens=False).ids
    events = answer(text, ids, [stop])
    whole, entries = told(events)
    assert stop not in whole
    assert bytes_of(entries) == whole.encode()
    assert all(one["bytes"] for one in entries[1:]), "no token is told of which nothing is left"
    for count in range(len(events)):
        so_far, entries = told(events[:count])
        assert so_far.encode().startswith(bytes_of(entries)), "no token is told before its text"


def test_every_token_of_a_vocabulary_has_bytes_and_a_name_of_its_own(text: CheckpointText) -> None:
    tokenizer = text._tokenizer
    for token_id in range(text.vocabulary_size):
        told = text.token_text(token_id)
        assert told.content
        alone = tokenizer.decode([token_id], skip_special_tokens=False)
        # A decoder leaves a leading space out, and writes part of a character as U+FFFD.
        content = told.content.decode(errors="replace")
        assert alone in (content, content.removeprefix(" "))
    beyond = text.token_text(text.vocabulary_size + 7)
    assert (beyond.content, beyond.is_shown) == (b"", False)
    assert text.token_text(2).name.startswith("<")


def test_spaces_before_words_are_kept(text: CheckpointText) -> None:
    _, entries = told(answer(text, text._tokenizer.encode("ab ab ab", add_special_tokens=False).ids))
    assert "".join(one["token"] for one in entries).strip() == "ab ab ab"


def test_alternatives_stay_apart_at_both_of_openais_endpoints(text: CheckpointText) -> None:
    tokenizer = text._tokenizer
    count = min(20, text.vocabulary_size)
    letters = [one for one in range(text.vocabulary_size) if text.token_text(one).content in (b"a", b"A", b" ")]
    partial = [one for one in range(text.vocabulary_size) if (text.token_text(one).content or b"a")[0] >= 0xF0]
    others = [2, *letters, *partial][:count]
    events: list[GenerationEvent] = []
    generation = Generation(
        stream="s",
        client_id="c",
        generate=Generate(prompt="x", logprobs=20),
        seed=1,
        prompt_ids=[1],
        max_tokens=9,
        detokenizer=text.detokenizer(),
        deliver=events.append,
        accepted_at=0.0,
        token_text=text.token_text,
    )
    for token_id in tokenizer.encode("b" * 3, add_special_tokens=False).ids:
        generation.advance(token_id, -0.1, None, 0.0, [(one, -float(place)) for place, one in enumerate(others)])
    tokens = [one for one in events if isinstance(one, GenerationTokens)]
    head = ReplyHead(id="i", model="m", created=0, is_chat=True, has_logprobs=True)
    # The first token may be one of them, of which this answer has no leading space.
    reader = AnswerReader(ReasoningForm(), ToolCallFormat.TAGGED, {})
    for one in chat_completion(head, reader, tokens, DONE, make_id=lambda: "c")["choices"][0]["logprobs"]["content"][
        1:
    ]:
        told = [bytes(other["bytes"]) for other in one["top_logprobs"]]
        # The chosen one is told besides where it is none of the likeliest.
        assert told == [*(text.token_text(o).content for o in others), bytes(one["bytes"])]
        assert all(other["token"] for other in one["top_logprobs"])
    for named in completion(head, tokens, DONE)["choices"][0]["logprobs"]["top_logprobs"]:
        assert list(named.values())[: len(others)] == [-float(place) for place in range(len(others))]
        assert list(named.values())[len(others) :] in ([], [-0.1])
        assert text.token_text(2).name in named
