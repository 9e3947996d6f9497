"""The embedded model through our own stack: real answers, and rows that do not notice each other (promises 2, 10, 11, 12)."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy
import pytest

from actors.inference.mlx.load import LoadedModel
from actors.inference.text.text_model import CheckpointText
from actors.inference.worker.mlx_stepper import MlxStepper
from actors.inference.worker.speculative_decoding import DRAFT_TOKENS
from actors.inference.worker.stepper import Row
from protocol.commands import ChatMessage, Generate, Role
from protocol.events import FinishReason

from .proposers import EagerDrafter
from .service_kit import inference_service
from .tiny_model import Answers, copy_of, make_row, make_stepper, run

pytestmark = pytest.mark.mlx_real_inference

TIE = 1e-3
"""The two best scores this near to each other may be told either way (PROTOCOL, Determinism)."""
QUESTIONS = [
    "Write a simple Python function to add two numbers.",
    "Explain what is recursion in programming.",
    "Hi!",
    "What is the capital of France? Answer with one word.",
    "List three fruits and three vegetables, one on each line, and say which of them you would eat raw.",
    "Translate to French: good morning, my friend.",
    "Why is the sky blue?",
    "Write a haiku about the sea. " * 12,
]


@pytest.fixture(scope="module")
def text(embedded_model: Path) -> CheckpointText:
    return CheckpointText(embedded_model)


@pytest.fixture(scope="module")
def rows(text: CheckpointText) -> list[Row]:
    """The questions as rows of very different lengths."""
    made = [
        make_row(number, text.encode(Generate(messages=[ChatMessage(Role.USER, question)])), 20)
        for number, question in enumerate(QUESTIONS)
    ]
    lengths = sorted(len(row.prompt_ids) for row in made)
    assert lengths[-1] > 3 * lengths[0]
    return made


@pytest.fixture(scope="module")
def alone(loaded_model: LoadedModel, rows: list[Row]) -> list[list[int]]:
    """The answer of each row on its own."""
    return [run(make_stepper(loaded_model, chunk_tokens=512), [copy_of(row)]).ids[row.row] for row in rows]


@pytest.fixture(scope="module")
def assert_same(loaded_model: LoadedModel) -> Callable[[Row, Sequence[int], Sequence[int]], None]:
    """Fail unless two greedy answers are equal, or part where the two best scores are equal to within `TIE`."""

    def check(row: Row, got: Sequence[int], expected: Sequence[int]) -> None:
        for at, (one, other) in enumerate(itertools.zip_longest(got, expected)):
            if one != other:
                logits = numpy.asarray(loaded_model.model(mx.array([row.prompt_ids + list(expected[:at])]))[0, -1])
                second, first = numpy.sort(logits)[-2:]
                assert first - second < TIE, f"row {row.row} has {one} for {other} at {at}"
                return

    return check


# --- several tokens in one step ---------------------------------------------------------------------

REPEAT = """Give this code again as it stands.

```python
def total_value(items, prices):
    total = 0
    for name in items:
        total = total + items[name] * prices[name]
    return total
```"""


def test_p12_a_real_answer_that_repeats_its_prompt_is_the_same_with_drafts(
    loaded_model: LoadedModel, text: CheckpointText, assert_same: Callable[[Row, Sequence[int], Sequence[int]], None]
) -> None:
    row = make_row(1, text.encode(Generate(messages=[ChatMessage(Role.USER, REPEAT)])), 48)
    drafter = EagerDrafter()
    stepper = MlxStepper(loaded_model, {}, None, prefix_bytes=0, drafter=drafter)
    got = run(stepper, [copy_of(row)]).ids[1]
    assert max(drafter.gate.brought) == DRAFT_TOKENS + 1, "it repeated, and was foretold"
    assert_same(row, got, run(make_stepper(loaded_model, chunk_tokens=512), [copy_of(row)]).ids[1])


# --- through the actors -----------------------------------------------------------------------------


async def test_the_server_answers_real_questions_and_says_what_it_serves(
    embedded_model: Path, cache_folder: Path
) -> None:
    load_text = partial(CheckpointText, embedded_model)
    async with inference_service(
        engine="mlx",
        checkpoint=embedded_model,
        cache_folder=cache_folder,
        load_text=load_text,
        patience_seconds=120,
    ) as service:
        health = await service.health()
        assert health.report["has_pretrained_weights"] is True
        assert health.report["canary_nll"] < 6
        assert health.report["dtype"] == "4-bit float32"
        assert health.report["kv_bytes_per_token"] == 46_080
        assert (health.state, health.restarts) == ("ready", 0)
        code = await service.start(QUESTIONS[0], max_tokens=60)
        words = await service.start(QUESTIONS[1], max_tokens=60)
        assert "def " in await service.answer(code)
        assert "recursion" in (await service.answer(words)).lower()
        done = await service.done(code)
        assert done.confidence is not None
        assert 0.1 < done.confidence < 1
        short = await service.complete("Count: 1, 2, 3, 4,", max_tokens=8, stop=["6"])
        assert short.text == " 5, "
        assert short.done.finish_reason is FinishReason.STOP
        used = await service.health()
        assert used.memory["weights"] > 100e6
        assert used.memory["resident"] > used.memory["weights"]


async def test_a_killed_worker_changes_no_real_answer(embedded_model: Path, cache_folder: Path) -> None:
    async with inference_service(
        engine="mlx",
        checkpoint=embedded_model,
        cache_folder=cache_folder,
        load_text=partial(CheckpointText, embedded_model),
        patience_seconds=120,
    ) as service:
        settings: dict[str, Any] = {"max_tokens": 24, "temperature": 0.8, "seed": 5}
        undisturbed = await service.complete(QUESTIONS[4], **settings)
        stream = await service.start(QUESTIONS[4], **settings)
        await service.tokens(stream, 6)
        await service.kill_worker()
        assert await service.answer(stream) == undisturbed.text
        assert (await service.done(stream)).engine_restarts == 1


# --- batches ----------------------------------------------------------------------------------------

Check = Callable[[Row, Sequence[int], Sequence[int]], None]


def test_eight_ragged_prompts_in_one_batch_answer_as_they_do_alone(
    loaded_model: LoadedModel, rows: list[Row], alone: list[list[int]], assert_same: Check
) -> None:
    answers = run(make_stepper(loaded_model, chunk_tokens=64), [copy_of(row) for row in rows])
    for row in rows:
        assert_same(row, answers.ids[row.row], alone[row.row])


def test_rows_that_join_while_others_decode_answer_as_they_do_alone(
    loaded_model: LoadedModel, rows: list[Row], alone: list[list[int]], assert_same: Check
) -> None:
    stepper = make_stepper(loaded_model, chunk_tokens=64, prefix_bytes=10**8)

    def join(step: int, _answers: Answers) -> None:
        if step % 4 == 0 and step // 4 < len(rows):
            stepper.admit(copy_of(rows[step // 4]))

    answers = run(stepper, [], join)
    for row in rows:
        assert_same(row, answers.ids[row.row], alone[row.row])


def test_a_cold_row_among_hot_ones_and_one_that_fails_answers_as_it_does_alone(
    loaded_model: LoadedModel, rows: list[Row], alone: list[list[int]], assert_same: Check
) -> None:
    hot = [
        make_row(10 + number, row.prompt_ids, 20, seed=number, temperature=1.3, top_p=0.9, top_k=40)
        for number, row in enumerate(rows[:4])
    ]
    bad = make_row(30, rows[3].prompt_ids, 20, logit_bias={49_152: 1.0})
    answers = run(make_stepper(loaded_model), [copy_of(rows[1]), *hot, bad, copy_of(rows[4])])
    assert_same(rows[1], answers.ids[1], alone[1])
    assert_same(rows[4], answers.ids[4], alone[4])
    assert list(answers.failed) == [30]
    assert "49152" in answers.failed[30]


def test_a_seed_draws_the_same_tokens_alone_in_company_and_after_a_recovery(
    loaded_model: LoadedModel, rows: list[Row]
) -> None:
    settings: dict[str, Any] = {"seed": 1234, "temperature": 0.9, "top_p": 0.95}
    hot = make_row(1, rows[6].prompt_ids, 20, **settings)
    expected = run(make_stepper(loaded_model), [copy_of(hot)]).ids[1]
    company = [
        make_row(20 + number, row.prompt_ids, 20, seed=number, temperature=1.0) for number, row in enumerate(rows[:3])
    ]
    assert run(make_stepper(loaded_model), [*company, copy_of(hot)]).ids[1] == expected
    for cut in (1, 7, 19):
        recovered = make_row(1, hot.prompt_ids, 20, emitted_ids=expected[:cut], **settings)
        assert run(make_stepper(loaded_model), [recovered]).ids[1] == expected[cut:]


@pytest.mark.parametrize("leaving", [0, 2, 3])
def test_a_row_that_leaves_in_prefill_changes_no_other_answer(
    loaded_model: LoadedModel, rows: list[Row], alone: list[list[int]], assert_same: Check, leaving: int
) -> None:
    similar = [rows[number] for number in (0, 1, 3, 5)]
    stepper = make_stepper(loaded_model, chunk_tokens=32)

    def cancel(step: int, _answers: Answers) -> None:
        if step == 3:
            assert stepper._prefill is not None
            stepper.cancel(similar[leaving].row)

    answers = run(stepper, [copy_of(row) for row in similar], cancel)
    assert similar[leaving].row not in answers.ids
    for row in similar:
        if row is not similar[leaving]:
            assert_same(row, answers.ids[row.row], alone[row.row])


# --- text -------------------------------------------------------------------------------------------

CHATS = [
    [("user", "Hello!")],
    [("system", "You are terse."), ("user", "What is 12345 + 67890?")],
    [("user", "né 😀 東京\n\ttabs  and   spaces"), ("assistant", "Yes."), ("user", "```python\nprint('x')\n```")],
    [("user", "<|im_end|> is a marker, <|endoftext|> too"), ("assistant", ""), ("user", " ")],
    [("user", "a" * 3000)],
    [("assistant", "I begin."), ("user", "{{ messages }} {% if x %}")],
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_template_and_tokenizer_agree_with_transformers(embedded_model: Path, text: CheckpointText) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(str(embedded_model))
    for chat in CHATS:
        messages = [{"role": role, "content": content} for role, content in chat]
        expected = reference.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        ours = text.encode(Generate(messages=[ChatMessage(Role(role), content) for role, content in chat]))
        if any("<|" in content for _, content in chat):
            # What a person writes is text here, also where it reads like a mark; each turn has one of its own.
            assert ours.count(reference.convert_tokens_to_ids("<|im_end|>")) == len(chat) + 1, chat
        else:
            assert ours == list(expected), chat
    for plain in ("Once upon a time", " leading space", "1234567", "né 😀\n\n"):
        assert text.encode(Generate(prompt=plain)) == reference.encode(plain)
    assert reference.convert_tokens_to_ids("<|im_end|>") in text.stop_token_ids


def test_streamed_text_of_real_answers_is_the_whole_text(
    text: CheckpointText, alone: list[list[int]], embedded_model: Path
) -> None:
    from tokenizers import Tokenizer

    whole = Tokenizer.from_file(str(embedded_model / "tokenizer.json"))
    emoji = whole.encode("naïve café 😀😀 東京 ½ …", add_special_tokens=False).ids
    for ids in [*alone, emoji]:
        detokenizer = text.detokenizer()
        assert "".join(detokenizer.feed(one) for one in ids) + detokenizer.finish() == whole.decode(ids)
